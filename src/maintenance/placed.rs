//! The lines of an export with positions: those of events, and those of holes (G17).

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::lines::{LineFault, json_fault};
use crate::format::{Frame, FrameHeader, Hole, HoleEnd, Malformed};
use crate::model::{EventId, Position, StreamId, StreamState, Timestamp, Version, quoted};

/// A line of a hole: `{"hole":{…}}` or `{"stream_hole":{…}}`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HoleLine {
    Hole(LogHoleLine),
    StreamHole(StreamHoleLine),
}

/// Consecutive deleted events of the log.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogHoleLine {
    position: Position,
    last_position: Position,
    time: Timestamp,
    last_time: Timestamp,
    /// The first position of the commit of the first event, and the last one of that of the last.
    commit: Position,
    commit_last: Position,
    /// How many streams the store had after them.
    streams: u64,
    /// The number of the newest deletion of one of them.
    deletion: Version,
}

/// The deleted beginning of a stream.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamHoleLine {
    pub(super) stream: StreamId,
    pub(super) last_version: Version,
    position: Position,
    time: Timestamp,
    last_position: Position,
    last_time: Timestamp,
    pub(super) last_id: EventId,
    streams: u64,
    pub(super) deletion: Version,
    pub(super) state: StreamState,
}

/// The id and the place that the line of an event gives.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Places {
    pub(super) position: Position,
    pub(super) version: Version,
    #[serde(rename = "id")]
    _id: EventId,
    commit: Position,
    commit_last: Position,
}

/// The fields by which the line of a hole is recognised.
#[derive(Deserialize)]
struct Fields {
    hole: Option<IgnoredAny>,
    stream_hole: Option<IgnoredAny>,
}

/// Reads the line of a hole; `None` for any other line.
pub(super) fn parse_hole(line: &[u8]) -> Option<Result<HoleLine, LineFault>> {
    match serde_json::from_slice(line) {
        Ok(hole) => Some(Ok(hole)),
        Err(fault) => {
            let fields: Fields = serde_json::from_slice(line).ok()?;
            let is_hole = fields.hole.is_some() || fields.stream_hole.is_some();
            is_hole.then_some(Err(json_fault(&fault)))
        }
    }
}

impl HoleLine {
    /// The line of a frame that is a hole; `None` for a frame of events.
    pub(super) fn of(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        let header = &frame.header;
        let Some(Hole { last_recorded_at, deletion, end }) = frame.hole()? else { return Ok(None) };
        let (position, time, streams) =
            (header.first_position, header.recorded_at, header.streams_after);
        Ok(Some(match end {
            None => Self::Hole(LogHoleLine {
                position,
                last_position: header.last_position(),
                time,
                last_time: last_recorded_at,
                commit: header.commit_first(),
                commit_last: header.commit_last(),
                streams,
                deletion,
            }),
            Some(HoleEnd { position: last_position, id, state }) => {
                Self::StreamHole(StreamHoleLine {
                    stream: StreamId::trusted(header.stream),
                    last_version: header.last_version(),
                    position,
                    time,
                    last_position,
                    last_time: last_recorded_at,
                    last_id: id,
                    streams,
                    deletion,
                    state,
                })
            }
        }))
    }
}

impl LogHoleLine {
    /// What its frame records, after the events up to a position.
    pub(super) fn hole(&self, next: Position) -> Result<(FrameHeader<'static>, Hole), LineFault> {
        check_next(self.position, next)?;
        check_streams(self.streams, self.last_position)?;
        let (before, count, commit_len) = (
            distance(self.commit, self.position)?,
            len(self.position, self.last_position)?,
            len(self.commit, self.commit_last)?,
        );
        let header = FrameHeader {
            first_position: self.position,
            stream: "",
            first_version: Version::FIRST,
            recorded_at: self.time,
            commit_before: before,
            commit_len,
            streams_after: self.streams,
            count,
        };
        let hole = Hole { last_recorded_at: self.last_time, deletion: self.deletion, end: None };
        Ok((header, hole))
    }
}

impl StreamHoleLine {
    /// What its frame records.
    pub(super) fn hole(&self) -> Result<(FrameHeader<'_>, Hole), LineFault> {
        check_streams(self.streams, self.last_position)?;
        let count = u32::try_from(self.last_version.get()).map_err(|_| LineFault::Backwards)?;
        let header = FrameHeader {
            first_position: self.position,
            stream: self.stream.as_str(),
            first_version: Version::FIRST,
            recorded_at: self.time,
            commit_before: 0,
            commit_len: count,
            streams_after: self.streams,
            count,
        };
        let end = HoleEnd { position: self.last_position, id: self.last_id, state: self.state };
        let hole =
            Hole { last_recorded_at: self.last_time, deletion: self.deletion, end: Some(end) };
        Ok((header, hole))
    }
}

impl Places {
    /// Reads the place of the event of a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, LineFault> {
        serde_json::from_slice(line)
            .map_err(|error| LineFault::NoPlaces(quoted(&error.to_string())))
    }

    /// How many events of its commit are before it, and how many the commit has.
    pub(super) fn commit(&self, next: Position) -> Result<(u32, u32), LineFault> {
        check_next(self.position, next)?;
        distance(self.position, self.commit_last)?;
        Ok((distance(self.commit, self.position)?, len(self.commit, self.commit_last)?))
    }

    /// The first and last position of its commit.
    pub(super) fn commit_span(&self) -> (Position, Position) {
        (self.commit, self.commit_last)
    }
}

fn check_next(given: Position, next: Position) -> Result<(), LineFault> {
    if given == next { Ok(()) } else { Err(LineFault::OtherPosition { given, next }) }
}

/// Each stream has at least one event.
fn check_streams(streams: u64, last: Position) -> Result<(), LineFault> {
    if streams <= last.get() {
        return Ok(());
    }
    let found = format!("{streams} streams have events up to position {last}");
    Err(LineFault::Contradictory(found))
}

/// How far one position is after another one.
fn distance(from: Position, to: Position) -> Result<u32, LineFault> {
    let distance = to.get().checked_sub(from.get()).and_then(|far| u32::try_from(far).ok());
    distance.filter(|far| *far < u32::MAX).ok_or(LineFault::Backwards)
}

fn len(first: Position, last: Position) -> Result<u32, LineFault> {
    Ok(distance(first, last)? + 1)
}
