//! Verify finds every damage, even in only one family, reports its location, and finds nothing in a
//! sound store. The tests damage a closed store in two ways: through RocksDB, so that its block
//! checksums are valid and only annals can detect the damage, and in the table files themselves.
//!
//! After any damage, a read returns the whole history or a typed error, never less (G8).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use annals::prelude::*;
use annals::{Damage, Durability, Error, VerifyReport};
use rocksdb::{DB, IteratorMode};

use crate::support::{damage_first_block, database, table_of};

const STREAMS: u64 = 5;
const APPENDS: u64 = 400;

/// Builds a closed store with several thousand events, in frames of one to three events and in one
/// append of several frames; returns the events.
fn filled(path: &Path) -> Vec<RecordedEvent> {
    let options = Store::options().durability(Durability::Buffered).pack_bytes(1_000);
    let store = options.open(path).unwrap();
    let event = |n: u64| NewEvent::bytes("Happened", n.to_be_bytes().repeat(20)).unwrap();
    for n in 0..APPENDS {
        let events = (0..=n % 3).map(|more| event(n * 10 + more));
        store.append(format!("stream-{}", n % STREAMS), ExpectedVersion::Any, events).unwrap();
    }
    store.append("large-1", ExpectedVersion::NoStream, (0..2_500).map(event)).unwrap();
    let events = store.read_log().into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    store.close().unwrap();
    events
}

/// Changes a family directly in RocksDB.
fn tamper(path: &Path, family: &str, change: impl FnOnce(&DB, &rocksdb::ColumnFamily)) {
    let db = database(path);
    change(&db, db.cf_handle(family).unwrap());
    db.flush_cf(db.cf_handle(family).unwrap()).unwrap();
}

/// Returns the n-th key and value of a family.
fn entry(db: &DB, family: &rocksdb::ColumnFamily, n: usize) -> (Box<[u8]>, Box<[u8]>) {
    db.iterator_cf(family, IteratorMode::Start).nth(n).unwrap().unwrap()
}

fn verify(path: &Path) -> VerifyReport {
    let store = Store::options().read_only(true).open(path).unwrap();
    let mut last = 0;
    let report = store.verify(|progress| {
        assert!(last <= progress.done && progress.done <= progress.total);
        last = progress.done;
    });
    report.unwrap()
}

fn damage_of(path: &Path) -> Vec<Damage> {
    let report = verify(path);
    assert_eq!(report.damage.len() as u64, report.damage_count);
    report.damage
}

#[test]
fn sound_store_is_reported_sound_with_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let events = filled(directory.path());
    let report = verify(directory.path());
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!(report.events, events.len() as u64);
    assert_eq!(report.streams, STREAMS + 1);
    assert!(report.frames > APPENDS + 1, "the large append was split");
}

#[test]
fn changed_byte_in_either_family_is_found_and_located() {
    // The middle of a pack is in one of its frames.
    for (family, n, place) in [
        ("packs", 40, "the log, position "),
        ("streams", 150, "family streams, stream stream-1, version 124"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        tamper(directory.path(), family, |db, handle| {
            let (key, mut value) = entry(db, handle, n);
            let middle = value.len() / 2;
            value[middle] ^= 1;
            db.put_cf(handle, key, value).unwrap();
        });
        let damage = damage_of(directory.path());
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].location.to_string().starts_with(place), "{}", damage[0].location);
    }
}

#[test]
fn missing_row_in_either_family_is_found() {
    for (family, place) in [("packs", "the log,"), ("streams", "family streams,")] {
        for n in [0, 1, 30, 60, 80] {
            let directory = tempfile::tempdir().unwrap();
            filled(directory.path());
            let mut removed = Vec::new();
            tamper(directory.path(), family, |db, handle| {
                let (key, _) = entry(db, handle, n);
                db.delete_cf(handle, &key).unwrap();
                removed = key.to_vec();
            });
            let damage = damage_of(directory.path());
            let names_it = |damage: &Damage| damage.location.to_string().starts_with(place);
            assert!(damage.iter().any(names_it), "{family} {n} {removed:?}: {damage:?}");
        }
    }
}

/// The frames are in memory, but the next open needs the rows.
#[test]
fn damaged_row_of_the_tail_is_found_while_the_store_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::options().durability(Durability::Buffered).open(&path).unwrap();
    for n in 0..5 {
        let event = NewEvent::json("Happened", &n).unwrap();
        store.append("stream-1", ExpectedVersion::Any, [event]).unwrap();
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
    store.close().unwrap();

    let table = table_of(&path, "tail");
    // Without a block cache, every read reads the file.
    let reading = || Store::options().read_only(true).block_cache_bytes(0).open(&path);
    let store = reading().unwrap();
    assert!(store.verify(|_| {}).unwrap().is_sound());
    damage_first_block(&table);
    let damage = store.verify(|_| {}).unwrap().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(damage[0].location.to_string().contains(name), "{}", damage[0].location);
    assert_eq!(store.read_log().into_iter().flatten().count(), 5);
    assert!(reading().unwrap_err().is_corruption());
}

#[test]
fn missing_last_frame_of_a_stream_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let events = filled(directory.path());
    let tip = events.iter().rev().find(|event| event.stream().as_str() == "stream-3").unwrap();
    tamper(directory.path(), "streams", |db, handle| {
        let last = db
            .iterator_cf(handle, IteratorMode::Start)
            .flatten()
            .filter(|(key, _)| key.starts_with(b"stream-3\0"))
            .last();
        db.delete_cf(handle, last.unwrap().0).unwrap();
    });
    let damage = damage_of(directory.path());
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert!(
        damage[0].location.to_string().starts_with("family streams, stream stream-3, version ")
    );
    assert_eq!(damage[0].found, "nothing");
    assert_eq!(damage[0].position, Some(*tip.commit().start()));
}

#[test]
fn valid_frame_of_another_store_is_found() {
    for family in ["packs", "streams"] {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        filled(one.path());
        filled(other.path());
        let mut stolen = None;
        tamper(other.path(), family, |db, handle| stolen = Some(entry(db, handle, 77)));
        let (key, value) = stolen.unwrap();
        tamper(one.path(), family, |db, handle| db.put_cf(handle, key, value).unwrap());
        let damage = damage_of(one.path());
        assert!(damage.iter().any(|damage| damage.found == "other bytes"), "{damage:?}");
    }
}

#[test]
fn frame_in_one_family_only_is_found() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    tamper(directory.path(), "streams", |db, handle| {
        let (_, value) = entry(db, handle, 10);
        db.put_cf(handle, b"stream-9\0\0\0\0\0\0\0\0\x01", value).unwrap();
    });
    assert!(!damage_of(directory.path()).is_empty());
}

/// Asserts that each read returns everything or reports corruption: the log, each stream in both
/// directions, and the list of streams.
fn reads_whole_or_says_why(store: &Store, events: &[RecordedEvent]) {
    let check = |read: Vec<Result<RecordedEvent, Error>>, expected: Vec<&RecordedEvent>| match read
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
    {
        Ok(read) => assert!(read.iter().eq(expected), "fewer or different events"),
        Err(error) => assert!(error.is_corruption(), "{error}"),
    };
    check(store.read_log().into_iter().collect(), events.iter().collect());
    let streams: BTreeSet<&StreamId> = events.iter().map(RecordedEvent::stream).collect();
    for stream in &streams {
        let expected = events.iter().filter(|event| event.stream() == *stream);
        check(store.read_stream(*stream).into_iter().collect(), expected.clone().collect());
        check(
            store.read_stream(*stream).backward().into_iter().collect(),
            expected.rev().collect(),
        );
    }
    match store.streams().into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(listed) => assert!(listed.iter().map(|info| &info.id).eq(streams)),
        Err(error) => assert!(error.is_corruption(), "{error}"),
    }
}

#[test]
fn flipped_bit_in_a_table_is_harmless_or_a_typed_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let events = filled(&path);
    let tables: Vec<_> = fs::read_dir(path.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    let (mut refused, mut found, mut harmless) = (0, 0, 0);
    for table in &tables {
        let whole = fs::read(table).unwrap();
        for step in 0..24 {
            let mut damaged = whole.clone();
            let at = (whole.len() - 1) * step / 23;
            damaged[at] ^= 0x10;
            fs::write(table, damaged).unwrap();
            match Store::options().read_only(true).open(&path) {
                Err(error) => {
                    assert!(error.is_corruption(), "{error}");
                    refused += 1;
                }
                Ok(store) => {
                    reads_whole_or_says_why(&store, &events);
                    let report = store.verify(|_| {}).unwrap();
                    if report.is_sound() { harmless += 1 } else { found += 1 }
                }
            }
        }
        fs::write(table, whole).unwrap();
    }
    assert!(refused > 0 && found > 0, "{refused} refused, {found} found, {harmless} harmless");
    assert!(verify(&path).is_sound());
}
