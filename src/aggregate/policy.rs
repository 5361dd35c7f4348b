//! [`SnapshotPolicy`]: when a snapshot is taken, and how many are kept.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::event_store::EventStore;
use crate::model::{Timestamp, Version};
use crate::options::{Clock, now};

/// When snapshots are taken, and how many are kept of each aggregate. Asked after each save.
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
    /// That of the store, unless another is given.
    clock: Option<Clock>,
}

enum Rule<A> {
    Every(u64),
    Interval(Duration),
    When(Arc<Wanted<A>>),
}

type Wanted<A> = dyn Fn(&A, &SnapshotContext) -> bool + Send + Sync;

/// What a policy may go by, besides the state.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotContext {
    /// The version of the state.
    pub version: Version,
    /// How many events have happened since the last snapshot: all, if there is none.
    pub events_since: u64,
    /// When the last snapshot was taken, if there is one.
    pub last_taken_at: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

impl<A> SnapshotPolicy<A> {
    /// As soon as this many events have happened since the last snapshot; 0 counts as 1.
    ///
    /// Events are counted as they pass, so a save of several events does not step over the mark,
    /// and where a snapshot could not be written the next save tries again.
    pub fn every(events: u64) -> Self {
        Self::by(Rule::Every(events.max(1)))
    }

    /// After every save: for few events that are hard to apply.
    pub fn always() -> Self {
        Self::every(1)
    }

    /// With the first save, and then with a save at least this long after the last snapshot was
    /// taken.
    pub fn interval(interval: Duration) -> Self {
        Self::by(Rule::Interval(interval))
    }

    /// Whenever this says so.
    pub fn when(wanted: impl Fn(&A, &SnapshotContext) -> bool + Send + Sync + 'static) -> Self {
        Self::by(Rule::When(Arc::new(wanted)))
    }

    fn by(rule: Rule<A>) -> Self {
        Self { rule, keep: NonZeroUsize::MIN, clock: None }
    }

    /// Keeps this many snapshots of each aggregate, the newest; 1 by default, 0 counts as 1. More
    /// of them make loading as of an earlier version faster.
    pub fn keep(mut self, snapshots: usize) -> Self {
        self.keep = NonZeroUsize::new(snapshots).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Takes the time from elsewhere than the [store of the events](EventStore::now): for tests,
    /// such as [`FixedClock`](crate::testing::FixedClock).
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
