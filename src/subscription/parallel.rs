//! [`ParallelSubscription`]: a subscription whose events are handled on several threads.
//!
//! The calling thread receives events and puts each into the queue of its key. A key is ready while
//! none of its events is being handled. Threads take the next event of a ready key, so a slow key
//! holds back only itself, until the events received and not handled have used up their bound.

use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{CancelHandle, Delivery, PartitionBy, Subscription};
use crate::error::{Cause, Error, Result, guarded};
use crate::model::{Position, RecordedEvent};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Most events that are received and not handled, unless set.
const IN_FLIGHT_EVENTS: usize = 1_024;

/// How long a checkpoint waits to be reported while further events are handled.
const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// How often the receiving thread checks for failures, checkpoints and cancellation, while handlers
/// run.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

type BoxError = Box<dyn StdError + Send + Sync>;
type OnCheckpoint<'c> = Box<dyn FnMut(Position) -> Result<(), BoxError> + 'c>;

/// A subscription whose events are handled on several threads: those of one key in order, different
/// keys at the same time. [`Subscription::parallel`] returns one.
///
/// There is one checkpoint for all threads: every event up to it was handled. After a restart,
/// start after it: the events that were handled above it, at most those in flight, are delivered
/// again.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use annals::prelude::*;
/// use annals::PartitionBy;
/// let store = MemoryStore::new();
/// for number in 0..100 {
///     let event = NewEvent::json("Enrolled", &number)?.with_tag(format!("course:{}", number % 7));
///     store.submit(Append::of([event]))?;
/// }
///
/// let (sum, mut saved) = (AtomicU64::new(0), None);
/// let subscription = store.subscribe().types(["Enrolled"]).start()?;
/// let cancel = subscription.cancel_handle();
/// let handled_up_to = subscription
///     .parallel(4)
///     .partition_by(PartitionBy::tag("course:"))
///     .on_checkpoint(|position| {
///         saved = Some(position);
///         if position.get() == 100 {
///             cancel.cancel();
///         }
///         Ok(())
///     })
///     .for_each(|event| {
///         sum.fetch_add(event.json::<u64>()?, Ordering::SeqCst);
///         Ok(())
///     })?;
/// assert_eq!(sum.into_inner(), 99 * 100 / 2);
/// assert_eq!(saved, handled_up_to);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a parallel subscription handles nothing until `for_each` is called"]
pub struct ParallelSubscription<'c> {
    subscription: Subscription,
    threads: usize,
    partition_by: PartitionBy,
    in_flight_events: usize,
    on_checkpoint: Option<OnCheckpoint<'c>>,
    /// The last checkpoint that was reported, or the start.
    reported: Option<Position>,
}

/// Why a [`ParallelSubscription`] ended early.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{}{cause}; every event up to {} was handled: correct the cause and start after it",
    position.map(|position| format!("event at position {position}: ")).unwrap_or_default(),
    checkpoint.map_or("the start".to_owned(), |position| format!("position {position}"))
)]
pub struct ParallelError {
    /// Every event up to this position was handled, or does not match; `None` if the subscription
    /// started at the beginning and no event was handled. Start after it.
    pub checkpoint: Option<Position>,
    /// The position of the event whose handler failed or panicked; `None` if it was not a handler.
    pub position: Option<Position>,
    /// The error or the panic of the handler, the error of the function of
    /// [`ParallelSubscription::on_checkpoint`], or an [`Error`] of the store.
    #[source]
    pub cause: Cause,
}

impl<'c> ParallelSubscription<'c> {
    pub(super) fn new(subscription: Subscription, threads: usize) -> Self {
        Self {
            subscription,
            threads: threads.max(1),
            partition_by: PartitionBy::Stream,
            in_flight_events: IN_FLIGHT_EVENTS,
            on_checkpoint: None,
            reported: None,
        }
    }

    /// Sets which events keep their order; by default those of each stream.
    pub fn partition_by(mut self, partition_by: PartitionBy) -> Self {
        self.partition_by = partition_by;
        self
    }

    /// Sets how many events are received and not handled at most; 1,024 by default, 0 counts as 1.
    /// It bounds the memory, and the events that are delivered again after a restart.
    ///
    /// If the handler of one key takes long, events of other keys are handled until this many after
    /// its event were received.
    pub fn in_flight_events(mut self, events: usize) -> Self {
        self.in_flight_events = events.max(1);
        self
    }

    /// Sets the function that saves the checkpoint: every event up to this position was handled, or
    /// does not match. It is called on the thread that calls `for_each`, if the checkpoint has
    /// advanced: as soon as every event of the log is handled, about every 100 ms before that, and
    /// at the end.
    ///
    /// An error ends the subscription; the function is then not called again.
    pub fn on_checkpoint(
        mut self,
        save: impl FnMut(Position) -> Result<(), BoxError> + 'c,
    ) -> Self {
        self.on_checkpoint = Some(Box::new(save));
        self
    }

    /// Handles each event once, on one of the threads (G7), until the subscription is cancelled or
    /// its store is closed. Returns the last checkpoint. At the end, it waits for handlers that run;
    /// events that were received but not begun are not handled.
    ///
    /// # Errors
    /// [`ParallelError`], with the checkpoint: the handler failed or panicked, the checkpoint could
    /// not be saved, or the store failed. No further event is begun. An invalid
    /// [`PartitionBy`]: nothing was handled.
    ///
    /// # Cost
    /// A lock for each event, three times. A handler that takes less than a few microseconds is
    /// faster on one thread.
    pub fn for_each(
        mut self,
        handler: impl Fn(RecordedEvent) -> Result<(), BoxError> + Sync,
    ) -> Result<Option<Position>, ParallelError> {
        let start = self.subscription.checkpoint();
        self.reported = start;
        let flight = Flight {
            state: Mutex::new(State { received: start, ..State::default() }),
            events_max: self.in_flight_events,
            more: Condvar::new(),
            less: Condvar::new(),
        };
        let ended = self.partition_by.check().map_err(Cause::new).and_then(|()| {
            thread::scope(|scope| {
                // Also if the function that saves the checkpoint panics: the threads must end.
                let _end = EndOnDrop(&flight);
                for _ in 0..self.threads {
                    let named = thread::Builder::new().name("annals-parallel".to_owned());
                    named.spawn_scoped(scope, || flight.work(&handler)).map_err(|error| {
                        Cause::new(Error::storage("starting a thread to handle events", error))
                    })?;
                }
                self.feed(&flight)
            })
        });
        self.end(&mut flight.state.lock(), ended)
    }

    /// Receives events until the end, and reports checkpoints.
    fn feed(&mut self, flight: &Flight) -> Result<(), Cause> {
        let cancel: CancelHandle = self.subscription.cancel_handle();
        let (mut reported_at, mut is_idle) = (Instant::now(), false);
        loop {
            let state = flight.state.lock();
            let (checkpoint, in_flight) = (state.checkpoint(), state.window.len());
            if state.has_ended || cancel.is_cancelled() {
                return Ok(());
            }
            let is_due = in_flight == 0 && is_idle || reported_at.elapsed() >= REPORT_PAUSE;
            if checkpoint > self.reported && is_due {
                drop(state);
                self.report(checkpoint)?;
                reported_at = Instant::now();
                continue;
            }
            if in_flight >= flight.events_max {
                drop(flight.less.wait_timeout(state, LOOK_PAUSE));
                continue;
            }
            drop(state);
            let delivery = match in_flight {
                0 if checkpoint == self.reported => self.subscription.recv(),
                0 => self.subscription.recv_timeout(Duration::ZERO),
                _ => self.subscription.recv_timeout(LOOK_PAUSE),
            };
            let delivery = delivery.map_err(Cause::new)?;
            is_idle = delivery == Delivery::Idle;
            let received = self.subscription.checkpoint();
            match delivery {
                Delivery::Event(event) => flight.add(event, &self.partition_by),
                Delivery::Ended => return Ok(()),
                Delivery::Progress(_) | Delivery::CaughtUp(_) | Delivery::Idle => {
                    flight.state.lock().received = received;
                }
            }
        }
    }

    fn report(&mut self, checkpoint: Option<Position>) -> Result<(), Cause> {
        // After an error it is not called again.
        if checkpoint <= self.reported {
            return Ok(());
        }
        self.reported = checkpoint;
        let (Some(mut save), Some(position)) = (self.on_checkpoint.take(), checkpoint) else {
            return Ok(());
        };
        save(position).map_err(Cause::from)?;
        self.on_checkpoint = Some(save);
        Ok(())
    }

    /// Reports the last checkpoint after all handlers have ended.
    fn end(
        mut self,
        state: &mut State,
        ended: Result<(), Cause>,
    ) -> Result<Option<Position>, ParallelError> {
        let checkpoint = state.checkpoint();
        let failed = |position: Option<Position>, cause: Cause| ParallelError {
            checkpoint,
            position,
            cause,
        };
        // Also if the store failed: the handlers that had begun have advanced it.
        let saved = self.report(checkpoint);
        if let Some((position, cause)) = state.failure.take() {
            return Err(failed(Some(position), cause));
        }
        ended.and(saved).map(|()| checkpoint).map_err(|cause| failed(None, cause))
    }
}

impl fmt::Debug for ParallelSubscription<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ParallelSubscription")
            .field("subscription", &self.subscription)
            .field("threads", &self.threads)
            .field("partition_by", &self.partition_by)
            .finish_non_exhaustive()
    }
}

/// The events that were received and not handled, shared by all threads.
struct Flight {
    state: Mutex<State>,
    /// A key is ready, or the end has come.
    more: Condvar,
    /// At most half of the most events are left, or the end has come.
    less: Condvar,
    /// Most events in the window.
    events_max: usize,
}

#[derive(Default)]
struct State {
    /// In the order of the log, from the first that is not handled.
    window: VecDeque<Slot>,
    /// The number of the first slot, counted from the start.
    first: u64,
    /// The events of each key that were not begun; a key is here while it has any, or while one of
    /// its events is being handled.
    waiting: HashMap<Arc<str>, VecDeque<(u64, RecordedEvent)>>,
    /// The keys with events to begin, none of which is being handled.
    ready: VecDeque<Arc<str>>,
    /// Every event up to here was received, or does not match.
    received: Option<Position>,
    /// The first event in the log whose handler failed.
    failure: Option<(Position, Cause)>,
    has_ended: bool,
}

struct Slot {
    position: Position,
    is_handled: bool,
}

impl State {
    /// Every event up to here was handled, or does not match.
    fn checkpoint(&self) -> Option<Position> {
        self.window.front().map_or(self.received, |slot| slot.position.previous())
    }

    /// The next event to handle, with its key and its number.
    fn next(&mut self) -> Option<(Arc<str>, u64, RecordedEvent)> {
        let key = self.ready.pop_front()?;
        let (number, event) = self.waiting.get_mut(&key)?.pop_front()?;
        Some((key, number, event))
    }

    fn handled(&mut self, key: Arc<str>, number: u64) {
        let slot = usize::try_from(number - self.first).ok();
        if let Some(slot) = slot.and_then(|slot| self.window.get_mut(slot)) {
            slot.is_handled = true;
        }
        while self.window.front().is_some_and(|slot| slot.is_handled) {
            self.window.pop_front();
            self.first += 1;
        }
        if self.waiting.get(&key).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&key);
        } else {
            self.ready.push_back(key);
        }
    }

    fn failed(&mut self, position: Position, cause: Cause) {
        self.has_ended = true;
        if self.failure.as_ref().is_none_or(|(first, _)| position < *first) {
            self.failure = Some((position, cause));
        }
    }
}

impl Flight {
    fn add(&self, event: RecordedEvent, partition_by: &PartitionBy) {
        let mut state = self.state.lock();
        let position = event.position();
        let number = state.first + state.window.len() as u64;
        state.window.push_back(Slot { position, is_handled: false });
        state.received = Some(position);
        let key = partition_by.key(&event);
        if let Some(events) = state.waiting.get_mut(key) {
            events.push_back((number, event));
            return;
        }
        let key: Arc<str> = key.into();
        state.waiting.insert(key.clone(), VecDeque::from([(number, event)]));
        state.ready.push_back(key);
        drop(state);
        self.more.notify_one();
    }

    /// Handles events on this thread until the end.
    fn work(&self, handler: &impl Fn(RecordedEvent) -> Result<(), BoxError>) {
        let mut state = self.state.lock();
        while !state.has_ended {
            let Some((key, number, event)) = state.next() else {
                state = self.more.wait(state);
                continue;
            };
            drop(state);
            let position = event.position();
            let handled = guarded("the handler", || handler(event));
            state = self.state.lock();
            match handled.and_then(|handled| handled.map_err(Cause::from)) {
                Ok(()) => state.handled(key, number),
                Err(cause) => self.fail(&mut state, position, cause),
            }
            if state.has_ended || state.window.len() <= self.events_max / 2 {
                self.less.notify_one();
            }
        }
    }

    fn fail(&self, state: &mut MutexGuard<'_, State>, position: Position, cause: Cause) {
        state.failed(position, cause);
        self.more.notify_all();
    }
}

/// Ends the threads of a flight.
struct EndOnDrop<'f>(&'f Flight);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.state.lock().has_ended = true;
        self.0.more.notify_all();
    }
}
