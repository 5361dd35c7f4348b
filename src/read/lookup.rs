//! Finds frames: by position, by version, the last of a stream.
//!
//! Every frame is checked before it is used: its checksum, and that it matches its key (G8).

use std::fmt;

use super::log::Log;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{Frame, HoleEnd, checksum_of, stream_key, stream_of};
use crate::model::{EventId, EventRef, Position, StreamId, StreamState, Version};
use crate::storage::{Cursor, Disk, Family};
use crate::validate::LastEvent;

/// Checks that a key and its frame agree on the frame's place.
#[inline]
pub(crate) fn check_key<T: PartialEq + fmt::Debug + Copy>(
    location: impl FnOnce() -> Location,
    key: T,
    frame: T,
) -> Result<()> {
    if key == frame {
        return Ok(());
    }
    let (found, expected) = (format!("the frame of {frame:?}"), format!("that of {key:?}"));
    Err(Error::corruption(location(), found, expected))
}

/// Decodes the frame stored under a first position, and checks that position.
pub(crate) fn decode_in_log(first: Position, bytes: &[u8]) -> Result<Frame<'_>> {
    let location = || Location::log(first);
    let frame = Frame::decode(bytes).map_err(|malformed| malformed.at(location()))?;
    check_key(location, first, frame.header.first_position)?;
    Ok(frame)
}

/// Decodes the frame stored under a stream and first version, and checks both.
pub(crate) fn decode_in_stream<'b>(
    stream: &StreamId,
    first: Version,
    bytes: &'b [u8],
) -> Result<Frame<'b>> {
    let location = || Location::stream(stream, first);
    let frame = Frame::decode(bytes).map_err(|malformed| malformed.at(location()))?;
    let header = &frame.header;
    check_key(location, (stream.as_str(), first), (header.stream, header.first_version))?;
    Ok(frame)
}

/// Visits the events of a frame.
pub(crate) fn each_event<'f>(
    frame: &Frame<'f>,
    location: impl Fn() -> Location,
    mut visit: impl FnMut(EventRef<'f>),
) -> Result<()> {
    for event in frame.events() {
        visit(event.map_err(|malformed| malformed.at(location()))?);
    }
    Ok(())
}

/// A frame and its first position or version.
type Found<'c, P> = Option<(P, Frame<'c>)>;

/// The next frame of a stream; `None` if the next key belongs to another stream.
fn next_in_stream<'c>(cursor: &'c mut Cursor<'_>, stream: &StreamId) -> Result<Found<'c, Version>> {
    let Some((key, value)) = cursor.next()? else { return Ok(None) };
    match stream_of(key) {
        Some((id, first)) if id == stream.as_str() => {
            Ok(Some((first, decode_in_stream(stream, first, value)?)))
        }
        _ => Ok(None),
    }
}

/// The checksum of the frame that ends at a position; `None` if no frame ends there.
pub(crate) fn checksum_at(log: Log<'_>, position: Position) -> Result<Option<u32>> {
    let mut cursor = log.cursor(position, Direction::Forward);
    let frame = cursor.next()?.and_then(|frames| frames.at(position));
    let frame = frame.filter(|(place, _)| place.last == position);
    Ok(frame.map(|(_, bytes)| checksum_of(bytes)))
}

/// The first and last position of the commit that contains a position; `None` if the event was
/// deleted.
pub(crate) fn commit_range(
    log: Log<'_>,
    position: Position,
) -> Result<Option<(Position, Position)>> {
    let mut cursor = log.cursor(position, Direction::Forward);
    let Some((place, bytes)) = cursor.next()?.and_then(|frames| frames.at(position)) else {
        let location = Location::log(position);
        return Err(Error::corruption(location, "nothing", "the frame that holds it"));
    };
    let frame = decode_in_log(place.first, bytes)?;
    let range = (frame.header.commit_first(), frame.header.commit_last());
    Ok(Some(range).filter(|_| !frame.is_hole()))
}

/// The streams, versions and ids of the events from `first` to `last`, without those that were
/// deleted. A frame must begin at `first`, and one must end at `last`.
pub(crate) fn events_between(
    log: Log<'_>,
    (first, last): (Position, Position),
) -> Result<Vec<(StreamId, Version, EventId)>> {
    let mut events = Vec::new();
    let mut cursor = log.cursor(first, Direction::Forward);
    while let Some(frames) = cursor.next()? {
        for (place, bytes) in frames.from(first) {
            if place.first > last {
                return Ok(events);
            }
            let frame = decode_in_log(place.first, bytes)?;
            each_event(
                &frame,
                || Location::log(place.first),
                |event| {
                    if (first..=last).contains(&event.position) {
                        events.push((StreamId::trusted(event.stream), event.version, event.id));
                    }
                },
            )?;
        }
    }
    Ok(events)
}

/// The last event of a stream, which may have been deleted.
pub(crate) fn last_event(disk: &Disk, stream: &StreamId) -> Result<Option<LastEvent>> {
    let start = stream_key(stream.as_str(), Version::MAX);
    let mut cursor = disk.stream_cursor(&start, Direction::Backward)?;
    let Some((first, frame)) = next_in_stream(&mut cursor, stream)? else { return Ok(None) };
    if let Some(end) = end_of_hole(stream, first, &frame)? {
        let version = frame.header.last_version();
        return Ok(Some(LastEvent { version, id: end.id, state: end.state }));
    }
    let mut last = None;
    each_event(
        &frame,
        || Location::stream(stream, first),
        |event| {
            last = Some(LastEvent::new(event.version, event.id));
        },
    )?;
    Ok(last)
}

/// The end of a hole in a stream; `None` for a frame of events.
fn end_of_hole(stream: &StreamId, first: Version, frame: &Frame<'_>) -> Result<Option<HoleEnd>> {
    let hole = frame.hole().map_err(|malformed| malformed.at(Location::stream(stream, first)))?;
    Ok(hole.and_then(|hole| hole.end))
}

/// The last version of a stream that was deleted, and the event that it was; `None` if none was.
pub(crate) fn hole_of(disk: &Disk, stream: &StreamId) -> Result<Option<(Version, HoleEnd)>> {
    let start = stream_key(stream.as_str(), Version::FIRST);
    let mut cursor = disk.stream_cursor(&start, Direction::Forward)?;
    let Some((first, frame)) = next_in_stream(&mut cursor, stream)? else { return Ok(None) };
    let end = end_of_hole(stream, first, &frame)?;
    Ok(end.map(|end| (frame.header.last_version(), end)))
}

/// The ids and positions of at most `count` events of a stream, from a version on.
pub(crate) fn events_from(
    disk: &Disk,
    stream: &StreamId,
    from: Version,
    count: usize,
) -> Result<Vec<(EventId, Position)>> {
    let mut found = Vec::new();
    let start = stream_key(stream.as_str(), from);
    let mut cursor = disk.stream_cursor(&start, Direction::Forward)?;
    while found.len() < count {
        let Some((key, value)) = cursor.next()? else { break };
        let Some((id, first)) = stream_of(key) else { break };
        if id != stream.as_str() {
            if key < start.as_slice() {
                continue;
            }
            break;
        }
        let frame = decode_in_stream(stream, first, value)?;
        each_event(
            &frame,
            || Location::stream(stream, first),
            |event| {
                if event.version >= from && found.len() < count {
                    found.push((event.id, event.position));
                }
            },
        )?;
    }
    Ok(found)
}

/// The positions of some consecutive events of a stream: those from a position on, or, backward, up
/// to one, the newest first. Empty if there are none.
pub(crate) fn positions_in_stream(
    disk: &Disk,
    stream: &StreamId,
    position: Position,
    direction: Direction,
) -> Result<Vec<Position>> {
    const EVENTS_MAX: u64 = 256;
    let last = match direction {
        Direction::Forward => position.previous(),
        Direction::Backward => Some(position),
    };
    let last = match last {
        Some(last) => version_at(disk, stream, Version::MAX, last)?,
        None => None,
    };
    let (from, count) = match (direction, last) {
        (Direction::Forward, last) => (Version::after(last), EVENTS_MAX),
        (Direction::Backward, None) => return Ok(Vec::new()),
        (Direction::Backward, Some(last)) => {
            let before = last.get().saturating_sub(EVENTS_MAX);
            (Version::FIRST.plus(before), last.get() - before)
        }
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let events = events_from(disk, stream, from, count)?.into_iter();
    // Deleted versions do not count, so there may be later ones.
    let is_wanted = |at: &Position| match direction {
        Direction::Forward => true,
        Direction::Backward => *at <= position,
    };
    let positions = events.map(|(_, position)| position).filter(is_wanted);
    Ok(match direction {
        Direction::Forward => positions.collect(),
        Direction::Backward => positions.rev().collect(),
    })
}

/// The first stream with a key at or above `start`.
pub(crate) fn next_stream(disk: &Disk, start: &[u8]) -> Result<Option<StreamId>> {
    let mut cursor = disk.cursor(Family::Streams, start, Direction::Forward)?;
    while let Some((key, _)) = cursor.next()? {
        if key >= start {
            let (stream, _) = stream_of(key).ok_or_else(|| Family::Streams.bad_key(key))?;
            return Ok(Some(StreamId::trusted(stream)));
        }
    }
    Ok(None)
}

/// The place of a frame in its stream and in the log.
#[derive(Clone, Copy)]
struct Extent {
    first: Version,
    last: Version,
    position: Position,
    /// What has become of the stream, if its events were deleted; then the position is that of the
    /// last one.
    hole: Option<StreamState>,
}

impl Extent {
    /// The last version of the frame that is at most `at_most` and was recorded at or below the
    /// position `up_to`; `None` if the whole frame was recorded later.
    fn version_at(self, up_to: Position, at_most: Version) -> Option<Version> {
        let count = up_to.get().checked_sub(self.position.get())?;
        if self.hole.is_some() {
            return Some(self.last.min(at_most));
        }
        Some(self.first.plus(count).min(self.last).min(at_most))
    }
}

/// The last version of a stream at or below `version` that was recorded at or below the position
/// `up_to`.
pub(crate) fn version_at(
    disk: &Disk,
    stream: &StreamId,
    version: Version,
    up_to: Position,
) -> Result<Option<Version>> {
    Ok(version_and_state_at(disk, stream, version, up_to)?.map(|(version, _)| version))
}

/// The version as [`version_at`] finds it, and what has become of the stream if it was deleted up to
/// there.
pub(crate) fn version_and_state_at(
    disk: &Disk,
    stream: &StreamId,
    version: Version,
    up_to: Position,
) -> Result<Option<(Version, StreamState)>> {
    let at = extent_at(disk, stream, version)?;
    // No version exists above the maximum.
    if version < Version::MAX && at.is_none_or(|at| at.last < version) {
        check_ends_below(disk, stream, version)?;
    }
    let Some(at) = at else { return Ok(None) };
    if let Some(found) = at.version_at(up_to, version) {
        return Ok(Some((found, at.hole.unwrap_or_default())));
    }
    // The frames below are older. Binary search: versions up to `low` were recorded at or below
    // `up_to`, versions from `high` on were not.
    let (mut low, mut high) = (0, at.first.get());
    let mut found = None;
    while high - low > 1 {
        let Some(middle) = Version::new(low + (high - low) / 2) else { break };
        let at = extent_at(disk, stream, middle)?.filter(|at| at.last >= middle);
        let Some(at) = at else {
            let location = Location::stream(stream, middle);
            let expected = "a frame, because later versions exist";
            return Err(Error::corruption(location, "nothing", expected));
        };
        match at.version_at(up_to, version) {
            Some(version) => {
                found = Some((version, at.hole.unwrap_or_default()));
                low = at.last.get().min(high - 1);
            }
            None => high = at.first.get(),
        }
    }
    Ok(found)
}

/// Checks that a version that no frame holds is above the stream's last one. Otherwise its frame is
/// missing.
fn check_ends_below(disk: &Disk, stream: &StreamId, version: Version) -> Result<()> {
    let start = stream_key(stream.as_str(), version);
    let mut cursor = disk.stream_cursor(&start, Direction::Forward)?;
    let mut above = None;
    while let Some((key, _)) = cursor.next()? {
        if key >= start.as_slice() {
            above = stream_of(key).filter(|(id, _)| *id == stream.as_str()).map(|(_, first)| first);
            break;
        }
    }
    let Some(above) = above else { return Ok(()) };
    // An append between the two lookups may have added both frames, so look again: a frame that is
    // really missing is still missing.
    if extent_at(disk, stream, version)?.is_some_and(|at| at.last >= version) {
        return Ok(());
    }
    let found = format!("a frame that begins at {above}");
    let expected = format!("the frame that holds {version}");
    Err(Error::corruption(Location::stream(stream, version), found, expected))
}

/// The frame of a stream that holds a version, or else the last one below it.
fn extent_at(disk: &Disk, stream: &StreamId, version: Version) -> Result<Option<Extent>> {
    let start = stream_key(stream.as_str(), version);
    let mut cursor = disk.stream_cursor(&start, Direction::Backward)?;
    let Some((first, frame)) = next_in_stream(&mut cursor, stream)? else { return Ok(None) };
    let end = end_of_hole(stream, first, &frame)?;
    let position = end.map_or(frame.header.first_position, |end| end.position);
    let hole = end.map(|end| end.state);
    Ok(Some(Extent { first, last: frame.header.last_version(), position, hole }))
}
