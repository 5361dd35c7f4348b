//! The store on disk and the memory store both pass the conformance suites, so a program that is
//! tested with the memory store behaves the same on disk.

mod memory {
    annals::event_store_conformance!((annals::MemoryStore::new(), ()));
    annals::snapshot_store_conformance!((annals::MemoryStore::new(), ()));
    annals::view_store_conformance!((annals::MemoryStore::new(), ()));
}

#[cfg(feature = "rocksdb")]
mod disk {
    use annals::{Durability, Store};

    fn fresh() -> (Store, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let options = Store::options().durability(Durability::Buffered);
        (options.open(directory.path().join("store")).unwrap(), directory)
    }

    annals::event_store_conformance!(fresh());
    annals::snapshot_store_conformance!(fresh());
    annals::view_store_conformance!(fresh());
}

/// The same suites with a memtable that is flushed constantly, a version cache of one stream, and
/// packs of one or two frames.
#[cfg(feature = "rocksdb")]
mod small_disk {
    use annals::{Durability, Store};

    fn fresh() -> (Store, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let options = Store::options().durability(Durability::Buffered);
        let options = options.memtable_bytes(1).block_cache_bytes(4_000).version_cache_streams(1);
        // The cache holds nothing that is read ahead, but the thread runs.
        let options = options.pack_bytes(200).read_ahead_bytes(4 << 20);
        (options.open(directory.path().join("store")).unwrap(), directory)
    }

    annals::event_store_conformance!(fresh());
    annals::snapshot_store_conformance!(fresh());
    annals::view_store_conformance!(fresh());
}

/// Synced writes are slow enough that callers wait for each other, so they are committed in groups.
#[cfg(feature = "rocksdb")]
#[test]
fn synced_groups_pass_the_concurrency_suite() {
    use std::sync::Arc;

    use annals::testing::conformance::{Case, concurrency};
    use annals::{EventStore, Store};

    let rules: [Case; 3] = [
        concurrency::same_append_from_many_threads_is_written_once,
        concurrency::one_of_many_rivals_for_a_version_succeeds,
        concurrency::concurrent_writers_make_one_log_without_gaps,
    ];
    for rule in rules {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn EventStore> = Arc::new(Store::open(directory.path()).unwrap());
        rule(&store);
    }
}
