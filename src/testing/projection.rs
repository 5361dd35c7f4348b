//! Projections in tests: given events, what does the read model hold?

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

/// Nothing here takes long; a handler that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Given events of some streams, what does a read model hold?
///
/// The events go through their codec and a [`MemoryStore`], and the projection is run by a
/// [`ProjectionManager`], as in earnest. A handler that fails is not tried again.
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
    /// A scenario in which nothing has happened yet.
    pub fn new(projection: P) -> Self {
        Self { projection, store: MemoryStore::new(), upcasters: Upcasters::none() }
    }

    /// Reads old events through these upcasters.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.upcasters = upcasters;
        self
    }

    /// These events happened, one after the other, after what was given before.
    ///
    /// # Panics
    /// The stream id is invalid, or an event has no form in its codec.
    #[track_caller]
    pub fn given<E: DomainEvent>(self, stream: &str, events: impl IntoIterator<Item = E>) -> Self {
        self.given_stored(stream, encoded(stream, events))
    }

    /// These events happened at this time, which is not before that of what was given before.
    ///
    /// # Panics
    /// As [`ProjectionScenario::given`]; or the time goes back.
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

    /// These events happened, as they are stored: with metadata, or in the form that older code
    /// wrote.
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
    /// #         let day = event.recorded_at().to_string()[..10].to_owned();
    /// #         Ok(view.update(day, |sum: &mut i64| *sum += amount)?)
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

    /// The read model holds these entries and no others.
    ///
    /// # Panics
    /// It does not: the message shows the difference. Or a handler failed, or a key is too long.
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
        panic!("the read model holds other entries (- expected, + found)\n{difference}");
    }

    /// The handler fails, and what it says contains this text.
    ///
    /// # Panics
    /// It does not fail, or says something else.
    #[track_caller]
    pub fn then_error(self, text: &str) {
        match self.run() {
            Ok(()) => panic!("every event was handled, but {text:?} was expected"),
            Err(ProjectionError::Failed { failure, .. }) => {
                let said = failure.cause.to_string();
                assert!(
                    said.contains(text),
                    "the handler said {said:?}, but {text:?} was expected"
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

/// The events as they are appended.
#[track_caller]
fn encoded<E: DomainEvent>(stream: &str, events: impl IntoIterator<Item = E>) -> Vec<NewEvent> {
    let encoded: crate::Result<Vec<_>> = events.into_iter().map(|event| event.encode()).collect();
    match encoded {
        Ok(encoded) => encoded,
        Err(error) => panic!("{stream}: the event cannot be appended: {error:?}"),
    }
}
