//! Shared by all test binaries as the module `support`: temporary directories, file copies, random
//! numbers, the bank, stores that fail, and the promises of a store.

#![allow(dead_code, unused_imports, reason = "each binary of tests uses what it needs")]

pub(crate) mod bank;
#[cfg(feature = "rocksdb")]
pub(crate) mod deletions;
pub(crate) mod files;
#[cfg(all(feature = "async", feature = "rocksdb"))]
pub(crate) mod promises;
pub(crate) mod random;
pub(crate) mod skip;
#[cfg(feature = "rocksdb")]
pub(crate) mod stores;

use std::path::{Path, PathBuf};
use std::time::Duration;

use annals::prelude::*;
#[cfg(feature = "rocksdb")]
use annals::{Durability, StoreOptions};
use annals::{EventType, Position, Version};
#[cfg(feature = "rocksdb")]
use rocksdb::{DB, Options};
use tempfile::TempDir;

pub(crate) use files::{copy, fingerprint};

/// A test that waits longer than this would wait forever: nothing here takes long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Options for a store that need not survive a power loss, on a disk of any size.
#[cfg(feature = "rocksdb")]
pub(crate) fn quick() -> StoreOptions {
    Store::options().durability(Durability::Buffered).disk_reserve_bytes(0)
}

/// A path for a store that does not exist yet.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    (directory, path)
}

pub(crate) fn events(count: usize) -> Vec<NewEvent> {
    let event_type = || EventType::new("Happened").unwrap();
    (1..=count).map(|number| NewEvent::new(event_type(), number.to_string())).collect()
}

pub(crate) fn position(number: u64) -> Position {
    Position::new(number).unwrap()
}

pub(crate) fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

#[cfg(feature = "rocksdb")]
pub(crate) fn log(store: &Store) -> Vec<RecordedEvent> {
    store.read_log().into_iter().collect::<Result<_, _>>().unwrap()
}

/// Opens the database of a closed store, with all its column families.
#[cfg(feature = "rocksdb")]
pub(crate) fn database(path: &Path) -> DB {
    let (options, path) = (Options::default(), path.join("db"));
    DB::open_cf(&options, &path, DB::list_cf(&options, &path).unwrap()).unwrap()
}

/// Damages the first block of a table that holds the oldest events of the log.
#[cfg(feature = "rocksdb")]
pub(crate) fn damage_packs(path: &Path) {
    damage_first_block(&table_of(path, "packs"));
}

/// The first table of a family of a closed store.
#[cfg(feature = "rocksdb")]
pub(crate) fn table_of(path: &Path, family: &str) -> PathBuf {
    let tables = database(path).live_files().unwrap();
    let table = tables.iter().find(|table| table.column_family_name == family).unwrap();
    path.join("db").join(table.name.trim_start_matches('/'))
}

/// Flips a bit in the first block of a table.
pub(crate) fn damage_first_block(table: &Path) {
    let mut bytes = std::fs::read(table).unwrap();
    *bytes.get_mut(50).unwrap() ^= 1;
    std::fs::write(table, bytes).unwrap();
}

/// Changes the bytes of a record, like a disk fault that RocksDB does not detect.
#[cfg(feature = "rocksdb")]
pub(crate) fn edit(path: &Path, family: &str, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let db = database(path);
    let family = db.cf_handle(family).unwrap();
    let mut bytes = db.get_cf(family, key).unwrap().unwrap();
    change(&mut bytes);
    db.put_cf(family, key, bytes).unwrap();
}

/// A directory in memory, if the system has one: tests open thousands of stores there.
pub(crate) fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
