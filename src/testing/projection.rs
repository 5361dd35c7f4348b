//! [`ProjectionScenario`]: tests a projection. Given events, it checks the entries of the read
//! model, or the effects of a reactor.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::reactor::{Handled, PATIENCE};
use super::scenario_diff::diff;
use crate::codec::{DomainEvent, with_tags};
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::memory::MemoryStore;
use crate::model::{ExpectedVersion, NewEvent, StreamId, Timestamp};
use crate::projection::{
    OnFailure, Projection, ProjectionError, ProjectionManager, ProjectionOptions, ViewKey,
    ViewStoreExt,
};
use crate::upcast::Upcasters;

/// Tests a projection: given events of some streams, checks the entries of the read model.
///
/// As in production, the events go through their codec and a [`MemoryStore`], and a
/// [`ProjectionManager`] runs the projection. A handler that fails is not retried.
///
/// ```
/// # use annals::{HandlerError, Projection, TypedEvent, ViewWriter};
/// # use serde::{Deserialize, Serialize};
/// use annals::testing::ProjectionScenario;
/// # #[derive(Serialize, Deserialize)]
/// # enum Money { Deposited { amount: i64 }, Withdrawn { amount: i64 } }
/// # annals::domain_events! { Money { Deposited => "Deposited", Withdrawn => "Withdrawn" } }
/// # use Money::{Deposited, Withdrawn};
/// # struct Balances;
/// # impl Projection for Balances {
/// #     type Event = Money;
/// #     fn name(&self) -> &str { "balances" }
/// #     fn handle(&self, event: &TypedEvent<Money>, view: &mut ViewWriter) -> Result<(), HandlerError> {
/// #         let change = match event.event { Deposited { amount } => amount, Withdrawn { amount } => -amount };
/// #         if change == 0 { return Err("nothing happened".into()); }
/// #         Ok(view.update(event.stream(), |balance: &mut i64| *balance += change)?)
/// #     }
/// # }
/// ProjectionScenario::new(Balances)
///     .given("account-1", [Deposited { amount: 1000 }, Withdrawn { amount: 200 }])
///     .given("account-2", [Deposited { amount: 5 }])
///     .then([("account-1", 800), ("account-2", 5)]);
/// ProjectionScenario::new(Balances).given("account-1", [Deposited { amount: 0 }]).then_error("nothing happened");
/// ```
///
/// For a reactor, [`ProjectionScenario::when_handled`] checks the effects, the events that it
/// appended, and the events that were parked. Its events may come again, so check it with
/// [`Handled::when_redelivered`] too:
///
/// ```
/// # use annals::{HandlerError, Projection, Target, TypedEvent, ViewWriter};
/// # use serde::{Deserialize, Serialize};
/// # use std::collections::BTreeSet;
/// use annals::testing::ProjectionScenario;
/// use std::sync::{Arc, Mutex};
/// # #[derive(Serialize, Deserialize)]
/// # struct Placed { address: String }
/// # annals::domain_events! { Placed => "Placed" }
/// /// Sends one mail for each order; the mail server drops a repeated key.
/// #[derive(Default, Clone)]
/// struct Mailer { sent: Arc<Mutex<Vec<String>>> }
/// # impl Mailer {
/// #     fn send(&self, key: &str) {
/// #         let mut sent = self.sent.lock().unwrap();
/// #         if !sent.iter().any(|other| other == key) { sent.push(key.to_owned()); }
/// #     }
/// # }
/// struct Confirmations { mailer: Mailer }
/// # impl Projection for Confirmations {
/// #     type Event = Placed;
/// #     fn name(&self) -> &str { "confirmations" }
/// #     fn target(&self) -> Target { Target::Reactor }
/// #     fn handle(&self, placed: &TypedEvent<Placed>, _: &mut ViewWriter) -> Result<(), HandlerError> {
/// #         if placed.event.address.is_empty() { return Err("no address".into()); }
/// #         Ok(self.mailer.send(&format!("{} to {}", placed.stream(), placed.event.address)))
/// #     }
/// # }
///
/// let mailer = Mailer::default();
/// let sent = || mailer.sent.lock().unwrap().clone();
/// ProjectionScenario::new(Confirmations { mailer: mailer.clone() })
///     .given("order-1", [Placed { address: "ada".into() }])
///     .given("order-2", [Placed { address: String::new() }])
///     .when_handled()
///     .then_effects(sent, ["order-1 to ada".to_owned()])
///     .then_parked([("order-2", "no address")])
///     .when_redelivered()
///     .then_effects(sent, ["order-1 to ada".to_owned()]);
/// ```
#[must_use = "a scenario checks nothing before `then`"]
#[derive(Debug)]
pub struct ProjectionScenario<P> {
    projection: P,
    store: MemoryStore,
    upcasters: Upcasters,
}

/// An async projection as a blocking one, for a [`ProjectionScenario`]: each call drives its future
/// on the thread of the test.
///
/// ```
/// use annals::prelude::*;
/// use annals::testing::{ProjectionScenario, driven};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Placed { total: i64 }
/// # annals::domain_events! { Placed => "Placed" }
/// # struct Totals;
/// impl AsyncProjection for Totals {
///     type Event = Placed;
///     # fn name(&self) -> &str { "totals" }
///     async fn handle(&self, placed: &TypedEvent<Placed>, view: &mut ViewWriter) -> Result<(), HandlerError> {
///         Ok(view.update("all", |total: &mut i64| *total += placed.event.total)?)
///     }
/// }
/// ProjectionScenario::new(driven(Totals))
///     .given("order-1", [Placed { total: 30 }])
///     .then([("all", 30_i64)]);
/// ```
#[cfg(feature = "async")]
pub fn driven<P: crate::AsyncProjection>(
    projection: P,
) -> impl crate::Projection<Event = P::Event> {
    crate::projection::driven(projection)
}

impl<P: Projection> ProjectionScenario<P> {
    /// Creates a scenario without events.
    pub fn new(projection: P) -> Self {
        Self::over(&MemoryStore::new(), projection)
    }

    /// Creates a scenario in this store, so that a process manager can append to the store that it
    /// follows.
    ///
    /// ```
    /// # use annals::{HandlerError, Projection, Target, TypedEvent, ViewWriter};
    /// # use serde::{Deserialize, Serialize};
    /// use annals::prelude::*;
    /// use annals::testing::ProjectionScenario;
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Placed { total: i64 }
    /// # annals::domain_events! { Placed => "Placed" }
    /// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// # struct PaymentRequested { total: i64 }
    /// # annals::domain_events! { PaymentRequested => "PaymentRequested" }
    /// # struct Payments { store: MemoryStore }
    /// # impl Projection for Payments {
    /// #     type Event = Placed;
    /// #     fn name(&self) -> &str { "payments" }
    /// #     fn target(&self) -> Target { Target::Reactor }
    /// #     fn handle(&self, placed: &TypedEvent<Placed>, _: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         let asked = PaymentRequested { total: placed.event.total }.encode()?;
    /// #         let asked = asked.with_id(placed.id().derived("payment"));
    /// #         self.store.append(format!("payment-for-{}", placed.stream()), ExpectedVersion::NoStream, [asked])?;
    /// #         Ok(())
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// ProjectionScenario::over(&store, Payments { store: store.clone() })
    ///     .given("order-1", [Placed { total: 30 }])
    ///     .when_handled()
    ///     .then_stream("payment-for-order-1", [PaymentRequested { total: 30 }])
    ///     .when_redelivered()
    ///     .then_stream("payment-for-order-1", [PaymentRequested { total: 30 }])
    ///     .then_none_parked();
    /// ```
    pub fn over(store: &MemoryStore, projection: P) -> Self {
        Self { projection, store: store.clone(), upcasters: Upcasters::none() }
    }

    /// Sets the upcasters through which old events are read.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.upcasters = upcasters;
        self
    }

    /// Appends these events to a stream, after the events given before.
    ///
    /// # Panics
    /// The stream id is invalid, or the codec cannot encode an event.
    #[track_caller]
    pub fn given<E: DomainEvent>(self, stream: &str, events: impl IntoIterator<Item = E>) -> Self {
        self.given_stored(stream, encoded(stream, events))
    }

    /// Appends these events, recorded at this time, which must not be before that of earlier
    /// events.
    ///
    /// # Panics
    /// Like [`ProjectionScenario::given`], or the time goes back.
    #[track_caller]
    pub fn given_at<E: DomainEvent>(
        self,
        time: Timestamp,
        stream: &str,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        let events = encoded(stream, events).into_iter().map(|event| event.with_recorded_at(time));
        self.given_stored(stream, events)
    }

    /// Appends events in stored form: with metadata, or in a form that older code wrote.
    ///
    /// ```
    /// # use annals::{HandlerError, Projection, TypedEvent, ViewWriter};
    /// # use serde::{Deserialize, Serialize};
    /// use annals::testing::ProjectionScenario;
    /// use annals::{NewEvent, Upcasters};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Deposited { amount: i64 }
    /// # annals::domain_events! { Deposited => "Deposited" }
    /// # struct Balances;
    /// # impl Projection for Balances {
    /// #     type Event = Deposited;
    /// #     fn name(&self) -> &str { "balances" }
    /// #     fn handle(&self, event: &TypedEvent<Deposited>, view: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         let amount = event.event.amount;
    /// #         Ok(view.update(event.recorded_at().date(), |sum: &mut i64| *sum += amount)?)
    /// #     }
    /// # }
    /// let upcasters =
    ///     Upcasters::builder().reads::<Deposited>().renamed("Paid", 1, ("Deposited", 1)).build()?;
    /// let old = NewEvent::json("Paid", &serde_json::json!({ "amount": 7 }))?;
    /// ProjectionScenario::new(Balances)
    ///     .upcasters(upcasters)
    ///     .given_stored("account-1", [old.with_recorded_at("2026-11-01T00:00:00Z".parse()?)])
    ///     .given_at("2026-11-02T00:00:00Z".parse()?, "account-1", [Deposited { amount: 5 }])
    ///     .then([("2026-11-01", 7), ("2026-11-02", 5)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// The stream id is invalid, or an event cannot be appended.
    #[track_caller]
    pub fn given_stored(self, stream: &str, events: impl IntoIterator<Item = NewEvent>) -> Self {
        for event in events {
            let appended = StreamId::new(stream)
                .map_err(crate::Error::from)
                .and_then(|stream| self.store.append(stream, ExpectedVersion::Any, [event]));
            assert!(appended.is_ok(), "{stream}: the event cannot be appended: {appended:?}");
        }
        self
    }

    /// Handles the events, to check the effects of a reactor. An event whose handler fails is
    /// parked, with all later events of its stream; it is not retried.
    ///
    /// # Panics
    /// The projection does not start, or stops.
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn when_handled(self) -> Handled {
        let name = self.projection.name().to_owned();
        let parking = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
        let manager = ProjectionManager::new(&self.store).upcasters(self.upcasters);
        let handled = manager
            .register_with(self.projection, parking)
            .and_then(|manager| Handled::start(self.store, manager, name));
        match handled {
            Ok(handled) => handled,
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks that the read model holds exactly these entries.
    ///
    /// # Panics
    /// The entries differ (the message shows the difference), a handler failed, or a key is too
    /// long.
    #[track_caller]
    pub fn then<K, V>(self, entries: impl IntoIterator<Item = (K, V)>)
    where
        K: TryInto<ViewKey, Error: Into<crate::Error>>,
        V: DeserializeOwned + PartialEq + Debug,
    {
        let (name, store) = (self.projection.name().to_owned(), self.store.clone());
        if let Err(error) = self.run() {
            panic!("{error}");
        }
        let found: Result<Vec<(ViewKey, V)>, _> = store.view(name).entries().iter().collect();
        let found = match found {
            Ok(found) => found,
            Err(error) => panic!("{error}"),
        };
        let expected: Result<BTreeMap<ViewKey, V>, _> = entries
            .into_iter()
            .map(|(key, value)| ViewKey::new(key).map(|key| (key, value)))
            .collect();
        let expected = match expected {
            Ok(expected) => expected,
            Err(error) => panic!("{error}"),
        };
        if found.iter().map(|(key, value)| (key, value)).eq(&expected) {
            return;
        }
        let line = |(key, value): (&ViewKey, &V)| format!("{key}: {value:?}");
        let expected: Vec<String> = expected.iter().map(line).collect();
        let found: Vec<String> = found.iter().map(|(key, value)| line((key, value))).collect();
        let difference = diff(&expected.join("\n"), &found.join("\n"));
        panic!("the read model holds different entries (- expected, + found)\n{difference}");
    }

    /// Checks that the handler fails with an error that contains this text.
    ///
    /// # Panics
    /// The handler does not fail, or its error does not contain the text.
    #[track_caller]
    pub fn then_error(self, text: &str) {
        match self.run() {
            Ok(()) => panic!("every event was handled, but {text:?} was expected"),
            Err(ProjectionError::Failed { failure, .. }) => {
                let said = failure.cause.to_string();
                assert!(
                    said.contains(text),
                    "the handler failed with {said:?}, but {text:?} was expected"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn run(self) -> Result<(), ProjectionError> {
        let name = self.projection.name().to_owned();
        let once = ProjectionOptions::new().retries(0);
        let manager = ProjectionManager::new(&self.store).upcasters(self.upcasters);
        let manager = manager.register_with(self.projection, once)?;
        manager.start()?;
        match self.store.head()? {
            Some(head) => manager.wait_for(&name, head, PATIENCE),
            None => Ok(()),
        }
    }
}

/// Encodes events for an append.
#[track_caller]
fn encoded<E: DomainEvent>(stream: &str, events: impl IntoIterator<Item = E>) -> Vec<NewEvent> {
    let encode = |event: E| event.encode().map(|encoded| with_tags(encoded, &event));
    let encoded: crate::Result<Vec<_>> = events.into_iter().map(encode).collect();
    match encoded {
        Ok(encoded) => encoded,
        Err(error) => panic!("{stream}: the event cannot be appended: {error:?}"),
    }
}
