//! [`ProjectionScenario`]: tests a projection. Given events, it checks the entries of the read
//! model.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::scenario_diff::diff;
use crate::codec::DomainEvent;
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::memory::MemoryStore;
use crate::model::{ExpectedVersion, NewEvent, StreamId, Timestamp};
use crate::projection::{
    Projection, ProjectionError, ProjectionManager, ProjectionOptions, ViewKey, ViewStoreExt,
};
use crate::upcast::Upcasters;

/// A handler that takes longer than this hangs: nothing here takes long.
const PATIENCE: Duration = Duration::from_secs(60);

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
#[must_use = "a scenario checks nothing before `then`"]
#[derive(Debug)]
pub struct ProjectionScenario<P> {
    projection: P,
    store: MemoryStore,
    upcasters: Upcasters,
}

impl<P: Projection> ProjectionScenario<P> {
    /// Creates a scenario without events.
    pub fn new(projection: P) -> Self {
        Self { projection, store: MemoryStore::new(), upcasters: Upcasters::none() }
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
    let encoded: crate::Result<Vec<_>> = events.into_iter().map(|event| event.encode()).collect();
    match encoded {
        Ok(encoded) => encoded,
        Err(error) => panic!("{stream}: the event cannot be appended: {error:?}"),
    }
}
