//! Idempotency keys of a store on disk: they survive restarts, expire as set, and are removed from
//! the disk afterwards (G15). The conformance suite has the rules of all stores.

use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    Durability, Error, IdempotencyKey, ImportOptions, KeyRetention, KeyedResult, KeyedSubmission,
    RequestDigest, StoreOptions,
};

use crate::support::{database, events, place, quick};

/// Long enough to be over after a pause of twice as long, in every test.
const BRIEF: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3_600);

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey::new("keys", name, RequestDigest::of("request")).unwrap()
}

fn keeping(time: Duration, newest: u64) -> StoreOptions {
    quick().key_retention(KeyRetention::new(time, newest))
}

fn record(store: &impl EventStore, name: &str) {
    let append = Append::new().to("a", ExpectedVersion::Any, events(1));
    assert!(!store.submit_once(&key(name), append.into()).unwrap().is_retry, "{name} is known");
}

fn is_known(store: &impl EventStore, name: &str) -> bool {
    store.find_submitted(&key(name)).unwrap().is_some()
}

#[test]
fn keys_survive_restart_backup_and_read_only_open() {
    let (directory, path) = place();
    let store = quick().open(&path).unwrap();
    record(&store, "one");
    store.submit_once(&key("none"), KeyedSubmission::nothing()).unwrap();
    let backup = directory.path().join("backup");
    store.backup(&backup).unwrap();
    record(&store, "later");
    let found = store.find_submitted(&key("one")).unwrap();
    store.close().unwrap();
    for read_only in [true, false] {
        let store = quick().read_only(read_only).open(&path).unwrap();
        assert_eq!(store.find_submitted(&key("one")).unwrap(), found);
        assert_eq!(store.find_submitted(&key("none")).unwrap(), Some(KeyedResult::Nothing));
        assert!(is_known(&store, "later"));
        let copy = quick().read_only(read_only).open(&backup).unwrap();
        assert_eq!(copy.find_submitted(&key("one")).unwrap(), found);
        assert!(is_known(&copy, "none") && !is_known(&copy, "later"));
    }
    let store = quick().read_only(true).open(&path).unwrap();
    let refused = store.submit_once(&key("one"), KeyedSubmission::nothing()).unwrap_err();
    assert!(matches!(refused, Error::ReadOnly));
}

/// An export has events only, so an import knows no keys.
#[test]
fn export_and_import_leave_keys_behind() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    record(&store, "one");
    let mut lines = Vec::new();
    store.export(&mut lines, |_| {}).unwrap();
    let (_directory, path) = place();
    let copy = quick().open(&path).unwrap();
    copy.import(&*lines, ImportOptions::default(), |_| {}).unwrap();
    assert!(!is_known(&copy, "one"));
    assert_eq!(copy.head().unwrap(), store.head().unwrap());
    record(&copy, "one");
}

#[test]
fn key_expires_when_it_is_neither_young_nor_among_the_newest() {
    let (_directory, path) = place();
    let stores: [Box<dyn EventStore>; 2] = [
        Box::new(keeping(BRIEF, 2).open(path).unwrap()),
        Box::new(MemoryStore::with_key_retention(KeyRetention::new(BRIEF, 2))),
    ];
    for store in stores {
        record(&store, "one");
        record(&store, "two");
        thread::sleep(2 * BRIEF);
        assert!(is_known(&store, "one"), "it is old, but among the newest");
        record(&store, "three");
        assert!(!is_known(&store, "one") && is_known(&store, "two"));
        // An expired key can be used again, also for another request.
        let other = IdempotencyKey::new("keys", "one", RequestDigest::of("other")).unwrap();
        assert!(!store.submit_once(&other, KeyedSubmission::nothing()).unwrap().is_retry);
        assert_eq!(store.find_submitted(&other).unwrap(), Some(KeyedResult::Nothing));
        assert!(store.find_submitted(&key("one")).is_err(), "now it is the key of another request");
    }
    let stores: [Box<dyn EventStore>; 2] = [
        Box::new(keeping(LONG, 0).open(place().1).unwrap()),
        Box::new(MemoryStore::with_key_retention(KeyRetention::new(LONG, 0))),
    ];
    for store in stores {
        record(&store, "one");
        record(&store, "two");
        assert!(is_known(&store, "one"), "it is not among the newest, but young");
    }
}

/// The store's clock jumps, or the store is closed for long: neither makes a key older.
#[test]
fn retention_follows_neither_the_clock_nor_the_time_while_closed() {
    use annals::testing::FixedClock;
    let (_directory, path) = place();
    let clock = FixedClock::at(annals::Timestamp::from_micros(1_000));
    let year = Duration::from_secs(365 * 24 * 3_600);
    let options = keeping(LONG, 0).clock(clock.clock());
    for round in 0..3 {
        let store = options.clone().open(&path).unwrap();
        record(&store, &round.to_string());
        assert!((0..=round).all(|round| is_known(&store, &round.to_string())));
        clock.advance(10 * year);
        assert!(is_known(&store, "0"));
    }
    // Raising the retention makes keys valid again that are still there; lowering it, invalid.
    let none = keeping(Duration::ZERO, 0).open(&path).unwrap();
    assert!(!is_known(&none, "0"));
    drop(none);
    assert!(is_known(&keeping(LONG, 0).open(&path).unwrap(), "0"));
}

/// The time that a store is open for writing adds up.
#[test]
fn retention_clock_continues_after_reopen() {
    let (_directory, path) = place();
    let options = keeping(4 * BRIEF, 0);
    let store = options.clone().open(&path).unwrap();
    thread::sleep(3 * BRIEF);
    record(&store, "one");
    drop(store);
    let store = options.open(&path).unwrap();
    thread::sleep(4 * BRIEF);
    assert!(!is_known(&store, "one"));
}

/// Expired keys are removed by compaction, not by a scan from the front.
#[test]
fn expired_keys_are_removed_from_the_disk() {
    let (_directory, path) = place();
    let keys = || {
        let database = database(&path);
        let family = database.cf_handle("keys").unwrap();
        database.iterator_cf(family, rocksdb::IteratorMode::Start).count()
    };
    // Names of one round lie between those of others, as random keys do, so that their tables overlap.
    for (retention, count) in [(LONG, 40), (Duration::ZERO, 4)] {
        let options = keeping(retention, 0).memtable_bytes(1);
        for round in 0..8 {
            let store = options.clone().open(&path).unwrap();
            for number in 0..count {
                let refusal = KeyedSubmission::rejection(vec![7; 4_000]);
                store.submit_once(&key(&format!("{number}-{round}")), refusal).unwrap();
            }
            store.close().unwrap();
        }
        if retention == LONG {
            assert_eq!(keys(), 8 * count, "all are kept");
        } else {
            // The newest ones are in tables that were not compacted yet.
            assert!(keys() < 8 * count, "{} keys are left", keys());
        }
    }
}

/// A key is written by the same write as its events, so a synced one is as durable as they are.
#[test]
fn key_alone_is_synced_and_counted_in_the_watermark() {
    let (directory, path) = place();
    let store = Store::options().durability(Durability::Sync).open(&path).unwrap();
    record(&store, "one");
    store.submit_once(&key("alone"), KeyedSubmission::nothing()).unwrap();
    // A copy of the live files without the last write: the log that was synced has been lost.
    let copy = directory.path().join("copy");
    crate::support::copy(&path, &copy);
    drop(store);
    let log = std::fs::read_dir(copy.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "log"))
        .unwrap();
    let len = std::fs::metadata(&log).unwrap().len();
    std::fs::File::options().write(true).open(&log).unwrap().set_len(len - 10).unwrap();
    match quick().open(&copy) {
        Err(Error::Corruption { found, expected, .. }) => {
            assert_eq!(found, "idempotency keys up to number 1");
            assert_eq!(expected, "number 2 at least, as the watermark says");
        }
        other => panic!("{other:?}"),
    }
}

/// The events of a key are lost with the end of the log, and the loss is accepted: the request can
/// be done again.
#[test]
fn keys_of_lost_events_are_removed() {
    let (directory, path) = place();
    let store = quick().open(&path).unwrap();
    record(&store, "kept");
    let short = directory.path().join("short");
    store.backup(&short).unwrap();
    // The row of a store with a longer log: its key is there, its event is not.
    let (_directory, path) = place();
    let longer = quick().open(&path).unwrap();
    longer.append("a", ExpectedVersion::Any, events(5)).unwrap();
    record(&longer, "lost");
    longer.close().unwrap();
    let longer = database(&path);
    let row = longer.get_cf(longer.cf_handle("keys").unwrap(), b"keys\0lost").unwrap().unwrap();
    drop(longer);
    let backup = database(&short);
    backup.put_cf(backup.cf_handle("keys").unwrap(), b"keys\0lost", row).unwrap();
    drop(backup);
    let store = quick().open(&short).unwrap();
    assert!(is_known(&store, "kept") && !is_known(&store, "lost"));
    record(&store, "lost");
    assert!(is_known(&store, "lost"));
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

#[test]
fn verify_reports_damaged_keys() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    record(&store, "one");
    record(&store, "two");
    store.close().unwrap();
    let database = database(&path);
    let family = database.cf_handle("keys").unwrap();
    let row = database.get_cf(family, b"keys\0two").unwrap().unwrap();
    database.put_cf(family, b"keys\0one", row).unwrap();
    drop(database);
    let store = quick().read_only(true).open(&path).unwrap();
    let report = store.verify(|_| {}).unwrap();
    assert_eq!(report.damage_count, 1, "{:?}", report.damage);
    assert!(report.damage[0].location.to_string().contains("keys"), "{:?}", report.damage);
    assert!(store.find_submitted(&key("one")).unwrap_err().is_corruption());
    assert!(is_known(&store, "two"));
}

#[test]
fn impossible_keys_are_refused() {
    let digest = RequestDigest::of("");
    let long = "x".repeat(256);
    for (scope, name) in
        [("", "a"), ("a", ""), ("a\0", "b"), ("a", "b\n"), (&long[..65], "a"), ("a", &long)]
    {
        assert!(IdempotencyKey::new(scope, name, digest).is_err(), "{scope:?} {name:?}");
    }
    assert!(IdempotencyKey::new(&long[..64], &long[..255], digest).is_ok());
}
