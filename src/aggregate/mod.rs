//! Aggregates: objects that rebuild their state from events, and decide which events a command
//! leads to.

mod policy;
mod root;
mod snapshots;
mod cache;
mod error;
mod executed;
mod turns;
mod request;
mod decision;
mod repository;
mod load;
mod execution;
mod command;
#[cfg(feature = "async")]
mod asynchronous;
mod check;

#[cfg(feature = "async")]
pub use asynchronous::AsyncRepository;
pub use check::{CheckedSnapshot, SnapshotReport};
pub use command::CommandBuilder;
pub use decision::Decision;
pub use error::{DecideError, ExecuteError};
pub use executed::Executed;
pub use policy::{SnapshotContext, SnapshotPolicy};
pub use repository::Repository;
pub(crate) use request::{Answer, RETRIES, RequestOptions, Work, contended, encoded, is_final};
pub use root::AggregateRoot;
pub use snapshots::{FailedSnapshot, IgnoredSnapshot, SnapshotFault, SnapshotStats};
pub(crate) use turns::Turn;

use crate::codec::DomainEvent;

/// An object that rebuilds its state from its events, and decides which new events a command leads
/// to.
///
/// Both methods must be pure: no clock, no I/O, no randomness. The command carries everything else
/// that a decision needs, such as the time or a rate. Therefore the state can be rebuilt at any
/// time, and a decision can be tested without a store: see [`Scenario`](crate::testing::Scenario).
/// [`Repository`](crate::Repository) loads and stores aggregates.
///
/// ```
/// use annals::prelude::*;
/// use annals::{Aggregate, Repository, Version};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum AccountEvent {
///     MoneyDeposited { amount: u64 },
///     MoneyWithdrawn { amount: u64 },
/// }
/// annals::domain_events! { AccountEvent {
///     MoneyDeposited => "MoneyDeposited",
///     MoneyWithdrawn => "MoneyWithdrawn",
/// } }
///
/// enum Command {
///     Deposit { amount: u64 },
///     Withdraw { amount: u64 },
/// }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the balance is {balance}, but {asked} was asked for")]
/// struct InsufficientFunds { balance: u64, asked: u64 }
///
/// #[derive(Default)]
/// struct Account { balance: u64 }
///
/// impl Aggregate for Account {
///     const CATEGORY: &'static str = "account";
///     type Event = AccountEvent;
///     type Command = Command;
///     type Error = InsufficientFunds;
///
///     fn apply(&mut self, event: AccountEvent) {
///         match event {
///             AccountEvent::MoneyDeposited { amount } => self.balance += amount,
///             AccountEvent::MoneyWithdrawn { amount } => self.balance -= amount,
///         }
///     }
///     fn handle(&self, command: &Command) -> Result<Vec<AccountEvent>, InsufficientFunds> {
///         match *command {
///             Command::Deposit { amount } => Ok(vec![AccountEvent::MoneyDeposited { amount }]),
///             Command::Withdraw { amount } if amount > self.balance => {
///                 Err(InsufficientFunds { balance: self.balance, asked: amount })
///             }
///             Command::Withdraw { amount } => Ok(vec![AccountEvent::MoneyWithdrawn { amount }]),
///         }
///     }
/// }
///
/// let store = MemoryStore::new();
/// let accounts = Repository::<Account>::new(&store);
/// accounts.execute("123", &Command::Deposit { amount: 1000 })?;
/// let done = accounts.execute("123", &Command::Withdraw { amount: 200 })?;
/// assert_eq!((done.state().balance, done.version()), (800, Version::new(2)));
///
/// let refused = accounts.execute("123", &Command::Withdraw { amount: 900 }).unwrap_err();
/// assert_eq!(refused.to_string(), "the balance is 800, but 900 was asked for");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Aggregate: Default + Send + Sync + 'static {
    /// The category of its streams: the aggregate with the id `123` has the stream
    /// `{CATEGORY}-123`.
    ///
    /// It must not contain `-`, which ends a category, and must not begin with `$`: creating a
    /// [`Repository`](crate::Repository) for such an aggregate does not compile.
    const CATEGORY: &'static str;
    /// The kind under which its snapshots are stored. Two aggregates that read the same streams
    /// need different kinds.
    const SNAPSHOT_KIND: &'static str = Self::CATEGORY;
    /// The version of the state's shape and meaning. **Raise it with every change of the fields, of
    /// [`Aggregate::apply`], or of the events that upcasters yield**: snapshots of another version
    /// are ignored, and the history is read instead.
    const SNAPSHOT_VERSION: u32 = 1;
    /// Its events.
    type Event: DomainEvent;
    /// Its commands.
    type Command;
    /// Why it rejects a command.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Applies an event to the state. It cannot fail, because the event has already happened:
    /// [`Aggregate::handle`] decides whether it may.
    fn apply(&mut self, event: Self::Event);

    /// Decides which events a command leads to in the current state; an empty list if it changes
    /// nothing.
    ///
    /// # Errors
    /// The reason why the aggregate rejects the command, as an error of the domain.
    fn handle(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
}

/// Rejects at compile time a category that no stream can have, and a kind under which no snapshot
/// can be stored.
#[expect(clippy::indexing_slicing, reason = "it runs in the compiler")]
const fn check_names(category: &str, kind: &str) {
    let (category, kind) = (category.as_bytes(), kind.as_bytes());
    assert!(!category.is_empty() && category.len() < 255, "a CATEGORY must have 1 to 254 bytes");
    assert!(category[0] != b'$', "a CATEGORY that begins with '$' is reserved");
    assert!(!kind.is_empty() && kind.len() <= 255, "a SNAPSHOT_KIND must have 1 to 255 bytes");
    let mut at = 0;
    while at < category.len() {
        assert!(category[at] != b'-', "a CATEGORY must not contain '-', which ends it");
        assert!(category[at] >= b' ', "a CATEGORY must not contain a control character");
        at += 1;
    }
    at = 0;
    while at < kind.len() {
        assert!(kind[at] >= b' ', "a SNAPSHOT_KIND must not contain a control character");
        at += 1;
    }
}
