//! [`Disk`]: the open database, and batches of changes to it.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, FlushOptions, Options, WriteBatch,
    WriteOptions,
};

use super::engine_error::{engine_error, read_error};
use super::family::Family;
use super::paths::Paths;
use super::row_filter::RowFilter;
use super::{free_space, manifest, tail, tuning};
use crate::error::{Error, Location, Result};
use crate::format::Manifest;
use crate::metrics::EngineMetrics;
use crate::options::Durability;
use crate::store_options::StoreOptions;
use crate::sync::{AtomicBool, RwLock};

/// The database, open until [`Storage::close`].
pub(crate) struct Storage {
    disk: RwLock<Option<Disk>>,
}

impl Storage {
    /// Runs `work` on the disk, which stays open until `work` returns. Calls must not be nested:
    /// `close` would wait for the outer call, and the inner call for `close`.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Disk) -> Result<T>) -> Result<T> {
        let disk = self.disk.read();
        work(disk.as_ref().ok_or(Error::Closed)?)
    }

    /// Waits for running calls, passes the disk to `last`, and closes it. Returns `None` if it is
    /// already closed.
    pub(crate) fn close<T>(&self, last: impl FnOnce(&Disk) -> T) -> Option<T> {
        let mut disk = self.disk.write();
        disk.take().map(|disk| last(&disk))
    }
}

impl From<Disk> for Storage {
    fn from(disk: Disk) -> Self {
        Self { disk: RwLock::new(Some(disk)) }
    }
}

/// Families of keys and values on a disk.
pub(crate) struct Disk {
    pub(super) db: DB,
    /// The names of the families of a later version of annals. They are open, because RocksDB
    /// refuses to open a part of the families for writing; annals neither reads nor writes them.
    unknown: Vec<String>,
    /// The families of this version that the database has.
    known: Vec<Family>,
    /// Created once, because creating them costs a fiftieth of a small append.
    synced: WriteOptions,
    buffered: WriteOptions,
    /// Whether compactions are paused: see [`Disk::pause_compactions`].
    is_paused: AtomicBool,
}

/// Changes that are written atomically.
pub(crate) struct Batch<'d> {
    disk: &'d Disk,
    batch: WriteBatch,
}

impl Batch<'_> {
    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.disk.handle(family), key, value);
    }

    pub(crate) fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(self.disk.handle(family), key);
    }

    /// Deletes the keys that exist now or were put into this batch earlier, but not later puts.
    pub(crate) fn delete_range(&mut self, family: Family, keys: Range<&[u8]>) {
        self.batch.delete_range_cf(self.disk.handle(family), keys.start, keys.end);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The size of the batch in bytes.
    pub(crate) fn len(&self) -> usize {
        self.batch.size_in_bytes()
    }
}

impl Disk {
    /// Creates a database in a directory that does not exist yet.
    pub(crate) fn create(db: &Path, log: &Path, options: &StoreOptions) -> Result<Self> {
        let mut database = tuning::database(options, log)?;
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_error_if_exists(true);
        let listed = Listed { known: Family::ALL.to_vec(), unknown: Vec::new() };
        let families = families(options, db, &listed, None, false)?;
        let opened = DB::open_cf_descriptors(&database, db, families);
        let db = opened.map_err(|error| engine_error("creating the database", &error))?;
        Ok(Self::of(db, listed, false))
    }

    /// Opens for writing. This replays and may delete write-ahead logs, so check the database with
    /// [`Disk::open_read_only`] first. `expired` selects the idempotency keys to remove. Creates the
    /// index of a store that was written before there was one.
    pub(crate) fn open(
        paths: &Paths,
        options: &StoreOptions,
        expired: Option<&RowFilter>,
    ) -> Result<Self> {
        let mut database = tuning::database(options, &paths.log)?;
        let mut listed = Listed::families(&database, &paths.db)?;
        database.create_missing_column_families(!listed.known.contains(&Family::Index));
        listed.known = Family::ALL.to_vec();
        // Compactions may begin at once.
        let is_paused = !free_space::can_compact(&paths.db, options.disk_reserve_bytes);
        let families = families(options, &paths.db, &listed, expired, is_paused)?;
        let opened = DB::open_cf_descriptors(&database, &paths.db, families);
        let db = opened.map_err(|error| engine_error("opening the database", &error))?;
        let disk = Self::of(db, listed, is_paused);
        // Now the size of the tables is known.
        let free = free_space::free_bytes(&paths.db);
        let reserve = options.disk_reserve_bytes;
        if is_paused && free_space::fits_compaction(free, reserve, || disk.table_bytes()) {
            disk.pause_compactions(false);
        }
        Ok(disk)
    }

    /// Opens without changing a byte of the directory. It rejects the same damage as [`Disk::open`]
    /// and, before that, records that RocksDB cannot handle (see [`tail::check`]).
    pub(crate) fn open_read_only(paths: &Paths, options: &StoreOptions) -> Result<Self> {
        Self::probe(paths, options, &tuning::database(options, &paths.log)?)
    }

    /// The number of the first write-ahead log file that is still needed, regardless of the
    /// contents of the files.
    pub(crate) fn oldest_log(paths: &Paths, options: &StoreOptions) -> Result<u64> {
        let mut database = tuning::database(options, &paths.log)?;
        // This mode stops at a torn entry. The mode that skips it joins pieces of several batches.
        database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        let disk = Self::probe(paths, options, &database)?;
        let oldest = disk.db.property_int_value(rocksdb::properties::MIN_LOG_NUMBER_TO_KEEP);
        let oldest = oldest.map_err(|error| engine_error("asking for the oldest log", &error))?;
        Ok(oldest.unwrap_or_default())
    }

    fn probe(paths: &Paths, options: &StoreOptions, database: &Options) -> Result<Self> {
        tail::check(&paths.db)?;
        let listed = Listed::families(database, &paths.db)?;
        let families = families(options, &paths.db, &listed, None, false)?;
        let opened = DB::open_cf_descriptors_read_only(database, &paths.db, families, false);
        let db =
            opened.map_err(|error| engine_error("opening the database for reading", &error))?;
        Ok(Self::of(db, listed, false))
    }

    fn of(db: DB, listed: Listed, is_paused: bool) -> Self {
        let Listed { known, unknown } = listed;
        let [synced, buffered] = [Durability::Sync, Durability::Buffered].map(tuning::write);
        Self { db, unknown, known, synced, buffered, is_paused: AtomicBool::new(is_paused) }
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        self.batch_with_room(0)
    }

    /// A batch with capacity for `len` bytes.
    pub(crate) fn batch_with_room(&self, len: usize) -> Batch<'_> {
        Batch { disk: self, batch: WriteBatch::with_capacity_bytes(len) }
    }

    /// Writes a batch through the write-ahead log. After an error, the batch may or may not be on
    /// disk.
    pub(crate) fn write(&self, batch: Batch<'_>, durability: Durability) -> Result<()> {
        let options = match durability {
            Durability::Sync => &self.synced,
            Durability::Buffered => &self.buffered,
        };
        self.db
            .write_opt(batch.batch, options)
            .map_err(|error| engine_error("writing a batch", &error))
    }

    /// The durable length of the database's manifest: `known`, or more if it has grown since.
    pub(crate) fn manifest(&self, known: Option<Manifest>) -> Option<Manifest> {
        manifest::known(self.db.path(), known)
    }

    /// Checks that the database's manifest is not shorter or older than `known`.
    pub(crate) fn check_manifest(&self, known: Manifest) -> Result<()> {
        manifest::check(self.db.path(), known)
    }

    /// Makes everything written so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|error| engine_error("syncing the log", &error))
    }

    /// Moves everything written so far into synced table files.
    pub(crate) fn flush(&self) -> Result<()> {
        let handles: Vec<_> = self.handles().collect();
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        self.db
            .flush_cfs_opt(&handles, &wait)
            .map_err(|error| engine_error("flushing the memtables", &error))
    }

    /// Pauses or resumes compactions, which need space before they free any. While they are paused,
    /// table files accumulate and do not slow down writers.
    pub(super) fn pause_compactions(&self, pause: bool) {
        if self.is_paused.load(Ordering::Relaxed) == pause {
            return;
        }
        let value = if pause { "true" } else { "false" };
        for handle in self.handles() {
            // RocksDB changes the option, and then writes all options to a file for people, which
            // fails on a full disk. Only that can fail here.
            let _ = self.db.set_options_cf(handle, &[("disable_auto_compactions", value)]);
        }
        self.is_paused.store(pause, Ordering::Relaxed);
    }

    /// Copies the database to a directory that does not exist yet.
    ///
    /// The copy is synced. It contains everything written before the call, and a prefix of what is
    /// written during it. Writers continue.
    pub(crate) fn checkpoint(&self, directory: &Path) -> Result<()> {
        let failed = |error| engine_error("copying the database", &error);
        let checkpoint = Checkpoint::new(&self.db).map_err(failed)?;
        // The memtables are not flushed; the write-ahead logs are copied instead. A flush that
        // fails, for example on a full disk, would stop the writers, and each flush would leave
        // small tables in the original.
        checkpoint.create_checkpoint_with_log_size(directory, u64::MAX).map_err(failed)
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.db.get_pinned_cf_opt(self.handle(family), key, &tuning::read());
        let found = found.map_err(|error| read_error(family, &error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// What the database is doing.
    pub(crate) fn metrics(&self) -> Result<EngineMetrics> {
        use rocksdb::properties::{
            ACTUAL_DELAYED_WRITE_RATE, BLOCK_CACHE_USAGE, CUR_SIZE_ALL_MEM_TABLES,
            ESTIMATE_PENDING_COMPACTION_BYTES, IS_WRITE_STOPPED, NUM_RUNNING_COMPACTIONS,
            NUM_RUNNING_FLUSHES,
        };
        let failed = |error| engine_error("asking for the metrics", &error);
        let asked = |property| {
            let value = self.db.property_int_value(property).map_err(failed)?;
            Ok::<_, Error>(value.unwrap_or_default())
        };
        let mut metrics = EngineMetrics {
            table_bytes: self.table_bytes()?,
            block_cache_bytes: asked(BLOCK_CACHE_USAGE)?,
            running_flushes: asked(NUM_RUNNING_FLUSHES)?,
            running_compactions: asked(NUM_RUNNING_COMPACTIONS)?,
            is_write_stopped: asked(IS_WRITE_STOPPED)? > 0,
            is_write_delayed: asked(ACTUAL_DELAYED_WRITE_RATE)? > 0,
            are_compactions_paused: self.is_paused.load(Ordering::Relaxed),
            disk_free_bytes: Some(free_space::free_bytes(self.db.path()))
                .filter(|free| *free < u64::MAX),
            ..EngineMetrics::default()
        };
        for handle in self.handles() {
            let of_family = |property| {
                let value = self.db.property_int_value_cf(handle, property).map_err(failed)?;
                Ok::<_, Error>(value.unwrap_or_default())
            };
            metrics.memtable_bytes += of_family(CUR_SIZE_ALL_MEM_TABLES)?;
            metrics.pending_compaction_bytes += of_family(ESTIMATE_PENDING_COMPACTION_BYTES)?;
        }
        Ok(metrics)
    }

    /// The size of the table files of all families, in bytes.
    pub(crate) fn table_bytes(&self) -> Result<u64> {
        let unknown = self.unknown.iter().filter_map(|name| self.db.cf_handle(name));
        let mut sum = 0;
        for handle in self.handles().chain(unknown) {
            let size = self
                .db
                .property_int_value_cf(handle, rocksdb::properties::TOTAL_SST_FILES_SIZE)
                .map_err(|error| engine_error("asking for the size of the tables", &error))?;
            sum += size.unwrap_or_default();
        }
        Ok(sum)
    }

    /// Whether the database has this family.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.known.contains(&family)
    }

    fn handles(&self) -> impl Iterator<Item = &ColumnFamily> {
        self.known.iter().map(|family| self.handle(*family))
    }

    pub(super) fn handle(&self, family: Family) -> &ColumnFamily {
        match self.db.cf_handle(family.name()) {
            Some(handle) => handle,
            // Opening names every family, after checking that it exists. Only the index may be
            // missing, and then nothing is read from it.
            None => unreachable!("family {} was opened", family.name()),
        }
    }
}

/// The families of a database.
struct Listed {
    /// Those of this version. Only the index may be missing.
    known: Vec<Family>,
    /// Those of a later version.
    unknown: Vec<String>,
}

/// The families to open: those of this version, and the unknown ones.
fn families(
    options: &StoreOptions,
    db: &Path,
    listed: &Listed,
    expired: Option<&RowFilter>,
    is_paused: bool,
) -> Result<Vec<ColumnFamilyDescriptor>> {
    let cache = tuning::cache(options);
    let tuned = |family: Family| {
        let mut tuned = tuning::family(family, options, &cache, db)?;
        if let (Family::Keys, Some(expired)) = (family, expired) {
            tuned.set_compaction_filter_factory(expired.clone());
        }
        tuned.set_disable_auto_compactions(is_paused);
        Ok(ColumnFamilyDescriptor::new(family.name(), tuned))
    };
    let unknown = listed
        .unknown
        .iter()
        .map(|name| Ok(ColumnFamilyDescriptor::new(name, tuning::unknown_family(&cache))));
    listed.known.iter().copied().map(tuned).chain(unknown).collect()
}

impl Listed {
    /// Lists the families in the manifest, which changes nothing.
    ///
    /// # Errors
    /// [`Error::Corruption`] if a family of this version is missing.
    fn families(database: &Options, db: &Path) -> Result<Self> {
        let doing = "listing the column families";
        let mut unknown = DB::list_cf(database, db).map_err(|error| engine_error(doing, &error))?;
        let mut known = Vec::new();
        for family in Family::ALL {
            let before = unknown.len();
            unknown.retain(|name| name != family.name());
            if unknown.len() < before {
                known.push(family);
            } else if family != Family::Index {
                let location = Location::Database { doing: doing.to_owned() };
                let found = format!("no family {}", family.name());
                return Err(Error::corruption(location, found, "that family"));
            }
        }
        Ok(Self { known, unknown })
    }
}
