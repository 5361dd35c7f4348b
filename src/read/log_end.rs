//! Opens the log: finds its end, and rebuilds the open pack from `tail` and `streams`.

use super::keys::key_count;
use super::log::OpenPack;
use super::lookup::{check_key, decode_in_log, each_event};
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    Frame, Pack, TailEntry, checksum_of, decode_pack, decode_tail_row, parse_log_key, stream_key,
    tail_key,
};
use crate::model::{Position, StreamId, Timestamp};
use crate::storage::{Disk, Family};

/// The end of the log, according to its last frame, and of the idempotency keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) head: Option<Position>,
    /// When the last event was recorded.
    pub(crate) recorded_at: Option<Timestamp>,
    /// How many streams there are.
    pub(crate) streams: u64,
    /// The checksum of the last frame; 0 in an empty log.
    pub(crate) checksum: u32,
    /// The number of the last idempotency key; 0 before the first.
    pub(crate) last_key: u64,
}

impl LogEnd {
    /// The end of a log whose last frame this is.
    fn after(frame: &Frame<'_>, checksum: u32) -> Result<Self> {
        let header = &frame.header;
        let mut recorded_at = header.recorded_at;
        let location = || Location::log(header.first_position);
        each_event(frame, location, |event| recorded_at = event.recorded_at)?;
        Ok(Self {
            head: Some(header.last_position()),
            recorded_at: Some(recorded_at),
            streams: header.streams_after,
            checksum,
            last_key: 0,
        })
    }
}

/// Finds the end of the log and rebuilds the open pack. Every frame after the last pack is checked,
/// and the last frame of the last pack.
pub(crate) fn open_log(disk: &Disk) -> Result<(OpenPack, LogEnd)> {
    let mut pack = Pack::default();
    let (boundary, mut end) = last_pack(disk)?;
    let mut rows = 0;
    let mut cursor = disk.cursor_at(Family::Tail, &tail_key(rows), Direction::Forward);
    while let Some((key, row)) = cursor.next()? {
        let location = || Location::Key { family: Family::Tail.name(), key: key.to_vec() };
        let (first, entries) =
            decode_tail_row(row).map_err(|malformed| malformed.at(location()))?;
        // Rows of earlier packs remain until they are overwritten.
        if Some(first) <= boundary {
            continue;
        }
        let next = Position::after(end.head);
        if first != next || key != tail_key(rows) {
            let (found, expected) = (format!("a row of {first}"), format!("the row of {next}"));
            return Err(Error::corruption(location(), found, expected));
        }
        for entry in entries {
            end = add_to_pack(disk, &entry, Position::after(end.head), &mut pack)?;
        }
        rows += 1;
    }
    end.last_key = key_count(disk)?.last;
    Ok((OpenPack::new(boundary, pack, rows), end))
}

/// A key after every position.
const AFTER_LAST: [u8; 9] = [u8::MAX; 9];

/// The last position that is in a pack on disk.
pub(crate) fn last_packed(disk: &Disk) -> Result<Option<Position>> {
    let mut packs = disk.range_cursor(Family::Packs, &[]..&AFTER_LAST, Direction::Backward);
    let Some((key, _)) = packs.next()? else { return Ok(None) };
    parse_log_key(key).ok_or_else(|| Family::Packs.bad_key(key)).map(Some)
}

/// The last position that is in a pack, and the end of the log according to the last pack.
fn last_pack(disk: &Disk) -> Result<(Option<Position>, LogEnd)> {
    let mut packs = disk.range_cursor(Family::Packs, &[]..&AFTER_LAST, Direction::Backward);
    let Some((key, value)) = packs.next()? else { return Ok((None, LogEnd::default())) };
    let boundary = parse_log_key(key).ok_or_else(|| Family::Packs.bad_key(key))?;
    let mut frames = Vec::new();
    decode_pack(boundary, value, &mut frames)
        .map_err(|malformed| malformed.at(Location::log(boundary)))?;
    let last = frames.last().and_then(|place| Some((place.first, value.get(place.bytes.clone())?)));
    let (first, bytes) = last.unwrap_or((boundary, &[]));
    let frame = decode_in_log(first, bytes)?;
    check_key(|| Location::log(first), boundary, frame.header.last_position())?;
    check_copy(disk, &frame, bytes)?;
    Ok((Some(boundary), LogEnd::after(&frame, checksum_of(bytes))?))
}

/// Checks that `streams` holds a frame of the log.
fn check_copy(disk: &Disk, frame: &Frame<'_>, bytes: &[u8]) -> Result<()> {
    let header = &frame.header;
    let copy = disk.get(Family::Streams, &stream_key(header.stream, header.first_version))?;
    if copy.as_deref() == Some(bytes) {
        return Ok(());
    }
    let location = Location::stream(&StreamId::trusted(header.stream), header.first_version);
    let found = if copy.is_some() { "other bytes" } else { "nothing" };
    let expected = format!("the frame of position {}", header.first_position);
    Err(Error::corruption(location, found, expected))
}

/// Adds the frame that a tail row names to the open pack. Returns the end of the log after it.
fn add_to_pack(
    disk: &Disk,
    entry: &TailEntry<'_>,
    first: Position,
    pack: &mut Pack,
) -> Result<LogEnd> {
    let location = || Location::stream(&StreamId::trusted(entry.stream), entry.first_version);
    let damaged = |found: &str| {
        let expected =
            format!("the frame of position {first} with the checksum {:08x}", entry.checksum);
        Error::corruption(location(), found, expected)
    };
    let bytes = disk.get(Family::Streams, &stream_key(entry.stream, entry.first_version))?;
    let bytes = bytes.ok_or_else(|| damaged("nothing"))?;
    let frame = Frame::decode(&bytes).map_err(|malformed| malformed.at(location()))?;
    if checksum_of(&bytes) != entry.checksum || frame.header.first_position != first {
        return Err(damaged("another frame"));
    }
    pack.push(first, frame.header.last_position(), &bytes);
    LogEnd::after(&frame, entry.checksum)
}
