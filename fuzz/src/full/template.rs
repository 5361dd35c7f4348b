//! Stores that are made once and copied for each input: one with a little of everything in it, and
//! an empty one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use annals::prelude::*;
use annals::{
    Checkpoint, Durability, Position, Snapshot, SnapshotStore, StoreOptions, ViewChange,
    ViewCommit, ViewStore,
};
use tempfile::TempDir;

/// The streams of the store with contents.
pub(super) const STREAMS: [&str; 3] = ["a-1", "account-1", "b"];
/// How many events it has.
pub(super) const EVENTS: u64 = 18;
/// Kind and stream of its snapshot, and the name of its read model.
pub(super) const KIND: &str = "account";
pub(super) const VIEW: &str = "balances";

pub(super) fn options() -> StoreOptions {
    // Small memtables: RocksDB preallocates that much for a write-ahead log.
    Store::options().durability(Durability::Buffered).memtable_bytes(1)
}

/// A copy of the store with contents.
pub(super) fn store() -> (TempDir, PathBuf) {
    static FULL: OnceLock<TempDir> = OnceLock::new();
    copied(&FULL, fill)
}

/// A copy of a store without events: opening one is faster than creating it.
pub(super) fn empty() -> (TempDir, PathBuf) {
    static EMPTY: OnceLock<TempDir> = OnceLock::new();
    copied(&EMPTY, |path| options().open(path).unwrap().close().unwrap())
}

fn copied(made: &OnceLock<TempDir>, make: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let made = made.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join("store"));
        directory
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    copy(&made.path().join("store"), &path);
    (directory, path)
}

fn fill(path: &Path) {
    // Each frame is a pack, so that another pack or the first row of `tail` continues the log.
    let store = options().pack_bytes(1).open(path).unwrap();
    for round in 0..3 {
        for stream in STREAMS {
            let opened =
                NewEvent::json("Opened", &round).unwrap().with_tag("t").with_metadata("k", "v");
            let noted = NewEvent::bytes("Noted", [0xff, round]).unwrap().caused_by(opened.id());
            store.append(stream, ExpectedVersion::Any, [opened, noted]).unwrap();
        }
    }
    let last = store.read_stream(STREAMS[1]).last().unwrap().unwrap();
    let snapshot = Snapshot {
        kind: KIND.to_owned(),
        stream: last.stream().clone(),
        version: last.version(),
        event_id: last.id(),
        schema_version: 1,
        taken_at: last.recorded_at(),
        state: b"application/json\0{}".to_vec(),
    };
    store.save_snapshot(&snapshot, 1.try_into().unwrap()).unwrap();
    let directory = r#"{"serving":{"generation":1,"version":1},"building":null,"newest":1}"#;
    commit(&store, VIEW, None, directory.as_bytes(), Vec::new());
    let change = ViewChange::Put { key: b"va-1".to_vec(), value: b"7".to_vec() };
    commit(&store, &format!("${VIEW}@1"), store.head().unwrap(), b"", vec![change]);
    store.close().unwrap();
}

fn commit(
    store: &Store,
    view: &str,
    position: Option<Position>,
    state: &[u8],
    changes: Vec<ViewChange>,
) {
    let checkpoint = Some(Checkpoint { position, state: state.to_vec() });
    let view = view.to_owned();
    store
        .commit_view(&ViewCommit {
            view,
            expected: None,
            changes,
            checkpoint,
            follows_other_log: true,
        })
        .unwrap();
}

fn copy(from: &Path, to: &Path) {
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
