//! A pack holds many consecutive frames of the log in one value, so that a scan reads few rows. A
//! tail row names the frames of a batch that are in no pack yet.

use std::ops::Range;

use super::cursor::Cursor;
use super::wire::put;
use super::{ENVELOPE_LEN, Malformed, check_crc, checksum_of, crc, open_envelope, seal_envelope};
use crate::model::{Position, Version};

/// The version of a pack's encoding, stored in its last byte.
const PACK_VERSION: u8 = 1;
/// The version of a tail row's encoding, stored in its first byte.
const TAIL_ROW_VERSION: u8 = 1;

/// The place of a frame among other frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFrame {
    /// The position of its first event.
    pub first: Position,
    /// The position of its last event.
    pub last: Position,
    /// Where its bytes are.
    pub bytes: Range<usize>,
}

/// Consecutive frames of the log, one after the other.
#[derive(Debug, Default)]
pub struct Pack {
    bytes: Vec<u8>,
    frames: Vec<PackedFrame>,
}

impl Pack {
    /// Adds the frame that follows the last one.
    pub fn push(&mut self, first: Position, last: Position, frame: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.frames.push(PackedFrame { first, last, bytes: begin..self.bytes.len() });
    }

    /// Adds the frames of another pack from an index on.
    pub(crate) fn extend(&mut self, other: &Self, from: usize) {
        let added = other.frames.get(from..).unwrap_or_default();
        let Some(PackedFrame { bytes: Range { start, .. }, .. }) = added.first() else { return };
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(other.bytes.get(*start..).unwrap_or_default());
        self.frames.extend(added.iter().cloned().map(|mut frame| {
            frame.bytes = frame.bytes.start - start + begin..frame.bytes.end - start + begin;
            frame
        }));
    }

    /// Removes all frames; keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// The frames in order.
    pub fn frames(&self) -> &[PackedFrame] {
        &self.frames
    }

    /// The bytes that the places of the frames refer to.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Encodes the frames as the value of the pack that ends here, and removes them.
    pub fn encode(&mut self) -> Vec<u8> {
        let room = Vec::with_capacity(self.bytes.capacity());
        let mut value = std::mem::replace(&mut self.bytes, room);
        let frames_len = value.len();
        put(self.frames.first().map_or(0, |frame| frame.first.get()), &mut value);
        for frame in self.frames.drain(..) {
            put(frame.last.get() - frame.first.get() + 1, &mut value);
            put(u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX), &mut value);
        }
        let footer_len = u32::try_from(value.len() - frames_len).unwrap_or(u32::MAX);
        value.extend_from_slice(&footer_len.to_be_bytes());
        let crc = crc(PACK_VERSION, value.get(frames_len..).unwrap_or_default());
        value.extend_from_slice(&crc.to_be_bytes());
        value.push(PACK_VERSION);
        value
    }
}

/// Decodes the places of the frames in a pack that ends at the position `last`. The frames
/// themselves are not checked.
pub fn decode_pack(
    last: Position,
    value: &[u8],
    frames: &mut Vec<PackedFrame>,
) -> Result<(), Malformed> {
    frames.clear();
    let what = "a pack";
    let short = || Malformed::damaged(format!("{} bytes", value.len()), what);
    let (rest, [a, b, c, d, version]) = value.split_last_chunk::<5>().ok_or_else(short)?;
    let (before, footer_len) = rest.split_last_chunk::<4>().ok_or_else(short)?;
    let footer_len = usize::try_from(u32::from_be_bytes(*footer_len)).unwrap_or(usize::MAX);
    let begin = before.len().checked_sub(footer_len).ok_or_else(short)?;
    let (_, checked) = rest.split_at(begin);
    check_crc(u32::from_be_bytes([*a, *b, *c, *d]), crc(*version, checked))?;
    if *version != PACK_VERSION {
        let (found, supported) = (u64::from(*version), u64::from(PACK_VERSION));
        return Err(Malformed::Unsupported { what: "pack version", found, supported });
    }
    let (frames_bytes, footer) = before.split_at(begin);
    decode_footer(last, frames_bytes.len(), Cursor::new(footer), frames)
        .ok_or_else(|| Malformed::damaged("a list of frames that does not fit", what))
}

fn decode_footer(
    last: Position,
    frames_len: usize,
    mut footer: Cursor<'_>,
    frames: &mut Vec<PackedFrame>,
) -> Option<()> {
    let mut next = footer.u64()?;
    let mut begin = 0_usize;
    while !footer.rest().is_empty() {
        let (count, len) = (footer.u64()?, footer.u32()?);
        let first = Position::new(next)?;
        let last = Position::new(next.checked_add(count.checked_sub(1)?)?)?;
        let end = usize::try_from(len).ok().and_then(|len| begin.checked_add(len))?;
        frames.push(PackedFrame { first, last, bytes: begin..end });
        next = last.get().checked_add(1)?;
        begin = end;
    }
    let ends_there = frames.last().is_some_and(|frame| frame.last == last);
    (ends_there && begin == frames_len).then_some(())
}

/// The frames of a batch that are in no pack yet, in order: enough to find them in `streams`.
#[derive(Debug, Default)]
pub struct TailRow {
    bytes: Vec<u8>,
}

/// A frame that a tail row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailEntry<'a> {
    pub stream: &'a str,
    pub first_version: Version,
    /// The checksum of the frame.
    pub checksum: u32,
}

impl TailRow {
    /// Begins a row with the position of its first frame; keeps the allocation.
    pub fn begin(&mut self, first: Position) {
        self.bytes.clear();
        self.bytes.resize(ENVELOPE_LEN, 0);
        put(first.get(), &mut self.bytes);
    }

    /// Adds a frame.
    pub fn push(&mut self, stream: &str, first_version: Version, frame: &[u8]) {
        put((stream, first_version.get(), checksum_of(frame).to_be_bytes()), &mut self.bytes);
    }

    pub fn encode(&mut self) -> &[u8] {
        seal_envelope(TAIL_ROW_VERSION, &mut self.bytes);
        &self.bytes
    }
}

/// Decodes a tail row: the position of its first frame, and its frames.
pub fn decode_tail_row(bytes: &[u8]) -> Result<(Position, Vec<TailEntry<'_>>), Malformed> {
    let body = open_envelope("tail row version", TAIL_ROW_VERSION, bytes)?;
    let damaged = || Malformed::damaged("bytes that do not decode", "a tail row");
    let mut cursor = Cursor::new(body);
    let first = cursor.u64().and_then(Position::new).ok_or_else(damaged)?;
    let mut entries = Vec::new();
    while !cursor.rest().is_empty() {
        entries.push(next_entry(&mut cursor).ok_or_else(damaged)?);
    }
    if entries.is_empty() {
        return Err(Malformed::damaged("no frame", "the frames of a batch"));
    }
    Ok((first, entries))
}

fn next_entry<'a>(cursor: &mut Cursor<'a>) -> Option<TailEntry<'a>> {
    let (stream, first_version) = (cursor.text()?, Version::new(cursor.u64()?)?);
    let checksum = u32::from_be_bytes(cursor.take::<4>()?);
    Some(TailEntry { stream, first_version, checksum })
}
