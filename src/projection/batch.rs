//! Handles a batch: one event after another, or split by key over several threads.
//!
//! Threads only make it faster; they must not change the result. If one thread read or changed a
//! key that another changed, the order of their events matters, and the batch is handled again in
//! order. If a handler failed, the batch is also handled again in order, to find the first event
//! that fails. Effects outside the view cannot be discarded and repeated like this. For such
//! targets the worker remembers which events after the first failed one were handled, and does not
//! give them to the handler twice.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread;

use super::discarded::Discarded;
use super::handler::{Handler, HandlerFailure};
use super::shared::Shared;
use super::stage::{STAGE_LEN_MAX, Stage};
use super::unhandled::{self, ParkedStreams};
use super::writer::ViewWriter;
use crate::model::limits::VIEW_COMMIT_LEN_MAX;
use crate::model::{Position, RecordedEvent, Timestamp};
use crate::subscription::PartitionBy;
use crate::upcast::OnUnreadable;
use crate::view_store::{ViewChange, ViewStore};

/// Smallest batch that is split: for fewer events, threads cost more than they save.
const PARALLEL_EVENTS_MIN: usize = 32;

/// Everything that handling a batch needs.
pub(super) struct Setup<'a> {
    pub(super) handler: &'a dyn Handler,
    pub(super) views: &'a Arc<dyn ViewStore>,
    pub(super) view: &'a Arc<str>,
    pub(super) shared: &'a Shared,
    /// The build that is driven.
    pub(super) generation: u64,
    /// Whether the handler has effects outside the view, which take effect at once.
    pub(super) is_outside: bool,
    /// Events that were handled already, although an event before them was not.
    pub(super) ahead: &'a HashSet<Position>,
    /// The streams with parked events.
    pub(super) parked: &'a ParkedStreams,
    /// The discarded events of the batch.
    pub(super) discarded: &'a Discarded,
    pub(super) on_unreadable: OnUnreadable,
    pub(super) partitions: usize,
    pub(super) partition_by: &'a PartitionBy,
    pub(super) now: Timestamp,
}

/// The result of a batch.
pub(super) struct Handled {
    /// How many events were handled, counted from the first.
    pub(super) count: usize,
    /// Their changes.
    pub(super) changes: Vec<ViewChange>,
    /// Why the next event was not handled.
    pub(super) refused: Option<HandlerFailure>,
    /// Whether the changes of several threads conflicted.
    pub(super) had_conflict: bool,
    /// The events after the first unhandled one that were handled as well.
    pub(super) ahead: Vec<Position>,
}

impl Handled {
    fn is_something(&self) -> bool {
        self.count > 0 || self.refused.is_some() || !self.ahead.is_empty()
    }
}

/// The part of its share that a thread has handled.
struct Partition {
    stage: Stage,
    /// How many events were handled, counted from the first.
    count: usize,
    /// Why the next event was not handled; `None` if the stage was full.
    refused: Option<HandlerFailure>,
}

impl Setup<'_> {
    /// Handles events up to the first that fails, or until the stage is full.
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

    /// Handles one event. Skips it if it is discarded, and parks it if earlier events of its stream
    /// are parked.
    fn next(
        &self,
        event: &Arc<RecordedEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerFailure> {
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

    /// Handles one event, or records that it cannot be read.
    pub(super) fn handle_one(
        &self,
        event: &Arc<RecordedEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerFailure> {
        match self.handler.handle(event, view) {
            Err(HandlerFailure::Unreadable(error)) if self.on_unreadable == OnUnreadable::Skip => {
                unhandled::skip(&mut view.stage, event, &error.to_string(), self.now);
                Ok(())
            }
            handled => handled,
        }
    }

    /// Distributes the events over the shares, by key.
    fn partition<'e>(&self, events: &'e [Arc<RecordedEvent>]) -> Vec<Vec<&'e Arc<RecordedEvent>>> {
        let mut shares = vec![Vec::new(); self.partitions];
        for event in events {
            let mut hasher = DefaultHasher::new();
            self.partition_by.key(event).hash(&mut hasher);
            let count = u64::try_from(self.partitions).unwrap_or(1);
            let share = usize::try_from(hasher.finish() % count).unwrap_or_default();
            if let Some(share) = shares.get_mut(share) {
                share.push(event);
            }
        }
        shares
    }

    /// Handles each share on a separate thread, up to its first failure.
    fn run_partitions(&self, shares: &[Vec<&Arc<RecordedEvent>>]) -> Vec<Partition> {
        thread::scope(|scope| {
            let threads: Vec<_> = shares
                .iter()
                .map(|share| {
                    let named = thread::Builder::new().name("annals-partition".to_owned());
                    named.spawn_scoped(scope, || self.run_partition(share))
                })
                .collect();
            // If no thread can be started, its share counts as not handled.
            let nothing = || Partition { stage: self.writer().stage, count: 0, refused: None };
            let joined = threads.into_iter().map(|thread| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| nothing()),
                Err(_) => nothing(),
            });
            joined.collect()
        })
    }

    fn run_partition(&self, events: &[&Arc<RecordedEvent>]) -> Partition {
        let _mark = self.shared.mark_thread(self.generation);
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

    /// Merges shares whose effects cannot be undone: all events before the first unhandled one, and
    /// some after it.
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

/// The changes of all shares, if every event was handled and their order does not matter.
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

/// Why a batch must be handled in order.
enum InOrder {
    Conflict,
    Other,
}
