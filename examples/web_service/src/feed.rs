//! [`Feed`]: the changes of orders as messages, first those that exist, then live.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use annals::prelude::*;
use annals::{Async, AsyncSubscription, Decoder, Epoch, Error, Position, SubscriptionBuilder};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::failure::{Failure, log};
use crate::order::{OrderEvent, OrderStatus};
use crate::service::Service;
use crate::shop::Shop;

/// A place in the feed: the id of a message, after which a client continues. The epoch detects a
/// position of another history, as after a restore from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: Epoch,
    pub position: Position,
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.epoch, self.position)
    }
}

impl FromStr for Cursor {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parsed = text.split_once(':').and_then(|(epoch, position)| {
            Some(Self { epoch: epoch.parse().ok()?, position: position.parse().ok()? })
        });
        parsed.ok_or_else(|| {
            let text = "this is not the id of a message: send the last one that you received";
            Failure::bad_request("invalid_event_id", text)
        })
    }
}

/// A message of the feed.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where to continue after it. `None`: at the beginning.
    pub id: Option<Cursor>,
    pub event: Kind,
    pub data: Value,
}

impl Message {
    pub fn json(&self) -> String {
        let id = self.id.map(|id| id.to_string());
        json!({ "id": id, "event": self.event.name(), "data": self.data }).to_string()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An order changed. The data has its position, its id, its status, and the time.
    Change,
    /// All changes up to now were sent.
    Live,
    /// Nothing has changed for a while.
    Heartbeat,
    /// The log does not have the position that the client continues after: all changes follow, from
    /// the beginning. The data has the reason.
    Reset,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Live => "live",
            Self::Heartbeat => "heartbeat",
            Self::Reset => "reset",
        }
    }
}

/// The changes of orders. It reads from the store only when a message is wanted, so a slow client
/// needs no more memory than a fast one.
#[derive(Debug)]
pub struct Feed {
    subscription: AsyncSubscription,
    decoder: Decoder<OrderEvent>,
    /// The message that comes first.
    first: Option<Message>,
    stopped: watch::Receiver<bool>,
    heartbeat: Duration,
}

impl Feed {
    /// Starts after this place, or at the beginning.
    ///
    /// # Errors
    /// 503 while the store is reopened or closed.
    pub async fn start(service: &Arc<Service>, after: Option<Cursor>) -> Result<Self, Failure> {
        let (stopped, heartbeat) = (service.stopping(), service.heartbeat());
        let start = move |shop: Arc<Shop>| async move {
            let decoder = Decoder::new();
            let (subscription, first) = subscribe(&shop, &decoder, after).await?;
            Ok(Self { subscription, decoder, first, stopped, heartbeat })
        };
        service.call(start).await
    }

    /// The next message; `None` after the service or the store has stopped, or after an error. A
    /// client then connects again.
    pub async fn next(&mut self) -> Option<Message> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let heartbeat = sleep(self.heartbeat);
        tokio::pin!(heartbeat);
        loop {
            let delivery = tokio::select! {
                biased;
                () = async { _ = self.stopped.wait_for(|stop| *stop).await } => return None,
                delivery = self.subscription.next() => delivery?,
                () = &mut heartbeat => return Some(self.message(Kind::Heartbeat, Value::Null)),
            };
            let message = match delivery {
                Ok(Delivery::Event(event)) => self.changed(event),
                Ok(Delivery::CaughtUp(_)) => Ok(Some(self.message(Kind::Live, Value::Null))),
                // The next message has the position.
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            match message {
                Ok(None) => {}
                Ok(message) => return message,
                Err(error) => {
                    log(error);
                    return None;
                }
            }
        }
    }

    /// Completes when the service stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.stopped.clone();
        async move { _ = stopped.wait_for(|stop| *stop).await }
    }

    fn message(&self, event: Kind, data: Value) -> Message {
        let epoch = self.subscription.epoch();
        let id = self.subscription.checkpoint().map(|position| Cursor { epoch, position });
        Message { id, event, data }
    }

    fn changed(&self, event: RecordedEvent) -> annals::Result<Option<Message>> {
        // One value of each event: no upcaster splits one.
        let changed = self.decoder.decode(event)?.pop().map(|change| {
            let (status, placed) = match &change.event {
                OrderEvent::Placed(placement) => (OrderStatus::Placed, Some(placement)),
                OrderEvent::Shipped => (OrderStatus::Shipped, None),
                OrderEvent::Cancelled { .. } => (OrderStatus::Cancelled, None),
            };
            let data = json!({
                "position": change.position(),
                "order": change.stream().as_str().strip_prefix("order-"),
                "status": status,
                "placed": placed,
                "at": change.recorded_at().to_string(),
            });
            self.message(Kind::Change, data)
        });
        Ok(changed)
    }
}

/// Subscribes after this place. If the log does not have it, subscribes from the beginning, with a
/// message that says so.
async fn subscribe(
    shop: &Shop,
    decoder: &Decoder<OrderEvent>,
    after: Option<Cursor>,
) -> annals::Result<(AsyncSubscription, Option<Message>)> {
    let orders = || -> SubscriptionBuilder<Async> {
        shop.store.subscribe().category("order").types(decoder.stored_types())
    };
    let Some(Cursor { epoch, position }) = after else {
        return Ok((orders().start().await?, None));
    };
    match orders().after(position).in_epoch(epoch).start().await {
        Err(error @ (Error::OtherEpoch { .. } | Error::PositionAhead { .. })) => {
            let data = json!({ "reason": error.to_string() });
            let reset = Message { id: None, event: Kind::Reset, data };
            Ok((orders().start().await?, Some(reset)))
        }
        started => Ok((started?, None)),
    }
}
