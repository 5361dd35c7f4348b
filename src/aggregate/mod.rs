//! Aggregates: objects whose state is what happened to them, and which decide what happens next.

mod policy;
mod root;
mod snapshots;
mod cache;
mod error;
mod executed;
mod turns;
mod repository;
mod load;
mod check;

pub use check::{CheckedSnapshot, SnapshotReport};
pub use error::ExecuteError;
pub use executed::Executed;
pub use policy::{SnapshotContext, SnapshotPolicy};
pub use repository::Repository;
pub use root::AggregateRoot;
pub use snapshots::{FailedSnapshot, IgnoredSnapshot, SnapshotFault, SnapshotStats};

use crate::codec::DomainEvent;

/// An object whose state is what happened to it: it takes events, and decides by its state which a
/// command leads to.
///
/// Both methods are pure: no clock, no I/O, no chance. What a decision needs besides the state,
/// such as the time or a rate, comes in the command. So a state can be built again at any time, and
/// a decision can be tested without a store: see [`Scenario`](crate::testing::Scenario).
/// [`Repository`](crate::Repository) does the rest.
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
    /// What it is one of: the events of the one with the id `123` are the stream `{CATEGORY}-123`.
    ///
    /// It holds no `-`, where a category would end, and does not begin with `$`: the compiler
    /// refuses that where a [`Repository`](crate::Repository) is made.
    const CATEGORY: &'static str;
    /// Under what its snapshots are kept. Two aggregates that read the same streams need two kinds.
    const SNAPSHOT_KIND: &'static str = Self::CATEGORY;
    /// The shape and meaning of the state. **Raise it with every change of the fields, of
    /// [`Aggregate::apply`], or of what upcasters make of old events**: snapshots of another
    /// version are ignored, and the history is read instead.
    const SNAPSHOT_VERSION: u32 = 1;
    /// What happens to it.
    type Event: DomainEvent;
    /// What it can be asked to do.
    type Command;
    /// Why it refuses.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes in what happened. It cannot fail, for it has happened; whether it may is decided in
    /// [`Aggregate::handle`].
    fn apply(&mut self, event: Self::Event);

    /// Decides: what happens by this command, in this state. Nothing, where the list is empty.
    ///
    /// # Errors
    /// The refusal, in the words of the domain.
    fn handle(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
}

/// Refuses, while compiling, a category that no stream can be of, and a kind under which no
/// snapshot can be kept.
#[expect(clippy::indexing_slicing, reason = "it runs in the compiler")]
const fn check_names(category: &str, kind: &str) {
    let (category, kind) = (category.as_bytes(), kind.as_bytes());
    assert!(!category.is_empty() && category.len() < 255, "a CATEGORY has 1 to 254 bytes");
    assert!(category[0] != b'$', "a CATEGORY that begins with '$' is reserved");
    assert!(!kind.is_empty() && kind.len() <= 255, "a SNAPSHOT_KIND has 1 to 255 bytes");
    let mut at = 0;
    while at < category.len() {
        assert!(category[at] != b'-', "a CATEGORY ends at the first '-', so it holds none");
        assert!(category[at] >= b' ', "a CATEGORY holds no control character");
        at += 1;
    }
    at = 0;
    while at < kind.len() {
        assert!(kind[at] >= b' ', "a SNAPSHOT_KIND holds no control character");
        at += 1;
    }
}
