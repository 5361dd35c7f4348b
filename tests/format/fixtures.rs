//! Every later version of the code must open, read and continue a store of each released format
//! version. None is released yet. `tests/fixtures/v2` is a store of version 2, which may be written
//! again until then: see [`write_the_store_of_format_version_2`]. `tests/fixtures/v2_without_index`
//! was written before there was an index; `tests/api/index.rs` opens it. `tests/fixtures/v1` is a store of
//! version 1, which was never released; `tests/fixtures/events.jsonl` is the export of both.

use std::fs;
use std::path::{Path, PathBuf};

use annals::prelude::*;
use annals::{
    Error, FORMAT_VERSION, IdempotencyKey, ImportOptions, KeyedSubmission, RequestDigest,
};

use crate::support::{copy, database, fingerprint, place, quick};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A pack of several frames, and frames after it.
const PACK_BYTES: usize = 500;

/// How many rows a family of a closed store has.
fn rows(path: &Path, family: &str) -> usize {
    let db = database(path);
    db.iterator_cf(db.cf_handle(family).unwrap(), rocksdb::IteratorMode::Start).count()
}

#[test]
fn store_of_format_version_2_is_read_and_continued() {
    let lines = fs::read_to_string(fixtures().join("events.jsonl")).unwrap();
    let (directory, path) = place();
    copy(&fixtures().join("v2"), &path);
    let looked_at = directory.path().join("looked at");
    copy(&path, &looked_at);
    assert!(rows(&looked_at, "packs") > 0 && rows(&looked_at, "tail") > 0);

    let before = fingerprint(&path);
    let store = Store::options().read_only(true).open(&path).unwrap();
    let mut exported = Vec::new();
    store.export(&mut exported, |_| {}).unwrap();
    assert_eq!(String::from_utf8(exported).unwrap(), lines);
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!(report.index_entries, 8 + 3, "types and tags");
    let info = store.info().unwrap();
    assert_eq!((info.format_version, info.streams), (2, 4));
    for (name, result) in recorded() {
        let found = store.find_submitted(&key(name)).unwrap();
        assert_eq!(found.map(|found| format!("{found:?}")), Some(result.to_owned()), "{name}");
    }
    store.close().unwrap();
    assert_eq!(fingerprint(&path), before, "reading changes nothing");

    let store = Store::options().pack_bytes(PACK_BYTES).open(&path).unwrap();
    let imported = store.import(lines.as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    assert_eq!(imported.added, 0, "the lines that were imported then are recognised");
    for number in 9..30_u64 {
        let event = NewEvent::json("Again", &1).unwrap();
        let appended = store.append("account-1", ExpectedVersion::StreamExists, [event]).unwrap();
        assert_eq!(appended.last_position().get(), number);
        assert_eq!(appended.last_version().get(), number - 4);
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.read_log().into_iter().count(), 29);
}

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey::new("fixture", name, RequestDigest::of("request")).unwrap()
}

/// The idempotency keys in the fixture, with their results.
fn recorded() -> [(&'static str, &'static str); 3] {
    let appended = concat!(
        "Appended(Appended { spans: [Position(1)..=Position(1)], ",
        "versions: [(\"account-1\", Version(1)..=Version(1))], is_retry: false })"
    );
    [("appended", appended), ("nothing", "Nothing"), ("refused", "Rejected([110, 111])")]
}

/// Writes `tests/fixtures/v2` again. Run it alone, and only until format version 2 is released:
/// `cargo test --release --test format write_the_store -- --ignored`
#[test]
#[ignore = "writes into the source tree"]
fn write_the_store_of_format_version_2() {
    let (_directory, path) = place();
    let store = quick().pack_bytes(PACK_BYTES).memtable_bytes(1);
    let store = store.index_types(true).open(&path).unwrap();
    let lines = fs::read_to_string(fixtures().join("events.jsonl")).unwrap();
    let lines: Vec<_> = lines.split_inclusive('\n').collect();
    // Each import continues with the next append, so that `tail` gets several rows.
    for end in [2, 3, 6, 7, 8] {
        let imported = lines.get(..end).unwrap().concat();
        store.import(imported.as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    }
    // A retry, because the fixture has the events of the export and no others.
    let first = store.read_log().first().unwrap().unwrap();
    let event = NewEvent::new(first.event_type().clone(), first.payload()).with_id(first.id());
    let append = Append::new().to(first.stream(), ExpectedVersion::NoStream, [event]);
    let refusal = KeyedSubmission::rejection(b"no".to_vec());
    let requests = [append.into(), KeyedSubmission::nothing(), refusal];
    for ((name, _), request) in recorded().iter().zip(requests) {
        store.submit_once(&key(name), request).unwrap();
    }
    store.close().unwrap();
    // RocksDB's diagnostic log and options are not needed, and may name the machine.
    fs::remove_dir_all(path.join("log")).unwrap();
    for entry in fs::read_dir(path.join("db")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("OPTIONS-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let fixture = fixtures().join("v2");
    fs::remove_dir_all(&fixture).unwrap_or_default();
    copy(&path, &fixture);
}

/// A backup, an export and a verification need an open store, so they are refused with it.
#[test]
fn store_of_format_version_1_is_refused_unchanged() {
    let (_directory, path) = place();
    copy(&fixtures().join("v1"), &path);
    let before = fingerprint(&path);
    for options in [Store::options(), Store::options().create(false)] {
        for read_only in [true, false] {
            let refused = options.clone().read_only(read_only).open(&path).unwrap_err();
            let expected = format!(
                "{} has format 1, which was never released: export it with the program that wrote \
                 it (annals export), and import it here (annals import)",
                path.display()
            );
            assert_eq!(refused.to_string(), expected);
            let supported = u64::from(FORMAT_VERSION);
            let Error::UnsupportedFormat { found: 1, supported: newest, .. } = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(newest, supported);
            assert_eq!(fingerprint(&path), before, "read only: {read_only}");
        }
    }
}

/// A store of version 1 is moved by an export and an import.
#[test]
fn exported_lines_of_format_version_1_are_imported() {
    let lines = fs::read_to_string(fixtures().join("events.jsonl")).unwrap();
    let (_directory, path) = place();
    let store = Store::open(&path).unwrap();
    let imported = store.import(lines.as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    assert_eq!(imported.added, 8);
    let info = store.info().unwrap();
    assert_eq!((info.format_version, info.streams), (FORMAT_VERSION, 4));
    let mut exported = Vec::new();
    store.export(&mut exported, |_| {}).unwrap();
    assert_eq!(String::from_utf8(exported).unwrap(), lines);
    let imported = store.import(lines.as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    assert_eq!(imported.added, 0);
    assert!(store.verify(|_| {}).unwrap().is_sound());
}
