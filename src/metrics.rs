//! [`StoreMetrics`]: the metrics of an open store. [`Meters`] counts them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::histogram::{Histogram, Recorder};
use crate::model::{Position, Timestamp};
use crate::sync::{AtomicU64, Mutex};

/// The counts and latencies of a [`Store`](crate::Store) since it was opened, and its current
/// state: a plain copy, taken by [`Store::metrics`](crate::Store::metrics).
///
/// Counts begin with 0 at each open. Times are in microseconds.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct StoreMetrics {
    /// The last position; also the number of events in the log.
    pub head: Option<Position>,
    /// The last position that is known to be durable.
    pub durable: Option<Position>,
    /// Appends that were acknowledged, without retries.
    pub appends: u64,
    /// Events that were acknowledged, without retries.
    pub events: u64,
    /// Bytes of the frames of these events: payloads, metadata, and what annals adds.
    pub frame_bytes: u64,
    /// Appends and requests that were recognised as done before, by event ids or a key.
    pub retries: u64,
    /// Idempotency keys that were recorded.
    pub keys: u64,
    /// Idempotency keys that were recorded since the store was created, including expired ones.
    pub all_keys: u64,
    /// Appends that were refused because a stream was not as expected.
    pub conflicts: u64,
    /// Calls that were refused for another reason.
    pub refused: RefusalMetrics,
    /// Bytes of the events that tasks have submitted and that are not committed yet, of at most
    /// `StoreOptions::async_waiting_bytes`.
    pub async_waiting_bytes: u64,
    /// How many submissions each commit had: more than 1 if callers shared a write.
    pub commit_submissions: Histogram,
    /// How long each synced commit took, from the first check to the last acknowledgement.
    pub synced_commit_micros: Histogram,
    /// How long buffered commits took; every sixteenth is measured.
    pub buffered_commit_micros: Histogram,
    /// Appends to a stream whose version was in memory.
    pub version_cache_hits: u64,
    /// Appends that had to look the version of a stream up.
    pub version_cache_misses: u64,
    /// Commits of views, which include those of projections.
    pub view_commits: u64,
    /// Snapshots that were written.
    pub snapshots: u64,
    /// The open subscriptions, of which a started projection has one.
    pub subscriptions: Vec<SubscriptionMetrics>,
    /// The database.
    pub engine: EngineMetrics,
    /// The last backup that was made since the store was opened.
    pub last_backup: Option<LastBackup>,
    /// The last verification that ended since the store was opened.
    pub last_verify: Option<LastVerify>,
    /// The last error of the disk, or damage that was found.
    pub last_error: Option<LastError>,
}

/// Calls that a store refused, by reason.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalMetrics {
    /// Invalid arguments, exceeded limits, times before the head.
    pub invalid: u64,
    /// Appends of which some events were stored already.
    pub partial_retries: u64,
    /// Idempotency keys that were used for another request.
    pub keys_reused: u64,
    /// Writes for which the disk had no space.
    pub disk_full: u64,
    /// Writes that failed halfway.
    pub indeterminate: u64,
    /// Writes after one that failed halfway.
    pub poisoned: u64,
    /// Any other error, such as an error of the disk.
    pub other: u64,
}

/// An open subscription.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionMetrics {
    /// Everything up to here was delivered, or does not match.
    pub position: Option<Position>,
    /// How many events of the log are after that, whether they match or not.
    pub lag_events: u64,
}

/// The state of the database.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Bytes in memory that are not in table files yet.
    pub memtable_bytes: u64,
    /// Bytes in table files.
    pub table_bytes: u64,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
    /// Bytes that compactions still have to rewrite, by an estimate.
    pub pending_compaction_bytes: u64,
    /// Flushes that are running.
    pub running_flushes: u64,
    /// Compactions that are running.
    pub running_compactions: u64,
    /// Whether writes wait until a flush or a compaction has ended.
    pub is_write_stopped: bool,
    /// Whether writes are slowed down, so that flushes and compactions can keep up.
    pub is_write_delayed: bool,
    /// Whether compactions are paused because the disk is nearly full.
    pub are_compactions_paused: bool,
    /// Bytes that are free on the file system; `None` if it does not answer. Writes are refused
    /// below [`StoreOptions::disk_reserve_bytes`](crate::StoreOptions::disk_reserve_bytes).
    pub disk_free_bytes: Option<u64>,
}

/// A backup that was made.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBackup {
    /// When it was finished.
    pub at: Timestamp,
    /// The last position in it.
    pub head: Option<Position>,
}

/// A verification that ended.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastVerify {
    /// When it ended.
    pub at: Timestamp,
    /// The number of damaged places that it found.
    pub damage_count: u64,
}

/// An error of the disk, or damage that was found.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct LastError {
    /// When it occurred.
    pub at: Timestamp,
    /// The error.
    pub error: Error,
}

/// The position of a subscription, which its store watches as long as the subscription lives.
#[derive(Debug, Default)]
pub struct SubscriptionProgress(AtomicU64);

impl SubscriptionProgress {
    pub(crate) fn set(&self, position: Option<Position>) {
        self.0.store(position.map_or(0, Position::get), Ordering::Relaxed);
    }

    /// Everything up to here was delivered, or does not match.
    pub fn position(&self) -> Option<Position> {
        Position::new(self.0.load(Ordering::Relaxed))
    }
}

/// A count.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Raises a count that only the writer of the log raises, one thread at a time. An atomic
    /// addition for each count of an append would cost a hundredth of a buffered append.
    pub(crate) fn add_as_writer(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Raises a count that any thread may raise.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts what an open store does.
#[derive(Default)]
pub(crate) struct Meters {
    pub(crate) appends: Count,
    pub(crate) events: Count,
    pub(crate) frame_bytes: Count,
    pub(crate) retries: Count,
    pub(crate) keys: Count,
    conflicts: Count,
    invalid: Count,
    partial_retries: Count,
    keys_reused: Count,
    disk_full: Count,
    indeterminate: Count,
    poisoned: Count,
    other: Count,
    pub(crate) commit_submissions: Recorder,
    pub(crate) synced_commit_micros: Recorder,
    pub(crate) buffered_commit_micros: Recorder,
    pub(crate) version_cache_hits: Count,
    pub(crate) version_cache_misses: Count,
    pub(crate) view_commits: Count,
    pub(crate) snapshots: Count,
    subscriptions: Mutex<Vec<Weak<SubscriptionProgress>>>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    backup: Option<LastBackup>,
    verify: Option<LastVerify>,
    error: Option<LastError>,
}

impl Meters {
    /// Counts the result of a write. `now` gives the time of an error that is kept.
    pub(crate) fn written<T>(&self, result: Result<T>, now: impl Fn() -> Timestamp) -> Result<T> {
        if let Err(error) = &result {
            self.refused(error, now);
        }
        result
    }

    #[cold]
    fn refused(&self, error: &Error, now: impl Fn() -> Timestamp) {
        let count = match error {
            Error::WrongExpectedVersion { .. }
            | Error::ConditionFailed { .. }
            | Error::CheckpointMoved { .. } => &self.conflicts,
            Error::PartialRetry { .. } => &self.partial_retries,
            Error::IdempotencyKeyReused { .. } => &self.keys_reused,
            Error::DiskFull { .. } => &self.disk_full,
            Error::Indeterminate { .. } => &self.indeterminate,
            Error::Poisoned { .. } => &self.poisoned,
            error if error.is_invalid() => &self.invalid,
            _ => &self.other,
        };
        count.add(1);
        self.failed(error, now);
    }

    /// Keeps an error of the disk, or damage.
    pub(crate) fn failed(&self, error: &Error, now: impl Fn() -> Timestamp) {
        let is_ours = error.is_corruption()
            || matches!(
                error,
                Error::Indeterminate { .. } | Error::Storage { .. } | Error::DiskFull { .. }
            );
        if is_ours {
            self.last.lock().error = Some(LastError { at: now(), error: error.clone() });
        }
    }

    pub(crate) fn backed_up(&self, at: Timestamp, head: Option<Position>) {
        self.last.lock().backup = Some(LastBackup { at, head });
    }

    pub(crate) fn verified(&self, at: Timestamp, damage_count: u64) {
        self.last.lock().verify = Some(LastVerify { at, damage_count });
    }

    /// Watches the position of a subscription.
    pub(crate) fn watch(&self, progress: &Arc<SubscriptionProgress>) {
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.retain(|progress| progress.strong_count() > 0);
        subscriptions.push(Arc::downgrade(progress));
    }

    /// A copy; the caller adds what only the engine knows.
    pub(crate) fn snapshot(&self, head: Option<Position>) -> StoreMetrics {
        let subscriptions = {
            let mut watched = self.subscriptions.lock();
            watched.retain(|progress| progress.strong_count() > 0);
            let positions =
                watched.iter().filter_map(|progress| Some(progress.upgrade()?.position()));
            positions.map(|position| SubscriptionMetrics::at(position, head)).collect()
        };
        let last = self.last.lock();
        StoreMetrics {
            head,
            durable: None,
            appends: self.appends.get(),
            events: self.events.get(),
            frame_bytes: self.frame_bytes.get(),
            retries: self.retries.get(),
            keys: self.keys.get(),
            all_keys: 0,
            conflicts: self.conflicts.get(),
            refused: RefusalMetrics {
                invalid: self.invalid.get(),
                partial_retries: self.partial_retries.get(),
                keys_reused: self.keys_reused.get(),
                disk_full: self.disk_full.get(),
                indeterminate: self.indeterminate.get(),
                poisoned: self.poisoned.get(),
                other: self.other.get(),
            },
            async_waiting_bytes: 0,
            commit_submissions: self.commit_submissions.snapshot(),
            synced_commit_micros: self.synced_commit_micros.snapshot(),
            buffered_commit_micros: self.buffered_commit_micros.snapshot(),
            version_cache_hits: self.version_cache_hits.get(),
            version_cache_misses: self.version_cache_misses.get(),
            view_commits: self.view_commits.get(),
            snapshots: self.snapshots.get(),
            subscriptions,
            engine: EngineMetrics::default(),
            last_backup: last.backup,
            last_verify: last.verify,
            last_error: last.error.clone(),
        }
    }
}

impl SubscriptionMetrics {
    fn at(position: Option<Position>, head: Option<Position>) -> Self {
        let place = |position: Option<Position>| position.map_or(0, Position::get);
        Self { position, lag_events: place(head).saturating_sub(place(position)) }
    }
}

/// A time in whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
