//! Holes, which take the place of deleted events, and frames without some of their events.

use std::collections::BTreeSet;

use super::cursor::Cursor;
use super::frame::{Frame, FrameHeader, HOLE_OF_LOG, HOLE_OF_STREAM};
use super::wire::{ContentTypeBytes, EventBytes, HeaderBytes, Known, next_tag, put};
use super::{ENVELOPE_LEN, Malformed, seal_envelope};
use crate::model::{EventId, Position, REDACTED, StreamState, Timestamp, Version};

/// The version of a frame's encoding, which a hole shares.
const FRAME_VERSION: u8 = 1;

/// What a hole records besides the header that it shares with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// When the last of the deleted events was recorded.
    pub last_recorded_at: Timestamp,
    /// The number of the newest deletion that made it.
    pub deletion: Version,
    /// The end of a hole in a stream; `None` in the log.
    pub end: Option<HoleEnd>,
}

/// The last deleted event of a stream, and what has become of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoleEnd {
    pub position: Position,
    pub id: EventId,
    pub state: StreamState,
}

/// Encodes a hole. The header of one in the log names no stream.
pub fn encode_hole(header: &FrameHeader<'_>, hole: &Hole) -> Vec<u8> {
    let flags = if hole.end.is_some() { HOLE_OF_STREAM } else { HOLE_OF_LOG };
    let mut bytes = vec![0; ENVELOPE_LEN];
    put(HeaderBytes { flags, ..HeaderBytes::from(*header) }, &mut bytes);
    put((hole.last_recorded_at.as_micros(), hole.deletion.get()), &mut bytes);
    if let Some(end) = hole.end {
        put((end.position.get(), *end.id.as_bytes(), end.state.byte()), &mut bytes);
    }
    seal_envelope(FRAME_VERSION, &mut bytes);
    bytes
}

/// Decodes what [`encode_hole`] wrote after the header.
pub(super) fn decode_hole(is_of_stream: bool, rest: &[u8]) -> Result<Hole, Malformed> {
    let decode = || {
        let mut cursor = Cursor::new(rest);
        let last_recorded_at = Timestamp::from_micros(cursor.i64()?);
        let deletion = Version::new(cursor.u64()?)?;
        let end = if is_of_stream {
            let position = Position::new(cursor.u64()?)?;
            let id = EventId::from_bytes(cursor.id()?);
            Some(HoleEnd { position, id, state: StreamState::from_byte(cursor.byte()?)? })
        } else {
            None
        };
        cursor.rest().is_empty().then_some(Hole { last_recorded_at, deletion, end })
    };
    decode().ok_or_else(|| Malformed::damaged("bytes that do not decode", "a hole"))
}

/// The frame of those events of a frame that have this version or a higher one.
///
/// # Errors
/// The frame is malformed, or has no such event.
pub fn cut_frame(frame: &[u8], from: Version) -> Result<Vec<u8>, Malformed> {
    let header = Frame::decode(frame)?.header;
    let removed = from.get().saturating_sub(header.first_version.get());
    let removed = u32::try_from(removed).ok().filter(|removed| *removed < header.count);
    let removed =
        removed.ok_or_else(|| Malformed::damaged(format!("no version {from}"), "a frame"))?;
    rewrite(frame, removed, |_, event, out| put(event, out))
}

/// The same frame with one event redacted: its payload names the deletion, it has no metadata, and
/// these tags are removed.
///
/// # Errors
/// The frame is malformed, or has no such event.
pub fn redact_in_frame(
    frame: &[u8],
    at: Position,
    tags: &BTreeSet<String>,
    deletion: Version,
) -> Result<Vec<u8>, Malformed> {
    let header = Frame::decode(frame)?.header;
    if at < header.first_position || at > header.last_position() {
        return Err(Malformed::damaged(format!("no position {at}"), "a frame"));
    }
    let index = at.get() - header.first_position.get();
    rewrite(frame, 0, |number, event, out| {
        if u64::from(number) != index {
            return put(event, out);
        }
        let (mut rest, mut kept) = (event.tags, Vec::new());
        while let Some(tag) = next_tag(&mut rest) {
            if !tags.contains(tag) {
                put(tag, &mut kept);
            }
        }
        let redacted = EventBytes {
            content_type: ContentTypeBytes::Other(REDACTED),
            metadata: &[],
            tags: &kept,
            payload: &deletion.get().to_be_bytes(),
            ..event
        };
        put(redacted, out);
    })
}

/// Encodes a frame again without its first `removed` events; `encode` adds each of the others.
fn rewrite(
    frame: &[u8],
    removed: u32,
    encode: impl Fn(u32, EventBytes<'_>, &mut Vec<u8>),
) -> Result<Vec<u8>, Malformed> {
    let decoded = Frame::decode(frame)?;
    let undecodable = || Malformed::damaged("bytes that do not decode", "an event of a frame");
    let mut cursor = Cursor::new(decoded.event_bytes());
    let mut events = Vec::with_capacity(frame.len());
    let mut first_after = 0;
    for number in 0..decoded.header.count {
        let event = EventBytes::read(&mut cursor, &Known::default()).ok_or_else(undecodable)?;
        if number == removed {
            first_after = event.recorded_after;
        }
        if number >= removed {
            let after = event.recorded_after.checked_sub(first_after).ok_or_else(undecodable)?;
            encode(number, EventBytes { recorded_after: after, ..event }, &mut events);
        }
    }
    let mut header = decoded.header;
    let first_after = i64::try_from(first_after).map_err(|_| undecodable())?;
    header.first_position = header.first_position.plus(u64::from(removed));
    header.first_version = header.first_version.plus(u64::from(removed));
    header.commit_before += removed;
    header.count -= removed;
    let at = header.recorded_at.as_micros().checked_add(first_after).ok_or_else(undecodable)?;
    header.recorded_at = Timestamp::from_micros(at);
    let mut bytes = vec![0; ENVELOPE_LEN];
    put(HeaderBytes::from(header), &mut bytes);
    bytes.extend_from_slice(&events);
    seal_envelope(FRAME_VERSION, &mut bytes);
    Ok(bytes)
}
