//! Checks holes: deletion must not be taken for damage, nor damage for deletion.
//!
//! The events that are left are the same in the log and in `streams`, and both have the same number
//! of deleted ones, so the holes of the log cover exactly the events that the holes of the streams
//! say. What is decided but not yet carried out in the log is compared as it will be.

use super::state::{AsDecided, LogState};
use super::{Sum, Verifier};
use crate::error::{Location, Result};
use crate::format::{Frame, PackedFrame, stream_key};
use crate::model::{Position, StreamId};
use crate::read::lookup::{decode_in_log, hole_of};
use crate::storage::Family;

impl Verifier<'_> {
    /// Whether decided deletions may still have to be carried out in this part of the log.
    pub(super) fn is_pending(&self, first: Position, last: Position) -> bool {
        self.deletions.pending.is_some_and(|(from, to)| from <= last && first <= to)
    }

    /// A frame as it will be once everything that is decided is carried out. If damage in `streams`
    /// hides that, it is recorded.
    pub(super) fn as_decided(&mut self, place: &PackedFrame, bytes: &[u8]) -> Result<AsDecided> {
        self.decided(place, bytes).or_else(|error| {
            self.note_undecodable(error, Location::log(place.first), Some(place.first))?;
            Ok(AsDecided::Unchanged)
        })
    }

    fn decided(&self, place: &PackedFrame, bytes: &[u8]) -> Result<AsDecided> {
        if !self.is_pending(place.first, place.last) {
            return Ok(AsDecided::Unchanged);
        }
        // The walk has recorded a frame that does not decode.
        let Ok(frame) = decode_in_log(place.first, bytes) else { return Ok(AsDecided::Unchanged) };
        if frame.is_hole() {
            return Ok(AsDecided::Unchanged);
        }
        let (stream, first) = (StreamId::trusted(frame.header.stream), frame.header.first_version);
        let redacted = &self.deletions.redactions;
        let is_redacted = redacted.iter().any(|at| (place.first..=place.last).contains(at));
        self.storage.with(|disk| {
            let last_deleted = hole_of(disk, &stream)?.map(|(last, _)| last);
            let Some(last_deleted) = last_deleted.filter(|last| *last >= first) else {
                if !is_redacted {
                    return Ok(AsDecided::Unchanged);
                }
                let kept = disk.get(Family::Streams, &stream_key(stream.as_str(), first))?;
                return Ok(AsDecided::Changed { kept, deleted: 0 });
            };
            let last = last_deleted.min(frame.header.last_version());
            let deleted = last.get() - first.get() + 1;
            let is_left = last < frame.header.last_version();
            let key = stream_key(stream.as_str(), last.next());
            let kept = if is_left { disk.get(Family::Streams, &key)? } else { None };
            Ok(AsDecided::Changed { kept, deleted })
        })
    }

    /// Checks a hole of the log.
    pub(super) fn hole_of_log(
        &mut self,
        frame: &Frame<'_>,
        state: &mut LogState,
        sum: &mut Sum,
    ) -> Result<()> {
        let header = &frame.header;
        let location = || Location::log(header.first_position);
        let hole = match frame.hole() {
            Ok(Some(hole)) => hole,
            Ok(None) => return Ok(()),
            Err(malformed) => {
                return self.note_error(malformed.at(location()), Some(header.first_position));
            }
        };
        let first = Some(header.first_position);
        if hole.end.is_some() {
            self.note(location(), first, "the hole of a stream", "one of the log");
        }
        if header.recorded_at < state.recorded_at || hole.last_recorded_at < header.recorded_at {
            let found = format!("events from {} to {}", header.recorded_at, hole.last_recorded_at);
            let expected = format!("not before {}", state.recorded_at);
            self.note(location(), first, found, expected);
        }
        if header.streams_after < state.streams && self.report.is_sound() {
            let found = format!("a count of streams after it of {}", header.streams_after);
            self.note(location(), first, found, format!("at least {}", state.streams));
        }
        state.recorded_at = hole.last_recorded_at;
        state.streams = header.streams_after;
        (state.commit, state.is_after_hole) = (None, true);
        sum.deleted += u64::from(header.count);
        Ok(())
    }

    /// Checks a frame that may be the hole of a stream; returns the position of its last event if it
    /// is one.
    pub(super) fn hole_of_stream(
        &mut self,
        frame: &Frame<'_>,
        location: &Location,
    ) -> Result<Option<Position>> {
        let header = &frame.header;
        let hole = match frame.hole() {
            Ok(None) => return Ok(None),
            Ok(Some(hole)) => hole,
            Err(malformed) => {
                self.note_error(malformed.at(location.clone()), None)?;
                return Ok(None);
            }
        };
        let Some(end) = hole.end else {
            self.note(location.clone(), None, "a hole of the log", "one of a stream");
            return Ok(None);
        };
        if end.position < header.last_position() || hole.last_recorded_at < header.recorded_at {
            let found = format!("the end of a hole at position {}", end.position);
            let expected = format!("at least {}", header.last_position());
            self.note(location.clone(), Some(end.position), found, expected);
        }
        self.report.deleted_events += u64::from(header.count);
        Ok(Some(end.position))
    }
}
