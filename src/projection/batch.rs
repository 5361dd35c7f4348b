//! Handling a batch: one event after the other, or split by stream over several threads.
//!
//! Threads are only a way to be faster. Where what one changed was read or changed by another, the
//! order of their events mattered, and the batch is handled again in order. Where a handler failed,
//! the same: then it is known which event was the first that failed. What is done outside of the
//! view cannot be handled again so easily: there it is remembered what was handled after the first
//! event that failed, and not given to the handler twice.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread;

use super::discarded::Discarded;
use super::handler::{Handler, Refusal};
use super::shared::Shared;
use super::stage::{STAGE_LEN_MAX, Stage};
use super::unhandled::{self, ParkedStreams};
use super::writer::ViewWriter;
use crate::model::limits::VIEW_COMMIT_LEN_MAX;
use crate::model::{Position, RecordedEvent, Timestamp};
use crate::upcast::OnUnreadable;
use crate::view_store::{ViewChange, ViewStore};

/// Below this many events threads would cost more than they save.
const PARALLEL_EVENTS_MIN: usize = 32;

/// What it takes to handle events.
pub(super) struct Setup<'a> {
    pub(super) handler: &'a dyn Handler,
    pub(super) views: &'a Arc<dyn ViewStore>,
    pub(super) view: &'a Arc<str>,
    pub(super) shared: &'a Shared,
    /// Whether what it does lasts at once, outside of the view.
    pub(super) is_outside: bool,
    /// What was handled already, before an event that was not.
    pub(super) ahead: &'a HashSet<Position>,
    /// Streams of which an event is parked.
    pub(super) parked: &'a ParkedStreams,
    /// The discarded events of the batch.
    pub(super) discarded: &'a Discarded,
    pub(super) on_unreadable: OnUnreadable,
    pub(super) partitions: usize,
    pub(super) now: Timestamp,
}

/// What became of a batch.
pub(super) struct Handled {
    /// How many events, from the first on, were handled.
    pub(super) count: usize,
    /// What they changed.
    pub(super) changes: Vec<ViewChange>,
    /// Why the event after them was not.
    pub(super) refused: Option<Refusal>,
    /// Whether threads got into each other's way.
    pub(super) had_conflict: bool,
    /// Which events after those were handled as well.
    pub(super) ahead: Vec<Position>,
}

impl Handled {
    fn is_something(&self) -> bool {
        self.count > 0 || self.refused.is_some() || !self.ahead.is_empty()
    }
}

/// What a thread did of its share.
struct Partition {
    stage: Stage,
    /// How many events, from the first on.
    count: usize,
    /// Why not the next one; `None` if it was for the size of what was changed.
    refused: Option<Refusal>,
}

impl Setup<'_> {
    /// Handles events up to the first that fails, or as many as one batch takes.
    pub(super) fn run(&self, events: &[Arc<RecordedEvent>]) -> Handled {
        let mut had_conflict = false;
        if self.partitions > 1 && events.len() >= PARALLEL_EVENTS_MIN {
            let shares = self.partition(events);
            let done = self.run_partitions(&shares);
            if self.is_outside {
                let handled = self.merge(events, &shares, done);
                if handled.is_something() {
                    return handled;
                }
            } else {
                match all_of(&shares, done) {
                    Ok(changes) => {
                        let (count, refused, ahead) = (events.len(), None, Vec::new());
                        return Handled { count, changes, refused, had_conflict, ahead };
                    }
                    Err(InOrder::Conflict) => had_conflict = true,
                    Err(InOrder::Other) => {}
                }
            }
        }
        Handled { had_conflict, ..self.run_in_order(events) }
    }

    fn run_in_order(&self, events: &[Arc<RecordedEvent>]) -> Handled {
        let mut view = self.writer();
        let (mut count, mut refused) = (0, None);
        for event in events {
            if view.stage.len() >= STAGE_LEN_MAX {
                break;
            }
            if let Err(refusal) = self.next(event, &mut view) {
                refused = Some(refusal);
                break;
            }
            count += 1;
        }
        let changes = view.stage.into_changes().collect();
        Handled { count, changes, refused, had_conflict: false, ahead: Vec::new() }
    }

    /// Handles one event, skips it if it is discarded, or parks it after those of its stream that
    /// are parked.
    fn next(&self, event: &Arc<RecordedEvent>, view: &mut ViewWriter) -> Result<(), Refusal> {
        if self.ahead.contains(&event.position()) {
            return Ok(());
        }
        if let Some(discarded) = self.discarded.get(event) {
            unhandled::skip_discarded(&mut view.stage, discarded, self.now);
            return Ok(());
        }
        if self.parked.contains_key(event.stream()) {
            unhandled::park(&mut view.stage, event, None, self.now);
            return Ok(());
        }
        self.handle_one(event, view)
    }

    /// Handles one event, or notes that it cannot be read.
    pub(super) fn handle_one(
        &self,
        event: &Arc<RecordedEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), Refusal> {
        match self.handler.handle(event, view) {
            Err(Refusal::Unreadable(error)) if self.on_unreadable == OnUnreadable::Skip => {
                unhandled::skip(&mut view.stage, event, &error.to_string(), self.now);
                Ok(())
            }
            handled => handled,
        }
    }

    /// Shares the streams out.
    fn partition<'e>(&self, events: &'e [Arc<RecordedEvent>]) -> Vec<Vec<&'e Arc<RecordedEvent>>> {
        let mut shares = vec![Vec::new(); self.partitions];
        for event in events {
            let mut hasher = DefaultHasher::new();
            event.stream().hash(&mut hasher);
            let count = u64::try_from(self.partitions).unwrap_or(1);
            let share = usize::try_from(hasher.finish() % count).unwrap_or_default();
            if let Some(share) = shares.get_mut(share) {
                share.push(event);
            }
        }
        shares
    }

    /// Handles each share on a thread of its own, as far as it goes.
    fn run_partitions(&self, shares: &[Vec<&Arc<RecordedEvent>>]) -> Vec<Partition> {
        thread::scope(|scope| {
            let threads: Vec<_> = shares
                .iter()
                .map(|share| {
                    let named = thread::Builder::new().name("annals-partition".to_owned());
                    named.spawn_scoped(scope, || self.run_partition(share))
                })
                .collect();
            // Where the system has no thread to give, nothing of the share is done.
            let nothing = || Partition { stage: self.writer().stage, count: 0, refused: None };
            let joined = threads.into_iter().map(|thread| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| nothing()),
                Err(_) => nothing(),
            });
            joined.collect()
        })
    }

    fn run_partition(&self, events: &[&Arc<RecordedEvent>]) -> Partition {
        let _mark = self.shared.mark_thread();
        let mut view = self.writer();
        let (mut count, mut refused) = (0, None);
        let len_max = STAGE_LEN_MAX / self.partitions;
        for event in events {
            if view.stage.len() >= len_max {
                break;
            }
            if let Err(refusal) = self.next(event, &mut view) {
                refused = Some(refusal);
                break;
            }
            count += 1;
        }
        Partition { stage: view.stage, count, refused }
    }

    /// What shares did that cannot be undone: everything up to the first event that was not
    /// handled, and some behind.
    fn merge(
        &self,
        events: &[Arc<RecordedEvent>],
        shares: &[Vec<&Arc<RecordedEvent>>],
        done: Vec<Partition>,
    ) -> Handled {
        let of_shares = || shares.iter().zip(&done);
        let undone = of_shares().filter_map(|(share, done)| share.get(done.count));
        let first = undone.map(|event| event.position()).min();
        let count = events.iter().take_while(|event| Some(event.position()) != first).count();
        let handled = of_shares().flat_map(|(share, done)| share.iter().take(done.count));
        let is_new = |position: &Position| {
            first.is_some_and(|first| *position > first) && !self.ahead.contains(position)
        };
        let ahead = handled.map(|event| event.position()).filter(is_new).collect();
        let (mut changes, mut refused) = (Vec::new(), None);
        for (share, done) in shares.iter().zip(done) {
            if share.get(done.count).map(|event| event.position()) == first {
                refused = done.refused.or(refused);
            }
            changes.extend(done.stage.into_changes());
        }
        Handled { count, changes, refused, had_conflict: false, ahead }
    }

    fn writer(&self) -> ViewWriter {
        ViewWriter::new(Stage::new(self.views.clone(), self.view.clone()))
    }
}

/// What shares changed, if all was handled and their order is of no importance.
fn all_of(
    shares: &[Vec<&Arc<RecordedEvent>>],
    done: Vec<Partition>,
) -> Result<Vec<ViewChange>, InOrder> {
    if shares.iter().zip(&done).any(|(share, done)| done.count < share.len()) {
        return Err(InOrder::Other);
    }
    let stages: Vec<Stage> = done.into_iter().map(|done| done.stage).collect();
    if stages.iter().map(Stage::len).sum::<usize>() > VIEW_COMMIT_LEN_MAX - STAGE_LEN_MAX {
        return Err(InOrder::Other);
    }
    let others = |at: usize| stages.iter().skip(at + 1);
    let has_conflict = stages
        .iter()
        .enumerate()
        .any(|(at, stage)| others(at).any(|other| stage.conflicts_with(other)));
    if has_conflict {
        return Err(InOrder::Conflict);
    }
    Ok(stages.into_iter().flat_map(Stage::into_changes).collect())
}

/// Why a batch has to be handled in order.
enum InOrder {
    Conflict,
    Other,
}
