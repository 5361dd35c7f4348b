//! A write-ahead log that is still needed is missing. Only the manifest records it: later logs and
//! the tables have no gap (G11).

use std::fs;

use annals::prelude::*;
use annals::{Checkpoint, ViewCommit, ViewStore};

use super::damage::kind_of;
use crate::support::files::{copy_at_rest, names};
use crate::support::{place, quick};

#[test]
fn missing_log_that_only_a_view_needs_is_refused_at_open() {
    let (directory, path) = place();
    // The store's own records are in tables then, not in the log.
    quick().open(&path).unwrap().close().unwrap();
    let store = quick().memtable_bytes(1 << 20).open(&path).unwrap();
    // In the first log, and in a memtable that nothing flushes.
    let commit = ViewCommit {
        view: "counted".to_owned(),
        expected: None,
        changes: Vec::new(),
        checkpoint: Some(Checkpoint { position: None, state: vec![7] }),
        follows_other_log: true,
    };
    store.commit_view(&commit).unwrap();
    // Fills the memtables of the events once: they are flushed, and a second log begins.
    for n in 0..4 {
        let event = NewEvent::bytes("Happened", vec![n; 90_000]).unwrap();
        store.append("a", ExpectedVersion::Any, [event]).unwrap();
    }
    store.sync().unwrap();
    let copied = directory.path().join("copied");
    copy_at_rest(&path, &copied);
    let is_log = |name: &String| kind_of(name) == "write-ahead log";
    let logs: Vec<_> = names(&copied).into_iter().filter(is_log).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");

    let whole = directory.path().join("whole");
    copy_at_rest(&copied, &whole);
    assert!(quick().open(&whole).unwrap().checkpoint("counted").unwrap().is_some());
    fs::remove_file(copied.join(&logs[0])).unwrap();
    for read_only in [true, false] {
        let refused = quick().read_only(read_only).open(&copied).unwrap_err();
        assert!(refused.is_corruption(), "{refused}");
    }
}
