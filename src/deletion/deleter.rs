//! [`Deleter`]: decides deletions and carries them out.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::plan::Plan;
use super::report::Deleted;
use super::sweep::{Sweep, Swept};
use super::target::{Seen, Target, last_version};
use crate::commit::Rows;
use crate::error::{Error, Result};
use crate::event_store::{Appended, Direction};
use crate::format::{
    DELETIONS_RECORD, Deletions, encode_deletions, encode_retention, log_key, retention_key,
};
use crate::model::{
    Deletion, DeletionTarget, Position, Retention, RetentionScope, StreamId, Version,
};
use crate::read::deletions::deletions;
use crate::storage::{Claim, Disk, Family, Storage};
use crate::sync::{AtomicU64, Mutex};

/// Decides and carries out deletions, one at a time.
#[derive(Debug)]
pub(crate) struct Deleter {
    /// Held while anything is deleted, and while a verification compares the log with `streams`.
    pub(super) alone: Mutex<()>,
    pub(super) state: Mutex<Deletions>,
    /// How often anything may have been removed, from streams or from the log.
    removals: AtomicU64,
    /// How often an event may have been redacted, since a number that no other store began with: a
    /// state may outlive the store from which it was read.
    redactions: AtomicU64,
}

impl Deleter {
    /// Continues after what the record says.
    pub(crate) fn new(state: Deletions) -> Self {
        let state = Mutex::new(state);
        let opened = STORES.fetch_add(1, Ordering::Relaxed);
        let (removals, redactions) = (AtomicU64::new(0), AtomicU64::new(opened << 32));
        Self { alone: Mutex::new(()), state, removals, redactions }
    }

    /// See [`EventStore::removals`](crate::event_store::EventStore::removals).
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    /// See [`EventStore::redactions`](crate::event_store::EventStore::redactions).
    pub(crate) fn redactions(&self) -> u64 {
        self.redactions.load(Ordering::SeqCst)
    }

    /// Called after anything was removed, or may have been if its write has failed.
    fn note_removal(&self) {
        self.removals.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs something that must not overlap with a deletion. It gets what the disk says, which may
    /// hold a decision whose write has failed.
    pub(crate) fn undisturbed<T>(
        &self,
        storage: &Storage,
        work: impl FnOnce(&Deletions) -> Result<T>,
    ) -> Result<T> {
        let _alone = self.alone.lock();
        work(&storage.with(deletions)?)
    }

    /// Whether a deletion was decided and not carried out completely, or a redaction not erased.
    pub(crate) fn is_pending(&self) -> bool {
        let state = self.state.lock();
        state.pending.is_some() || !state.redactions.is_empty()
    }

    /// Carries out what was decided earlier.
    pub(crate) fn resume(&self, target: Target<'_>) -> Result<()> {
        let _alone = self.alone.lock();
        self.carry_out(target, None, &mut Pace::default())?;
        self.erase_redactions(target)
    }

    /// Sets or removes a retention.
    pub(crate) fn set_retention(
        target: Target<'_>,
        scope: &RetentionScope,
        retention: Option<Retention>,
    ) -> Result<()> {
        scope.check()?;
        let (key, mut rows) = (retention_key(scope), Rows::default());
        match retention {
            None => rows.delete(Family::Meta, key),
            Some(retention) => {
                let record = encode_retention(&key, retention);
                rows.put(Family::Meta, key, record);
            }
        }
        target.committer.carry_out(&rows)
    }

    /// What a deletion would do. Nothing is changed.
    pub(crate) fn preview(&self, seen: Seen<'_>, deletion: &Deletion) -> Result<Deleted> {
        deletion.check()?;
        let _alone = self.alone.lock();
        let plan = Plan::of(seen, deletion, self.state.lock().clone())?;
        let Some(mut plan) = plan else { return Ok(Deleted::default()) };
        seen.storage.with(|disk| plan.delete_snapshots(disk))?;
        Ok(plan.report)
    }

    /// Decides a deletion and carries it out.
    pub(crate) fn delete(&self, target: Target<'_>, deletion: &Deletion) -> Result<Deleted> {
        deletion.check()?;
        let _alone = self.alone.lock();
        self.carry_out(target, None, &mut Pace::default())?;
        let decided = self.decide(target, deletion)?;
        let (report, wanted) = decided.unwrap_or_default();
        self.carry_out(target, wanted.as_ref(), &mut Pace::default())?;
        self.erase_redactions(target)?;
        Ok(report)
    }

    /// Appends the event of a deletion, together with what it changes in `streams`. Returns where
    /// the deleted events are in the log; `None` if there is nothing to delete.
    pub(super) fn decide(
        &self,
        target: Target<'_>,
        deletion: &Deletion,
    ) -> Result<Option<(Deleted, Option<BTreeSet<Position>>)>> {
        let mut tries = 0;
        loop {
            let Some(plan) = Plan::of(target.seen(), deletion, self.state.lock().clone())? else {
                return Ok(None);
            };
            let claim = target.claim.lock().as_mut().map(Claim::add_deletions);
            claim.ok_or(Error::Closed)??;
            tries += 1;
            // No snapshot of what is to be deleted may be saved between the search for them and the
            // decision. Later ones are refused.
            let derived = target.committer.derived();
            match derived.while_nothing_is_written(|| self.submit(target, plan)) {
                // An event was appended to a stream that is to be deleted.
                Err(Error::WrongExpectedVersion { .. }) if tries < TRIES_MAX => {}
                decided => return decided.map(Some),
            }
        }
    }

    /// Submits a decision.
    fn submit(
        &self,
        target: Target<'_>,
        mut plan: Plan,
    ) -> Result<(Deleted, Option<BTreeSet<Position>>)> {
        target.storage.with(|disk| plan.delete_snapshots(disk))?;
        let is_redaction = matches!(plan.deletion.target(), DeletionTarget::Redact { .. });
        let (submission, mut report, state, wanted) = plan.into_submission(target.index_kinds)?;
        let answer = target.committer.submit(submission);
        self.note_removal();
        if is_redaction {
            self.redactions.fetch_add(1, Ordering::SeqCst);
        }
        report.position = answer?.appended.first().map(Appended::last_position);
        *self.state.lock() = state;
        Ok((report, wanted))
    }

    /// Makes packs and index follow `streams`, some packs at a time, if anything is pending.
    pub(super) fn carry_out(
        &self,
        target: Target<'_>,
        wanted: Option<&BTreeSet<Position>>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let mut state = self.state.lock().clone();
        let begun = state.pending;
        if begun.is_none() {
            return Ok(());
        }
        // No later one may name a frame that is about to change.
        target.committer.settle_watermark()?;
        let newest = target.storage.with(|disk| last_version(disk, &StreamId::deletions()))?;
        let redacted: BTreeSet<_> = state.redactions.iter().copied().collect();
        let newest = newest.unwrap_or(Version::FIRST);
        let mut sweep = Sweep::new(newest, target.index_kinds, &redacted, wanted);
        let swept = self.sweep(target, &mut sweep, &mut state, pace);
        let is_full = matches!(swept, Err(Error::DiskFull { .. }));
        if pace.drops_files && !sweep.replaced.is_empty() && (swept.is_ok() || is_full) {
            // If this is interrupted, all of it is looked at again.
            let left = std::mem::replace(&mut state.pending, begun);
            self.write(target, &mut Rows::default(), &state)?;
            for (first, hole) in &sweep.replaced {
                // The row of the hole itself stays.
                let last = hole.previous().unwrap_or(*hole);
                let rows = log_key(*first)..log_key(*hole);
                target.committer.drop_packs(&rows.start..&rows.end, &log_key(last))?;
            }
            state.pending = left;
            self.write(target, &mut Rows::default(), &state)?;
        }
        swept?;
        state.pending = None;
        self.write(target, &mut Rows::default(), &state)
    }

    /// Goes through the packs in the pending range. At its end, the range is what is left of it.
    fn sweep(
        &self,
        target: Target<'_>,
        sweep: &mut Sweep<'_>,
        state: &mut Deletions,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        while let Some((from, to)) = state.pending {
            let Swept { mut rows, next, packs } =
                target.storage.with(|disk| sweep.batch(disk, from, to))?;
            let mut after = state.clone();
            after.pending = Some((next.unwrap_or(from), to));
            self.write(target, &mut rows, &after)?;
            sweep.note_written();
            *state = after;
            pace.rest(packs);
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Writes rows, together with how far deletions are carried out then.
    fn write(&self, target: Target<'_>, rows: &mut Rows, state: &Deletions) -> Result<()> {
        rows.put(Family::Meta, DELETIONS_RECORD.to_vec(), encode_deletions(state));
        // A reader of the index may look for an entry that its event no longer has.
        let has_redactions = !state.redactions.is_empty();
        let removing = has_redactions.then(|| target.indexed_from.remove());
        let written = target.committer.carry_out(rows);
        // Before waiting for readers: one of them may wait for this.
        drop(removing);
        if written.is_ok() {
            target.open.forget_packs();
        }
        self.note_removal();
        written?;
        self.state.lock().clone_from(state);
        Ok(())
    }

    /// Erases what was redacted, now or earlier.
    fn erase_redactions(&self, target: Target<'_>) -> Result<()> {
        let is_erased = self.state.lock().redactions.is_empty();
        if is_erased { Ok(()) } else { self.erase(target) }
    }

    /// Rewrites the files that may hold deleted bytes, and waits until the old ones are gone.
    pub(super) fn erase(&self, target: Target<'_>) -> Result<()> {
        let mut state = self.state.lock().clone();
        let reserve = target.disk_reserve_bytes;
        target.storage.with(|disk| {
            disk.flush()?;
            if let Some((first, last)) = state.uncompacted {
                let end = pack_key(disk, last)?;
                disk.compact(Family::Packs, (&log_key(first), &end), reserve)?;
            }
            if let Some((first, last)) = &state.uncompacted_streams {
                let last = format!("{last}\u{1}");
                let range = (first.as_bytes(), last.as_bytes());
                disk.compact(Family::Streams, range, reserve)?;
            }
            if state.uncompacted_snapshots {
                disk.compact(Family::Snapshots, ALL_NAMES, reserve)?;
            }
            if state.uncompacted_index {
                disk.compact(Family::Index, ALL_NAMES, reserve)?;
            }
            disk.wait_for_removals()
        })?;
        // What is still pending will leave more to be rewritten.
        if state.pending.is_none() {
            state.redactions.clear();
            (state.uncompacted, state.uncompacted_streams) = (None, None);
            (state.uncompacted_index, state.uncompacted_snapshots) = (false, false);
        }
        self.write(target, &mut Rows::default(), &state)
    }
}

/// How deletions are carried out.
#[derive(Default)]
pub(super) struct Pace<'p> {
    /// Called after each batch, with the number of packs that it changed.
    pub(super) after_batch: Option<&'p mut dyn FnMut(u64)>,
    /// Whether files that hold only deleted packs are dropped.
    pub(super) drops_files: bool,
}

impl Pace<'_> {
    fn rest(&mut self, packs: u64) {
        if let Some(after_batch) = &mut self.after_batch {
            after_batch(packs);
        }
    }
}

/// The key of the pack that holds a position.
fn pack_key(disk: &Disk, position: Position) -> Result<Vec<u8>> {
    let mut packs = disk.cursor_at(Family::Packs, &log_key(position), Direction::Forward);
    let key = packs.next()?.map(|(key, _)| key.to_vec());
    Ok(key.unwrap_or_else(|| log_key(position).to_vec()))
}

/// How many stores this process has opened, from 1 on.
static STORES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
/// How often a deletion of a whole stream is planned again because events came in between.
const TRIES_MAX: u32 = 100;
/// A key before every name, and one after it: names are UTF-8.
pub(super) const ALL_NAMES: (&[u8], &[u8]) = (&[0], &[u8::MAX]);
