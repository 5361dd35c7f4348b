//! Snapshots and views in a store on disk: they survive a reopen; a closed store refuses access and
//! a read-only store refuses writes; damaged views are reported and damaged snapshots are skipped
//! (G8, G13).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use annals::prelude::*;
use annals::{
    Checkpoint, Direction, Error, Limits, Snapshot, SnapshotStore, Timestamp, Version, ViewChange,
    ViewCommit, ViewScan, ViewStore, limits,
};
use proptest::prelude::*;

use crate::support::bank::{Account, create, deposit};
use crate::support::{copy, database, edit, events, fingerprint, place, position, quick, version};

const ALL: NonZeroUsize = NonZeroUsize::MAX;

fn put(key: &[u8], value: &[u8]) -> ViewChange {
    ViewChange::Put { key: key.to_vec(), value: value.to_vec() }
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { position: Some(position(number)), state: b"state".to_vec() }
}

/// Returns a commit that moves the checkpoint of a view from one position to another.
fn commit(view: &str, from: Option<u64>, to: u64, changes: Vec<ViewChange>) -> ViewCommit {
    let expected = from.map(checkpoint);
    ViewCommit {
        view: view.to_owned(),
        expected,
        changes,
        checkpoint: Some(checkpoint(to)),
        follows_other_log: true,
    }
}

fn scan(view: &str, entries_max: usize) -> ViewScan {
    ViewScan { view: view.to_owned(), entries_max, ..ViewScan::default() }
}

fn snapshot(number: u64) -> Snapshot {
    Snapshot {
        kind: "kind".to_owned(),
        stream: StreamId::new("a-1").unwrap(),
        version: version(number),
        event_id: EventId::from_bytes([7; 16]),
        schema_version: 1,
        taken_at: Timestamp::from_micros(5),
        state: number.to_string().into_bytes(),
    }
}

fn newest(store: &impl SnapshotStore) -> Option<u64> {
    let stream = StreamId::new("a-1").unwrap();
    let newest = store.load_snapshot("kind", &stream, Version::MAX).unwrap();
    newest.map(|snapshot| snapshot.version.get())
}

/// Builds a closed store with one event, three snapshots and two views of two values each; the name
/// of one view is a prefix of the other's.
fn build(path: &Path) {
    let store = quick().open(path).unwrap();
    store.append("a-1", ExpectedVersion::Any, events(1)).unwrap();
    for view in ["v", "vw"] {
        let changes = vec![put(b"k1", b"one"), put(b"k2", b"two")];
        store.commit_view(&commit(view, None, 1, changes)).unwrap();
    }
    for number in 1..=3 {
        store.save_snapshot(&snapshot(number), ALL).unwrap();
    }
    store.close().unwrap();
}

/// A step of the model test: an operation on the view stores, or a reopen of the store on disk.
#[derive(Debug, Clone)]
enum Step {
    Commit {
        view: usize,
        changes: Vec<Change>,
        keeps_checkpoint: bool,
        is_stale: bool,
    },
    Scan {
        view: usize,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        backward: bool,
        entries_max: usize,
    },
    Reopen,
}

#[derive(Debug, Clone)]
enum Change {
    Put(Vec<u8>, u8),
    Delete(Vec<u8>),
    Clear,
}

const VIEWS: [&str; 3] = ["a", "a ", "ab"];

/// The expected content of a view.
#[derive(Debug, Clone, Default)]
struct Model {
    checkpoint: Option<Checkpoint>,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn key(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(0xfe), Just(0xff)], len)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (key(1..4), any::<u8>()).prop_map(|(key, value)| Change::Put(key, value)),
        2 => key(1..4).prop_map(Change::Delete),
        1 => Just(Change::Clear),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec(change(), 0..8);
    let commit = (0..VIEWS.len(), changes, prop::bool::weighted(0.8), prop::bool::weighted(0.1));
    let scan = (0..VIEWS.len(), key(0..3), prop::option::of(key(0..4)), any::<bool>(), 0_usize..6);
    prop_oneof![
        5 => commit.prop_map(|(view, changes, keeps_checkpoint, is_stale)| {
            Step::Commit { view, changes, keeps_checkpoint, is_stale }
        }),
        5 => scan.prop_map(|(view, prefix, after, backward, entries_max)| {
            Step::Scan { view, prefix, after, backward, entries_max }
        }),
        1 => Just(Step::Reopen),
    ]
}

impl Model {
    fn apply(&mut self, changes: &[Change]) {
        if changes.iter().any(|change| matches!(change, Change::Clear)) {
            self.values.clear();
        }
        for change in changes {
            match change {
                Change::Put(key, value) => drop(self.values.insert(key.clone(), vec![*value; 3])),
                Change::Delete(key) => drop(self.values.remove(key)),
                Change::Clear => {}
            }
        }
    }

    fn page(&self, scan: &ViewScan) -> (Vec<annals::ViewEntry>, bool) {
        let is_backward = scan.direction == Direction::Backward;
        let is_behind = |key: &Vec<u8>| match &scan.after {
            None => true,
            Some(after) => {
                if is_backward {
                    key < after
                } else {
                    key > after
                }
            }
        };
        let mut entries: Vec<_> = self
            .values
            .iter()
            .filter(|(key, _)| key.starts_with(&scan.prefix) && is_behind(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if is_backward {
            entries.reverse();
        }
        let has_more = entries.len() > scan.entries_max;
        entries.truncate(scan.entries_max);
        (entries, has_more)
    }
}

fn check_step(stores: [&dyn ViewStore; 2], models: &mut [Model; 3], step: &Step, number: u64) {
    match step {
        Step::Reopen => {}
        Step::Commit { view, changes, keeps_checkpoint, is_stale } => {
            let model = &mut models[*view];
            let expected =
                if *is_stale { Some(checkpoint(number + 1_000)) } else { model.checkpoint.clone() };
            let change = |change: &Change| match change {
                Change::Put(key, value) => put(key, &[*value; 3]),
                Change::Delete(key) => ViewChange::Delete { key: key.clone() },
                Change::Clear => ViewChange::Clear,
            };
            let commit = ViewCommit {
                view: VIEWS[*view].to_owned(),
                expected,
                changes: changes.iter().map(change).collect(),
                checkpoint: Some(checkpoint(number)).filter(|_| *keeps_checkpoint),
                follows_other_log: true,
            };
            for store in stores {
                let committed = store.commit_view(&commit);
                match committed {
                    Ok(()) => assert!(!is_stale),
                    Err(Error::CheckpointMoved { .. }) => assert!(is_stale),
                    Err(error) => panic!("{error}"),
                }
            }
            if !is_stale {
                model.apply(changes);
                model.checkpoint = commit.checkpoint;
            }
        }
        Step::Scan { view, prefix, after, backward, entries_max } => {
            let direction = if *backward { Direction::Backward } else { Direction::Forward };
            let (prefix, after) = (prefix.clone(), after.clone());
            let scan = ViewScan { prefix, after, direction, ..scan(VIEWS[*view], *entries_max) };
            let expected = models[*view].page(&scan);
            for store in stores {
                let page = store.scan_view(&scan).unwrap();
                assert_eq!((page.entries, page.has_more), expected, "{scan:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The memory store and the store on disk, which is reopened in between, agree with the model.
    #[test]
    fn views_agree_with_a_sorted_map_and_checkpoint(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (_directory, path) = place();
        let options = || quick().memtable_bytes(1);
        let mut disk = options().open(&path).unwrap();
        let memory = MemoryStore::new();
        let mut models = <[Model; 3]>::default();
        for (number, step) in (1..).zip(&steps) {
            if matches!(step, Step::Reopen) {
                disk.close().unwrap();
                disk = options().open(&path).unwrap();
            }
            check_step([&disk, &memory], &mut models, step, number);
        }
        for (view, model) in VIEWS.iter().zip(&models) {
            for store in [&disk as &dyn ViewStore, &memory] {
                prop_assert_eq!(&store.checkpoint(view).unwrap(), &model.checkpoint);
                let page = store.scan_view(&scan(view, usize::MAX)).unwrap();
                prop_assert_eq!(&page.entries.into_iter().collect::<BTreeMap<_, _>>(), &model.values);
            }
        }
    }
}

#[test]
fn reopened_store_has_its_views_and_snapshots() {
    let (_directory, path) = place();
    build(&path);
    let before = fingerprint(&path);
    let store = Store::options().read_only(true).open(&path).unwrap();
    for view in ["v", "vw"] {
        assert_eq!(store.checkpoint(view).unwrap(), Some(checkpoint(1)));
        let page = store.scan_view(&scan(view, 9)).unwrap();
        let expected = [(b"k1", b"one"), (b"k2", b"two")].map(|(k, v)| (k.to_vec(), v.to_vec()));
        assert_eq!(page.entries, expected);
    }
    assert_eq!(store.list_views().unwrap(), ["v", "vw"]);
    assert_eq!(newest(&store), Some(3));
    // A read-only store refuses every write.
    assert!(matches!(store.commit_view(&commit("v", Some(1), 2, vec![])), Err(Error::ReadOnly)));
    assert!(matches!(store.drop_view("v"), Err(Error::ReadOnly)));
    assert!(matches!(store.save_snapshot(&snapshot(4), ALL), Err(Error::ReadOnly)));
    let stream = StreamId::new("a-1").unwrap();
    assert!(matches!(store.delete_snapshots("kind", &stream), Err(Error::ReadOnly)));
    store.close().unwrap();
    assert_eq!(fingerprint(&path), before);
}

/// The calls go through handles, which do not keep the store open.
#[test]
fn closed_store_refuses_views_and_snapshots() {
    let (_directory, path) = place();
    build(&path);
    let refuse = |views: &dyn ViewStore, snapshots: &dyn SnapshotStore| {
        let stream = StreamId::new("a-1").unwrap();
        let refused = [
            views.commit_view(&commit("v", Some(1), 2, vec![])).err(),
            views.checkpoint("v").err(),
            views.view_value("v", b"k1").err(),
            views.scan_view(&scan("v", 1)).err(),
            views.list_views().err(),
            views.drop_view("v").err(),
            snapshots.save_snapshot(&snapshot(4), ALL).err(),
            snapshots.load_snapshot("kind", &stream, Version::MAX).err(),
            snapshots.delete_snapshots("kind", &stream).err(),
        ];
        for (call, error) in refused.into_iter().enumerate() {
            assert!(matches!(error, Some(Error::Closed)), "call {call}: {error:?}");
        }
    };
    let store = quick().open(&path).unwrap();
    let (views, snapshots) = (store.view_handle(), store.snapshot_handle());
    assert_eq!(views.view_handle().checkpoint("v").unwrap(), Some(checkpoint(1)));
    drop(store);
    refuse(&*views, &*snapshots);
    let reopened = quick().open(&path);
    assert_eq!(newest(&reopened.unwrap()), Some(3), "the handles do not hold the lock");

    let memory = MemoryStore::new();
    memory.close();
    refuse(&memory, &memory);
}

/// Closing waits for writes in progress: acknowledged writes are stored, and later writes are
/// refused as closed.
#[test]
fn close_keeps_acknowledged_derived_writes() {
    for _ in 0..5 {
        let (_directory, path) = place();
        let store = quick().open(&path).unwrap();
        let views = store.view_handle();
        let writer = std::thread::spawn(move || {
            let mut done = None;
            for number in 1_u64.. {
                let changes = vec![put(b"k", &number.to_be_bytes()), put(b"large", &[7; 5_000])];
                match views.commit_view(&commit("v", done, number, changes)) {
                    Ok(()) => done = Some(number),
                    Err(Error::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            done
        });
        while store.checkpoint("v").unwrap().is_none() {
            std::thread::yield_now();
        }
        store.close().unwrap();
        let done = writer.join().unwrap().unwrap();
        let store = quick().open(&path).unwrap();
        assert_eq!(store.checkpoint("v").unwrap(), Some(checkpoint(done)));
        let value = store.view_value("v", b"k").unwrap();
        assert_eq!(value, Some(done.to_be_bytes().to_vec()));
    }
}

/// A change to the bytes of a record.
type Edit<'e> = dyn Fn(&mut Vec<u8>) + 'e;

/// Applies every kind of damage to a record, each to a separate copy of the store.
fn damage(family: &str, key: &[u8], other: &[u8], mut judge: impl FnMut(&Store, &str)) {
    let (directory, whole) = place();
    build(&whole);
    let swapped = {
        let db = database(&whole);
        db.get_cf(db.cf_handle(family).unwrap(), other).unwrap().unwrap()
    };
    let kinds: [(&str, &Edit<'_>); 5] = [
        ("first bit flipped", &|bytes| bytes[0] ^= 1),
        ("last bit flipped", &|bytes| *bytes.last_mut().unwrap() ^= 1),
        ("truncated", &|bytes| bytes.truncate(bytes.len() - 1)),
        ("emptied", &|bytes| bytes.clear()),
        ("the record of another key", &|bytes| bytes.clone_from(&swapped)),
    ];
    for (told, change) in kinds {
        let path = directory.path().join(told);
        copy(&whole, &path);
        edit(&path, family, key, change);
        judge(&quick().open(&path).unwrap(), told);
    }
}

fn assert_damage(error: Option<Error>, place: &str, told: &str) {
    match error {
        Some(Error::Corruption { location, .. }) => {
            assert_eq!(location.to_string(), place, "{told}");
        }
        other => panic!("{told}: {other:?}"),
    }
}

#[test]
fn damaged_view_value_fails_exactly_its_reads() {
    damage("views", b"v\0k2", b"v\0k1", |store, told| {
        let place = "family views, view v, key k2";
        assert_damage(store.view_value("v", b"k2").err(), place, told);
        for direction in [Direction::Forward, Direction::Backward] {
            let whole = ViewScan { direction, ..scan("v", 9) };
            assert_damage(store.scan_view(&whole).err(), place, told);
        }
        assert_eq!(store.view_value("v", b"k1").unwrap().unwrap(), b"one", "{told}");
        let page = store.scan_view(&scan("v", 1)).unwrap();
        assert!(page.entries.len() == 1 && page.has_more, "{told}");
        assert_eq!(store.scan_view(&scan("vw", 9)).unwrap().entries.len(), 2, "{told}");
        // A rebuild repairs the view.
        let again = vec![ViewChange::Clear, put(b"k3", b"three")];
        store.commit_view(&commit("v", Some(1), 2, again)).unwrap();
        assert_eq!(store.scan_view(&scan("v", 9)).unwrap().entries.len(), 1, "{told}");
    });
}

#[test]
fn damaged_checkpoint_is_reported_and_not_used() {
    damage("checkpoints", b"v", b"vw", |store, told| {
        let place = "family checkpoints, key v";
        assert_damage(store.checkpoint("v").err(), place, told);
        assert_eq!(store.list_views().unwrap(), ["v", "vw"], "{told}");
        for expected in [None, Some(1)] {
            let refused = store.commit_view(&commit("v", expected, 2, vec![put(b"k", b"1")]));
            assert_damage(refused.err(), place, told);
        }
        assert_eq!(store.view_value("v", b"k").unwrap(), None, "{told}");
        assert_eq!(store.checkpoint("vw").unwrap(), Some(checkpoint(1)), "{told}");
        // Dropping the view is the remedy.
        store.drop_view("v").unwrap();
        assert_eq!(store.list_views().unwrap(), ["vw"], "{told}");
        assert!(store.scan_view(&scan("v", 9)).unwrap().entries.is_empty(), "{told}");
        store.commit_view(&commit("v", None, 2, vec![put(b"k", b"1")])).unwrap();
        assert_eq!(store.checkpoint("v").unwrap(), Some(checkpoint(2)), "{told}");
    });
}

#[test]
fn damaged_snapshot_is_skipped_for_an_older_one() {
    let key = |version: u64| [&b"kind\0a-1\0"[..], &version.to_be_bytes()].concat();
    damage("snapshots", &key(3), &key(2), |store, told| {
        assert_eq!(newest(store), Some(2), "{told}");
        store.save_snapshot(&snapshot(3), NonZeroUsize::MIN).unwrap();
        assert_eq!(newest(store), Some(3), "{told}");
    });
    damage("snapshots", &key(1), &key(2), |store, told| {
        assert_eq!(newest(store), Some(3), "{told}");
        let stream = StreamId::new("a-1").unwrap();
        let loaded = store.load_snapshot("kind", &stream, version(1)).unwrap();
        assert_eq!(loaded, None, "{told}");
    });
}

/// A faulty snapshot changes no result, so only the statistics show it.
#[test]
fn repository_counts_damaged_snapshots() {
    let (_directory, path) = place();
    let policy = || SnapshotPolicy::always().keep(9);
    let of = |store: &Store| Repository::<Account>::new(store).snapshots(store, policy());
    let store = quick().open(&path).unwrap();
    for command in [create(), deposit(1), deposit(2)] {
        of(&store).execute("1", &command).unwrap();
    }
    store.close().unwrap();
    let key = |version: u64| [&b"account\0account-1\0"[..], &version.to_be_bytes()].concat();
    edit(&path, "snapshots", &key(3), |bytes| bytes[0] ^= 1);
    edit(&path, "snapshots", &key(2), Vec::clear);
    let store = quick().open(&path).unwrap();
    let accounts = of(&store);
    assert_eq!(accounts.load("1").unwrap().state().balance, 3);
    let stats = accounts.snapshot_stats();
    assert_eq!((stats.used, stats.ignored), (1, 2));
    let last = stats.last_ignored.unwrap();
    assert_eq!((last.stream.as_str(), last.version), ("account-1", Some(version(2))));
    assert!(last.fault.to_string().contains("damaged data in family snapshots"), "{}", last.fault);
    assert!(accounts.check_snapshots("1").unwrap().is_sound(), "it checks readable snapshots only");
    accounts.execute("1", &deposit(4)).unwrap();
    accounts.load("1").unwrap();
    assert_eq!(accounts.snapshot_stats().ignored, 4, "the load of the command skipped them too");
}

#[test]
fn error_of_a_limit_names_it_and_the_remedy() {
    let store = MemoryStore::new();
    let large = vec![0; limits::VIEW_VALUE_LEN_MAX + 1];
    let refuse =
        |changes| store.commit_view(&commit("v", None, 1, changes)).unwrap_err().to_string();
    for (changes, remedy) in [
        (
            vec![put(&large[..1025], b"")],
            "the limit view_key_len_max allows 1024, but got 1025: use a",
        ),
        (
            vec![put(b"k", &large)],
            "view_value_len_max allows 16777216, but got 16777217: split it over several keys",
        ),
        (
            vec![put(b"k", &large[1..]); 5],
            "view_commit_len_max allows 67108864, but got 83886085: change",
        ),
    ] {
        let text = refuse(changes);
        assert!(text.contains(remedy) && !text.contains("raise"), "{text}");
    }
    let small = Limits::default().with_payload_len_max(2).with_append_events_max(1);
    let store = MemoryStore::with(small, || Timestamp::from_micros(0));
    let event = |payload: &[u8]| NewEvent::bytes("T", payload).unwrap();
    for (events, limit) in [
        (vec![event(b"abc")], "payload_len_max allows 2, but got 3"),
        (vec![event(b""), event(b"")], "append_events_max allows 1, but got 2"),
    ] {
        let text = store.append("s", ExpectedVersion::Any, events).unwrap_err().to_string();
        assert!(text.contains(limit) && text.contains("raise the limit in Limits"), "{text}");
    }
}

/// A snapshot in a later record version is skipped. A checkpoint or a value in one is refused,
/// because nothing can replace it.
#[test]
fn records_of_a_later_version_are_skipped_or_refused() {
    let (_directory, path) = place();
    build(&path);
    let snapshot_key = [&b"kind\0a-1\0"[..], &3_u64.to_be_bytes()].concat();
    for (family, key) in
        [("views", &b"v\0k1"[..]), ("checkpoints", b"v"), ("snapshots", &snapshot_key)]
    {
        edit(&path, family, key, |bytes| {
            bytes[0] = 2;
            let body = [&[2], &bytes[5..]].concat();
            bytes[1..5].copy_from_slice(&crc32(&body).to_be_bytes());
        });
    }
    let store = quick().open(&path).unwrap();
    let is_later =
        |error: Error| matches!(error, Error::UnsupportedFormat { found: 2, supported: 1, .. });
    assert!(is_later(store.view_value("v", b"k1").unwrap_err()));
    assert!(is_later(store.scan_view(&scan("v", 1)).unwrap_err()));
    assert!(is_later(store.checkpoint("v").unwrap_err()));
    assert_eq!(newest(&store), Some(2));
}

/// Computes CRC-32 by its definition, one bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A view whose checkpoint is past the head would skip the events that are appended next (G12).
#[test]
fn checkpoint_past_the_head_is_refused_unless_of_another_log() {
    let (_directory, path) = place();
    let (disk, memory) = (quick().open(&path).unwrap(), MemoryStore::new());
    let stores: [(&dyn EventStore, &dyn ViewStore); 2] = [(&disk, &disk), (&memory, &memory)];
    for (log, views) in stores {
        let own =
            |from, to| ViewCommit { follows_other_log: false, ..commit("v", from, to, vec![]) };
        let refused = views.commit_view(&own(None, 1)).unwrap_err();
        assert!(refused.is_invalid());
        assert_eq!(
            refused.to_string(),
            "view v: position 1 is past the head of the log, which is empty; set the checkpoint to the position of the \
             last event that is in the view"
        );
        log.append("a", ExpectedVersion::Any, events(3)).unwrap();
        views.commit_view(&own(None, 3)).unwrap();
        let refused = views.commit_view(&own(Some(3), 4)).unwrap_err();
        assert!(matches!(refused, Error::CheckpointAhead { .. }), "{refused}");
        assert_eq!(views.checkpoint("v").unwrap(), Some(checkpoint(3)));
        views.commit_view(&commit("v", Some(3), 9, vec![])).unwrap();
    }
}
