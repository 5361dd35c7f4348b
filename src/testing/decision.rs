//! [`DecisionScenario`]: tests a decision as given, when, then.

use std::error::Error as StdError;
use std::fmt::{self, Debug};

use super::story::{Story, list};
use crate::aggregate::ExecuteError;
use crate::codec::DomainEvent;
use crate::decision::{Boundary, Decided, Decisions, query_of};
use crate::event_store::{Append, EventStore, Query};
use crate::extension::EventStoreExt;
use crate::memory::MemoryStore;
use crate::model::NewEvent;
use crate::upcast::Upcasters;

/// Tests a decision: given past events with their tags, when it is taken, then it leads to these
/// events, or is rejected.
///
/// Models read the given events by their queries, as they do in a store, so a missing tag or a
/// wrong query makes the test fail. All events go through their codec, as in a
/// [`Scenario`](super::Scenario). The events of a decision are given to the next one.
///
/// ```
/// use annals::testing::DecisionScenario;
/// use annals::{DecisionModel, Query};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct NameTaken { name: String }
/// annals::domain_events! {
///     tags |event| vec![format!("name:{}", event.name)];
///     NameTaken => "NameTaken"
/// }
///
/// #[derive(Debug)]
/// struct Name { name: String, is_taken: bool }
///
/// impl DecisionModel for Name {
///     type Event = NameTaken;
///     fn query(&self) -> Query {
///         Query::tag(format!("name:{}", self.name))
///     }
///     fn apply(&mut self, _: NameTaken) {
///         self.is_taken = true;
///     }
/// }
///
/// #[derive(Debug, PartialEq, thiserror::Error)]
/// #[error("the name is taken")]
/// struct Taken;
///
/// fn take(name: &Name) -> Result<Vec<NameTaken>, Taken> {
///     if name.is_taken { Err(Taken) } else { Ok(vec![NameTaken { name: name.name.clone() }]) }
/// }
/// let name = |name: &str| Name { name: name.into(), is_taken: false };
///
/// DecisionScenario::given([NameTaken { name: "ada".into() }])
///     .when(name("ada"), take)
///     .then_error(Taken)
///     .and_when(name("eva"), take)
///     .then([NameTaken { name: "eva".into() }])
///     .then_conflicts_with_itself()
///     .and_when(name("eva"), take)
///     .then_error(Taken);
/// ```
#[must_use = "a scenario tests nothing before its `then`"]
pub struct DecisionScenario {
    store: MemoryStore,
    upcasters: Upcasters,
    story: Story,
}

/// The result of a decision in a [`DecisionScenario`], to be checked.
///
/// Checks can be chained, and [`DecisionOutcome::and_when`] takes the next decision.
pub struct DecisionOutcome<E, R> {
    scenario: DecisionScenario,
    /// The store already contains these events.
    result: Result<Vec<E>, R>,
    query: Query,
    /// Whether an event of the decision matches its query.
    conflicts_with_itself: bool,
}

impl DecisionScenario {
    /// Begins without events.
    pub fn new() -> Self {
        Self { store: MemoryStore::new(), upcasters: Upcasters::none(), story: Story::default() }
    }

    /// Begins with these past events.
    ///
    /// # Panics
    /// An event cannot be appended, or does not survive its codec.
    #[track_caller]
    pub fn given<E: DomainEvent + Debug + PartialEq>(events: impl IntoIterator<Item = E>) -> Self {
        Self::new().and_given(events)
    }

    /// Adds past events, for example of another enum.
    ///
    /// # Panics
    /// Like [`DecisionScenario::given`].
    #[track_caller]
    pub fn and_given<E: DomainEvent + Debug + PartialEq>(
        mut self,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        let events: Vec<E> = events.into_iter().collect();
        self.story.given(&events);
        let encoded = events.iter().map(|event| self.story.read_back(event).0).collect();
        self.store(encoded);
        self
    }

    /// Begins with past events in stored form, as older code wrote them, which are read through
    /// these upcasters.
    ///
    /// # Panics
    /// An event cannot be appended.
    #[track_caller]
    pub fn given_stored(upcasters: &Upcasters, events: impl IntoIterator<Item = NewEvent>) -> Self {
        let mut scenario = Self { upcasters: upcasters.clone(), ..Self::new() };
        let events: Vec<NewEvent> = events.into_iter().collect();
        scenario.story.given_stored(&events);
        scenario.store(events);
        scenario
    }

    #[track_caller]
    fn store(&self, events: Vec<NewEvent>) {
        if !events.is_empty()
            && let Err(error) = self.store.submit(Append::of(events))
        {
            self.story.fail(&format!("a given event cannot be appended: {error}"));
        }
    }

    /// Takes a decision that depends on these models, each in its state before any event.
    ///
    /// # Panics
    /// A query is invalid, a given event cannot be read, or an event of the decision cannot be
    /// appended or does not survive its codec.
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn when<B, E, I, R>(
        mut self,
        models: B,
        decide: impl FnMut(&B) -> Result<I, R>,
    ) -> DecisionOutcome<E, R>
    where
        B: Boundary + Debug,
        E: DomainEvent + Debug + PartialEq,
        I: IntoIterator<Item = E>,
        R: StdError,
    {
        self.story.add("when it is decided over", &format!("{models:#?}"));
        let query = match query_of(&models, &self.upcasters) {
            Ok(query) => query,
            Err(error) => self.story.fail(&format!("the query of a model is invalid: {error}")),
        };
        let before = self.store.head().ok().flatten();
        let decisions = Decisions::new(&self.store).upcasters(self.upcasters.clone());
        let result = match decisions.decide(models).run(decide).map(Decided::into_events) {
            Ok(events) => Ok(events),
            Err(ExecuteError::Rejected(error)) => Err(error),
            Err(error) => self.story.fail(&format!("then the decision failed: {error}")),
        };
        for event in result.iter().flatten() {
            self.story.read_back(event);
        }
        let new = self.store.read_log().query(query.clone()).after(before).first();
        let conflicts_with_itself = new.is_ok_and(|event| event.is_some());
        DecisionOutcome { scenario: self, result, query, conflicts_with_itself }
    }
}

impl<E: Debug + PartialEq, R: StdError> DecisionOutcome<E, R> {
    /// Checks that the decision led to exactly these events, in this order.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = E>) -> Self {
        let expected: Vec<E> = expected.into_iter().collect();
        let story = &self.scenario.story;
        match &self.result {
            Ok(events) if *events == expected => {}
            Ok(events) => {
                story.fail_by("then other events happened", &list(&expected), &list(events))
            }
            Err(refusal) => story.fail_by(
                &format!("then the decision was rejected: {refusal}"),
                &list(&expected),
                &format!("{refusal:#?}"),
            ),
        }
        self
    }

    /// Checks that the decision was accepted and led to no events.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// Checks that the decision was rejected with this error.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "it is written in place")]
    pub fn then_error(self, expected: R) -> Self
    where
        R: PartialEq,
    {
        let (what, actual) = match &self.result {
            Err(refusal) if *refusal == expected => return self,
            Err(refusal) => ("then it was rejected for another reason", format!("{refusal:#?}")),
            Ok(events) => ("then the decision was not rejected", list(events)),
        };
        self.scenario.story.fail_by(what, &format!("{expected:#?}"), &actual)
    }

    /// Checks that the decision was rejected with an error for which `holds` returns true. For
    /// errors that cannot be compared.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then_error_is(self, holds: impl FnOnce(&R) -> bool) -> Self {
        let what = match &self.result {
            Err(refusal) if holds(refusal) => return self,
            Err(refusal) => format!("then it was rejected for another reason\n{refusal:#?}"),
            Ok(events) => format!("then the decision was not rejected\n{}", list(events)),
        };
        self.scenario.story.fail(&what)
    }

    /// Checks that an event of the decision matches the query of one of its models. Then only one
    /// of two callers that take the same decision at the same time succeeds at once, and the other
    /// decides again. Otherwise both would succeed, usually because a tag is missing.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then_conflicts_with_itself(self) -> Self {
        if !self.conflicts_with_itself {
            self.scenario.story.fail(&format!(
                "then no event of the decision is one of {}, so two callers could take it at once: \
                 give an event the tags that the query asks for",
                self.query
            ));
        }
        self
    }

    /// Takes another decision, after the events of this one.
    ///
    /// # Panics
    /// Like [`DecisionScenario::when`].
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn and_when<B, F, I, S>(
        mut self,
        models: B,
        decide: impl FnMut(&B) -> Result<I, S>,
    ) -> DecisionOutcome<F, S>
    where
        B: Boundary + Debug,
        F: DomainEvent + Debug + PartialEq,
        I: IntoIterator<Item = F>,
        S: StdError,
    {
        self.scenario.story.then(&self.result);
        self.scenario.when(models, decide)
    }
}

impl Default for DecisionScenario {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DecisionScenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DecisionScenario").field("story", &self.story).finish_non_exhaustive()
    }
}

impl<E, R> fmt::Debug for DecisionOutcome<E, R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DecisionOutcome")
            .field("scenario", &self.scenario)
            .finish_non_exhaustive()
    }
}
