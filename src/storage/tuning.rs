//! Every RocksDB option that annals sets, with the reason for each. All other options keep their
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
use crate::store_options::{Compression, StoreOptions};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The smallest memtable of a family that holds events: below it, flushing costs more than it
/// saves.
const MEMTABLE_LEN_MIN: usize = 64 * KIB;

/// Length of the version at the end of a key of `streams`, after the id of the stream, and of the
/// position at the end of a key of `index`, after the tag.
const VERSION_LEN: usize = 8;

/// Options of the whole database.
pub(super) fn database(options: &StoreOptions, log: &Path) -> Result<Options> {
    // This call must come first, because it returns new options. RocksDB must not recover from a
    // background error automatically: after such an error the writer is poisoned until reopen (G9).
    // Table files need not name the machine that wrote them.
    let mut tuned = Options::default()
        .get_options_from_string("max_bgerror_resume_count=0;db_host_id=annals")
        .map_err(|error| engine_error("setting options", &error))?;

    // Detecting lost history. The default mode recovers up to the first damage without an error;
    // this mode rejects damage before the tail.
    tuned.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Opening detects a closed write-ahead log that is missing or too short.
    tuned.set_track_and_verify_wals_in_manifest(true);
    // RocksDB checks everything it can while it reads.
    tuned.set_paranoid_checks(true);
    // Opening the store opens every table file, so a missing one is detected then, not years later.
    tuned.set_max_open_files(-1);

    // Keeping history. Each of these is the default, and other values are known to be unsafe. They
    // are set explicitly so that a changed default has no effect.
    tuned.set_recycle_log_file_num(0);
    tuned.set_wal_bytes_per_sync(0);
    tuned.set_manual_wal_flush(false);
    tuned.set_unordered_write(false);
    tuned.set_enable_pipelined_write(false);
    tuned.set_wal_compression_type(DBCompressionType::None);
    tuned.set_use_fsync(false);
    tuned.set_allow_mmap_writes(false);

    // Memory. This is the limit for all memtables together; the block cache is set per family, and
    // all families share it.
    tuned.set_db_write_buffer_size(options.memtable_bytes.max(2 * MEMTABLE_LEN_MIN));
    // Opening after a crash replays the live logs, so they are limited to what the memtables hold.
    tuned.set_max_total_wal_size(u64::try_from(options.memtable_bytes).unwrap_or(u64::MAX).max(1));

    // The kernel may read ahead of scans. By default RocksDB tells it that all reads are random: a
    // replay of a log that is not in the page cache was then slower by a third, and so was the first
    // load of a stream.
    tuned.set_advise_random_on_open(false);

    // Background work: one flush and one compaction at a time leave cores for the application.
    tuned.set_max_background_jobs(2);
    // Table files are written back as they grow, so that a sync of the log does not wait for a
    // burst of table writes.
    tuned.set_bytes_per_sync(MIB as u64);

    // RocksDB's own log files are next to the database: few, small, and without statistics.
    tuned.set_db_log_dir(log);
    tuned.set_log_level(LogLevel::Warn);
    tuned.set_keep_log_file_num(4);
    tuned.set_max_log_file_size(MIB);
    tuned.set_stats_dump_period_sec(0);
    tuned.set_stats_persist_period_sec(0);
    Ok(tuned)
}

/// The block cache for data, indexes and filters. All families share it.
pub(super) fn cache(options: &StoreOptions) -> Cache {
    Cache::new_lru_cache(options.block_cache_bytes)
}

/// Options of a family that this version does not know. They can open it, because no version of
/// annals uses comparators, merge operators or blob files.
pub(super) fn unknown_family(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    let mut tuned = Options::default();
    tuned.set_block_based_table_factory(&table);
    tuned
}

/// Options of one family of the database in the directory `db`.
pub(super) fn family(
    family: Family,
    options: &StoreOptions,
    cache: &Cache,
    db: &Path,
) -> Result<Options> {
    let mut tuned = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters count towards the cache budget; otherwise they grow with the data.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // The index is partitioned. The index of a whole table file can be larger than a shard of the
    // cache; every seek would then read it again.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_metadata_block_size(4 * KIB);
    table.set_pin_top_level_index_and_filter(true);
    // Frames are read sequentially, and larger blocks compress better and need a smaller index.
    table.set_block_size(16 * KIB);
    table.set_format_version(6);
    if matches!(family, Family::Streams | Family::Index) {
        filter_streams(&mut tuned, &mut table);
    }
    if family == Family::Streams {
        // For the index, the filter of a memtable costs each insertion more than it saves lookups.
        tuned.set_memtable_prefix_bloom_ratio(0.05);
    }
    if family == Family::Keys {
        // Most lookups are for a new key: the filter answers them without reading a block.
        table.set_bloom_filter(10.0, false);
    }
    tuned.set_block_based_table_factory(&table);
    // Fast compression for new data, dense compression for the bottommost level, which holds most
    // of the data. A scan of packs spends much of its time on decompression.
    tuned.set_compression_type(DBCompressionType::Lz4);
    let is_dense = match options.compression {
        Compression::Fast => false,
        Compression::Balanced => family != Family::Packs,
        Compression::Small => true,
    };
    if is_dense {
        tuned.set_bottommost_compression_type(DBCompressionType::Zstd);
    }
    // These families take nearly all the writes, in memtables of a quarter of the budget.
    let memtable_len = match family {
        Family::Packs | Family::Tail | Family::Streams | Family::Index => {
            (options.memtable_bytes / 4).max(MEMTABLE_LEN_MIN)
        }
        _ => (options.memtable_bytes / 16).clamp(MEMTABLE_LEN_MIN, MIB),
    };
    tuned.set_write_buffer_size(memtable_len);
    // The memtable stays the default skip list: a hash memtable returns wrong results for backward
    // seeks and full scans.
    if family == Family::Tail {
        // This repeats the database's own directory. A database with several paths does not resume
        // automatically when disk space is free again. Such a resume would bypass G9, and it
        // deadlocks with a writer that waits for room in the memtables. No other option turns it
        // off.
        let path = DBPath::new(db, 0);
        let path = path.map_err(|error| engine_error("naming the database's directory", &error))?;
        tuned.set_cf_paths(&[path]);
    }
    Ok(tuned)
}

/// Adds Bloom filters by stream, or by tag, so that a lookup skips table files and memtables without its
/// stream.
///
/// Most loads then read one block, and most first appends to a stream read none. Measured with a
/// million events in 100,000 streams and a cache that holds a tenth of them, in processor time: an
/// append of ten events took 55 µs without filters and 23 µs with them, loading a stream 30 and
/// 23 µs, looking up a missing stream 22 and 3 µs.
///
/// Filters are valid only for reads within one stream. All other reads turn them off: see [`read`].
fn filter_streams(tuned: &mut Options, table: &mut BlockBasedOptions) {
    let stream: fn(&[u8]) -> &[u8] =
        |key| key.split_last_chunk::<VERSION_LEN>().map_or(key, |(stream, _)| stream);
    let has_stream: fn(&[u8]) -> bool = |key| key.len() > VERSION_LEN;
    // Each table file records this name, so its meaning must never change.
    tuned.set_prefix_extractor(SliceTransform::create("annals.stream", stream, Some(has_stream)));
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    // Filters are partitioned, as the indexes are.
    table.set_partition_filters(true);
}

/// Options for reads that may cross streams.
pub(super) fn read() -> ReadOptions {
    let mut tuned = ReadOptions::default();
    tuned.set_verify_checksums(true);
    // A scan may cross streams, regardless of a family's prefix settings.
    tuned.set_total_order_seek(true);
    tuned
}

/// Options for reads within one stream, which find nothing outside it.
pub(super) fn read_stream() -> ReadOptions {
    let mut tuned = ReadOptions::default();
    tuned.set_verify_checksums(true);
    tuned.set_prefix_same_as_start(true);
    tuned
}

/// Options for writes.
pub(super) fn write(durability: Durability) -> WriteOptions {
    let mut tuned = WriteOptions::default();
    tuned.set_sync(durability == Durability::Sync);
    tuned
}
