//! [`Plan`]: everything that the decision of a deletion writes, before it is written.

use std::collections::BTreeSet;

use super::cut::{Cut, last_version};
use super::redaction::redact;
use super::report::Deleted;
use super::{Target, next_number};
use crate::commit::Decided;
use crate::error::Result;
use crate::format::{Deletions, union};
use crate::model::{
    Deletion, DeletionTarget, ExpectedVersion, InvalidArgument, Position, StreamId, StreamState,
    Version,
};
use crate::read::lookup::last_event;
use crate::storage::Disk;
use crate::validate::LastEvent;

/// What the decision of a deletion writes.
pub(super) struct Plan {
    /// The deletion as it is recorded.
    pub(super) deletion: Deletion,
    /// What is expected of streams that are deleted as a whole.
    pub(super) expectations: Vec<(StreamId, ExpectedVersion)>,
    pub(super) decided: Decided,
    /// What is pending then.
    pub(super) state: Deletions,
    /// Where the deleted events are in the log; `None` if they are too many.
    pub(super) wanted: Option<BTreeSet<Position>>,
    pub(super) report: Deleted,
}

impl Plan {
    /// Plans a deletion, while `state` says how far earlier ones are carried out. `None` if there is
    /// nothing to delete.
    pub(super) fn of(
        target: Target<'_>,
        deletion: &Deletion,
        state: Deletions,
    ) -> Result<Option<Self>> {
        target.storage.with(|disk| {
            let number = next_number(disk)?;
            let mut plan = Self {
                deletion: deletion.clone(),
                expectations: Vec::new(),
                decided: Decided::default(),
                state,
                wanted: Some(BTreeSet::new()),
                report: Deleted { number: Some(number), ..Deleted::default() },
            };
            let is_any = match deletion.target() {
                DeletionTarget::Truncate { streams } => {
                    let mut is_any = false;
                    for (stream, before) in streams {
                        is_any |= plan.cut(disk, stream, (*before, StreamState::Live))?;
                    }
                    is_any
                }
                DeletionTarget::Delete { stream, before } => plan.delete(disk, stream, *before)?,
                DeletionTarget::Tombstone { stream } => plan.tombstone(disk, stream)?,
                DeletionTarget::Redact { position, event_id, tags, .. } => {
                    redact(&mut plan, disk, target.open, (*position, *event_id), tags)?;
                    true
                }
            };
            Ok(is_any.then_some(plan))
        })
    }

    /// Plans to delete all events of a stream below a version.
    fn delete(&mut self, disk: &Disk, stream: &StreamId, before: Option<Version>) -> Result<bool> {
        let Some(last) = last_event(disk, stream)? else { return Ok(false) };
        let end = last.version.next();
        if let Some(before) = before.filter(|before| *before < end) {
            return self.cut(disk, stream, (before, StreamState::Live));
        }
        self.expect(stream, last);
        let recorded = DeletionTarget::Delete { stream: stream.clone(), before: Some(end) };
        self.deletion = self.deletion.with_target(recorded);
        self.cut(disk, stream, (end, StreamState::Deleted))
    }

    fn tombstone(&mut self, disk: &Disk, stream: &StreamId) -> Result<bool> {
        let Some(last) = last_event(disk, stream)? else {
            let stream = stream.clone();
            return Err(InvalidArgument::NothingToTombstone { stream }.into());
        };
        self.expect(stream, last);
        self.cut(disk, stream, (last.version.next(), StreamState::Tombstoned))
    }

    fn expect(&mut self, stream: &StreamId, last: LastEvent) {
        self.expectations.push((stream.clone(), last.visible().into()));
    }

    /// Adds the deletion of the beginning of one stream. Returns whether there is anything to do.
    fn cut(
        &mut self,
        disk: &Disk,
        stream: &StreamId,
        (before, state): (Version, StreamState),
    ) -> Result<bool> {
        let number = self.report.number.unwrap_or(Version::FIRST);
        // Beyond the end there is nothing to delete, now or later.
        let end = last_version(disk, stream)?.map(Version::next);
        let Some(end) = end else { return Ok(false) };
        let cut = Cut::plan(disk, stream, (before.min(end), state), number)?;
        let Some(cut) = cut else { return Ok(false) };
        if state == StreamState::Live && cut.before == end {
            // The whole stream: nothing may come in between.
            if let Some(last) = last_event(disk, stream)? {
                self.expect(stream, last);
            }
        }
        self.report.events += cut.events;
        self.report.bytes += cut.bytes;
        self.report.snapshots += cut.snapshots;
        self.report.streams += 1;
        self.decided.rows.extend(cut.rows);
        self.decided.tips.extend(cut.tip);
        if let Some(positions) = cut.positions {
            self.touch(stream, positions);
            self.decided.up_to = self.decided.up_to.max(Some(positions.1));
            self.state.up_to = self.state.up_to.max(Some(positions.1));
        }
        self.wanted = match (self.wanted.take(), cut.frames) {
            (Some(mut wanted), Some(frames)) => {
                wanted.extend(frames);
                Some(wanted)
            }
            _ => None,
        };
        Ok(true)
    }

    /// Notes that these positions and this stream are to be rewritten and compacted.
    pub(super) fn touch(&mut self, stream: &StreamId, positions: (Position, Position)) {
        let state = &mut self.state;
        state.pending = Some(union(state.pending.as_ref(), positions));
        state.uncompacted = Some(union(state.uncompacted.as_ref(), positions));
        let name = stream.as_str().to_owned();
        let names = (name.clone(), name);
        state.uncompacted_streams = Some(union(state.uncompacted_streams.as_ref(), names));
    }
}
