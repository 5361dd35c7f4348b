//! [`AsyncSubscription`]: a subscription as a stream for tasks.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::{Error, Result};
use crate::event_store::{Async, Blocking, BoxFuture, HeadWatch};
use crate::model::{Epoch, Position};
use crate::pool;
use crate::signal::Listener;
use crate::subscription::{CancelHandle, Delivery, Step, Subscription, SubscriptionBuilder};

/// A running subscription as a stream: every matching event after its start is delivered once, in
/// order (G7), regardless of how slow the consumer is. It ends when the store is closed, when it is
/// cancelled or dropped, and after an error.
///
/// It never delivers [`Delivery::Idle`] or [`Delivery::Ended`]. To continue after a restart, start
/// another one after its [`checkpoint`](AsyncSubscription::checkpoint).
///
/// ```
/// # futures_lite::future::block_on(async {
/// use annals::prelude::*;
/// use annals::{AsyncStore, Position};
/// let store = AsyncStore::new(MemoryStore::new());
/// let opened = [NewEvent::json("Opened", &())?];
/// store.append("account-1", ExpectedVersion::Any, opened).await?;
///
/// let mut following = store.subscribe().category("account").start().await?;
/// assert!(matches!(following.next().await, Some(Ok(Delivery::Event(_)))));
/// assert_eq!(following.next().await.transpose()?, Some(Delivery::CaughtUp(Position::new(1))));
/// store.blocking().close();
/// assert!(following.next().await.is_none());
/// # Ok::<(), annals::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cost
/// No thread of its own. New events are copied from the store's memory on the thread that polls;
/// only a subscription that is behind by more than about 1 MiB of events reads from disk, on a
/// thread of a pool.
#[must_use = "a stream does nothing unless it is polled"]
pub struct AsyncSubscription {
    state: State,
    watch: Arc<HeadWatch>,
    cancel: CancelHandle,
    cancelled: Listener,
    checkpoint: Option<Position>,
    epoch: Epoch,
}

enum State {
    Ready(Box<Subscription>),
    Reading(BoxFuture<(Box<Subscription>, Result<()>)>),
    Waiting(Box<Subscription>, Listener),
    Ended,
}

/// Subscribes as a task.
impl SubscriptionBuilder<Async> {
    /// Starts the subscription.
    ///
    /// # Errors
    /// Those of [`SubscriptionBuilder::start`] of the blocking API.
    pub async fn start(self) -> Result<AsyncSubscription> {
        let (builder, api) = self.in_api(Blocking);
        let subscription = pool::run(move || builder.start()).await?;
        let cancel = subscription.cancel_handle();
        Ok(AsyncSubscription {
            watch: api.watch,
            cancelled: cancel.listen(),
            cancel,
            checkpoint: subscription.checkpoint(),
            epoch: subscription.epoch(),
            state: State::Ready(Box::new(subscription)),
        })
    }
}

impl AsyncSubscription {
    /// The next delivery; `None` at the end. It is cancel safe: nothing is lost if the future is
    /// dropped, as in `select!`.
    pub async fn next(&mut self) -> Option<Result<Delivery>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The position up to which everything has been delivered or does not match: start after it
    /// when the application restarts.
    pub fn checkpoint(&self) -> Option<Position> {
        self.checkpoint
    }

    /// The epoch of the log. Save it with the position, and pass both to the next subscription: see
    /// [`SubscriptionBuilder::in_epoch`].
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A handle that ends this subscription from any thread or task, even while it waits.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Whether every event up to the head was delivered, or does not match.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Waiting(..))
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Goes one step; `Err` is the end.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Delivery>>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Poll::Ready(Err(Error::Closed)),
            State::Ready(mut subscription) => match subscription.step()? {
                Step::Deliver(Delivery::Ended) => return Poll::Ready(Err(Error::Closed)),
                Step::Deliver(delivery) => {
                    self.checkpoint = subscription.checkpoint();
                    self.state = State::Ready(subscription);
                    return Poll::Ready(Ok(Some(delivery)));
                }
                Step::Read if subscription.read_recent()? => {
                    self.state = State::Ready(subscription);
                }
                Step::Read => {
                    self.state = State::Reading(Box::pin(pool::run(move || {
                        let read = subscription.read_page();
                        (subscription, read)
                    })));
                }
                Step::Wait => {
                    let listener = self.watch.listen()?;
                    // The head may have moved before we listened.
                    self.state = if subscription.is_behind()? {
                        State::Ready(subscription)
                    } else {
                        State::Waiting(subscription, listener)
                    };
                }
            },
            State::Reading(mut reading) => match reading.as_mut().poll(context) {
                Poll::Pending => {
                    self.state = State::Reading(reading);
                    return Poll::Pending;
                }
                Poll::Ready((subscription, read)) => {
                    read?;
                    self.state = State::Ready(subscription);
                }
            },
            State::Waiting(subscription, mut listener) => {
                let moved = Pin::new(&mut listener).poll(context);
                if moved.is_pending() {
                    self.state = State::Waiting(subscription, listener);
                    return Poll::Pending;
                }
                self.state = State::Ready(subscription);
            }
        }
        Poll::Ready(Ok(None))
    }
}

impl Stream for AsyncSubscription {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.step(context) {
                Poll::Pending => {
                    // Waits for the cancellation too.
                    if Pin::new(&mut self.cancelled).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.state = State::Ended;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(delivery))) => return Poll::Ready(Some(Ok(delivery))),
                Poll::Ready(Err(Error::Closed)) => return Poll::Ready(None),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl fmt::Debug for AsyncSubscription {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AsyncSubscription")
            .field("checkpoint", &self.checkpoint)
            .field("has_ended", &matches!(self.state, State::Ended))
            .finish_non_exhaustive()
    }
}
