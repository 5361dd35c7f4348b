//! [`StoreOptions`]: how a store is opened.

use std::fmt;
use std::sync::Arc;

use crate::model::{KeyRetention, Limits, Position, Timestamp};
use crate::options::{Clock, Durability, system_clock};

/// Options for opening a store. [`Store::options`](crate::Store::options) returns the defaults.
///
/// ```no_run
/// use annals::{Durability, Store};
/// let store = Store::options().durability(Durability::Buffered).block_cache_bytes(256 << 20).open("bank.annals")?;
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    pub(crate) durability: Durability,
    pub(crate) block_cache_bytes: usize,
    pub(crate) memtable_bytes: usize,
    pub(crate) compression: Compression,
    pub(crate) pack_bytes: usize,
    pub(crate) read_ahead_bytes: usize,
    pub(crate) version_cache_streams: usize,
    pub(crate) key_retention: KeyRetention,
    /// `None` leaves it as it is.
    pub(crate) index_types: Option<bool>,
    pub(crate) index_categories: Option<bool>,
    #[cfg(feature = "async")]
    pub(crate) async_waiting_bytes: usize,
    pub(crate) disk_reserve_bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    /// The end of the log to accept although later events are known to have existed.
    pub(crate) accepted_end: Option<AcceptedEnd>,
    pub(crate) clock: Clock,
}

/// How the tables of a store are compressed. docs/PERFORMANCE.md has figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// LZ4 everywhere: fast to append, to replay and to load; takes the most disk.
    Fast,
    /// LZ4 for the log, so that it replays fast; Zstandard for settled streams.
    #[default]
    Balanced,
    /// Zstandard for all settled data. It takes the least disk space, but makes replays and reads by
    /// position slower by about half.
    Small,
}

/// The default size of packs.
pub(crate) const PACK_BYTES: usize = 32 << 10;
/// The largest size of packs that can be set. The open pack is copied for a read at the head.
const PACK_BYTES_MAX: usize = 1 << 20;

/// The last position of a log that has lost later events; `None` if it has lost all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcceptedEnd(pub(crate) Option<Position>);

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            block_cache_bytes: 64 << 20,
            memtable_bytes: 64 << 20,
            compression: Compression::default(),
            pack_bytes: PACK_BYTES,
            read_ahead_bytes: 0,
            version_cache_streams: 100_000,
            key_retention: KeyRetention::default(),
            index_types: None,
            index_categories: None,
            #[cfg(feature = "async")]
            async_waiting_bytes: 64 << 20,
            disk_reserve_bytes: 64 << 20,
            limits: Limits::default(),
            create: true,
            read_only: false,
            accepted_end: None,
            clock: system_clock(),
        }
    }
}

impl StoreOptions {
    /// The durability of appends that do not set their own; [`Durability::Sync`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Memory for blocks read from disk, their indexes and filters; 64 MiB by default.
    pub fn block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// Memory for events that are in the write-ahead log but not yet in a table file; 64 MiB by
    /// default. It also bounds the write-ahead log, and so the time that opening takes after a
    /// crash.
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.memtable_bytes = bytes;
        self
    }

    /// How tables are compressed; [`Compression::Balanced`] by default. It applies to tables that
    /// are written from now on.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Whether the store has an index of event types, so that reads by type cost what they return,
    /// and conditions can name types without a tag. The store remembers it; a new store has none.
    /// Tags are always indexed.
    ///
    /// If it is switched on for a store with events, the index is built while the store is in use:
    /// see [`Store::index_status`](crate::Store::index_status). Each event then costs one more entry
    /// in the write-ahead log: 14 bytes and the text of its type.
    pub fn index_types(mut self, is_on: bool) -> Self {
        self.index_types = Some(is_on);
        self
    }

    /// Whether the store has an index of categories: see [`StoreOptions::index_types`].
    pub fn index_categories(mut self, is_on: bool) -> Self {
        self.index_categories = Some(is_on);
        self
    }

    /// The size at which a pack of the log is written, as one row; 32 KiB by default, and at most 1
    /// MiB. It applies to packs that are written from now on.
    ///
    /// Reading the log from its beginning costs less with larger packs, and reading a single event
    /// by its position costs more, because its whole pack is decompressed. Up to this size, the
    /// newest events are read from memory.
    pub fn pack_bytes(mut self, bytes: usize) -> Self {
        self.pack_bytes = bytes.min(PACK_BYTES_MAX);
        self
    }

    /// How many bytes of the log a second thread reads and decompresses ahead of a scan; 0 by
    /// default, which starts no thread. At most a quarter of the block cache is used for it; 4 MiB
    /// is enough.
    ///
    /// Every forward read of the log is such a scan: replays, subscriptions that catch up, rebuilds,
    /// [`Store::verify`](crate::Store::verify) and [`Store::export`](crate::Store::export). Of
    /// several scans at once, the newest benefits. The thread ends when the store is closed.
    pub fn read_ahead_bytes(mut self, bytes: usize) -> Self {
        self.read_ahead_bytes = bytes;
        self
    }

    /// The number of streams whose versions are cached, so that an append does not read them;
    /// 100,000 by default, about 100 bytes each.
    pub fn version_cache_streams(mut self, streams: usize) -> Self {
        self.version_cache_streams = streams;
        self
    }

    /// How long idempotency keys are kept; at least a week, and at least the newest million, by
    /// default. It applies to all keys in the store: after it was raised, keys that had expired but
    /// were not yet removed are valid again.
    pub fn key_retention(mut self, retention: KeyRetention) -> Self {
        self.key_retention = retention;
        self
    }

    /// About how many bytes the appends take that are submitted by tasks and not yet committed; 64
    /// MiB by default. Each append counts as its events and 500 bytes or more. Further appends
    /// wait, in order, before they are submitted; a larger one waits until it is alone. See
    /// [`AsyncStore`](crate::AsyncStore).
    #[cfg(feature = "async")]
    pub fn async_waiting_bytes(mut self, bytes: usize) -> Self {
        self.async_waiting_bytes = bytes;
        self
    }

    /// The free space that appends leave on the disk; 64 MiB by default, and 0 turns it off.
    ///
    /// An append that would leave less is refused with
    /// [`Error::DiskFull`](crate::Error::DiskFull) before anything is written. So are snapshots and
    /// changes of views. Reads and backups continue, and appends work again once there is space,
    /// without reopening the store. With 0, a full disk is noticed only by a write that fails, and
    /// then the store must be reopened (G9).
    ///
    /// The reserve covers what the store writes by itself: a flush writes at most
    /// [`StoreOptions::memtable_bytes`], so the reserve should be at least as large as that.
    /// Compactions pause while their output might use up the reserve.
    ///
    /// # Cost
    /// The file system is asked at the first append, then after each MiB or each second. It is asked
    /// more often only when little more than the reserve is free.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// use annals::prelude::*;
    /// use annals::Error;
    /// // No disk has as much free space as this.
    /// let store = Store::options().disk_reserve_bytes(1 << 60).open(&path)?;
    /// let refused = store.append("a", ExpectedVersion::Any, [NewEvent::json("Happened", &())?]);
    /// assert!(matches!(refused, Err(Error::DiskFull { reserve, .. }) if reserve == 1 << 60));
    /// assert_eq!(store.head()?, None);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn disk_reserve_bytes(mut self, bytes: u64) -> Self {
        self.disk_reserve_bytes = bytes;
        self
    }

    /// The limits for appends; the hard maxima of [`limits`](crate::limits) by default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether opening a missing or empty directory for writing creates a store there; it does by
    /// default.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens for reading only: appends are refused, nothing is created, and several readers may
    /// open the store at once, but not while a writer has it open.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Accepts that a store has lost history (G11), if its log ends exactly at `found`, the
    /// position that [`Error::HistoryLost`](crate::Error::HistoryLost) reports as found. Without
    /// this option, opening the store fails with that error. A store that is opened for writing
    /// continues from there, and the lost events cannot be recovered; opening for reading only
    /// changes nothing. The option has no effect on a store that has lost nothing, or that ends
    /// elsewhere.
    ///
    /// A person should decide this, after looking for a backup and copying the directory.
    ///
    /// ```no_run
    /// use annals::{Error, Store};
    /// match Store::open("bank.annals") {
    ///     Err(Error::HistoryLost { expected_at_least, found }) => {
    ///         // Look at what is left before accepting the loss for good.
    ///         let options = Store::options().accept_lost_history_after(found).read_only(true);
    ///         let store = options.open("bank.annals")?;
    ///         let streams = store.info()?.streams;
    ///         println!("{streams} streams; up to {expected_at_least} there were more events");
    ///     }
    ///     opened => drop(opened?),
    /// }
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn accept_lost_history_after(mut self, found: Option<Position>) -> Self {
        self.accepted_end = Some(AcceptedEnd(found));
        self
    }

    /// Replaces the system clock, for tests.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = out.debug_struct("StoreOptions");
        #[cfg(feature = "async")]
        debug.field("async_waiting_bytes", &self.async_waiting_bytes);
        debug
            .field("durability", &self.durability)
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("compression", &self.compression)
            .field("pack_bytes", &self.pack_bytes)
            .field("read_ahead_bytes", &self.read_ahead_bytes)
            .field("version_cache_streams", &self.version_cache_streams)
            .field("key_retention", &self.key_retention)
            .field("index_types", &self.index_types)
            .field("index_categories", &self.index_categories)
            .field("disk_reserve_bytes", &self.disk_reserve_bytes)
            .field("limits", &self.limits)
            .field("create", &self.create)
            .field("read_only", &self.read_only)
            .field("accepted_end", &self.accepted_end)
            .finish_non_exhaustive()
    }
}
