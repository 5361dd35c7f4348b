//! [`ParallelSubscription`]: a subscription whose events are handled on several threads.
//!
//! The calling thread receives events into a [`Window`], and the threads take them from there.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use super::window::{BoxError, ParallelError, ParallelOptions, REPORT_PAUSE, Window};
use super::{CancelHandle, Delivery, PartitionBy, Subscription};
use crate::error::{Cause, Error, Result, guarded};
use crate::model::{Position, RecordedEvent};
use crate::sync::{Condvar, Mutex};

/// How often the receiving thread checks for failures, checkpoints and cancellation, while handlers
/// run.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

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
    options: ParallelOptions,
    on_checkpoint: Option<OnCheckpoint<'c>>,
    /// The last checkpoint that was reported, or the start.
    reported: Option<Position>,
}

impl<'c> ParallelSubscription<'c> {
    pub(super) fn new(subscription: Subscription, threads: usize) -> Self {
        Self {
            subscription,
            options: ParallelOptions::new(threads),
            on_checkpoint: None,
            reported: None,
        }
    }

    /// Sets which events keep their order; by default those of each stream.
    pub fn partition_by(mut self, partition_by: PartitionBy) -> Self {
        self.options.partition_by = partition_by;
        self
    }

    /// Sets how many events are received and not handled at most; 1,024 by default, 0 counts as 1.
    /// It bounds the memory, and the events that are delivered again after a restart.
    ///
    /// If the handler of one key takes long, events of other keys are handled until this many after
    /// its event were received.
    pub fn in_flight_events(mut self, events: usize) -> Self {
        self.options.set_in_flight_events(events);
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
            window: Mutex::new(Window::new(start)),
            events_max: self.options.in_flight_events,
            more: Condvar::new(),
            less: Condvar::new(),
        };
        let ended = self.options.partition_by.check().map_err(Cause::new).and_then(|()| {
            thread::scope(|scope| {
                // Also if the function that saves the checkpoint panics: the threads must end.
                let _end = EndOnDrop(&flight);
                for _ in 0..self.options.width {
                    let named = thread::Builder::new().name("annals-parallel".to_owned());
                    named.spawn_scoped(scope, || flight.work(&handler)).map_err(|error| {
                        Cause::new(Error::storage("starting a thread to handle events", error))
                    })?;
                }
                self.feed(&flight)
            })
        });
        let mut window = flight.window.lock();
        // Also if the store failed: the handlers that had begun have advanced it.
        let saved = self.report(window.checkpoint());
        window.result(ended.and(saved))
    }

    /// Receives events until the end, and reports checkpoints.
    fn feed(&mut self, flight: &Flight) -> Result<(), Cause> {
        let cancel: CancelHandle = self.subscription.cancel_handle();
        let (mut reported_at, mut is_idle) = (Instant::now(), false);
        loop {
            let window = flight.window.lock();
            let (checkpoint, in_flight) = (window.checkpoint(), window.len());
            if window.has_ended() || cancel.is_cancelled() {
                return Ok(());
            }
            let is_due = in_flight == 0 && is_idle || reported_at.elapsed() >= REPORT_PAUSE;
            if checkpoint > self.reported && is_due {
                drop(window);
                self.report(checkpoint)?;
                reported_at = Instant::now();
                continue;
            }
            if in_flight >= flight.events_max {
                drop(flight.less.wait_timeout(window, LOOK_PAUSE));
                continue;
            }
            drop(window);
            let delivery = match in_flight {
                0 if checkpoint == self.reported => self.subscription.recv(),
                0 => self.subscription.recv_timeout(Duration::ZERO),
                _ => self.subscription.recv_timeout(LOOK_PAUSE),
            };
            let delivery = delivery.map_err(Cause::new)?;
            is_idle = delivery == Delivery::Idle;
            let received = self.subscription.checkpoint();
            match delivery {
                Delivery::Event(event) => flight.add(event, &self.options.partition_by),
                Delivery::Ended => return Ok(()),
                Delivery::Progress(_) | Delivery::CaughtUp(_) | Delivery::Idle => {
                    flight.window.lock().set_received(received);
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
}

impl fmt::Debug for ParallelSubscription<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ParallelSubscription")
            .field("subscription", &self.subscription)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The events that were received and not handled, shared by all threads.
struct Flight {
    window: Mutex<Window>,
    /// A key is ready, or the end has come.
    more: Condvar,
    /// At most half of the most events are left, or the end has come.
    less: Condvar,
    /// Most events in the window.
    events_max: usize,
}

impl Flight {
    fn add(&self, event: RecordedEvent, partition_by: &PartitionBy) {
        let is_ready = self.window.lock().add(event, partition_by);
        if is_ready {
            self.more.notify_one();
        }
    }

    /// Handles events on this thread until the end.
    fn work(&self, handler: &impl Fn(RecordedEvent) -> Result<(), BoxError>) {
        let mut window = self.window.lock();
        while !window.has_ended() {
            let Some((ticket, event)) = window.next() else {
                window = self.more.wait(window);
                continue;
            };
            drop(window);
            let handled = guarded("the handler", || handler(event));
            window = self.window.lock();
            window.conclude(ticket, handled.and_then(|handled| handled.map_err(Cause::from)));
            if window.has_ended() {
                self.more.notify_all();
            }
            if window.has_ended() || window.len() <= self.events_max / 2 {
                self.less.notify_one();
            }
        }
    }
}

/// Ends the threads of a flight.
struct EndOnDrop<'f>(&'f Flight);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.window.lock().end();
        self.0.more.notify_all();
    }
}
