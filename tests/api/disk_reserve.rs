//! A disk that is nearly full: with a reserve that no disk has, every write that needs space is
//! refused and changes nothing (G9). `tests/faults/disk_full` fills real disks.

use std::num::NonZeroUsize;
use std::path::Path;

use annals::prelude::*;
use annals::{
    Checkpoint, Error, Snapshot, SnapshotStore, Timestamp, Version, ViewChange, ViewCommit,
    ViewScan, ViewStore,
};

use crate::support::{events, place, position, quick, version};

/// Opens a store on a disk that has less free space than the reserve.
fn nearly_full(path: &Path) -> Store {
    quick().disk_reserve_bytes(u64::MAX).open(path).unwrap()
}

fn is_full(error: &Error) -> bool {
    assert!(error.is_temporary() && !error.needs_reopen() && !error.is_invalid(), "{error:?}");
    matches!(error, Error::DiskFull { free, reserve: u64::MAX, .. } if *free > 0)
}

fn snapshot(number: u64) -> Snapshot {
    Snapshot {
        kind: "kind".to_owned(),
        stream: StreamId::new("a-1").unwrap(),
        version: version(number),
        event_id: EventId::from_bytes([7; 16]),
        schema_version: 1,
        taken_at: Timestamp::from_micros(5),
        state: vec![1],
    }
}

fn change(expected: Option<Checkpoint>, to: u64) -> ViewCommit {
    ViewCommit {
        view: "view".to_owned(),
        expected,
        changes: vec![ViewChange::Put { key: vec![1], value: vec![to.to_be_bytes()[7]] }],
        checkpoint: Some(Checkpoint { position: Some(position(to)), state: Vec::new() }),
        follows_other_log: false,
    }
}

fn newest(store: &Store) -> Option<Version> {
    let stream = StreamId::new("a-1").unwrap();
    let newest = store.load_snapshot("kind", &stream, Version::MAX).unwrap();
    newest.map(|snapshot| snapshot.version)
}

#[test]
fn append_to_a_nearly_full_disk_changes_nothing() {
    let (directory, path) = place();
    let first = events(2);
    let store = quick().open(&path).unwrap();
    store.append("a-1", ExpectedVersion::NoStream, first.clone()).unwrap();
    store.close().unwrap();

    let store = nearly_full(&path);
    let refused = store.append("a-1", ExpectedVersion::Any, events(1)).unwrap_err();
    assert!(is_full(&refused), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains("free space and retry"), "{text}");
    // What needs no space is answered as ever.
    let retry = store.append("a-1", ExpectedVersion::NoStream, first).unwrap();
    assert!(retry.is_retry());
    let conflict = store.append("a-1", ExpectedVersion::NoStream, events(1)).unwrap_err();
    assert!(conflict.is_conflict());
    assert_eq!(store.head().unwrap(), Some(position(2)));
    assert_eq!(store.read_log().into_iter().flatten().count(), 2);
    assert!(store.info().unwrap().poisoned.is_none());
    store.sync().unwrap();
    store.backup(directory.path().join("copy")).unwrap();
    store.close().unwrap();

    // The same directory with less to keep free.
    let store = quick().open(&path).unwrap();
    let appended = store.append("a-1", ExpectedVersion::Any, events(1)).unwrap();
    assert_eq!(appended.last_position(), position(3));
}

#[test]
fn derived_data_on_a_nearly_full_disk_can_only_be_deleted() {
    let (_directory, path) = place();
    let keep = NonZeroUsize::MIN;
    let store = quick().open(&path).unwrap();
    store.append("a-1", ExpectedVersion::NoStream, events(3)).unwrap();
    store.save_snapshot(&snapshot(1), keep).unwrap();
    store.commit_view(&change(None, 1)).unwrap();
    store.close().unwrap();

    let store = nearly_full(&path);
    assert!(is_full(&store.save_snapshot(&snapshot(2), keep).unwrap_err()));
    assert_eq!(newest(&store), Some(version(1)));
    let before = store.checkpoint("view").unwrap();
    assert!(is_full(&store.commit_view(&change(before.clone(), 2)).unwrap_err()));
    assert_eq!(store.checkpoint("view").unwrap(), before);
    store.delete_snapshots("kind", &StreamId::new("a-1").unwrap()).unwrap();
    assert_eq!(newest(&store), None);
    store.drop_view("view").unwrap();
    let scan = ViewScan { view: "view".to_owned(), ..ViewScan::default() };
    assert!(store.scan_view(&scan).unwrap().entries.is_empty());
    assert!(store.info().unwrap().poisoned.is_none());
    store.close().unwrap();
}
