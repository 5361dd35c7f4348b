//! [`Window`]: the events of a subscription that were received and not handled.
//!
//! Each event is put into the queue of its key. A key is ready while none of its events is being
//! handled. The next event of a ready key may be begun, so a slow key holds back only itself. Threads
//! and tasks share this.

use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use super::partition::PartitionBy;
use crate::error::Cause;
use crate::model::{Position, RecordedEvent};

/// Most events that are received and not handled, unless set.
const IN_FLIGHT_EVENTS: usize = 1_024;

/// How long a checkpoint waits to be reported while further events are handled.
pub(crate) const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// An error of the application.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// What is set for a subscription that is handled in parallel.
#[derive(Debug)]
pub(crate) struct ParallelOptions {
    /// At most this many events are handled at a time.
    pub(crate) width: usize,
    pub(crate) partition_by: PartitionBy,
    pub(crate) in_flight_events: usize,
}

impl ParallelOptions {
    pub(crate) fn new(width: usize) -> Self {
        let width = width.max(1);
        Self { width, partition_by: PartitionBy::Stream, in_flight_events: IN_FLIGHT_EVENTS }
    }

    pub(crate) fn set_in_flight_events(&mut self, events: usize) {
        self.in_flight_events = events.max(1);
    }
}

/// Why a subscription that is handled in parallel ended early: see
/// [`Subscription::parallel`](crate::Subscription::parallel).
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
    /// The error or the panic of the handler, the error of the function that saves the checkpoint,
    /// or an [`Error`](crate::Error) of the store.
    #[source]
    pub cause: Cause,
}

#[derive(Default)]
pub(crate) struct Window {
    /// In the order of the log, from the first that is not handled.
    slots: VecDeque<Slot>,
    /// The number of the first slot, counted from the start.
    first: u64,
    /// The events of each key that were not begun; a key is here while it has any, or while one of
    /// its events is being handled.
    waiting: HashMap<Arc<str>, VecDeque<(Ticket, RecordedEvent)>>,
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

/// The place of an event in a window.
pub(crate) struct Ticket {
    key: Arc<str>,
    number: u64,
    position: Position,
}

impl Window {
    /// Every event up to `start` counts as handled.
    pub(crate) fn new(start: Option<Position>) -> Self {
        Self { received: start, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Every event up to here was handled, or does not match.
    pub(crate) fn checkpoint(&self) -> Option<Position> {
        self.slots.front().map_or(self.received, |slot| slot.position.previous())
    }

    /// Adds an event that was received. Returns whether its key got ready.
    pub(crate) fn add(&mut self, event: RecordedEvent, partition_by: &PartitionBy) -> bool {
        let position = event.position();
        let number = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot { position, is_handled: false });
        self.received = Some(position);
        let key = partition_by.key(&event);
        if let Some((known, _)) = self.waiting.get_key_value(key) {
            let key = known.clone();
            let ticket = Ticket { key: key.clone(), number, position };
            self.waiting.entry(key).or_default().push_back((ticket, event));
            return false;
        }
        let key: Arc<str> = key.into();
        let ticket = Ticket { key: key.clone(), number, position };
        self.waiting.insert(key.clone(), VecDeque::from([(ticket, event)]));
        self.ready.push_back(key);
        true
    }

    /// Notes that every event up to here was received, or does not match.
    pub(crate) fn set_received(&mut self, received: Option<Position>) {
        self.received = received;
    }

    /// The next event to handle.
    pub(crate) fn next(&mut self) -> Option<(Ticket, RecordedEvent)> {
        let key = self.ready.pop_front()?;
        self.waiting.get_mut(&key)?.pop_front()
    }

    /// Notes how the handler of an event ended. A failure ends everything.
    pub(crate) fn conclude(&mut self, ticket: Ticket, handled: Result<(), Cause>) {
        match handled {
            Ok(()) => self.handled(ticket),
            Err(cause) => {
                self.has_ended = true;
                if self.failure.as_ref().is_none_or(|(first, _)| ticket.position < *first) {
                    self.failure = Some((ticket.position, cause));
                }
            }
        }
    }

    fn handled(&mut self, Ticket { key, number, .. }: Ticket) {
        let slot = usize::try_from(number - self.first).ok();
        if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            slot.is_handled = true;
        }
        while self.slots.front().is_some_and(|slot| slot.is_handled) {
            self.slots.pop_front();
            self.first += 1;
        }
        if self.waiting.get(&key).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&key);
        } else {
            self.ready.push_back(key);
        }
    }

    /// No further event is begun.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The result after all handlers have ended: the checkpoint, or the first failure of a handler,
    /// or this one.
    pub(crate) fn result(
        &mut self,
        ended: Result<(), Cause>,
    ) -> Result<Option<Position>, ParallelError> {
        let checkpoint = self.checkpoint();
        if let Some((position, cause)) = self.failure.take() {
            return Err(ParallelError { checkpoint, position: Some(position), cause });
        }
        let failed = |cause| ParallelError { checkpoint, position: None, cause };
        ended.map(|()| checkpoint).map_err(failed)
    }
}
