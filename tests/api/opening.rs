//! An open that is refused returns a typed error and changes no byte of the directory.

use std::fs;
use std::path::Path;

use annals::prelude::*;
use annals::{Compression, Durability, Error, Position};

use crate::support::{copy, events, fingerprint, log, place, position, quick};

type Prepare = fn(&Path);
type IsIt = fn(&Error) -> bool;

/// Asserts that opening fails with the expected error, for writing and for reading, and changes no
/// file.
fn refuses(path: &Path, told: &str, is_it: impl Fn(&Error) -> bool) {
    for read_only in [false, true, false] {
        let before = fingerprint(path);
        let refused = quick().read_only(read_only).open(path).unwrap_err();
        assert!(is_it(&refused), "{told}, read only {read_only}: {refused:?}");
        let after = fingerprint(path);
        let changed: Vec<_> = before
            .keys()
            .chain(after.keys())
            .filter(|file| before.get(*file) != after.get(*file))
            .collect();
        assert!(changed.is_empty(), "{told}, read only {read_only}: changed {changed:?}");
    }
}

/// Builds a closed store with several streams.
fn build(path: &Path) {
    let store = quick().memtable_bytes(1).open(path).unwrap();
    for round in 0..20 {
        store.append(format!("s-{}", round % 3), ExpectedVersion::Any, events(3)).unwrap();
    }
    store.close().unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Rewrites the file `STORE` as a later version of annals would write it.
fn from_the_future(path: &Path) {
    let mut bytes = fs::read(path.join("STORE")).unwrap();
    bytes[11] = 3;
    let body = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..body]).to_be_bytes();
    bytes[body..].copy_from_slice(&crc);
    fs::write(path.join("STORE"), bytes).unwrap();
}

fn tables(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(path.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let mut tables: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
    tables.sort();
    tables
}

fn remove(path: &Path, file: &str) {
    fs::remove_file(path.join(file)).unwrap();
}

fn other_store(path: &Path) -> std::path::PathBuf {
    let other = path.with_extension("other");
    build(&other);
    other
}

fn replace_by_anothers(path: &Path, file: &str) {
    fs::copy(other_store(path).join(file), path.join(file)).unwrap();
}

const IS_CORRUPTION: IsIt = |error| matches!(error, Error::Corruption { .. });
const IS_NOT_A_STORE: IsIt = |error| matches!(error, Error::NotAStore { .. });

#[test]
fn missing_damaged_or_foreign_files_are_refused_unchanged() {
    let unsupported: IsIt =
        |error| matches!(error, Error::UnsupportedFormat { found: 3, supported: 2, .. });
    // RocksDB would refuse these too, but its error does not name the file.
    let is_corruption_of_current: IsIt =
        |error| IS_CORRUPTION(error) && error.to_string().contains("db/CURRENT: ");
    let table: [(&str, Prepare, IsIt); 16] = [
        ("STORE missing", |path| remove(path, "STORE"), IS_CORRUPTION),
        (
            "STORE truncated",
            |path| fs::write(path.join("STORE"), b"annals\r\n\0\0\0\x02").unwrap(),
            IS_CORRUPTION,
        ),
        ("STORE empty", |path| fs::write(path.join("STORE"), b"").unwrap(), IS_NOT_A_STORE),
        ("STORE damaged", |path| flip(&path.join("STORE"), 20), IS_CORRUPTION),
        (
            "STORE foreign",
            |path| fs::write(path.join("STORE"), b"#!/bin/sh").unwrap(),
            IS_NOT_A_STORE,
        ),
        ("STORE of a later format", from_the_future, unsupported),
        ("STORE of another store", |path| replace_by_anothers(path, "STORE"), IS_CORRUPTION),
        ("CURRENT missing", |path| remove(path, "db/CURRENT"), is_corruption_of_current),
        (
            "CURRENT empty",
            |path| fs::write(path.join("db/CURRENT"), b"").unwrap(),
            is_corruption_of_current,
        ),
        ("db missing", |path| fs::remove_dir_all(path.join("db")).unwrap(), IS_CORRUPTION),
        (
            "db of another store",
            |path| {
                fs::remove_dir_all(path.join("db")).unwrap();
                copy(&other_store(path).join("db"), &path.join("db"));
            },
            IS_CORRUPTION,
        ),
        ("watermark missing", |path| remove(path, "watermark"), IS_CORRUPTION),
        (
            "watermark damaged in both halves",
            |path| {
                flip(&path.join("watermark"), 20);
                flip(&path.join("watermark"), 512 + 20);
            },
            IS_CORRUPTION,
        ),
        (
            "watermark of another store",
            |path| replace_by_anothers(path, "watermark"),
            IS_CORRUPTION,
        ),
        ("a table missing", |path| fs::remove_file(&tables(path)[0]).unwrap(), IS_CORRUPTION),
        (
            "a table truncated",
            |path| {
                let table = tables(path).remove(0);
                let bytes = fs::read(&table).unwrap();
                fs::write(table, &bytes[..bytes.len() / 2]).unwrap();
            },
            IS_CORRUPTION,
        ),
    ];
    let (directory, path) = place();
    build(&path);
    for (told, prepare, is_it) in table {
        let damaged = directory.path().join(told);
        copy(&path, &damaged);
        prepare(&damaged);
        refuses(&damaged, told, is_it);
    }
    assert_eq!(log(&quick().open(&path).unwrap()).len(), 60, "the undamaged store opens");
}

#[test]
fn foreign_directory_does_not_become_a_store() {
    let (directory, path) = place();
    fs::write(&path, b"a file").unwrap();
    refuses(&path, "a file", IS_NOT_A_STORE);
    refuses(&path.join("below"), "below a file", |error| {
        matches!(error, Error::NotAStore { .. } | Error::Storage { .. })
    });
    let foreign = directory.path().join("foreign");
    fs::create_dir_all(foreign.join("photos")).unwrap();
    fs::write(foreign.join("letter.txt"), b"dear").unwrap();
    refuses(&foreign, "a foreign directory", IS_NOT_A_STORE);
}

/// A reader does not create a store, and neither does a writer with `create(false)`.
#[test]
fn only_a_writer_creates_a_store() {
    let (directory, missing) = place();
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for options in [quick().read_only(true), quick().create(false)] {
        for path in [&missing, &empty] {
            let before = fingerprint(directory.path());
            let refused = options.clone().open(path).unwrap_err();
            assert!(IS_NOT_A_STORE(&refused), "{refused}");
            assert_eq!(fingerprint(directory.path()), before);
        }
    }
    for path in [missing, empty] {
        quick().open(&path).unwrap().append("a", ExpectedVersion::Any, events(1)).unwrap();
        assert_eq!(log(&quick().read_only(true).open(&path).unwrap()).len(), 1);
    }
}

#[test]
fn open_store_cannot_be_opened_again() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    refuses(&path, "already open", |error| matches!(error, Error::AlreadyOpen { .. }));
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    assert_eq!(log(&store).len(), 4, "the open store still works");
}

/// Simulates power loss by truncating the write-ahead log at several offsets: lost `Sync` events
/// are detected (G11); a lost tail of `Buffered` events is accepted (G5, G10).
#[test]
fn write_ahead_log_that_lost_events_is_refused_unchanged() {
    let (directory, path) = place();
    let store = quick().open(&path).unwrap();
    for _ in 0..10 {
        let append = Append::new().to("a", ExpectedVersion::Any, events(2));
        store.submit(append.with_durability(Durability::Sync)).unwrap();
    }
    let newest_log = |path: &Path| {
        let entries = fs::read_dir(path.join("db")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
    };
    let durable_len = usize::try_from(fs::metadata(newest_log(&path)).unwrap().len()).unwrap();
    for _ in 0..10 {
        store.append("b", ExpectedVersion::Any, events(2)).unwrap();
    }
    let all = log(&store);
    let crashed = directory.path().join("crashed");
    copy(&path, &crashed);
    let bytes = fs::read(newest_log(&crashed)).unwrap();
    assert!(bytes.len() > durable_len && durable_len > 1_000);
    for cut in [0, 1, 7, durable_len / 3, durable_len / 2, durable_len - 1, durable_len]
        .into_iter()
        .chain([
            durable_len + 1,
            usize::midpoint(durable_len, bytes.len()),
            bytes.len() - 1,
            bytes.len(),
        ])
    {
        let cut_short = directory.path().join(format!("cut-{cut}"));
        copy(&crashed, &cut_short);
        fs::write(newest_log(&cut_short), &bytes[..cut]).unwrap();
        if cut < durable_len {
            refuses(&cut_short, &format!("cut at {cut}"), |error| {
                matches!(error, Error::HistoryLost { expected_at_least, found }
                    if *expected_at_least == position(20) && *found < Some(position(20)))
            });
            is_accepted_by_name(&cut_short, &all);
        } else {
            let store = quick().open(&cut_short).unwrap();
            let found = log(&store);
            assert!(found.len() >= 20 && found.len().is_multiple_of(2), "{} of {cut}", found.len());
            assert_eq!(found, all[..found.len()], "a prefix of commit order");
            assert_eq!(found.len() == all.len(), cut == bytes.len());
            store.append("c", ExpectedVersion::NoStream, events(1)).unwrap();
        }
    }
}

/// Asserts that the remaining events open only with the position at which the log ends.
fn is_accepted_by_name(lost: &Path, all: &[RecordedEvent]) {
    let Err(Error::HistoryLost { found, .. }) = quick().open(lost) else { panic!("it opened") };
    let left = usize::try_from(found.map_or(0, Position::get)).unwrap();
    let before = fingerprint(lost);
    for wrong in [found.is_none().then(|| position(1)), Some(position(left as u64 + 2))] {
        let refused = quick().accept_lost_history_after(wrong).open(lost);
        assert!(matches!(refused, Err(Error::HistoryLost { .. })));
    }
    let accepting = quick().accept_lost_history_after(found);
    let reader = accepting.clone().read_only(true).open(lost).unwrap();
    assert_eq!(log(&reader), all[..left]);
    let copied = lost.with_extension("left");
    reader.backup(&copied).unwrap();
    drop(reader);
    assert!(fingerprint(lost) == before, "reading the remaining log changed it");
    drop(accepting.open(lost).unwrap());
    // The backup, and the store after its loss was accepted once, open without the option.
    for path in [&copied, lost] {
        let store = quick().open(path).unwrap();
        assert_eq!(log(&store), all[..left]);
        let appended = store.append("d", ExpectedVersion::NoStream, events(1)).unwrap();
        assert_eq!(appended.last_position(), position(left as u64 + 1));
        assert!(store.verify(|_| {}).unwrap().is_sound());
    }
}

/// Returns the offset of each record type in a RocksDB log: blocks of 32 KiB, headers of 7 bytes,
/// of which the type is the last.
pub(crate) fn record_types(bytes: &[u8]) -> Vec<usize> {
    let (mut types, mut at) = (Vec::new(), 0);
    while at + 7 <= bytes.len() {
        let len = usize::from(bytes[at + 4]) | usize::from(bytes[at + 5]) << 8;
        types.push(at + 6);
        at += 7 + len;
        let block_left = 32_768 - at % 32_768;
        at += if block_left < 7 { block_left } else { 0 };
    }
    types
}

/// One flipped bit turns a record into one of a recycled log. RocksDB would then read forever, or
/// treat the log as empty.
#[test]
fn record_that_would_make_rocksdb_loop_is_refused() {
    let (directory, path) = place();
    let store = quick().open(&path).unwrap();
    for _ in 0..5 {
        store.append("a", ExpectedVersion::Any, events(200)).unwrap();
    }
    let crashed = directory.path().join("crashed");
    copy(&path, &crashed);
    drop(store);
    let names = fs::read_dir(crashed.join("db")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let (mut manifest, mut log) = (0, 0);
    for name in &names {
        let count = match name.split_once(['-', '.']) {
            Some(("MANIFEST", _)) => &mut manifest,
            Some((_, "log")) => &mut log,
            _ => continue,
        };
        let types = record_types(&fs::read(crashed.join("db").join(name)).unwrap());
        *count += types.len();
        for at in types {
            let damaged = directory.path().join(format!("{name}-{at}"));
            copy(&crashed, &damaged);
            let file = damaged.join("db").join(name);
            let mut bytes = fs::read(&file).unwrap();
            bytes[at] ^= if bytes[at] == 4 { 1 } else { 4 };
            fs::write(file, bytes).unwrap();
            // On a separate thread, so that an open that never ends does not block the test.
            let (told, ended) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                refuses(&damaged, "a record of a recycled log", |error| {
                    let Error::Corruption { location, .. } = error else { return false };
                    let location = location.to_string();
                    location.contains("/MANIFEST-") || location.contains(".log")
                });
                told.send(()).unwrap();
            });
            let waited = ended.recv_timeout(std::time::Duration::from_secs(60));
            assert!(waited.is_ok(), "{name}, byte {at}: not refused within 60 s");
        }
    }
    assert!(manifest > 3 && log > 4, "{manifest} records in manifests, {log} in logs");
}

/// The watermark distinguishes a database that lost a suffix of its log from one that is unchanged.
#[test]
fn older_database_is_refused_as_lost_history() {
    let (directory, path) = place();
    let old = directory.path().join("old");
    build(&path);
    copy(&path, &old);
    let store = quick().open(&path).unwrap();
    store.append("s-1", ExpectedVersion::Any, events(5)).unwrap();
    store.close().unwrap();
    fs::remove_dir_all(path.join("db")).unwrap();
    copy(&old.join("db"), &path.join("db"));
    refuses(&path, "db rolled back", |error| {
        matches!(error, Error::HistoryLost { expected_at_least, found }
            if *expected_at_least == position(65) && *found == Some(position(60)))
    });
}

/// The watermark of an empty store records no frame: only the store identity shows that the
/// database belongs to another store.
#[test]
fn empty_store_refuses_database_of_another_store() {
    let (_directory, path) = place();
    quick().open(&path).unwrap().close().unwrap();
    fs::remove_dir_all(path.join("db")).unwrap();
    copy(&other_store(&path).join("db"), &path.join("db"));
    refuses(
        &path,
        "db of another store",
        |error| matches!(error, Error::Corruption { location, .. } if location.to_string() == "family meta, key identity"),
    );
}

/// The watermark of an empty store would claim that no event has to exist.
#[test]
fn watermark_of_another_empty_store_is_refused() {
    let (directory, path) = place();
    let empty = directory.path().join("empty");
    build(&path);
    quick().open(&empty).unwrap().close().unwrap();
    fs::copy(empty.join("watermark"), path.join("watermark")).unwrap();
    refuses(
        &path,
        "watermark of another store",
        |error| matches!(error, Error::Corruption { location, .. } if location.to_string() == "watermark"),
    );
}

/// A copy that was continued separately has another history, regardless of its length: the
/// watermark records the last frame of the log.
#[test]
fn database_with_another_history_is_refused() {
    let (directory, path) = place();
    let other = directory.path().join("other");
    build(&path);
    copy(&path, &other);
    for path in [&path, &other] {
        let store = quick().open(path).unwrap();
        store.append("s-1", ExpectedVersion::Any, events(5)).unwrap();
        store.close().unwrap();
    }
    // Opened once more, so that its manifest is the newer one.
    quick().open(&other).unwrap().close().unwrap();
    fs::remove_dir_all(path.join("db")).unwrap();
    copy(&other.join("db"), &path.join("db"));
    refuses(
        &path,
        "db of another history",
        |error| matches!(error, Error::Corruption { expected, .. } if expected.contains("as the watermark says")),
    );
}

/// Tables keep the compression that they were written with, and compactions mix them.
#[test]
fn store_is_read_and_continued_with_any_compression() {
    let (_directory, path) = place();
    let mut expected = Vec::new();
    let all = [Compression::Fast, Compression::Balanced, Compression::Small];
    for (round, compression) in all.into_iter().cycle().take(7).enumerate() {
        let options = quick().compression(compression).pack_bytes(500).memtable_bytes(1);
        let store = options.open(&path).unwrap();
        assert_eq!(log(&store), expected, "{compression:?}");
        for stream in ["a", "b", "a"] {
            store.append(stream, ExpectedVersion::Any, events(40 + round)).unwrap();
        }
        expected = log(&store);
        assert!(store.verify(|_| {}).unwrap().is_sound(), "{compression:?}");
        store.close().unwrap();
    }
}
