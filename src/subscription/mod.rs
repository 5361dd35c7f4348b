//! Subscriptions to any [`EventStore`]: they catch up from any place, then continue live.
//!
//! A subscription is a loop: read up to the head; when nothing is left, wait until the head moves.
//! The consumer pulls. There is no queue between writer and consumer, so nothing can overflow, and
//! there is no switch from history to live at which an event could be lost, duplicated or reordered
//! (G7). A slow consumer only falls behind.

mod builder;
mod partition;
mod window;
mod parallel;
mod receiver;

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use builder::SubscriptionBuilder;
pub use parallel::ParallelSubscription;
pub use partition::PartitionBy;
pub use receiver::SubscriptionReceiver;
pub use window::ParallelError;
#[cfg(feature = "async")]
pub(crate) use window::{BoxError, ParallelOptions, REPORT_PAUSE, Ticket, Window};

use crate::error::{Error, Result};
use crate::event_store::{Direction, EventStore, PageRequest, Query, Range, Scope};
use crate::metrics::SubscriptionProgress;
use crate::model::{Copier, Epoch, EventRef, Position, RecordedEvent, Version};
#[cfg(feature = "async")]
use crate::signal::{Listener, Signal};

/// Most events that a subscription holds between two calls: it bounds the memory of a subscription.
const PAGE_EVENTS_MAX: usize = 1_024;

/// How many events at the end of the log a subscription to one stream goes through.
const RECENT_EVENTS_MAX: u64 = 64;

/// What a subscription delivers.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every delivery is an event: a box each would only cost"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next event.
    Event(RecordedEvent),
    /// Everything up to this head (`None` if the log is empty) has been delivered; later events are
    /// live. It is delivered once when the subscription first catches up, and again each time it
    /// catches up after it had fallen behind by more than a page.
    CaughtUp(Option<Position>),
    /// Everything up to this position has been delivered or does not match: a later subscription
    /// can start after it.
    Progress(Position),
    /// There was no delivery within the timeout.
    Idle,
    /// The subscription was cancelled, or its store was closed. There are no more deliveries.
    Ended,
}

/// A running subscription. Every matching event after its start is delivered once, in order (G7),
/// regardless of how slow the consumer is.
///
/// ```
/// use annals::prelude::*;
/// use annals::Position;
/// let store = MemoryStore::new();
/// store.append("account-1", ExpectedVersion::Any, [NewEvent::json("Opened", &())?])?;
///
/// let mut following = store.subscribe().category("account").start()?;
/// assert!(matches!(following.recv()?, Delivery::Event(event) if event.event_type() == "Opened"));
/// assert_eq!(following.recv()?, Delivery::CaughtUp(Position::new(1)));
/// store.append("account-1", ExpectedVersion::Any, [NewEvent::json("Closed", &())?])?;
/// assert!(matches!(following.recv()?, Delivery::Event(event) if event.event_type() == "Closed"));
/// # Ok::<(), annals::Error>(())
/// ```
///
/// As an iterator, it yields only the events. It blocks until the next one, and ends when the
/// subscription ends.
pub struct Subscription {
    store: Arc<dyn EventStore>,
    scope: Scope,
    /// The next place to read.
    next: u64,
    query: Query,
    /// Nothing at or below this position is delivered.
    after: Option<Position>,
    /// Everything up to this position was read from the store.
    seen: Option<Position>,
    /// The last position that was reported to the consumer, by an event or by progress.
    reported: Option<Position>,
    /// The head up to which the current pages are read; `None` after they are read to their end.
    bound: Option<Position>,
    page: VecDeque<RecordedEvent>,
    epoch: Epoch,
    caught_up: bool,
    ended: bool,
    cancel: CancelHandle,
    /// For the metrics of the store.
    progress: Arc<SubscriptionProgress>,
}

/// What a subscription does next.
#[expect(clippy::large_enum_variant, reason = "nearly every step is a delivery")]
pub(crate) enum Step {
    Deliver(Delivery),
    /// Read a page.
    Read,
    /// Wait until the head moves.
    Wait,
}

/// A page that was taken.
enum Taken {
    /// With the rest of its range, and the last event of the scope that it has.
    Page { rest: Option<Range>, last: Option<(Version, Position)> },
    /// Its end is damaged.
    BeforeDamage,
}

impl Subscription {
    /// Returns the next delivery, and blocks until there is one. Never returns [`Delivery::Idle`].
    ///
    /// # Errors
    /// An error of the store, such as corruption. The subscription has then ended.
    #[inline]
    pub fn recv(&mut self) -> Result<Delivery> {
        self.recv_until(None)
    }

    /// Returns the next delivery, or [`Delivery::Idle`] if there is none within this time. To poll
    /// without waiting, pass [`Duration::ZERO`].
    ///
    /// # Errors
    /// An error of the store, such as corruption. The subscription has then ended.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Delivery> {
        // A deadline too far in the future to be represented is never reached.
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// The position up to which everything has been delivered or does not match: start after it
    /// when the application restarts.
    pub fn checkpoint(&self) -> Option<Position> {
        self.reported
    }

    /// The epoch of the log. Save it with the position, and pass both to the next subscription: see
    /// [`SubscriptionBuilder::in_epoch`].
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A handle that ends this subscription from any thread, even while it waits.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Moves the subscription to a thread that feeds a channel of this capacity, at most 65,536,
    /// for `select!`. If the channel is full, the thread waits: nothing is dropped. The channel is
    /// disconnected when the subscription ends.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn into_receiver(self, capacity: usize) -> Result<SubscriptionReceiver> {
        SubscriptionReceiver::feed(self, capacity)
    }

    /// Handles the events on this many threads, at least one: those of one stream, or with one tag,
    /// in order, others at the same time. See [`ParallelSubscription`].
    pub fn parallel<'c>(self, threads: usize) -> ParallelSubscription<'c> {
        ParallelSubscription::new(self, threads)
    }

    #[inline]
    fn recv_until(&mut self, until: Option<Instant>) -> Result<Delivery> {
        // An event of the current page is moved as few times as possible: it has over 200 bytes.
        match self.next_of_page() {
            Some(event) => Ok(Delivery::Event(event)),
            None => self.recv_slowly(until),
        }
    }

    #[inline]
    fn next_of_page(&mut self) -> Option<RecordedEvent> {
        if self.ended || self.cancel.is_cancelled() {
            return None;
        }
        let event = self.page.pop_front()?;
        self.reported = Some(event.position());
        self.progress.set(self.reported);
        Some(event)
    }

    fn recv_slowly(&mut self, until: Option<Instant>) -> Result<Delivery> {
        let delivery = self.advance(until);
        self.note_end(delivery)
    }

    /// Notes whether a delivery is the last one.
    fn note_end(&mut self, delivery: Result<Delivery>) -> Result<Delivery> {
        let delivery = match delivery {
            Err(Error::Closed) => Ok(Delivery::Ended),
            delivery => delivery,
        };
        self.ended |= !matches!(&delivery, Ok(delivery) if *delivery != Delivery::Ended);
        delivery
    }

    /// Reads up to the head; when nothing is left, waits until the head moves.
    fn advance(&mut self, until: Option<Instant>) -> Result<Delivery> {
        let is_over = || until.is_some_and(|until| Instant::now() >= until);
        let mut has_read = false;
        loop {
            match self.step()? {
                Step::Deliver(delivery) => return Ok(delivery),
                // Pages that match nothing take time too.
                Step::Read if has_read && is_over() => return Ok(Delivery::Idle),
                Step::Read => {
                    if !self.read_recent()? {
                        self.read_page()?;
                    }
                    has_read = true;
                }
                Step::Wait => {
                    let cancelled = &self.cancel.cancelled;
                    let head = self.store.wait_past(self.seen, until, cancelled)?;
                    if head <= self.seen && is_over() {
                        return Ok(Delivery::Idle);
                    }
                }
            }
        }
    }

    /// The next delivery, if none has to be read or waited for.
    pub(crate) fn step(&mut self) -> Result<Step> {
        if self.ended || self.cancel.is_cancelled() {
            return Ok(Step::Deliver(Delivery::Ended));
        }
        if let Some(event) = self.next_of_page() {
            return Ok(Step::Deliver(Delivery::Event(event)));
        }
        if self.reported < self.seen {
            self.reported = self.seen;
            self.progress.set(self.reported);
            if let (Some(position), true) = (self.seen, self.skips()) {
                return Ok(Step::Deliver(Delivery::Progress(position)));
            }
        }
        if self.bound.is_some() {
            return Ok(Step::Read);
        }
        let head = self.store.head()?;
        if head > self.seen {
            self.bound = head;
            return Ok(Step::Read);
        }
        if !self.caught_up {
            self.caught_up = true;
            return Ok(Step::Deliver(Delivery::CaughtUp(head)));
        }
        Ok(Step::Wait)
    }

    /// Whether there is more to read than was read.
    #[cfg(feature = "async")]
    pub(crate) fn is_behind(&self) -> Result<bool> {
        Ok(self.store.head()? > self.seen)
    }

    /// Whether events of the log may be skipped, so that progress is worth reporting.
    fn skips(&self) -> bool {
        self.scope != Scope::Log || !self.query.is_everything()
    }

    /// Reads the next page, up to the bound.
    pub(crate) fn read_page(&mut self) -> Result<()> {
        let Some(bound) = self.bound else { return Ok(()) };
        let range =
            Range { scope: self.scope.clone(), from: self.next, to: u64::MAX, up_to: bound };
        let Some(Taken::Page { rest, last }) = self.take_page(range, false)? else {
            return Ok(());
        };
        let Some(rest) = rest else {
            self.next = match (&self.scope, last) {
                (Scope::Log, _) => bound.next().get(),
                (Scope::Stream(_), Some((version, _))) => version.next().get(),
                (Scope::Stream(_), None) => self.next,
            };
            self.seen = Some(bound);
            self.bound = None;
            return Ok(());
        };
        self.seen = match &self.scope {
            Scope::Log => Position::new(rest.from - 1),
            Scope::Stream(_) => last.map(|(_, position)| position).max(self.seen),
        };
        self.next = rest.from;
        self.caught_up = false;
        Ok(())
    }

    /// Reads the next page, up to the bound, from the end of the log, if the store has it in memory.
    /// All subscriptions that have caught up share it, also those to one stream.
    pub(crate) fn read_recent(&mut self) -> Result<bool> {
        let Some(bound) = self.bound else { return Ok(true) };
        let from = match &self.scope {
            Scope::Log => Position::new(self.next),
            // Further back, finding the stream costs less than going through the log.
            Scope::Stream(_) => {
                let is_near =
                    |from: &Position| bound.get().saturating_sub(from.get()) < RECENT_EVENTS_MAX;
                self.seen.map(Position::next).filter(is_near)
            }
        };
        let Some(from) = from else { return Ok(false) };
        let range = Range { up_to: bound, ..Range::log(from, Position::MAX) };
        let (rest, last) = match self.take_page(range, true)? {
            None => return Ok(false),
            Some(Taken::BeforeDamage) => return Ok(true),
            Some(Taken::Page { rest, last }) => (rest, last),
        };
        let read_to = rest.as_ref().map_or(Some(bound), |rest| Position::new(rest.from - 1));
        self.next = match (&self.scope, last) {
            (Scope::Log, _) => Position::after(read_to).get(),
            (Scope::Stream(_), Some((version, _))) => version.next().get(),
            (Scope::Stream(_), None) => self.next,
        };
        self.seen = read_to;
        self.bound = self.bound.filter(|_| rest.is_some());
        self.caught_up &= rest.is_none();
        Ok(true)
    }

    /// Takes the events of a page; `None` if it is to be in memory and is not.
    fn take_page(&mut self, range: Range, in_memory: bool) -> Result<Option<Taken>> {
        // For streams we select here, so that skipped events are read once.
        let of_log = self.scope == Scope::Log;
        let request = PageRequest {
            range,
            direction: Direction::Forward,
            query: if of_log { self.query.clone() } else { Query::Everything },
            events_max: PAGE_EVENTS_MAX,
        };
        let Self { store, scope, next, query, after, page, .. } = self;
        let (mut last, mut copier) = (None, Copier::default());
        let mut visit = |event: EventRef<'_>| {
            let is_of_scope = match &*scope {
                Scope::Log => true,
                Scope::Stream(stream) => {
                    event.stream() == stream.as_str() && event.version().get() >= *next
                }
            };
            if is_of_scope {
                last = Some((event.version(), event.position()));
                if Some(event.position()) > *after && (of_log || query.matches(&event)) {
                    page.push_back(copier.copy(&event));
                }
            }
            ControlFlow::Continue(())
        };
        let end = if in_memory {
            store.read_page_in_memory(&request, &mut visit)
        } else {
            store.read_page(&request, &mut visit).map(Some)
        };
        match end {
            Ok(end) => Ok(end.map(|end| Taken::Page { rest: end.rest, last })),
            // The events before the damage are correct: deliver them first. The next read finds the
            // damage again.
            Err(_) if !self.page.is_empty() => {
                self.advance_past_page();
                Ok(Some(Taken::BeforeDamage))
            }
            Err(error) => Err(error),
        }
    }

    /// Continues after the last event that was read.
    fn advance_past_page(&mut self) {
        if let Some(last) = self.page.back() {
            self.seen = Some(last.position());
            self.next = match &self.scope {
                Scope::Log => last.position().next().get(),
                Scope::Stream(_) => last.version().next().get(),
            };
        }
    }
}

/// Iterates over the events only: see [`Subscription`].
impl Iterator for Subscription {
    type Item = Result<RecordedEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.recv() {
                Ok(Delivery::Event(event)) => return Some(Ok(event)),
                Ok(Delivery::Ended) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Subscription")
            .field("scope", &self.scope)
            .field("query", &self.query)
            .field("position", &self.reported)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Ends a subscription from any thread or task, even while it waits.
#[derive(Clone)]
pub struct CancelHandle {
    cancelled: Arc<AtomicBool>,
    store: Arc<dyn EventStore>,
    /// Wakes the task that waits for the subscription.
    #[cfg(feature = "async")]
    signal: Arc<Signal>,
}

impl CancelHandle {
    fn new(store: Arc<dyn EventStore>) -> Self {
        Self {
            cancelled: Arc::default(),
            store,
            #[cfg(feature = "async")]
            signal: Arc::default(),
        }
    }

    /// Ends the subscription: its current and every later call returns [`Delivery::Ended`]. That of
    /// a task ends as a stream does, with `None`.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.store.wake();
        #[cfg(feature = "async")]
        self.signal.raise();
    }

    /// A listener for the next [`CancelHandle::cancel`].
    #[cfg(feature = "async")]
    pub(crate) fn listen(&self) -> Listener {
        self.signal.listen()
    }

    /// Whether it was cancelled.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CancelHandle").field("cancelled", &self.is_cancelled()).finish()
    }
}
