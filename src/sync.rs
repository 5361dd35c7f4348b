//! The locks and atomics of the crate.
//!
//! A panic while a lock is held does not poison it: code that can leave a value half changed must
//! report that itself, as the gate of the commit path does (G9). The primitives are those of the
//! standard library. With the feature `__schedules` they are those of a model checker, for the
//! package `tests/schedules`, but never together with `rocksdb`, so that a build with all features
//! uses those of the standard library.

#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
use shuttle::sync as primitives;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
use std::sync as primitives;
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Duration;
#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
use std::time::Instant;

#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
pub(crate) use shuttle::thread;
#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
pub(crate) use std::thread;

pub(crate) use primitives::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(crate) use primitives::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// A lock that one thread holds at a time.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(primitives::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(primitives::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that many readers or one writer hold.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(primitives::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(primitives::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets threads sleep until a value behind a lock has changed.
#[derive(Debug, Default)]
pub(crate) struct Condvar(primitives::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(primitives::Condvar::new())
    }

    pub(crate) fn wait<'g, T>(&self, guard: MutexGuard<'g, T>) -> MutexGuard<'g, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most for `timeout`.
    pub(crate) fn wait_timeout<'g, T>(
        &self,
        guard: MutexGuard<'g, T>,
        timeout: Duration,
    ) -> MutexGuard<'g, T> {
        self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Wakes a task. A waker is code of an executor: if it panics, its task is lost, but not the work of
/// the thread that wakes it.
pub(crate) fn wake_task(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

/// A bounded wait that yields the processor instead of sleeping, for waits shorter than a wake-up.
#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
pub(crate) struct BriefWait {
    begun: Instant,
    last_change: Instant,
}

#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
impl BriefWait {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last_change: now }
    }

    /// Yields once. Returns whether to wait on: not after `max`, nor after `idle` without a change.
    pub(crate) fn goes_on(&mut self, has_changed: bool, max: Duration, idle: Duration) -> bool {
        thread::yield_now();
        let now = Instant::now();
        if has_changed {
            self.last_change = now;
        }
        now - self.begun < max && now - self.last_change < idle
    }
}

/// The same in the model checker, which has no time: it counts.
#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
pub(crate) struct BriefWait(u32);

#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
impl BriefWait {
    pub(crate) fn begin() -> Self {
        Self(0)
    }

    pub(crate) fn goes_on(&mut self, _: bool, _: Duration, _: Duration) -> bool {
        thread::yield_now();
        self.0 += 1;
        self.0 < 3
    }
}
