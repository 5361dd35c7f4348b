//! Projections: read models that follow the log, and reactors.

mod key;
mod key_parts;
mod definition;
mod builds;
mod remove;
mod stage;
mod writer;
mod unhandled;
mod discarded;
mod view;
#[cfg(feature = "async")]
mod async_view;
mod handler;
mod batch;
mod status;
mod supervisor;
mod shared;
mod worker;
mod requests;
mod handle;
mod progress;
#[cfg(feature = "async")]
mod async_handler;
mod manager;
mod health;
#[cfg(feature = "async")]
mod async_register;
#[cfg(feature = "async")]
mod async_handle;
#[cfg(feature = "async")]
mod async_manager;

use std::fmt;
use std::time::Duration;

#[cfg(feature = "async")]
pub use async_handle::AsyncProjectionHandle;
#[cfg(feature = "async")]
pub use async_handler::AsyncProjection;
#[cfg(all(feature = "async", feature = "testing"))]
pub(crate) use async_handler::driven;
#[cfg(feature = "async")]
pub use async_manager::AsyncProjectionManager;
pub use handle::ProjectionHandle;
pub use key::ViewKey;
pub use key_parts::{ViewKeyPart, ViewKeyParts};
pub use manager::ProjectionManager;
pub use status::{
    FailureOutcome, ProjectionError, ProjectionFailure, ProjectionNotice, ProjectionState,
    ProjectionStatus, RebuildStatus,
};
pub use unhandled::UnhandledEvent;
pub use view::{ReadView, View, ViewEntries, ViewStatus, ViewStoreExt};
pub use writer::ViewWriter;

use crate::codec::{DomainEvent, TypedEvent};
use crate::event_store::Query;
use crate::model::Position;
use crate::subscription::PartitionBy;
use crate::upcast::OnUnreadable;

/// The error of a handler: any error type.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// Where a projection keeps its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Target {
    /// In the store, through its [`ViewWriter`]. Every event counts exactly once, even after a
    /// crash (G12).
    #[default]
    View,
    /// Outside the store: in another database or in memory. Delivery is **at least once**: after a
    /// crash the events since the last checkpoint are delivered again. To recognise a repeat, store
    /// the position or the id of the event there as well. If an upcaster splits an event, all its
    /// parts have the same position and id. A rebuild or a raised version clears what the
    /// [`ViewWriter`] wrote, calls [`Projection::reset`], and begins again.
    External,
    /// Side effects: a reactor that sends mail or issues commands (a process manager, or saga).
    /// Each event is delivered at least once, and effects are never repeated on purpose:
    /// [`ProjectionHandle::rebuild`] is refused, and a raised version continues where the previous
    /// one stopped.
    ///
    /// It begins with the first event of the log. To begin later, use
    /// [`ProjectionOptions::start_from`].
    Reactor,
}

/// Where a projection begins if it has never run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum StartFrom {
    /// At the first event.
    #[default]
    Beginning,
    /// After the current head, at first start.
    Now,
    /// After this position.
    After(Position),
}

/// Follows the log, typically to build a read model.
///
/// A projection is registered with a [`ProjectionManager`]. The manager passes it every matching
/// event in order, records its progress, and never silently skips an event that it failed to
/// handle.
///
/// ```
/// use annals::prelude::*;
/// use annals::{HandlerError, Projection, ProjectionManager, TypedEvent, ViewWriter};
/// use std::time::Duration;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum AccountEvent {
///     MoneyDeposited { amount: i64 },
///     MoneyWithdrawn { amount: i64 },
/// }
/// annals::domain_events! { AccountEvent {
///     MoneyDeposited => "MoneyDeposited",
///     MoneyWithdrawn => "MoneyWithdrawn",
/// } }
///
/// struct Balances;
///
/// impl Projection for Balances {
///     type Event = AccountEvent;
///
///     fn name(&self) -> &str {
///         "account_balances"
///     }
///     fn handle(&self, event: &TypedEvent<AccountEvent>, view: &mut ViewWriter) -> Result<(), HandlerError> {
///         let change = match event.event {
///             AccountEvent::MoneyDeposited { amount } => amount,
///             AccountEvent::MoneyWithdrawn { amount } => -amount,
///         };
///         Ok(view.update(event.stream(), |balance: &mut i64| *balance += change)?)
///     }
/// }
///
/// let store = MemoryStore::new();
/// let projections = ProjectionManager::new(&store).register(Balances)?;
/// projections.start()?;
///
/// let deposited = AccountEvent::MoneyDeposited { amount: 1000 }.encode()?;
/// let withdrawn = AccountEvent::MoneyWithdrawn { amount: 200 }.encode()?;
/// let appended = store.append("account-1", ExpectedVersion::NoStream, [deposited, withdrawn])?;
/// projections.wait_for("account_balances", appended.last_position(), Duration::from_secs(60))?;
/// assert_eq!(store.view("account_balances").get("account-1")?, Some(800));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It receives only committed events of the types of its `Event`. So an enum of the few types that
/// it needs is enough.
pub trait Projection: Send + Sync + 'static {
    /// The events that it reads.
    type Event: DomainEvent;

    /// Its name, under which its read model and its checkpoint are stored.
    fn name(&self) -> &str;

    /// The version of its read model. Raise it when `handle`, the events, the query, an upcaster
    /// or the form of the values changes; the read model is then rebuilt.
    ///
    /// The event types with their schema versions, the targets of upcasters, and the query are
    /// recorded with each build. If they changed and the version did not,
    /// [`ProjectionHandle::start`] fails with [`ProjectionError::DefinitionChanged`]. The code of
    /// `handle` and of upcasters is not recorded, so a change there is not detected. A missing
    /// upcaster for a type that is already read may be added without raising the version.
    ///
    /// A read model has one version at a time: if two programs with different versions run
    /// alternately, each of them rebuilds it.
    fn version(&self) -> u32 {
        1
    }

    /// Where it keeps its results.
    fn target(&self) -> Target {
        Target::View
    }

    /// The events that it receives, such as those of a category; all by default. Of these it receives
    /// those that are of its `Event`.
    fn query(&self) -> Query {
        Query::Everything
    }

    /// Handles one event.
    ///
    /// It must not wait for its own projection, nor start, rebuild or retry it: that would
    /// deadlock.
    ///
    /// It may be called again for the same event: after a failure and, with a target outside the
    /// store, after a crash. With [`Target::View`] it should only read and change the view, so that
    /// it can be repeated.
    ///
    /// # Errors
    /// Any error: the event's changes are dropped, and [`ProjectionOptions`] sets how the
    /// projection continues. It never skips the event silently.
    fn handle(
        &self,
        event: &TypedEvent<Self::Event>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError>;

    /// Flushes a target outside the store. Called before the checkpoint advances.
    ///
    /// # Errors
    /// Any error: the checkpoint does not advance, and the events are delivered again.
    fn flush(&self) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Empties the target of a [`Target::External`] projection. Called before the first event of a
    /// build.
    ///
    /// # Errors
    /// Any error: the build does not begin.
    fn reset(&self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// What to do with an event whose handler still fails after all retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OnFailure {
    /// Stop before it, until the projection is started again.
    #[default]
    Stop,
    /// Park it *and all later events of its stream*, and continue with the other streams.
    /// [`ProjectionHandle::retry_parked`] retries them in order, and
    /// [`ProjectionHandle::discard_parked`] discards one that can never be handled.
    Park,
}

/// How a projection runs.
#[derive(Debug, Clone)]
pub struct ProjectionOptions {
    start_from: StartFrom,
    on_failure: OnFailure,
    on_unreadable: OnUnreadable,
    retries: u32,
    backoff_first: Duration,
    backoff_max: Duration,
    batch_events: usize,
    partitions: usize,
    partition_by: PartitionBy,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            start_from: StartFrom::Beginning,
            on_failure: OnFailure::Stop,
            on_unreadable: OnUnreadable::Fail,
            retries: 5,
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            batch_events: 1_000,
            partitions: 1,
            partition_by: PartitionBy::Stream,
        }
    }
}

impl ProjectionOptions {
    /// The defaults: 5 retries, then stop; 1,000 events per batch; one thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where it begins if it has never run before; at the first event by default. The position
    /// is recorded at the first start and applies to every rebuild: earlier events are never
    /// handled.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::StartFrom;
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Placed {}
    /// # annals::domain_events! { Placed => "Placed" }
    /// # struct Count;
    /// # impl Projection for Count {
    /// #     type Event = Placed;
    /// #     fn name(&self) -> &str { "count" }
    /// #     fn handle(&self, _: &TypedEvent<Placed>, view: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         Ok(view.update("orders", |orders: &mut u64| *orders += 1)?)
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// store.append("order-1", ExpectedVersion::NoStream, [Placed {}.encode()?])?;
    /// let from_now = ProjectionOptions::new().start_from(StartFrom::Now);
    /// let projections = ProjectionManager::new(&store).register_with(Count, from_now)?;
    /// projections.start()?;
    /// store.append("order-2", ExpectedVersion::NoStream, [Placed {}.encode()?])?;
    /// projections.wait_for_head(Duration::from_secs(60))?;
    /// assert_eq!(store.view("count").get("orders")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start_from(mut self, start_from: StartFrom) -> Self {
        self.start_from = start_from;
        self
    }

    /// Sets what to do with an event whose handler still fails after all retries;
    /// [`OnFailure::Stop`] by default.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Sets what to do with an event that cannot be read. By default it counts as a failure, but is
    /// not retried. [`OnUnreadable::Skip`] skips it and records it: see
    /// [`ProjectionHandle::skipped`].
    pub fn on_unreadable(mut self, on_unreadable: OnUnreadable) -> Self {
        self.on_unreadable = on_unreadable;
        self
    }

    /// Sets how often an event is retried before it counts as failed; 5 by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the wait before the first retry, 50 ms by default, and the longest wait, 5 s by
    /// default. The wait doubles each time: the 5 retries of the defaults wait 1.55 s in total.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.backoff_first, self.backoff_max) = (first, max);
        self
    }

    /// Sets how many events are handled at most before the checkpoint advances; 1,000 by default. A
    /// batch ends earlier at the end of the log, so a projection that has caught up writes each
    /// event at once. For [`Target::External`], 1 gives the fewest repeats after a crash; 0 counts
    /// as 1.
    pub fn batch_events(mut self, events: usize) -> Self {
        self.batch_events = events.max(1);
        self
    }

    /// Sets how many threads handle the events of a batch, split by stream or as
    /// [`ProjectionOptions::partition_by`] sets; 1 by default, 0 counts as 1. Events of one stream
    /// keep their order.
    ///
    /// More threads help slow handlers, such as one that waits for another database. Handlers that
    /// only change the view are faster on one thread.
    ///
    /// With [`Target::View`] the result is the same as with one thread: if events of different
    /// streams read or change the same keys, the batch is handled again in order, which
    /// [`ProjectionStatus::conflicts`] counts. With another target, events of different streams are
    /// handled in any order, even after one that fails. The view should then hold nothing that
    /// different streams share.
    pub fn partitions(mut self, threads: usize) -> Self {
        self.partitions = threads.max(1);
        self
    }

    /// Sets which events keep their order with several [`ProjectionOptions::partitions`]: by default
    /// those of one stream.
    ///
    /// With [`PartitionBy::Tag`], the events of one stream may be handled in any order, unless they
    /// have the same tag. With [`Target::View`] the result is the same as with one thread all the
    /// same. [`OnFailure::Park`] parks whole streams, so it works only by stream:
    /// [`ProjectionManager::register_with`] refuses the two together, and a prefix that no tag
    /// begins with.
    ///
    /// ```
    /// use annals::PartitionBy;
    /// use annals::prelude::*;
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Enrolled {}
    /// # annals::domain_events! { Enrolled => "Enrolled" }
    /// # struct Enrolments;
    /// # impl Projection for Enrolments {
    /// #     type Event = Enrolled;
    /// #     fn name(&self) -> &str { "enrolments" }
    /// #     fn handle(&self, event: &TypedEvent<Enrolled>, view: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         let course = event.tags().first().cloned().unwrap_or_default();
    /// #         Ok(view.update(&*course, |students: &mut u64| *students += 1)?)
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// store.submit(Append::of([Enrolled {}.encode()?.with_tag("course:c1")]))?;
    /// let by_course = PartitionBy::tag("course:");
    /// let options = ProjectionOptions::new().partitions(4).partition_by(by_course);
    /// let projections = ProjectionManager::new(&store).register_with(Enrolments, options)?;
    /// projections.start()?;
    /// projections.wait_for_head(Duration::from_secs(60))?;
    /// assert_eq!(store.view("enrolments").get("course:c1")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn partition_by(mut self, partition_by: PartitionBy) -> Self {
        self.partition_by = partition_by;
        self
    }

    /// The wait before this retry, counted from 1.
    fn backoff_before(&self, retry: u32) -> Duration {
        let factor = 2_u32.saturating_pow(retry.saturating_sub(1));
        self.backoff_first.saturating_mul(factor).min(self.backoff_max)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::View => "in the store",
            Self::External => "external",
            Self::Reactor => "reactor",
        })
    }
}
