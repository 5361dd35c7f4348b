//! [`AsyncParallelSubscription`]: a subscription whose events are handled by several futures.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_core::Stream;

use super::future_set::FutureSet;
use super::subscription::AsyncSubscription;
use crate::error::{Cause, guarded};
use crate::model::{Position, RecordedEvent};
use crate::signal::Timer;
use crate::subscription::{
    BoxError, Delivery, ParallelError, ParallelOptions, PartitionBy, REPORT_PAUSE, Ticket, Window,
};

/// How many steps it goes before it lets other tasks run.
const STEPS_MAX: usize = 128;

type Saving<'c> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'c>>;
type OnCheckpoint<'c> = Box<dyn FnMut(Position) -> Saving<'c> + Send + 'c>;

/// A subscription whose events are handled by several futures: those of one key in order, different
/// keys at the same time. [`AsyncSubscription::parallel`] returns one.
///
/// It is [`ParallelSubscription`](crate::ParallelSubscription) for tasks, and keeps the same rules.
/// There is one checkpoint for all futures: every event up to it was handled. After a restart, start
/// after it: the events that were handled above it, at most those in flight, are delivered again.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use std::cell::Cell;
/// use annals::prelude::*;
/// use annals::PartitionBy;
/// let store = AsyncStore::new(MemoryStore::new());
/// for number in 0..100 {
///     let event = NewEvent::json("Enrolled", &number)?.with_tag(format!("course:{}", number % 7));
///     store.submit(Append::of([event])).await?;
/// }
///
/// let sum = Cell::new(0);
/// let subscription = store.subscribe().types(["Enrolled"]).start().await?;
/// let cancel = subscription.cancel_handle();
/// let handled_up_to = subscription
///     .parallel(4)
///     .partition_by(PartitionBy::tag("course:"))
///     .on_checkpoint(async |position| {
///         // Save the position here.
///         if position.get() == 100 {
///             cancel.cancel();
///         }
///         Ok(())
///     })
///     .for_each(async |event| {
///         // Call another service here.
///         sum.set(sum.get() + event.json::<u64>()?);
///         Ok(())
///     })
///     .await?;
/// assert_eq!(sum.get(), 99 * 100 / 2);
/// assert_eq!(handled_up_to.map(u64::from), Some(100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// **One task.** The task that awaits `for_each` polls the futures of all handlers: this needs no
/// runtime, but one core. A handler that computes for long should spawn a task and await it.
///
/// **Cancellation.** [`CancelHandle::cancel`](crate::CancelHandle::cancel) ends it in order:
/// handlers that run are completed, and the last checkpoint is saved. If the future of `for_each` is
/// dropped, the futures of the handlers that run are dropped with it, as is that of a checkpoint
/// that is being saved. Nothing is lost: every event up to the last saved checkpoint was handled.
#[must_use = "a parallel subscription handles nothing until `for_each` is called"]
pub struct AsyncParallelSubscription<'c> {
    subscription: AsyncSubscription,
    options: ParallelOptions,
    on_checkpoint: Option<OnCheckpoint<'c>>,
}

impl AsyncSubscription {
    /// Handles the events with up to this many futures at a time, at least one: those of one stream,
    /// or with one tag, in order. See [`AsyncParallelSubscription`].
    pub fn parallel<'c>(self, futures: usize) -> AsyncParallelSubscription<'c> {
        let options = ParallelOptions::new(futures);
        AsyncParallelSubscription { subscription: self, options, on_checkpoint: None }
    }
}

impl<'c> AsyncParallelSubscription<'c> {
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
    /// does not match. It is called if the checkpoint has advanced: as soon as every event of the
    /// log is handled, about every 100 ms before that, and at the end. Handlers run meanwhile, but
    /// it is not called again before its future completes.
    ///
    /// An error ends the subscription; the function is then not called again.
    pub fn on_checkpoint<F>(mut self, mut save: impl FnMut(Position) -> F + Send + 'c) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'c,
    {
        self.on_checkpoint = Some(Box::new(move |position| Box::pin(save(position))));
        self
    }

    /// Handles each event once (G7), until the subscription is cancelled or its store is closed.
    /// Returns the last checkpoint. At the end, it waits for handlers that run; events that were
    /// received but not begun are not handled.
    ///
    /// `handler` returns the future that handles an event. It is `Send` if the handler and its
    /// futures are.
    ///
    /// # Errors
    /// [`ParallelError`], with the checkpoint: the handler failed or panicked, the checkpoint could
    /// not be saved, or the store failed. No further event is begun. An invalid
    /// [`PartitionBy`]: nothing was handled.
    ///
    /// # Cost
    /// Two locks for each event, and two for each time that a future of a handler is woken.
    pub async fn for_each<F>(
        self,
        handler: impl FnMut(RecordedEvent) -> F,
    ) -> Result<Option<Position>, ParallelError>
    where
        F: Future<Output = Result<(), BoxError>>,
    {
        let start = self.subscription.checkpoint();
        let mut flight = Flight {
            window: Window::new(start),
            subscription: self.subscription,
            handlers: FutureSet::new(),
            reports: Reports {
                save: self.on_checkpoint,
                saving: None,
                reported: start,
                reported_at: Instant::now(),
                pause: None,
            },
            ended: self.options.partition_by.check().map_err(Cause::new).err().map(Err),
            options: self.options,
            handler,
        };
        poll_fn(|context| flight.poll(context)).await
    }
}

impl fmt::Debug for AsyncParallelSubscription<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AsyncParallelSubscription")
            .field("subscription", &self.subscription)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The events that were received and not handled, and the futures that handle some of them.
struct Flight<'c, H, F> {
    subscription: AsyncSubscription,
    options: ParallelOptions,
    window: Window,
    handler: H,
    handlers: FutureSet<Ticket, F>,
    reports: Reports<'c>,
    /// Why no further event is received.
    ended: Option<Result<(), Cause>>,
}

impl<H, F> Flight<'_, H, F>
where
    H: FnMut(RecordedEvent) -> F,
    F: Future<Output = Result<(), BoxError>>,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Position>, ParallelError>> {
        // Other tasks may run after some steps, even if everything is ready at once.
        let is_busy = (0..STEPS_MAX).all(|_| self.step(context));
        loop {
            let is_over = self.has_ended() && self.handlers.len() == 0;
            let is_now = is_over || self.window.len() == 0 && self.subscription.is_idle();
            match self.reports.poll(self.window.checkpoint(), is_now, context) {
                Poll::Ready(Err(cause)) => {
                    // An earlier error of the store comes first.
                    self.ended = Some(self.ended.take().unwrap_or(Ok(())).and(Err(cause)));
                }
                Poll::Ready(Ok(())) if is_over => {
                    let ended = self.ended.take().unwrap_or(Ok(()));
                    return Poll::Ready(self.window.result(ended));
                }
                Poll::Ready(Ok(())) | Poll::Pending => break,
            }
        }
        if is_busy {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn has_ended(&self) -> bool {
        self.ended.is_some() || self.window.has_ended()
    }

    /// Goes one step. Returns whether anything happened; if not, the task is woken when it can.
    fn step(&mut self, context: &mut Context<'_>) -> bool {
        let concluded = self.handlers.poll_next("the handler", context);
        let mut is_busy = concluded.is_some();
        if let Some((ticket, handled)) = concluded {
            let handled = handled.and_then(|handled| handled.map_err(Cause::from));
            self.window.conclude(ticket, handled);
        }
        if !self.has_ended() {
            is_busy |= self.receive(context);
            is_busy |= self.begin();
        }
        is_busy
    }

    /// Receives an event, if there is room for it.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        if self.subscription.is_cancelled() {
            self.ended = Some(Ok(()));
            return true;
        }
        if self.window.len() >= self.options.in_flight_events {
            return false;
        }
        let Poll::Ready(delivery) = Pin::new(&mut self.subscription).poll_next(context) else {
            return false;
        };
        match delivery {
            Some(Ok(Delivery::Event(event))) => {
                self.window.add(event, &self.options.partition_by);
            }
            Some(Ok(_)) => self.window.set_received(self.subscription.checkpoint()),
            Some(Err(error)) => self.ended = Some(Err(Cause::new(error))),
            None => self.ended = Some(Ok(())),
        }
        true
    }

    /// Begins to handle an event, if there is one whose key is ready.
    fn begin(&mut self) -> bool {
        if self.has_ended() || self.handlers.len() >= self.options.width {
            return false;
        }
        let Some((ticket, event)) = self.window.next() else { return false };
        match guarded("the handler", || (self.handler)(event)) {
            Ok(future) => self.handlers.push(ticket, future),
            Err(cause) => self.window.conclude(ticket, Err(cause)),
        }
        true
    }
}

/// Saves the checkpoints.
struct Reports<'c> {
    /// `None` after an error too.
    save: Option<OnCheckpoint<'c>>,
    saving: Option<Saving<'c>>,
    /// The last checkpoint that was reported, or the start.
    reported: Option<Position>,
    reported_at: Instant,
    /// Until the next checkpoint is due.
    pause: Option<Timer>,
}

impl Reports<'_> {
    /// Saves a checkpoint if it is due, or `is_now`. Ready if none is left to be saved.
    fn poll(
        &mut self,
        checkpoint: Option<Position>,
        is_now: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Cause>> {
        loop {
            if let Some(saving) = &mut self.saving {
                let saved = ready!(saving.as_mut().poll(context));
                (self.saving, self.reported_at) = (None, Instant::now());
                if let Err(error) = saved {
                    self.save = None;
                    return Poll::Ready(Err(error.into()));
                }
            }
            let Some(position) = checkpoint.filter(|_| checkpoint > self.reported) else {
                self.pause = None;
                return Poll::Ready(Ok(()));
            };
            if !is_now {
                let rest = || REPORT_PAUSE.saturating_sub(self.reported_at.elapsed());
                let pause = self.pause.get_or_insert_with(|| Timer::new(rest()));
                ready!(Pin::new(pause).poll(context));
            }
            (self.pause, self.reported) = (None, checkpoint);
            match &mut self.save {
                Some(save) => self.saving = Some(save(position)),
                None => self.reported_at = Instant::now(),
            }
        }
    }
}
