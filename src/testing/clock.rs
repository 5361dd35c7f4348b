//! Deterministic times and ids for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{EventId, NewEvent, Timestamp};

/// A clock that only moves when a test moves it. Clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use annals::prelude::*;
/// use annals::Limits;
/// use annals::testing::FixedClock;
///
/// let clock = FixedClock::at("2026-01-01T00:00:00Z".parse()?);
/// let store = MemoryStore::with(Limits::default(), clock.clock());
/// store.append("a", ExpectedVersion::Any, [NewEvent::json("Happened", &1)?])?;
/// clock.advance(Duration::from_secs(60));
/// store.append("a", ExpectedVersion::Any, [NewEvent::json("Happened", &2)?])?;
///
/// let last = store.read_stream("a").last()?.unwrap();
/// assert_eq!(last.recorded_at().to_string(), "2026-01-01T00:01:00Z");
/// # Ok::<(), annals::Error>(())
/// ```
///
/// Pass [`FixedClock::clock`] to [`MemoryStore::with`](crate::MemoryStore::with),
/// [`StoreOptions::clock`](crate::StoreOptions::clock) or
/// [`SnapshotPolicy::clock`](crate::SnapshotPolicy::clock).
#[derive(Debug, Clone)]
pub struct FixedClock {
    micros: Arc<AtomicI64>,
}

impl FixedClock {
    /// Creates a clock that shows this time.
    pub fn at(time: Timestamp) -> Self {
        Self { micros: Arc::new(AtomicI64::new(time.as_micros())) }
    }

    /// The current time of this clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::SeqCst))
    }

    /// Sets the time, later or earlier.
    pub fn set(&self, time: Timestamp) {
        self.micros.store(time.as_micros(), Ordering::SeqCst);
    }

    /// Advances the time by this duration.
    ///
    /// # Panics
    /// The time would exceed the largest [`Timestamp`].
    #[track_caller]
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).ok();
        let moved = self.micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            micros.and_then(|micros| now.checked_add(micros))
        });
        assert!(moved.is_ok(), "{:?} after {} exceeds the largest timestamp", by, self.now());
    }

    /// A closure to pass as the clock of a store or a policy.
    pub fn clock(&self) -> impl Fn() -> Timestamp + Send + Sync + 'static + use<> {
        let clock = self.clone();
        move || clock.now()
    }
}

/// Event ids 1, 2, 3 and so on, for output that is the same in every run. Clones share the count.
///
/// ```
/// use annals::NewEvent;
/// use annals::testing::SequentialIds;
///
/// let ids = SequentialIds::new();
/// let event = ids.give(NewEvent::json("Happened", &1)?);
/// assert_eq!(event.id().to_string(), "00000000-0000-0000-0000-000000000001");
/// assert_eq!(ids.next_id().to_string(), "00000000-0000-0000-0000-000000000002");
/// # Ok::<(), annals::Error>(())
/// ```
///
/// With a repository: `accounts.command("123").map_events(|event| ids.give(event)).run(&command)`.
#[derive(Debug, Clone, Default)]
pub struct SequentialIds {
    given: Arc<AtomicU64>,
}

impl SequentialIds {
    /// Creates a sequence that begins with 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the next id.
    pub fn next_id(&self) -> EventId {
        let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        EventId::from_bytes(u128::from(number).to_be_bytes())
    }

    /// Gives the event the next id.
    pub fn give(&self, event: NewEvent) -> NewEvent {
        event.with_id(self.next_id())
    }
}
