//! [`AggregateRoot`]: an aggregate with its version in the store and its uncommitted events.

use std::fmt;

use super::request::encoded;
use super::{Aggregate, DecideError};
use crate::error::{Error, Result};
use crate::event_store::{Append, Appended};
use crate::model::{
    EventId, EventRef, ExpectedVersion, NewEvent, Position, StreamId, Timestamp, Version,
};

/// The last stored event that a state includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastStored {
    pub(super) version: Version,
    pub(super) id: EventId,
    pub(super) position: Position,
}

impl From<EventRef<'_>> for LastStored {
    fn from(event: EventRef<'_>) -> Self {
        Self { version: event.version(), id: event.id(), position: event.position() }
    }
}

/// The origin of a state: its last stored event, and the snapshots of its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Provenance {
    pub(super) last: Option<LastStored>,
    /// The version of the newest known snapshot of this history, and when it was taken.
    pub(super) snapshot: Option<(Version, Timestamp)>,
    /// The highest version of a snapshot that was found but not used.
    pub(super) ignored: Option<Version>,
    /// The redactions of the store before anything was read.
    pub(super) redactions: u64,
}

/// An aggregate as it was loaded, with the uncommitted events that were raised since.
///
/// [`Repository::execute`](crate::Repository::execute) does these steps in one call:
///
/// ```
/// use annals::prelude::*;
/// use annals::{Repository, Version};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct MoneyDeposited { amount: u64 }
/// # annals::domain_events! { MoneyDeposited => "MoneyDeposited" }
/// # struct Deposit { amount: u64 }
/// # #[derive(Default)]
/// # struct Account { balance: u64 }
/// # impl annals::Aggregate for Account {
/// #     const CATEGORY: &'static str = "account";
/// #     type Event = MoneyDeposited;
/// #     type Command = Deposit;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(&mut self, event: MoneyDeposited) {
/// #         self.balance += event.amount;
/// #     }
/// #     fn handle(&self, command: &Deposit) -> Result<Vec<MoneyDeposited>, Self::Error> {
/// #         Ok(vec![MoneyDeposited { amount: command.amount }])
/// #     }
/// # }
///
/// let store = MemoryStore::new();
/// let accounts = Repository::<Account>::new(&store);
/// let mut account = accounts.load_or_new("124")?;
/// account.raise(MoneyDeposited { amount: 600 })?;
/// account.decide(&Deposit { amount: 400 })?;
/// assert_eq!((account.state().balance, account.uncommitted().len()), (1000, 2));
/// assert_eq!(account.version(), None, "nothing is stored yet");
///
/// accounts.save(&mut account)?;
/// assert_eq!((account.version(), account.uncommitted().len()), (Version::new(2), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AggregateRoot<A: Aggregate> {
    pub(super) stream: StreamId,
    /// Includes the uncommitted events.
    pub(super) state: A,
    /// Excludes the uncommitted events.
    pub(super) provenance: Provenance,
    pub(super) skipped: Vec<Error>,
    uncommitted: Vec<A::Event>,
    /// The uncommitted events as they will be appended. They are encoded once and keep their ids,
    /// so that saving again is a retry.
    encoded: Vec<NewEvent>,
}

impl<A: Aggregate> AggregateRoot<A> {
    /// A new aggregate, without events.
    pub(super) fn new(stream: StreamId) -> Self {
        Self::at(stream, A::default(), Provenance::default())
    }

    pub(super) fn at(stream: StreamId, state: A, provenance: Provenance) -> Self {
        Self {
            stream,
            state,
            provenance,
            skipped: Vec::new(),
            uncommitted: Vec::new(),
            encoded: Vec::new(),
        }
    }

    /// Its state, including the uncommitted events.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Turns this into its state, including the uncommitted events.
    pub fn into_state(self) -> A {
        self.state
    }

    /// Its stream.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The version of its last *stored* event, which the next save expects; `None` if nothing is
    /// stored. Raising events does not change it.
    pub fn version(&self) -> Option<Version> {
        self.provenance.last.map(|last| last.version)
    }

    /// The position of its last stored event; `None` if nothing is stored.
    pub fn position(&self) -> Option<Position> {
        self.provenance.last.map(|last| last.position)
    }

    /// The events that were raised but are not stored yet, in order.
    pub fn uncommitted(&self) -> &[A::Event] {
        &self.uncommitted
    }

    /// An [`Error::Unreadable`] for each event of its stream that was skipped while loading. Always
    /// empty unless the repository is set to [skip](crate::OnUnreadable::Skip) such events.
    pub fn skipped(&self) -> &[Error] {
        &self.skipped
    }

    /// Applies an event to the state, and keeps it for the next save.
    ///
    /// The event is encoded immediately and decoded again, and the decoded event is applied.
    /// Therefore the state is the same as after loading, and an event that cannot be decoded is
    /// never stored.
    ///
    /// # Errors
    /// [`Error::Payload`]: the codec cannot encode the event, or cannot decode the result. The
    /// aggregate is unchanged.
    pub fn raise(&mut self, event: A::Event) -> Result<()> {
        self.raise_with(event, |event| event)
    }

    /// Like [`AggregateRoot::raise`], but `with` may add metadata or tags to the event before it is
    /// stored.
    ///
    /// # Errors
    /// Those of [`AggregateRoot::raise`].
    pub fn raise_with(
        &mut self,
        event: A::Event,
        with: impl FnMut(NewEvent) -> NewEvent,
    ) -> Result<()> {
        self.raise_all(vec![event], with)
    }

    /// Decides a command in the current state, and raises all resulting events or none.
    ///
    /// # Errors
    /// [`DecideError::Rejected`] with the error of [`Aggregate::handle`], or the error of
    /// [`AggregateRoot::raise`]. The aggregate is unchanged.
    pub fn decide(&mut self, command: &A::Command) -> Result<(), DecideError<A::Error>> {
        self.decide_with(command, &mut |event| event)
    }

    /// Like [`AggregateRoot::decide`], but `with` may change each event before it is stored.
    pub(super) fn decide_with(
        &mut self,
        command: &A::Command,
        with: &mut dyn FnMut(NewEvent) -> NewEvent,
    ) -> Result<(), DecideError<A::Error>> {
        let events = self.state.handle(command).map_err(DecideError::Rejected)?;
        Ok(self.raise_all(events, with)?)
    }

    /// Encodes all events before it applies any, so that a failure leaves the aggregate unchanged.
    fn raise_all(
        &mut self,
        events: Vec<A::Event>,
        mut with: impl FnMut(NewEvent) -> NewEvent,
    ) -> Result<()> {
        let raised = events.iter().map(|event| encoded(event, &mut with));
        let (encoded, read) = raised.collect::<Result<(Vec<_>, Vec<_>)>>()?;
        for event in read {
            self.state.apply(event);
        }
        self.uncommitted.extend(events);
        self.encoded.extend(encoded);
        Ok(())
    }

    /// The append of the uncommitted events, expecting the version that was loaded.
    pub(super) fn append(&self) -> Append {
        let expected = ExpectedVersion::from(self.version());
        Append::new().to(&self.stream, expected, self.encoded.iter().cloned())
    }

    /// The events that the next save appends.
    pub(super) fn encoded(&self) -> &[NewEvent] {
        &self.encoded
    }

    /// Records that the uncommitted events are stored, and returns them.
    pub(super) fn acknowledge(&mut self, appended: &Appended) -> Vec<A::Event> {
        // They precede the events of other streams in the append.
        let before = self.encoded.len().saturating_sub(1);
        let position = appended.positions().nth(before);
        if let (Some(last), Some(position)) = (self.encoded.last(), position) {
            let (version, id) = (appended.last_version(), last.id());
            self.provenance.last = Some(LastStored { version, id, position });
        }
        self.encoded.clear();
        std::mem::take(&mut self.uncommitted)
    }
}

impl<A: Aggregate> fmt::Debug for AggregateRoot<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AggregateRoot")
            .field("stream", &self.stream)
            .field("version", &self.version())
            .field("uncommitted", &self.uncommitted.len())
            .finish_non_exhaustive()
    }
}
