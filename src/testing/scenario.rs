//! [`Scenario`]: tests an aggregate as given, when, then. It needs no store.

use std::fmt::{self, Debug};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::story::{Story, list};
use crate::aggregate::Aggregate;
use crate::codec::Codec;
use crate::extension::EventStoreExt;
use crate::memory::MemoryStore;
use crate::model::{ExpectedVersion, NewEvent};
use crate::upcast::{Decoder, Upcasters};

/// Tests an aggregate: given past events, when it gets a command, then it emits these events or
/// rejects the command.
///
/// All events go through their codec, both given and emitted ones. The test fails if an event
/// decodes to a different event, or if the decoded event encodes to different bytes (in any order,
/// because of hash maps). So a scenario finds losses that appending an event does not detect, such
/// as `Some(None)` of an `Option<Option<T>>` in JSON. [`Outcome::then_snapshot_restores`] checks
/// the state in the same way.
///
/// A failed test prints the given events, the command, and a line diff of expected and actual
/// result.
///
/// ```
/// use annals::Aggregate;
/// use annals::testing::Scenario;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum AccountEvent {
///     AccountCreated { owner_id: String },
///     AccountBlocked { reason: String },
/// }
/// use AccountEvent::{AccountBlocked, AccountCreated};
/// annals::domain_events! { AccountEvent {
///     AccountCreated => "AccountCreated",
///     AccountBlocked => "AccountBlocked",
/// } }
///
/// #[derive(Debug)]
/// struct Block { reason: String }
///
/// #[derive(Debug, PartialEq, thiserror::Error)]
/// #[error("the account is blocked already")]
/// struct AlreadyBlocked;
///
/// #[derive(Default)]
/// struct Account { is_blocked: bool }
///
/// impl Aggregate for Account {
///     const CATEGORY: &'static str = "account";
///     type Event = AccountEvent;
///     type Command = Block;
///     type Error = AlreadyBlocked;
///
///     fn apply(&mut self, event: AccountEvent) {
///         self.is_blocked |= matches!(event, AccountBlocked { .. });
///     }
///     fn handle(&self, Block { reason }: &Block) -> Result<Vec<AccountEvent>, AlreadyBlocked> {
///         if self.is_blocked { Err(AlreadyBlocked) } else { Ok(vec![AccountBlocked { reason: reason.clone() }]) }
///     }
/// }
///
/// Scenario::<Account>::given([AccountCreated { owner_id: "ada".into() }])
///     .when(Block { reason: "lost".into() })
///     .then([AccountBlocked { reason: "lost".into() }])
///     .then_state(|account| account.is_blocked)
///     .and_when(Block { reason: "again".into() })
///     .then_error(AlreadyBlocked);
/// ```
#[must_use = "a scenario tests nothing before its `then`"]
pub struct Scenario<A: Aggregate> {
    state: A,
    /// The given events and commands.
    story: Story,
}

/// The result of a command in a [`Scenario`], to be checked.
///
/// Checks can be chained, and [`Outcome::and_when`] gives the next command.
pub struct Outcome<A: Aggregate> {
    scenario: Scenario<A>,
    /// The state already contains these events.
    result: Result<Vec<A::Event>, A::Error>,
}

impl<A> Scenario<A>
where
    A: Aggregate<Event: Debug + PartialEq, Command: Debug>,
{
    /// Creates an aggregate from these past events; `[]` for a new one.
    ///
    /// # Panics
    /// An event does not survive its codec.
    #[track_caller]
    pub fn given(events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut scenario = Self { state: A::default(), story: Story::default() };
        let given: Vec<A::Event> = events.into_iter().collect();
        scenario.story.given(&given);
        scenario.take_in(&given);
        scenario
    }

    /// Creates an aggregate from past events in stored form, as older code wrote them, which are
    /// read through these upcasters.
    ///
    /// This tests upcasters as a repository uses them. To add current events, encode them with
    /// [`DomainEvent::encode`](crate::DomainEvent::encode).
    ///
    /// ```
    /// # use annals::Aggregate;
    /// use annals::testing::Scenario;
    /// use annals::{DomainEvent, NewEvent, Upcasters};
    /// use serde_json::{Value, json};
    /// # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// # struct Deposited { cents: i64 }
    /// # annals::domain_events! { Deposited => "Deposited" version 2 }
    /// # #[derive(Debug, Default)]
    /// # struct Account { cents: i64 }
    /// # impl Aggregate for Account {
    /// #     const CATEGORY: &'static str = "account";
    /// #     type Event = Deposited;
    /// #     type Command = i64;
    /// #     type Error = std::convert::Infallible;
    /// #     fn apply(&mut self, event: Deposited) { self.cents += event.cents; }
    /// #     fn handle(&self, cents: &i64) -> Result<Vec<Deposited>, Self::Error> {
    /// #         Ok(vec![Deposited { cents: *cents }])
    /// #     }
    /// # }
    /// // Version 1 counted whole euros.
    /// let upcasters = Upcasters::builder()
    ///     .reads::<Deposited>()
    ///     .json("Deposited", 1, |old: Value| {
    ///         let euros = old["euros"].as_i64().ok_or("no euros")?;
    ///         Ok(json!({ "cents": euros * 100 }))
    ///     })
    ///     .build()?;
    /// let old = NewEvent::json("Deposited", &json!({ "euros": 7 }))?;
    /// Scenario::<Account>::given_stored(&upcasters, [old, Deposited { cents: 5 }.encode()?])
    ///     .when(1)
    ///     .then([Deposited { cents: 1 }])
    ///     .then_state(|account| account.cents == 706);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Panics
    /// The upcasters do not lead to the aggregate's events; an event cannot be appended or read, or
    /// does not survive its codec.
    #[track_caller]
    pub fn given_stored(upcasters: &Upcasters, events: impl IntoIterator<Item = NewEvent>) -> Self {
        let mut scenario = Self { state: A::default(), story: Story::default() };
        let stored: Vec<NewEvent> = events.into_iter().collect();
        scenario.story.given_stored(&stored);
        match read_stored::<A>(upcasters, stored) {
            Ok(events) => {
                scenario.story.add("read as", &list(&events));
                scenario.take_in(&events);
            }
            Err(error) => scenario.story.fail(&format!("a stored event cannot be read: {error}")),
        }
        scenario
    }

    /// Gives the aggregate a command.
    ///
    /// # Panics
    /// An emitted event does not survive its codec.
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn when(mut self, command: A::Command) -> Outcome<A> {
        self.story.add("when", &format!("{command:#?}"));
        let result = self.state.handle(&command);
        if let Ok(events) = &result {
            self.take_in(events);
        }
        Outcome { scenario: self, result }
    }

    /// Applies the events as their codec decodes them.
    #[track_caller]
    fn take_in(&mut self, events: &[A::Event]) {
        for event in events {
            self.state.apply(self.story.read_back(event).1);
        }
    }
}

impl<A> Outcome<A>
where
    A: Aggregate<Event: Debug + PartialEq, Command: Debug>,
{
    /// Checks that exactly these events were emitted, in this order.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> Self {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        match &self.result {
            Ok(events) if *events == expected => {}
            Ok(events) => self.scenario.story.fail_by(
                "then other events happened",
                &list(&expected),
                &list(events),
            ),
            Err(refusal) => self.scenario.story.fail_by(
                &format!("then the command was rejected: {refusal}"),
                &list(&expected),
                &format!("{refusal:#?}"),
            ),
        }
        self
    }

    /// Checks that the command was accepted and emitted no events.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// Checks that the command was rejected with this error.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "it is written in place")]
    pub fn then_error(self, expected: A::Error) -> Self
    where
        A::Error: PartialEq,
    {
        let (what, actual) = match &self.result {
            Err(refusal) if *refusal == expected => return self,
            Err(refusal) => ("then it was rejected for another reason", format!("{refusal:#?}")),
            Ok(events) => ("then the command was not rejected", list(events)),
        };
        self.scenario.story.fail_by(what, &format!("{expected:#?}"), &actual)
    }

    /// Checks that the command was rejected with an error for which `holds` returns true. For
    /// errors that cannot be compared.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then_error_is(self, holds: impl FnOnce(&A::Error) -> bool) -> Self {
        match &self.result {
            Err(refusal) if holds(refusal) => self,
            Err(refusal) => self
                .scenario
                .story
                .fail(&format!("then it was rejected for another reason\n{refusal:#?}")),
            Ok(events) => self
                .scenario
                .story
                .fail(&format!("then the command was not rejected\n{}", list(events))),
        }
    }

    /// Checks that `holds` returns true for the state after the command.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    pub fn then_state(self, holds: impl FnOnce(&A) -> bool) -> Self {
        if !holds(&self.scenario.state) {
            self.scenario.story.fail("then the state is not as expected");
        }
        self
    }

    /// Checks that the state after the command equals this one.
    ///
    /// # Panics
    /// The check fails.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "it is written in place")]
    pub fn then_state_is(self, expected: A) -> Self
    where
        A: Debug + PartialEq,
    {
        let state = &self.scenario.state;
        if *state != expected {
            let (expected, actual) = (format!("{expected:#?}"), format!("{state:#?}"));
            self.scenario.story.fail_by("then the state is different", &expected, &actual);
        }
        self
    }

    /// Checks that a snapshot of the state after the command, in this codec, restores an equal
    /// state. [`Repository::snapshots`](crate::Repository::snapshots) uses [`Json`](crate::Json).
    ///
    /// ```
    /// # use annals::Aggregate;
    /// use annals::Json;
    /// use annals::testing::Scenario;
    /// # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// # struct Counted {}
    /// # annals::domain_events! { Counted => "Counted" }
    /// #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Counter { count: u64 }
    /// # impl Aggregate for Counter {
    /// #     const CATEGORY: &'static str = "counter";
    /// #     type Event = Counted;
    /// #     type Command = ();
    /// #     type Error = std::convert::Infallible;
    /// #     fn apply(&mut self, _: Counted) { self.count += 1; }
    /// #     fn handle(&self, (): &()) -> Result<Vec<Counted>, Self::Error> { Ok(vec![Counted {}]) }
    /// # }
    /// Scenario::<Counter>::given([]).when(()).then_snapshot_restores::<Json>();
    /// ```
    ///
    /// # Panics
    /// It restores a different state, or the codec cannot encode the state.
    #[track_caller]
    pub fn then_snapshot_restores<C: Codec>(self) -> Self
    where
        A: Serialize + DeserializeOwned + Debug + PartialEq,
    {
        let state = &self.scenario.state;
        match C::encode(state).and_then(|bytes| C::decode::<A>(&bytes)) {
            Ok(read) if read == *state => {}
            Ok(read) => self.scenario.story.fail_by(
                "then a snapshot restores a different state: its codec loses or changes data",
                &format!("{state:#?}"),
                &format!("{read:#?}"),
            ),
            Err(error) => self.scenario.story.fail(&format!(
                "then the state does not survive the codec of its snapshots: {error}\n{state:#?}"
            )),
        }
        self
    }

    /// Gives the aggregate another command, in its current state.
    ///
    /// # Panics
    /// Like [`Scenario::when`].
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn and_when(mut self, command: A::Command) -> Outcome<A> {
        self.scenario.story.then(&self.result);
        self.scenario.when(command)
    }
}

impl<A: Aggregate> fmt::Debug for Scenario<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Scenario").field("story", &self.story).finish_non_exhaustive()
    }
}

impl<A: Aggregate> fmt::Debug for Outcome<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Outcome").field("scenario", &self.scenario).finish_non_exhaustive()
    }
}

/// Stores events and reads them through upcasters, as a repository does.
fn read_stored<A: Aggregate>(
    upcasters: &Upcasters,
    events: Vec<NewEvent>,
) -> Result<Vec<A::Event>, Box<dyn std::error::Error>> {
    let decoder = Decoder::<A::Event>::with(upcasters.clone());
    decoder.check()?;
    let store = MemoryStore::new();
    let stream = format!("{}-1", A::CATEGORY);
    if !events.is_empty() {
        store.append(stream.as_str(), ExpectedVersion::NoStream, events)?;
    }
    let read = decoder.iter(store.read_stream(stream.as_str()));
    Ok(read.map(|event| event.map(|event| event.event)).collect::<Result<_, _>>()?)
}
