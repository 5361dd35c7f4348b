//! What several stories need: fresh directories, copies of them, and what lies in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use annals::StoreOptions;
use annals::prelude::*;
use rocksdb::{DB, Options};
use tempfile::TempDir;

/// All column families.
pub(crate) const FAMILIES: [&str; 7] =
    ["events", "streams", "snapshots", "checkpoints", "views", "index", "meta"];

/// Options for a store that need not survive a power loss.
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

pub(crate) fn log(store: &Store) -> Vec<RecordedEvent> {
    store.read_log().into_iter().collect::<Result<_, _>>().unwrap()
}

/// Every file below a directory with its bytes, and every directory.
pub(crate) fn fingerprint(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// As a backup program would take it that knows nothing of what it copies.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Changes the bytes of a record, as a failing disk would that the engine does not notice.
pub(crate) fn edit(path: &Path, family: &str, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let db = DB::open_cf(&Options::default(), path.join("db"), FAMILIES).unwrap();
    let family = db.cf_handle(family).unwrap();
    let mut bytes = db.get_cf(family, key).unwrap().unwrap();
    change(&mut bytes);
    db.put_cf(family, key, bytes).unwrap();
}
