//! Frames that deletions write: holes, and frames without some of their events (G17).

use std::collections::BTreeSet;

use super::cursor::Cursor;
use super::frame::{Frame, FrameHeader};
use super::hole::Hole;
use super::wire::{ContentTypeBytes, EventBytes, HeaderBytes, Known, next_tag, put};
use super::{ENVELOPE_LEN, Malformed, seal_envelope};
use crate::model::{Position, REDACTED, Timestamp, Version};

/// The version of a frame's encoding, which a hole shares.
const FRAME_VERSION: u8 = 1;

/// Encodes a hole. The header of one in the log names no stream.
pub fn encode_hole(header: &FrameHeader<'_>, hole: &Hole) -> Vec<u8> {
    let mut bytes = vec![0; ENVELOPE_LEN];
    put(HeaderBytes { flags: hole.flag(), ..HeaderBytes::from(*header) }, &mut bytes);
    hole.put(&mut bytes);
    seal_envelope(FRAME_VERSION, &mut bytes);
    bytes
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
        // A frame that loses none keeps its time, whatever the times of its events are.
        if number == removed && removed > 0 {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FrameDraft, HoleEnd, hex};
    use super::*;
    use crate::model::{EventId, StreamState};
    use crate::model::{EventType, NewEvent};

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn version(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    /// The header of events 1000 to 1002, of a commit of 5 events from 999 on.
    fn header(stream: &str) -> FrameHeader<'_> {
        FrameHeader {
            first_position: position(1000),
            stream,
            first_version: version(1),
            recorded_at: Timestamp::from_micros(1_000),
            commit_before: 1,
            commit_len: 5,
            streams_after: 3,
            count: 3,
        }
    }

    fn hole(end: Option<HoleEnd>) -> Hole {
        Hole { last_recorded_at: Timestamp::from_micros(1_300), deletion: version(2), end }
    }

    fn end() -> HoleEnd {
        let id = EventId::from_bytes([9; 16]);
        HoleEnd { position: position(1_010), id, state: StreamState::Deleted }
    }

    /// Format version 2, frozen once it is released: if this fails, existing stores can no longer
    /// be read.
    #[test]
    fn holes_have_the_specified_bytes() {
        assert_eq!(hex(&encode_hole(&header(""), &hole(None))), GOLDEN_OF_LOG);
        assert_eq!(hex(&encode_hole(&header("account-1"), &hole(Some(end())))), GOLDEN_OF_STREAM);
    }

    const GOLDEN_OF_LOG: &str = "014fb7fd6301fbe8030001fbd00701050303fb280a02";
    const GOLDEN_OF_STREAM: &str = concat!(
        "01911db58e08fbe803",
        "096163636f756e742d3101",
        "fbd00701050303fb280a02",
        "fbf2030909090909090909090909090909090901"
    );

    #[test]
    fn holes_are_read_as_they_were_written_and_have_no_events() {
        for (stream, end) in [("", None), ("account-1", Some(end()))] {
            let bytes = encode_hole(&header(stream), &hole(end));
            let frame = Frame::decode(&bytes).unwrap();
            assert_eq!((frame.header, frame.is_hole()), (header(stream), true));
            assert_eq!(frame.hole().unwrap(), Some(hole(end)));
            assert_eq!(frame.events().count(), 0);
            let mut longer = bytes.clone();
            longer.push(0);
            seal_envelope(FRAME_VERSION, &mut longer);
            assert!(Frame::decode(&longer).unwrap().hole().is_err());
        }
    }

    /// A frame of events, some of them with metadata and tags.
    fn frame(count: u32) -> Vec<u8> {
        let mut draft = FrameDraft::new("account-1", 0);
        for number in 0..count {
            let event = NewEvent::new(EventType::new("Paid").unwrap(), vec![7; 40]);
            let event = event.with_id(EventId::from_bytes([u8::try_from(number).unwrap(); 16]));
            let event = event.with_metadata("by", "Ada").with_tag("a").with_tag("b");
            draft.push(&event, u64::from(number) * 10);
        }
        let (first_version, commit_len) = (version(7), count + 2);
        let header = header("account-1");
        draft.finish(&FrameHeader { first_version, commit_len, count, ..header }).to_vec()
    }

    fn owned<'a>(
        events: impl Iterator<Item = Result<crate::model::EventRef<'a>, Malformed>>,
    ) -> impl Iterator<Item = crate::model::RecordedEvent> {
        events.map(|event| event.unwrap().to_owned())
    }

    proptest! {
        /// What is left of a cut frame is what it was, at the same places.
        #[test]
        fn a_cut_frame_has_the_later_events(count in 1..20_u32, removed in 0..25_u32) {
            let whole = frame(count);
            let from = version(7).plus(u64::from(removed));
            let cut = cut_frame(&whole, from);
            if removed >= count {
                prop_assert!(cut.is_err());
                return Ok(());
            }
            let cut = cut.unwrap();
            let (whole, cut) = (Frame::decode(&whole).unwrap(), Frame::decode(&cut).unwrap());
            let later = whole.events().skip(usize::try_from(removed).unwrap());
            prop_assert!(owned(cut.events()).eq(owned(later)));
            prop_assert_eq!(cut.header.commit_first(), whole.header.commit_first());
            prop_assert_eq!(cut.header.commit_last(), whole.header.commit_last());
        }

        /// A redaction changes one event, which keeps its id, type, times and place.
        #[test]
        fn a_redaction_changes_one_event(count in 1..20_u32, at in 0..25_u32) {
            let whole = frame(count);
            let tags = BTreeSet::from(["a".to_owned()]);
            let at = position(1000).plus(u64::from(at));
            let redacted = redact_in_frame(&whole, at, &tags, version(2));
            let whole = Frame::decode(&whole).unwrap();
            if at > whole.header.last_position() {
                prop_assert!(redacted.is_err());
                return Ok(());
            }
            let redacted = redacted.unwrap();
            let redacted = Frame::decode(&redacted).unwrap();
            prop_assert_eq!(whole.header, redacted.header);
            for (before, after) in whole.events().zip(redacted.events()) {
                let (before, after) = (before.unwrap(), after.unwrap());
                if before.position() != at {
                    prop_assert_eq!(before.to_owned(), after.to_owned());
                    continue;
                }
                prop_assert_eq!((before.id(), before.version()), (after.id(), after.version()));
                prop_assert_eq!(before.recorded_at(), after.recorded_at());
                prop_assert_eq!(after.payload(), 2_u64.to_be_bytes());
                prop_assert_eq!(after.content_type(), REDACTED);
                prop_assert_eq!(after.metadata().iter().count(), 0);
                prop_assert_eq!(after.tags().iter().collect::<Vec<_>>(), ["b"]);
            }
        }
    }
}
