//! [`Cut`]: what it takes to delete the beginning of a stream.

use std::ops::RangeInclusive;

use crate::commit::Rows;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    Frame, FrameHeader, Hole, HoleEnd, cut_frame, encode_hole, snapshot_key, snapshot_of,
    stream_key, stream_of,
};
use crate::model::{EventId, InvalidArgument, Position, StreamId, StreamState, Timestamp, Version};
use crate::read::lookup::{decode_in_stream, each_event};
use crate::storage::{Disk, Family};

/// More rows than this are deleted as one range. Many small ranges would slow readers down.
const ROWS_MAX: usize = 256;

/// With more frames than this, their packs are found by going through all packs.
const FRAMES_MAX: usize = 100_000;

/// The deletion of the beginning of one stream, before it is decided.
pub(super) struct Cut {
    pub(super) rows: Rows,
    /// The last event that is deleted.
    pub(super) last: Version,
    pub(super) last_id: EventId,
    /// The first and last position of the deleted events.
    pub(super) positions: Option<(Position, Position)>,
    /// The first position of each frame that holds some of them; `None` if they are too many.
    pub(super) frames: Option<Vec<Position>>,
    /// How many events are deleted.
    pub(super) events: u64,
    /// The bytes of the frames that hold them.
    pub(super) bytes: u64,
}

/// The events of a stream that are deleted, as they are read.
#[derive(Default)]
struct Beginning {
    first: Option<(Position, Timestamp)>,
    last: Option<Last>,
    /// The keys of the frames that are deleted; emptied when they are deleted as a range.
    keys: Vec<Vec<u8>>,
    events: u64,
    bytes: u64,
    frames: Vec<Position>,
    /// The first position that is deleted now.
    newly: Option<Position>,
    kept: Option<(Vec<u8>, Vec<u8>)>,
    /// The hole that the stream has already.
    hole: Option<(Version, HoleEnd)>,
}

/// The last event that is deleted.
struct Last {
    version: Version,
    position: Position,
    recorded_at: Timestamp,
    id: EventId,
    streams_after: u64,
}

impl Cut {
    /// Plans to delete the events of a stream below a version, for the deletion of this number.
    /// `None` if there is nothing to do.
    pub(super) fn plan(
        disk: &Disk,
        stream: &StreamId,
        (before, state): (Version, StreamState),
        deletion: Version,
    ) -> Result<Option<Self>> {
        let mut beginning = Beginning::default();
        beginning.read(disk, stream, before)?;
        let hole = beginning.hole;
        let is_known = hole.is_some_and(|(last, end)| {
            let is_so = [end.state, StreamState::Live].contains(&state);
            last.next() >= before && (is_so || end.state == StreamState::Tombstoned)
        });
        let Some(last) = beginning.last.take().filter(|_| !is_known) else { return Ok(None) };
        let Some((first, recorded_at)) = beginning.first else { return Ok(None) };
        let count = u32::try_from(last.version.get()).map_err(|_| too_long(stream))?;
        let header = FrameHeader {
            first_position: first,
            stream: stream.as_str(),
            first_version: Version::FIRST,
            recorded_at,
            commit_before: 0,
            commit_len: count,
            streams_after: last.streams_after,
            count,
        };
        let end = HoleEnd { position: last.position, id: last.id, state };
        let hole = Hole { last_recorded_at: last.recorded_at, deletion, end: Some(end) };
        let mut rows = Rows::default();
        beginning.delete(stream, last.version, &mut rows);
        let key = stream_key(stream.as_str(), Version::FIRST);
        rows.put(Family::Streams, key, encode_hole(&header, &hole));
        Ok(Some(Self {
            last: last.version,
            last_id: last.id,
            frames: Some(std::mem::take(&mut beginning.frames))
                .filter(|frames| frames.len() <= FRAMES_MAX),
            positions: beginning.newly.map(|first| (first, last.position)),
            events: beginning.events,
            bytes: beginning.bytes,
            rows,
        }))
    }
}

fn too_long(stream: &StreamId) -> Error {
    let text = format!("stream {stream} beyond version {}", u32::MAX);
    InvalidArgument::Unreadable { what: "a stream that can be truncated", text }.into()
}

impl Beginning {
    /// Reads the frames of a stream that begin below a version.
    fn read(&mut self, disk: &Disk, stream: &StreamId, before: Version) -> Result<()> {
        let start = stream_key(stream.as_str(), Version::FIRST);
        let mut cursor = disk.stream_cursor(&start, Direction::Forward)?;
        let mut last_frame = Vec::new();
        while let Some((key, value)) = cursor.next()? {
            let Some((id, first)) = stream_of(key) else { break };
            if id != stream.as_str() || first >= before {
                break;
            }
            let frame = decode_in_stream(stream, first, value)?;
            let location = || Location::stream(stream, first);
            if let Some(hole) = frame.hole().map_err(|bad| bad.at(location()))? {
                self.note_hole(&frame, hole);
                continue;
            }
            let header = frame.header;
            self.first = self.first.or(Some((header.first_position, header.recorded_at)));
            self.newly = self.newly.or(Some(header.first_position));
            if self.frames.len() <= FRAMES_MAX {
                self.frames.push(header.first_position);
            }
            self.events += u64::from(header.count);
            self.bytes += value.len() as u64;
            if self.keys.len() <= ROWS_MAX {
                self.keys.push(key.to_vec());
            }
            last_frame.clear();
            last_frame.extend_from_slice(value);
            if header.last_version() >= before {
                let kept = cut_frame(value, before).map_err(|bad| bad.at(location()))?;
                self.kept = Some((stream_key(stream.as_str(), before), kept));
                self.events -= header.last_version().get() - before.get() + 1;
            }
        }
        if !last_frame.is_empty() {
            self.note_last(stream, &last_frame, before)?;
        }
        Ok(())
    }

    fn note_hole(&mut self, frame: &Frame<'_>, hole: Hole) {
        let Some(end) = hole.end else { return };
        let header = frame.header;
        self.first = Some((header.first_position, header.recorded_at));
        self.hole = Some((header.last_version(), end));
        self.last = Some(Last {
            version: header.last_version(),
            position: end.position,
            recorded_at: hole.last_recorded_at,
            id: end.id,
            streams_after: header.streams_after,
        });
    }

    fn note_last(&mut self, stream: &StreamId, bytes: &[u8], before: Version) -> Result<()> {
        let at =
            |malformed: crate::format::Malformed| malformed.at(Location::stream(stream, before));
        let frame = Frame::decode(bytes).map_err(at)?;
        let streams_after = frame.header.streams_after;
        each_event(
            &frame,
            || Location::stream(stream, frame.header.first_version),
            |event| {
                if event.version < before {
                    self.last = Some(Last {
                        version: event.version,
                        position: event.position,
                        recorded_at: event.recorded_at,
                        id: event.id,
                        streams_after,
                    });
                }
            },
        )
    }

    /// Deletes the frames, and puts what is left of the last one.
    fn delete(&mut self, stream: &StreamId, last: Version, rows: &mut Rows) {
        if self.keys.len() > ROWS_MAX {
            let first = stream_key(stream.as_str(), Version::FIRST);
            rows.delete_range(Family::Streams, first, stream_key(stream.as_str(), last.next()));
        } else {
            self.keys.drain(..).for_each(|key| rows.delete(Family::Streams, key));
        }
        if let Some((key, kept)) = self.kept.take() {
            rows.put(Family::Streams, key, kept);
        }
    }
}

/// Kind and version of each snapshot of a stream with one of these versions.
pub(super) fn snapshots_of(
    disk: &Disk,
    stream: &StreamId,
    versions: &RangeInclusive<Version>,
) -> Result<Vec<(String, Version)>> {
    let mut found = Vec::new();
    let mut next = Vec::new();
    // One search for each kind: its snapshots are sorted by stream.
    while let Some(kind) = kind_from(disk, &next)? {
        let first = snapshot_key(&kind, stream.as_str(), *versions.start());
        let end = snapshot_key(&kind, stream.as_str(), Version::MAX);
        let mut cursor = disk.range_cursor(Family::Snapshots, &first..&end, Direction::Forward);
        while let Some((key, _)) = cursor.next()? {
            let of_kind = snapshot_of(key).filter(|(.., version)| versions.contains(version));
            let Some((kind, _, version)) = of_kind else { break };
            found.push((kind.to_owned(), version));
        }
        next = kind.into_bytes();
        next.push(1);
    }
    Ok(found)
}

/// The kind of the first snapshot at or after a key.
fn kind_from(disk: &Disk, key: &[u8]) -> Result<Option<String>> {
    let mut cursor = disk.cursor_at(Family::Snapshots, key, Direction::Forward);
    let Some((key, _)) = cursor.next()? else { return Ok(None) };
    let (kind, ..) = snapshot_of(key).ok_or_else(|| Family::Snapshots.bad_key(key))?;
    Ok(Some(kind.to_owned()))
}
