//! [`SubscriptionReceiver`]: a subscription that feeds a channel.

use std::ops::Deref;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};

use super::{CancelHandle, Delivery, Subscription};
use crate::error::{Error, Result};

/// Largest capacity of a channel.
const CHANNEL_CAPACITY_MAX: usize = 65_536;

/// How often a thread that waits for room in the channel checks for cancellation.
const OFFER_PAUSE: Duration = Duration::from_millis(50);

/// Sends as soon as there is room. Returns false if the receiver is gone or the subscription is
/// cancelled.
fn offer(
    sender: &Sender<Result<Delivery>>,
    mut delivery: Result<Delivery>,
    cancel: &CancelHandle,
) -> bool {
    loop {
        // Cancellation does not wake a thread that waits for room, so the thread checks now and
        // then.
        match sender.send_timeout(delivery, OFFER_PAUSE) {
            Ok(()) => return true,
            Err(SendTimeoutError::Timeout(unsent)) if !cancel.is_cancelled() => delivery = unsent,
            Err(_) => return false,
        }
    }
}

/// The receiving end of a subscription that feeds a channel: a [`Receiver`] by `Deref`. Dropping it
/// ends the subscription.
#[derive(Debug)]
pub struct SubscriptionReceiver {
    receiver: Receiver<Result<Delivery>>,
    cancel: CancelHandle,
    thread: Option<JoinHandle<()>>,
}

impl SubscriptionReceiver {
    pub(super) fn feed(mut subscription: Subscription, capacity: usize) -> Result<Self> {
        let cancel = subscription.cancel_handle();
        // The channel allocates its whole capacity at once.
        let (sender, receiver) = bounded(capacity.min(CHANNEL_CAPACITY_MAX));
        let feed = move || {
            loop {
                let delivery = subscription.recv();
                let is_last = delivery.is_err();
                let is_end = matches!(delivery, Ok(Delivery::Ended));
                if is_end || !offer(&sender, delivery, &subscription.cancel) || is_last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("annals-following".to_owned())
            .spawn(feed)
            .map_err(|error| Error::storage("starting a thread to feed a channel", error))?;
        Ok(Self { receiver, cancel, thread: Some(thread) })
    }

    /// The channel, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<Delivery>> {
        &self.receiver
    }

    /// A handle that ends the subscription from any thread.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }
}

impl Deref for SubscriptionReceiver {
    type Target = Receiver<Result<Delivery>>;

    fn deref(&self) -> &Self::Target {
        &self.receiver
    }
}

impl Drop for SubscriptionReceiver {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread ends after the cancellation. If it panicked, the panic hook has reported
            // that.
            let _ = thread.join();
        }
    }
}
