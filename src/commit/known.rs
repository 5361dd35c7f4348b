//! [`Known`]: the events that validation sees.

use std::collections::HashMap;

use super::prepare::{LookedUp, Prepared};
use super::recent_events::RecentEvents;
use super::staged::StagedAppends;
use crate::error::{Error, Result};
use crate::event_store::AppendCondition;
use crate::metrics::Meters;
use crate::model::{EventId, Position, StreamId, StreamState, Timestamp, Version};
use crate::read::log::Log;
use crate::read::lookup;
use crate::recent::Recent;
use crate::validate::{Commit, Committed, LastEvent, Shape, Verdict, deleted};

/// The effects of a submission's earlier appends, while its later ones are validated.
pub(super) struct Pending {
    pub(super) last_events: HashMap<StreamId, LastEvent>,
    pub(super) recorded_at: Option<Timestamp>,
}

impl Pending {
    /// Rejects a time given by the caller that goes back along the log.
    pub(super) fn check_time(&mut self, append: &Prepared, verdict: &Verdict) -> Result<()> {
        let (Verdict::Append(_), Some((given, last))) = (verdict, append.recorded_at) else {
            return Ok(());
        };
        if let Some(last) = self.recorded_at.filter(|last| given < *last) {
            return Err(Error::RecordedAtBeforeHead { given, last });
        }
        self.recorded_at = Some(last);
        Ok(())
    }

    pub(super) fn add(&mut self, append: &Prepared, verdict: &Verdict) {
        let Verdict::Append(versions) = verdict else { return };
        let Shape { expectations, ids, .. } = &append.shape;
        for (((stream, _), ids), version) in expectations.iter().zip(ids).zip(versions) {
            let Some(id) = ids.last() else { continue };
            let more = u64::try_from(ids.len() - 1).unwrap_or(u64::MAX);
            let last = LastEvent::new(Version::after(*version).plus(more), *id);
            self.last_events.insert(stream.clone(), last);
        }
    }
}

/// The events that validation sees: committed events, then those staged in the batch, then those of
/// earlier appends in the same submission.
pub(super) struct Known<'w> {
    pub(super) log: Log<'w>,
    pub(super) last_events: &'w mut Recent<StreamId, Option<LastEvent>>,
    pub(super) meters: &'w Meters,
    pub(super) staged: &'w StagedAppends,
    pub(super) pending: &'w Pending,
    pub(super) recent_events: &'w mut RecentEvents,
    pub(super) looked_up: &'w LookedUp,
    /// The last event that was deleted or has lost a tag.
    pub(super) deleted_up_to: Option<Position>,
}

impl Committed for Known<'_> {
    fn last_event(&mut self, stream: &StreamId) -> Result<Option<LastEvent>> {
        let staged = || self.staged.last_event(stream);
        if let Some(last) = self.pending.last_events.get(stream).copied().or_else(staged) {
            return Ok(Some(last));
        }
        if let Some(known) = self.last_events.get(stream) {
            self.meters.version_cache_hits.add_as_writer(1);
            return Ok(known);
        }
        self.meters.version_cache_misses.add_as_writer(1);
        let last = lookup::last_event(self.log.disk(), stream)?;
        self.last_events.insert(stream.clone(), last);
        Ok(last)
    }

    fn beginning(&mut self, stream: &StreamId) -> Result<Version> {
        let hole = lookup::hole_of(self.log.disk(), stream)?;
        let restarted = hole.filter(|(_, end)| end.state == StreamState::Deleted);
        Ok(restarted.map_or(Version::FIRST, |(last, _)| last.next()))
    }

    fn places(
        &mut self,
        stream: &StreamId,
        from: Version,
        count: usize,
    ) -> Result<Vec<(EventId, Position)>> {
        if let Some((last, _)) = lookup::hole_of(self.log.disk(), stream)?
            && from <= last
        {
            return Err(deleted(stream, from));
        }
        let mut staged = self.staged.events_of(stream).peekable();
        let is_staged = staged.peek().is_some_and(|(first, ..)| *first <= from);
        let mut places = if is_staged {
            Vec::new()
        } else {
            lookup::events_from(self.log.disk(), stream, from, count)?
        };
        let staged = staged.filter(|(version, ..)| *version >= from);
        let left = count.saturating_sub(places.len());
        places.extend(staged.take(left).map(|(_, id, position)| (id, position)));
        Ok(places)
    }

    fn first_match(
        &mut self,
        number: usize,
        condition: &AppendCondition,
    ) -> Result<Option<Position>> {
        if let Some(found) = self.looked_up.found.get(number).copied().flatten() {
            return Ok(Some(found));
        }
        // What the caller has looked at is not looked at again.
        let after = condition.after().max(self.looked_up.up_to);
        Ok(self.recent_events.first_match(condition.query(), after))
    }

    fn check_nothing_deleted(&self, condition: &AppendCondition) -> Result<()> {
        match condition.after() {
            Some(after) if Some(after) < self.deleted_up_to => {
                Err(Error::Deleted { what: format!("a condition after position {after}") })
            }
            _ => Ok(()),
        }
    }

    fn commit(&mut self, position: Position, events: usize) -> Result<Option<Commit>> {
        if let Some(staged) = self.staged.at(position) {
            return Ok(staged.commit(events));
        }
        let Some((first, last)) = lookup::commit_range(self.log, position)? else {
            return Ok(None);
        };
        if usize::try_from(last.get() - first.get() + 1) != Ok(events) {
            return Ok(None);
        }
        let found = lookup::events_between(self.log, (first, last))?;
        // Some of them may have been deleted.
        let is_whole = found.len() == events;
        Ok(is_whole.then_some(Commit { first, events: found }))
    }
}
