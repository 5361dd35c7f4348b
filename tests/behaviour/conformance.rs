//! Both stores keep every rule of the conformance suite: a program tested over memory behaves the same on disk.

mod memory {
    annals::event_store_conformance!((annals::MemoryStore::new(), ()));
}

mod disk {
    use annals::{Durability, Store};

    fn fresh() -> (Store, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let options = Store::options().durability(Durability::Buffered);
        (options.open(directory.path().join("store")).unwrap(), directory)
    }

    annals::event_store_conformance!(fresh());
}

/// The same with everything small: a memtable that is flushed all the time, and hardly a tip remembered.
mod small_disk {
    use annals::{Durability, Store};

    fn fresh() -> (Store, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let options = Store::options().durability(Durability::Buffered);
        let options = options.memtable_bytes(1).block_cache_bytes(1).tip_cache_streams(1);
        (options.open(directory.path().join("store")).unwrap(), directory)
    }

    annals::event_store_conformance!(fresh());
}
