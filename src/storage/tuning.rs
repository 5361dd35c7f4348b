//! Every option of RocksDB that annals sets, each with its reason. What is not here is at its
//! default on purpose.

use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBPath, DBRecoveryMode,
    LogLevel, Options, ReadOptions, SliceTransform, WriteOptions,
};

use super::engine_error::engine_error;
use super::family::Family;
use crate::error::Result;
use crate::options::Durability;
use crate::store_options::StoreOptions;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The smallest memtable of a family that holds events: below it, flushing costs more than it
/// saves.
const MEMTABLE_LEN_MIN: usize = 64 * KIB;

/// What a key of `streams` ends with; before it stands the stream.
const VERSION_LEN: usize = 8;

/// Options of the whole database.
pub(super) fn database(options: &StoreOptions, log: &Path) -> Result<Options> {
    // First, for it returns new options. A background error must not heal itself behind our back:
    // after one, the writer is poisoned until reopen (G9). Table files need not name the machine
    // that wrote them.
    let mut tuned = Options::default()
        .get_options_from_string("max_bgerror_resume_count=0;db_host_id=annals")
        .map_err(|error| engine_error("setting options", &error))?;

    // Finding history. The default recovers up to the first damage and says nothing; this mode
    // refuses damage before the tail.
    tuned.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A closed write-ahead log that is missing or short is noticed at open.
    tuned.set_track_and_verify_wals_in_manifest(true);
    // Checks whatever it can while it reads.
    tuned.set_paranoid_checks(true);
    // Every table file is opened when the store is: a missing one is noticed then, not years later.
    tuned.set_max_open_files(-1);

    // Keeping history. Each of these is the default and known to be unsafe otherwise; said here so
    // that it stays.
    tuned.set_recycle_log_file_num(0);
    tuned.set_wal_bytes_per_sync(0);
    tuned.set_manual_wal_flush(false);
    tuned.set_unordered_write(false);
    tuned.set_enable_pipelined_write(false);
    tuned.set_wal_compression_type(DBCompressionType::None);
    tuned.set_use_fsync(false);
    tuned.set_allow_mmap_writes(false);

    // Memory. All memtables together; the block cache is set per family, and shared.
    tuned.set_db_write_buffer_size(options.memtable_bytes.max(2 * MEMTABLE_LEN_MIN));
    // Opening after a crash replays the live logs: bound them by what the memtables hold.
    tuned.set_max_total_wal_size(u64::try_from(options.memtable_bytes).unwrap_or(u64::MAX).max(1));

    // Work in the background: one flush and one compaction at a time leaves cores to the
    // application.
    tuned.set_max_background_jobs(2);
    // Write out finished tables as they grow, so that a sync of the log does not wait behind a
    // burst of theirs.
    tuned.set_bytes_per_sync(MIB as u64);

    // RocksDB's own log files go next to the database, few and small, and without statistics.
    tuned.set_db_log_dir(log);
    tuned.set_log_level(LogLevel::Warn);
    tuned.set_keep_log_file_num(4);
    tuned.set_max_log_file_size(MIB);
    tuned.set_stats_dump_period_sec(0);
    tuned.set_stats_persist_period_sec(0);
    Ok(tuned)
}

/// The block cache, shared by all families: data, indexes and filters.
pub(super) fn cache(options: &StoreOptions) -> Cache {
    Cache::new_lru_cache(options.block_cache_bytes)
}

/// Options of one family of the database in `db`.
pub(super) fn family(
    family: Family,
    options: &StoreOptions,
    cache: &Cache,
    db: &Path,
) -> Result<Options> {
    let mut tuned = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters count towards the budget, instead of growing with the data next to it.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In partitions: the index of a whole table file can be larger than a shard of the cache, and
    // would then be read again for every single seek.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_metadata_block_size(4 * KIB);
    table.set_pin_top_level_index_and_filter(true);
    // Frames are read in runs: larger blocks compress better and need a smaller index.
    table.set_block_size(16 * KIB);
    table.set_format_version(6);
    if family == Family::Streams {
        filter_streams(&mut tuned, &mut table);
    }
    tuned.set_block_based_table_factory(&table);
    // Fast while data is young; dense once it has sunk to the bottom, where most of it lies.
    tuned.set_compression_type(DBCompressionType::Lz4);
    tuned.set_bottommost_compression_type(DBCompressionType::Zstd);
    // Two families take nearly all the writes, each half of the budget, in memtables of a quarter
    // of it.
    let memtable_len = match family {
        Family::Events | Family::Streams => (options.memtable_bytes / 4).max(MEMTABLE_LEN_MIN),
        _ => (options.memtable_bytes / 16).clamp(MEMTABLE_LEN_MIN, MIB),
    };
    tuned.set_write_buffer_size(memtable_len);
    // The memtable stays the default skip list: a hash memtable answers backward seeks and whole
    // scans wrongly.
    if family == Family::Index {
        // Names the directory once more in which the database lies anyway. A database of several
        // paths does not resume by itself when there is space again: it would do so behind our back
        // (G9), and it locks up forever with a writer that waits for room in the memtables. No
        // other option turns that off.
        let path = DBPath::new(db, 0);
        let path = path.map_err(|error| engine_error("naming the database's directory", &error))?;
        tuned.set_cf_paths(&[path]);
    }
    Ok(tuned)
}

/// Filters by stream: a stream that is not in a table file or a memtable is not looked for there.
/// Most loads then read one block, and most first appends to a stream none. Measured, with a
/// million events in 100,000 streams and a cache that holds a tenth of it: an append of ten events
/// 55 µs of processor time before and 23 after, loading a stream 30 and 23, looking for one that is
/// not there 22 and 3.
///
/// A filter answers only readers that stay within one stream. All others say that they do not: see
/// [`read`].
fn filter_streams(tuned: &mut Options, table: &mut BlockBasedOptions) {
    let stream: fn(&[u8]) -> &[u8] =
        |key| key.split_last_chunk::<VERSION_LEN>().map_or(key, |(stream, _)| stream);
    let has_stream: fn(&[u8]) -> bool = |key| key.len() > VERSION_LEN;
    // The name is noted in each table file: what is meant by it never changes.
    tuned.set_prefix_extractor(SliceTransform::create("annals.stream", stream, Some(has_stream)));
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    // In partitions, as the indexes are.
    table.set_partition_filters(true);
    tuned.set_memtable_prefix_bloom_ratio(0.05);
}

/// How to read.
pub(super) fn read() -> ReadOptions {
    let mut tuned = ReadOptions::default();
    tuned.set_verify_checksums(true);
    // A scan may cross streams, whatever prefix settings a family may come to have.
    tuned.set_total_order_seek(true);
    tuned
}

/// How to read within one stream: nothing outside of it is there.
pub(super) fn read_stream() -> ReadOptions {
    let mut tuned = ReadOptions::default();
    tuned.set_verify_checksums(true);
    tuned.set_prefix_same_as_start(true);
    tuned
}

/// How to write.
pub(super) fn write(durability: Durability) -> WriteOptions {
    let mut tuned = WriteOptions::default();
    tuned.set_sync(durability == Durability::Sync);
    tuned
}
