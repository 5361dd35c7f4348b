//! [`Plan`]: everything that the decision of a deletion writes, before it is written.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::cut::{Cut, snapshots_of};
use super::report::Deleted;
use super::target::{Seen, next_number};
use crate::commit::{Decided, IndexKinds, LookedUp, Prepared, Submission};
use crate::error::Result;
use crate::event_store::Append;
use crate::format::{DELETIONS_RECORD, Deletions, encode_deletions, snapshot_key, union};
use crate::model::{
    DELETION_EVENT, Deletion, DeletionTarget, ExpectedVersion, InvalidArgument, NewEvent, Position,
    StreamId, StreamState, Version,
};
use crate::options::Durability;
use crate::read::lookup::last_event;
use crate::storage::{Disk, Family};
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
    /// The snapshots that are deleted: those of a stream with one of these versions.
    pub(super) snapshots: Vec<(StreamId, RangeInclusive<Version>)>,
    pub(super) report: Deleted,
}

impl Plan {
    /// Plans a deletion, while `state` says how far earlier ones are carried out. `None` if there is
    /// nothing to delete.
    pub(super) fn of(
        seen: Seen<'_>,
        deletion: &Deletion,
        state: Deletions,
    ) -> Result<Option<Self>> {
        let head = seen.head.get()?;
        seen.storage.with(|disk| {
            let number = next_number(disk)?;
            let mut plan = Self {
                deletion: deletion.clone(),
                expectations: Vec::new(),
                decided: Decided::default(),
                state,
                wanted: Some(BTreeSet::new()),
                snapshots: Vec::new(),
                report: Deleted { number: Some(number), ..Deleted::default() },
            };
            let is_any = match deletion.target() {
                DeletionTarget::Truncate { streams } => plan.truncate(disk, streams)?,
                DeletionTarget::Delete { stream, before } => plan.delete(disk, stream, *before)?,
                DeletionTarget::Tombstone { stream } => plan.tombstone(disk, stream)?,
                DeletionTarget::Redact { position, event_id, .. } => {
                    plan.redact(disk, (seen.open, head), (*position, *event_id))?
                }
            };
            Ok(is_any.then_some(plan))
        })
    }

    /// Adds the deletion of the snapshots that there are now.
    pub(super) fn delete_snapshots(&mut self, disk: &Disk) -> Result<()> {
        for (stream, versions) in &self.snapshots {
            for (kind, version) in snapshots_of(disk, stream, versions)? {
                let key = snapshot_key(&kind, stream.as_str(), version);
                self.decided.rows.delete(Family::Snapshots, key);
                self.report.snapshots += 1;
            }
        }
        self.state.uncompacted_snapshots |= self.report.snapshots > 0;
        Ok(())
    }

    /// The submission that decides it; its report, what is pending then, and where.
    pub(super) fn into_submission(
        self,
        kinds: IndexKinds,
    ) -> Result<(Submission, Deleted, Deletions, Option<BTreeSet<Position>>)> {
        let Self { deletion, expectations, mut decided, state, wanted, report, .. } = self;
        let event = NewEvent::json(DELETION_EVENT, &deletion)?;
        let before = report.number.and_then(Version::previous);
        let mut append = Append::new().to(StreamId::deletions(), before.into(), [event]);
        for (stream, expected) in expectations {
            append = append.check(stream, expected);
        }
        decided.rows.put(Family::Meta, DELETIONS_RECORD.to_vec(), encode_deletions(&state));
        let prepared = Prepared::indexed(&append, kinds, LookedUp::default());
        let submission = Submission {
            deletes: Some(Box::new(decided)),
            ..Submission::of([prepared], Durability::Sync)
        };
        Ok((submission, report, state, wanted))
    }

    /// Plans to delete the beginnings of streams. They are recorded as far as they exist, so that
    /// repeating it in a copy deletes no newer events.
    fn truncate(&mut self, disk: &Disk, streams: &[(StreamId, Version)]) -> Result<bool> {
        let mut recorded = Vec::with_capacity(streams.len());
        for (stream, before) in streams {
            let Some(last) = last_event(disk, stream)? else { continue };
            let cut = (*before, StreamState::Live);
            if let Some(before) = self.cut(disk, stream, last, cut)? {
                recorded.push((stream.clone(), before));
            }
        }
        let is_any = !recorded.is_empty();
        self.deletion = self.deletion.with_target(DeletionTarget::Truncate { streams: recorded });
        Ok(is_any)
    }

    /// Plans to delete all events of a stream below a version.
    fn delete(&mut self, disk: &Disk, stream: &StreamId, before: Option<Version>) -> Result<bool> {
        let Some(last) = last_event(disk, stream)? else { return Ok(false) };
        let end = last.version.next();
        if let Some(before) = before.filter(|before| *before < end) {
            let cut = (before, StreamState::Live);
            return Ok(self.cut(disk, stream, last, cut)?.is_some());
        }
        let recorded = DeletionTarget::Delete { stream: stream.clone(), before: Some(end) };
        self.deletion = self.deletion.with_target(recorded);
        Ok(self.cut(disk, stream, last, (end, StreamState::Deleted))?.is_some())
    }

    fn tombstone(&mut self, disk: &Disk, stream: &StreamId) -> Result<bool> {
        let Some(last) = last_event(disk, stream)? else {
            let stream = stream.clone();
            return Err(InvalidArgument::NothingToTombstone { stream }.into());
        };
        let cut = (last.version.next(), StreamState::Tombstoned);
        Ok(self.cut(disk, stream, last, cut)?.is_some())
    }

    /// Adds the deletion of the beginning of a stream with this last event. Returns the first
    /// version that is kept; `None` if there is nothing to do.
    fn cut(
        &mut self,
        disk: &Disk,
        stream: &StreamId,
        last: LastEvent,
        (before, state): (Version, StreamState),
    ) -> Result<Option<Version>> {
        let number = self.report.number.unwrap_or(Version::FIRST);
        // Beyond the end there is nothing to delete, now or later.
        let end = last.version.next();
        let cut = Cut::plan(disk, stream, (before.min(end), state), number)?;
        let Some(cut) = cut else { return Ok(None) };
        if cut.last == last.version {
            // The whole stream: nothing may come in between.
            self.expectations.push((stream.clone(), last.visible().into()));
            let tip = LastEvent { id: cut.last_id, version: last.version, state };
            self.decided.tips.push((stream.clone(), tip));
        }
        self.report.events += cut.events;
        self.report.bytes += cut.bytes;
        self.report.streams += 1;
        self.snapshots.push((stream.clone(), Version::FIRST..=cut.last));
        self.decided.rows.extend(cut.rows);
        if let Some(positions) = cut.positions {
            self.touch(stream, positions);
            self.forget_up_to(positions.1);
        }
        self.wanted = match (self.wanted.take(), cut.frames) {
            (Some(mut wanted), Some(frames)) => {
                wanted.extend(frames);
                Some(wanted)
            }
            _ => None,
        };
        Ok(Some(cut.last.next()))
    }

    /// Notes that an event up to this position no longer matches what it matched before.
    pub(super) fn forget_up_to(&mut self, position: Position) {
        self.decided.up_to = self.decided.up_to.max(Some(position));
        self.state.up_to = self.state.up_to.max(Some(position));
        self.state.uncompacted_index = true;
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
