//! Recorded idempotency keys: [`KeyRecord`], and [`KeyExpiry`], which decides when a key expires.
//! All stores of this crate share them.

// Public only for the fuzz targets: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::event_store::KeyedResult;
use crate::metrics::micros;
use crate::model::{IdempotencyKey, KeyRetention, RequestDigest};
use crate::sync::AtomicU64;

/// The age of a recorded key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAge {
    /// Keys are numbered from 1, in the order in which they were recorded.
    pub number: u64,
    /// When it was recorded, in microseconds of the retention clock.
    pub recorded_at: u64,
}

/// What is recorded with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its number and time.
    pub age: KeyAge,
    /// The digest of its request.
    pub digest: RequestDigest,
    /// The result of its request.
    pub result: KeyedResult,
}

impl KeyRecord {
    /// The recorded result for a request with this key; `None` if the record has expired.
    ///
    /// # Errors
    /// [`Error::IdempotencyKeyReused`] if it was recorded for another request.
    pub(crate) fn result_for(
        &self,
        key: &IdempotencyKey,
        expiry: &KeyExpiry,
    ) -> Result<Option<KeyedResult>> {
        if expiry.is_expired(self.age) {
            return Ok(None);
        }
        if self.digest != key.digest() {
            return Err(Error::key_reused(key));
        }
        Ok(Some(self.result.clone()))
    }
}

/// Decides which keys have expired: those that are neither young enough nor among the newest.
///
/// The retention clock counts microseconds while a store is open for writing. No change of the
/// system's clock moves it. After a crash it continues from the last recorded key.
#[derive(Debug)]
pub(crate) struct KeyExpiry {
    retention: KeyRetention,
    /// `None` while the clock stands still, as in a store that is open for reading only.
    started: Option<Instant>,
    /// The retention clock when it was started.
    base: AtomicU64,
    /// The number of the last key that was recorded.
    last: AtomicU64,
}

impl KeyExpiry {
    /// Starts the clock at 0. Until [`KeyExpiry::resume`] is called, no key expires too early.
    pub(crate) fn start(retention: KeyRetention, is_running: bool) -> Self {
        let started = is_running.then(Instant::now);
        Self { retention, started, base: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    /// Continues where the store was left: with this last number, and at this time of the clock.
    pub(crate) fn resume(&self, last: u64, clock: u64) {
        self.base.store(clock, Ordering::Relaxed);
        self.publish(last);
    }

    /// Records that the key with this number is committed, so that lookups may return it.
    pub(crate) fn publish(&self, last: u64) {
        self.last.store(last, Ordering::Release);
    }

    /// The number of the last committed key; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// The retention clock now, in microseconds.
    pub(crate) fn now(&self) -> u64 {
        let running = self.started.map(|started| started.elapsed()).unwrap_or_default();
        self.base.load(Ordering::Relaxed).saturating_add(micros(running))
    }

    pub(crate) fn is_expired(&self, age: KeyAge) -> bool {
        let newer = self.last().saturating_sub(age.number);
        newer >= self.retention.newest
            && self.now().saturating_sub(age.recorded_at) >= micros(self.retention.time)
    }
}
