//! What all test binaries share: fresh directories, what is in them and how they are copied, random
//! numbers, the bank, stores that fail, and what a store promised. Each binary has it as its module
//! `support`.

#![allow(dead_code, unused_imports, reason = "each binary of tests uses what it needs")]

pub(crate) mod bank;
pub(crate) mod files;
#[cfg(feature = "rocksdb")]
pub(crate) mod promises;
pub(crate) mod random;
pub(crate) mod skip;
#[cfg(feature = "rocksdb")]
pub(crate) mod stores;

use std::path::{Path, PathBuf};
use std::time::Duration;

use annals::prelude::*;
#[cfg(feature = "rocksdb")]
use annals::{Durability, EventType, Position, StoreOptions, Version};
#[cfg(feature = "rocksdb")]
use rocksdb::{DB, Options};
use tempfile::TempDir;

pub(crate) use files::{copy, fingerprint};

/// Nothing here takes long; a test that waits longer than this would wait forever.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// All column families.
pub(crate) const FAMILIES: [&str; 7] =
    ["events", "streams", "snapshots", "checkpoints", "views", "index", "meta"];

/// Options for a store that need not survive a power loss.
#[cfg(feature = "rocksdb")]
pub(crate) fn quick() -> StoreOptions {
    Store::options().durability(Durability::Buffered)
}

/// A place for a store that is not there yet.
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

/// Changes the bytes of a record, as a failing disk would that the engine does not notice.
#[cfg(feature = "rocksdb")]
pub(crate) fn edit(path: &Path, family: &str, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let db = DB::open_cf(&Options::default(), path.join("db"), FAMILIES).unwrap();
    let family = db.cf_handle(family).unwrap();
    let mut bytes = db.get_cf(family, key).unwrap().unwrap();
    change(&mut bytes);
    db.put_cf(family, key, bytes).unwrap();
}

/// A directory in memory, where there is such a thing: thousands of stores are opened there.
pub(crate) fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
