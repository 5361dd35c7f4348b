//! [`SnapshotPolicy`]: when a snapshot is taken, and how many are kept.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::event_store::EventStore;
use crate::model::{Timestamp, Version};
use crate::options::{Clock, now};

/// When snapshots are taken, and how many are kept of each aggregate. The repository evaluates it
/// after each save.
///
/// ```
/// use std::time::Duration;
/// use annals::SnapshotPolicy;
/// # #[derive(Default)]
/// # struct Account { is_closed: bool }
/// let often: SnapshotPolicy<Account> = SnapshotPolicy::every(100).keep(2);
/// let hourly: SnapshotPolicy<Account> = SnapshotPolicy::interval(Duration::from_secs(3600));
/// let at_the_end = SnapshotPolicy::when(|account: &Account, _| account.is_closed);
/// ```
pub struct SnapshotPolicy<A> {
    rule: Rule<A>,
    keep: NonZeroUsize,
    /// `None` for the clock of the event store.
    clock: Option<Clock>,
}

enum Rule<A> {
    Every(u64),
    Interval(Duration),
    When(Arc<Wanted<A>>),
}

type Wanted<A> = dyn Fn(&A, &SnapshotContext) -> bool + Send + Sync;

/// The facts that a policy may use in addition to the state.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotContext {
    /// The version of the state.
    pub version: Version,
    /// How many events happened since the last snapshot; all events if there is none.
    pub events_since: u64,
    /// When the last snapshot was taken, if there is one.
    pub last_taken_at: Option<Timestamp>,
    /// The current time.
    pub now: Timestamp,
}

impl<A> SnapshotPolicy<A> {
    /// Takes a snapshot once at least this many events happened since the last one; 0 counts as 1.
    ///
    /// A save of several events cannot miss the threshold. If a snapshot could not be written, the
    /// next save tries again.
    pub fn every(events: u64) -> Self {
        Self::by(Rule::Every(events.max(1)))
    }

    /// Takes a snapshot after every save: for streams of few events that are expensive to apply.
    pub fn always() -> Self {
        Self::every(1)
    }

    /// Takes a snapshot after the first save, and then after any save at least this long after the
    /// last snapshot.
    pub fn interval(interval: Duration) -> Self {
        Self::by(Rule::Interval(interval))
    }

    /// Takes a snapshot after each save for which the closure returns `true`.
    pub fn when(wanted: impl Fn(&A, &SnapshotContext) -> bool + Send + Sync + 'static) -> Self {
        Self::by(Rule::When(Arc::new(wanted)))
    }

    fn by(rule: Rule<A>) -> Self {
        Self { rule, keep: NonZeroUsize::MIN, clock: None }
    }

    /// Keeps the newest snapshots of each aggregate, up to this many; 1 by default, 0 counts as 1.
    /// Additional ones make loading as of an earlier version faster.
    pub fn keep(mut self, snapshots: usize) -> Self {
        self.keep = NonZeroUsize::new(snapshots).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Takes the time from another clock than the [event store's](EventStore::now): for tests, with
    /// [`FixedClock`](crate::testing::FixedClock) for example.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    pub(super) fn kept(&self) -> NonZeroUsize {
        self.keep
    }

    pub(super) fn now(&self, events: &dyn EventStore) -> Timestamp {
        self.clock.as_ref().map_or_else(|| events.now(), now)
    }

    pub(super) fn is_due(&self, state: &A, context: &SnapshotContext) -> bool {
        match &self.rule {
            Rule::Every(events) => context.events_since >= *events,
            Rule::Interval(interval) => context
                .last_taken_at
                .is_none_or(|last| context.now.since(last).is_some_and(|since| since >= *interval)),
            Rule::When(wanted) => wanted(state, context),
        }
    }
}

impl<A> fmt::Debug for SnapshotPolicy<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match &self.rule {
            Rule::Every(events) => format!("every {events} events"),
            Rule::Interval(interval) => format!("every {interval:?}"),
            Rule::When(_) => "when asked for".to_owned(),
        };
        out.debug_struct("SnapshotPolicy")
            .field("rule", &rule)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}
