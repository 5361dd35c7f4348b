//! [`LogHole`]: consecutive deleted events of the log, as they are put together.

use crate::error::{Location, Result};
use crate::format::{Frame, FrameHeader, Hole, encode_hole};
use crate::model::{EventRef, Position, Timestamp, Version};

/// The longest hole, so that its numbers fit.
const EVENTS_MAX: u64 = 1 << 31;

/// Consecutive deleted events of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogHole {
    pub(super) first: Position,
    pub(super) last: Position,
    recorded_at: (Timestamp, Timestamp),
    streams_after: u64,
    commits: (Position, Position),
    deletion: Version,
}

impl LogHole {
    /// The hole that a frame is; `None` for a frame of events.
    pub(super) fn of(frame: &Frame<'_>) -> Result<Option<Self>> {
        let header = &frame.header;
        let location = || Location::log(header.first_position);
        let hole = frame.hole().map_err(|malformed| malformed.at(location()))?;
        Ok(hole.map(|hole| Self {
            first: header.first_position,
            last: header.last_position(),
            recorded_at: (header.recorded_at, hole.last_recorded_at),
            streams_after: header.streams_after,
            commits: (header.commit_first(), header.commit_last()),
            deletion: hole.deletion,
        }))
    }

    /// The hole of one event, which is in the frame of this header.
    pub(super) fn of_event(
        event: &EventRef<'_>,
        header: &FrameHeader<'_>,
        deletion: Version,
    ) -> Self {
        let at = event.recorded_at();
        Self {
            first: event.position(),
            last: event.position(),
            recorded_at: (at, at),
            streams_after: header.streams_after,
            commits: (header.commit_first(), header.commit_last()),
            deletion,
        }
    }

    /// This hole and the one that follows it; `None` if they are too long for one.
    pub(super) fn and(self, next: Self) -> Option<Self> {
        let span = next.commits.1.get().saturating_sub(self.commits.0.get());
        (self.last.next() == next.first && span < EVENTS_MAX).then_some(Self {
            first: self.first,
            last: next.last,
            recorded_at: (self.recorded_at.0, next.recorded_at.1),
            streams_after: next.streams_after,
            commits: (self.commits.0, next.commits.1),
            deletion: self.deletion.max(next.deletion),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let before = self.first.get() - self.commits.0.get();
        let header = FrameHeader {
            first_position: self.first,
            stream: "",
            first_version: Version::FIRST,
            recorded_at: self.recorded_at.0,
            commit_before: number(before),
            commit_len: number(self.commits.1.get() - self.commits.0.get() + 1),
            streams_after: self.streams_after,
            count: number(self.last.get() - self.first.get() + 1),
        };
        let hole =
            Hole { last_recorded_at: self.recorded_at.1, deletion: self.deletion, end: None };
        encode_hole(&header, &hole)
    }
}
