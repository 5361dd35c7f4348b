//! The contract of every [`SnapshotStore`].

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::version;
use crate::error::Error;
use crate::model::{EventId, StreamId, Timestamp, Version, limits};
use crate::snapshot_store::{Snapshot, SnapshotStore};

cases! { $ SnapshotStore
    /// Makes one `#[test]` of every rule in
    /// [`testing::conformance::snapshots`](crate::testing::conformance::snapshots).
    ///
    /// ```
    /// mod memory {
    ///     annals::snapshot_store_conformance!((annals::MemoryStore::new(), ()));
    /// }
    /// ```
    snapshot_store_conformance
    snapshots: [
        snapshot_is_loaded_as_it_was_saved,
        newest_snapshot_up_to_a_version_is_loaded,
        newest_versions_are_kept_in_any_order_of_saves,
        snapshot_replaces_one_of_the_same_version,
        snapshots_are_separate_by_kind_and_stream,
        invalid_snapshot_is_refused_and_changes_nothing,
        concurrent_saves_keep_the_newest_snapshot,
    ]
}

const ALL: NonZeroUsize = NonZeroUsize::MAX;

fn stream(id: &str) -> StreamId {
    StreamId::new(id).unwrap()
}

/// A snapshot whose content encodes its arguments.
fn snapshot(kind: &str, stream_id: &str, number: u64, what: &str) -> Snapshot {
    Snapshot {
        kind: kind.to_owned(),
        stream: stream(stream_id),
        version: version(number),
        event_id: EventId::random(),
        schema_version: 3,
        taken_at: Timestamp::from_micros(-5),
        state: format!("{kind} {stream_id} {number} {what}").into_bytes(),
    }
}

fn newest(store: &Arc<dyn SnapshotStore>, kind: &str, id: &str) -> Option<Snapshot> {
    store.load_snapshot(kind, &stream(id), Version::MAX).unwrap()
}

/// The versions of all stored snapshots.
fn versions(store: &Arc<dyn SnapshotStore>, kind: &str, id: &str) -> Vec<u64> {
    let mut found = Vec::new();
    let mut up_to = Some(Version::MAX);
    while let Some(version) = up_to {
        let Some(snapshot) = store.load_snapshot(kind, &stream(id), version).unwrap() else {
            break;
        };
        assert!(snapshot.version <= version);
        found.push(snapshot.version.get());
        up_to = snapshot.version.previous();
    }
    found
}

/// Checks every field, with the smallest and largest state and version.
pub fn snapshot_is_loaded_as_it_was_saved(store: &Arc<dyn SnapshotStore>) {
    assert_eq!(newest(store, "account", "a"), None);
    let longest = "k".repeat(limits::SNAPSHOT_KIND_LEN_MAX);
    let longest_stream = "s".repeat(limits::STREAM_ID_LEN_MAX);
    for (kind, id, len, version) in [
        ("account", "a", 0, Version::FIRST),
        ("account", "ä-日", 1 << 20, Version::MAX),
        (longest.as_str(), longest_stream.as_str(), 300, Version::FIRST),
    ] {
        let mut saved = snapshot(kind, id, 1, "");
        (saved.version, saved.state) = (version, vec![0; len]);
        store.save_snapshot(&saved, ALL).unwrap();
        assert_eq!(newest(store, kind, id), Some(saved));
    }
}

/// `up_to` is inclusive.
pub fn newest_snapshot_up_to_a_version_is_loaded(store: &Arc<dyn SnapshotStore>) {
    let saved = [3, 5, 300].map(|number| snapshot("k", "s", number, ""));
    for snapshot in &saved {
        store.save_snapshot(snapshot, ALL).unwrap();
    }
    for (up_to, expected) in [
        (1, None),
        (2, None),
        (3, Some(0)),
        (4, Some(0)),
        (5, Some(1)),
        (299, Some(1)),
        (300, Some(2)),
        (u64::MAX, Some(2)),
    ] {
        let loaded = store.load_snapshot("k", &stream("s"), version(up_to)).unwrap();
        assert_eq!(loaded.as_ref(), expected.map(|at: usize| &saved[at]), "up to {up_to}");
    }
}

/// A snapshot that is older than all kept ones is not kept.
pub fn newest_versions_are_kept_in_any_order_of_saves(store: &Arc<dyn SnapshotStore>) {
    let keep = |count| NonZeroUsize::new(count).unwrap();
    for (number, count, expected) in [
        (10, 2, &[10][..]),
        (5, 2, &[10, 5]),
        (20, 2, &[20, 10]),
        (15, 2, &[20, 15]),
        (1, 2, &[20, 15]),
        (7, 9, &[20, 15, 7]),
        (20, 1, &[20]),
        (3, 1, &[20]),
    ] {
        store.save_snapshot(&snapshot("k", "s", number, ""), keep(count)).unwrap();
        assert_eq!(versions(store, "k", "s"), expected, "after {number}, {count} kept");
    }
}

/// It replaces the old one and does not add to the count.
pub fn snapshot_replaces_one_of_the_same_version(store: &Arc<dyn SnapshotStore>) {
    let two = NonZeroUsize::new(2).unwrap();
    store.save_snapshot(&snapshot("k", "s", 1, ""), two).unwrap();
    store.save_snapshot(&snapshot("k", "s", 2, "old"), two).unwrap();
    let new = snapshot("k", "s", 2, "new");
    store.save_snapshot(&new, two).unwrap();
    assert_eq!(newest(store, "k", "s"), Some(new));
    assert_eq!(versions(store, "k", "s"), [2, 1]);
}

/// Includes names that are prefixes of each other, and pairs with the same concatenation.
pub fn snapshots_are_separate_by_kind_and_stream(store: &Arc<dyn SnapshotStore>) {
    let places = [("a", "b"), ("a", "bc"), ("ab", "c"), ("ab", "bc"), ("b", "a")];
    for (number, (kind, id)) in (1..).zip(places) {
        store.save_snapshot(&snapshot(kind, id, number, ""), NonZeroUsize::MIN).unwrap();
    }
    for (number, (kind, id)) in (1..).zip(places) {
        assert_eq!(versions(store, kind, id), [number], "{kind} {id}");
    }
    store.delete_snapshots("a", &stream("b")).unwrap();
    store.delete_snapshots("a", &stream("b")).unwrap();
    store.delete_snapshots("c", &stream("ab")).unwrap();
    for (number, (kind, id)) in (1..).zip(places) {
        let expected = if (kind, id) == ("a", "b") { vec![] } else { vec![number] };
        assert_eq!(versions(store, kind, id), expected, "{kind} {id}");
    }
}

/// G13: a refused snapshot leaves the stored ones unchanged.
pub fn invalid_snapshot_is_refused_and_changes_nothing(store: &Arc<dyn SnapshotStore>) {
    let good = snapshot("k", "s", 1, "");
    store.save_snapshot(&good, ALL).unwrap();
    let long = "k".repeat(limits::SNAPSHOT_KIND_LEN_MAX + 1);
    for kind in ["", "two\nlines", "nul\0", &long] {
        let refused = [
            store.save_snapshot(&snapshot(kind, "s", 2, ""), ALL).err(),
            store.load_snapshot(kind, &stream("s"), Version::MAX).err(),
            store.delete_snapshots(kind, &stream("s")).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(Error::InvalidArgument(_))), "{kind:?}: {error:?}");
        }
    }
    let mut large = snapshot("k", "s", 2, "");
    large.state = vec![0; limits::SNAPSHOT_STATE_LEN_MAX + 1];
    let refused = store.save_snapshot(&large, ALL).unwrap_err();
    assert!(matches!(refused, Error::LimitExceeded(_)), "{refused}");
    assert_eq!(newest(store, "k", "s"), Some(good));
    assert_eq!(versions(store, "k", "s"), [1]);
}

/// The newest version wins, regardless of the order of saving.
pub fn concurrent_saves_keep_the_newest_snapshot(store: &Arc<dyn SnapshotStore>) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..25 {
                    let saved = snapshot("k", "s", 1 + round * 4 + thread, "");
                    store.save_snapshot(&saved, NonZeroUsize::new(3).unwrap()).unwrap();
                }
            });
        }
    });
    assert_eq!(versions(store, "k", "s"), [100, 99, 98]);
}
