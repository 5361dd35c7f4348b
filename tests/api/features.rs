//! Stores of a later version of annals, with features and column families that this version does
//! not know: what can be opened is opened and kept, and anything else is refused unchanged.

use std::fs;
use std::path::Path;

use annals::prelude::*;
use annals::{Error, StoreOptions};
use rocksdb::{DB, IteratorMode, Options};

use crate::support::{copy, events, fingerprint, log, place, quick};

const OPTIONAL: u8 = 0;
const FOR_WRITING: u8 = 1;
const FOR_READING: u8 = 2;

/// The offset of the list of features: after the magic, the version, the store id, the time and
/// the marks.
const FEATURES_AT: usize = 8 + 4 + 16 + 9 + 1;

/// Builds a closed store.
fn build(path: &Path) {
    let store = quick().open(path).unwrap();
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    store.close().unwrap();
}

/// The list of features as it is stored, together with the one that every new store has.
fn encoded(features: &[(u8, &str)]) -> Vec<u8> {
    let mut features = features.to_vec();
    features.push((FOR_WRITING, "index"));
    features.sort_by_key(|(_, name)| *name);
    let mut list = vec![u8::try_from(features.len()).unwrap()];
    for (class, name) in features {
        list.extend([class, u8::try_from(name.len()).unwrap()]);
        list.extend(name.as_bytes());
    }
    list
}

/// Adds features to the file `STORE` of a new store.
fn add(file: &Path, features: &[(u8, &str)]) {
    let mut bytes = fs::read(file).unwrap();
    bytes.splice(FEATURES_AT..FEATURES_AT + encoded(&[]).len(), encoded(features));
    let fields = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..fields]).to_be_bytes();
    bytes[fields..].copy_from_slice(&crc);
    fs::write(file, bytes).unwrap();
}

fn has(path: &Path, features: &[(u8, &str)]) -> bool {
    fs::read(path.join("STORE")).unwrap()[FEATURES_AT..].starts_with(&encoded(features))
}

/// Asserts that opening is refused because of these features, and changes no file.
fn refuses(options: &StoreOptions, path: &Path, expected: &[&str], readable: bool) -> String {
    let before = fingerprint(path);
    let error = options.clone().open(path).unwrap_err();
    assert_eq!(fingerprint(path), before);
    let text = error.to_string();
    let Error::MissingFeatures { path: at, features, is_readable } = error else {
        panic!("{text}");
    };
    assert_eq!((at.as_path(), is_readable), (path, readable));
    assert_eq!(features, expected);
    text
}

#[test]
fn unknown_optional_feature_is_kept_when_the_store_is_written() {
    let (directory, path) = place();
    build(&path);
    add(&path.join("STORE"), &[(OPTIONAL, "hints")]);
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    let backup = directory.path().join("backup");
    store.backup(&backup).unwrap();
    store.close().unwrap();
    assert!(has(&backup, &[(OPTIONAL, "hints")]));
    // Opening a backup for writing begins an epoch, so it writes `STORE`.
    let before = fs::read(backup.join("STORE")).unwrap();
    let store = quick().open(&backup).unwrap();
    assert_eq!(log(&store).len(), 4);
    assert_ne!(fs::read(backup.join("STORE")).unwrap(), before);
    assert!(has(&path, &[(OPTIONAL, "hints")]) && has(&backup, &[(OPTIONAL, "hints")]));
}

#[test]
fn feature_needed_for_writing_refuses_writers_and_survives_copies() {
    let (directory, path) = place();
    build(&path);
    let features = [(OPTIONAL, "hints"), (FOR_WRITING, "links"), (FOR_WRITING, "timers")];
    add(&path.join("STORE"), &features);
    for options in [quick(), quick().create(false)] {
        let text = refuses(&options, &path, &["links", "timers"], true);
        let expected = format!(
            "{}: this store needs \"links\", \"timers\", which annals {} does not have: use a \
             later version, or open it for reading only",
            path.display(),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(text, expected);
    }
    let before = fingerprint(&path);
    let store = quick().read_only(true).open(&path).unwrap();
    assert_eq!(log(&store).len(), 3);
    assert!(store.verify(|_| {}).unwrap().is_sound());
    let [backup, restored] = ["backup", "restored"].map(|name| directory.path().join(name));
    store.backup(&backup).unwrap();
    store.close().unwrap();
    assert_eq!(fingerprint(&path), before);
    let store = quick().read_only(true).open(&backup).unwrap();
    store.restore_to(&restored).unwrap();
    for copy in [backup, restored] {
        assert!(has(&copy, &features));
        refuses(&quick(), &copy, &["links", "timers"], true);
        assert_eq!(log(&quick().read_only(true).open(&copy).unwrap()).len(), 3);
    }
}

#[test]
fn feature_needed_for_reading_refuses_every_open() {
    let (_directory, path) = place();
    build(&path);
    add(&path.join("STORE"), &[(FOR_WRITING, "links"), (FOR_READING, "sealed-events")]);
    let text = refuses(&quick().read_only(true), &path, &["sealed-events"], false);
    let expected = format!(
        "this store needs \"sealed-events\", which annals {} does not have: use a later version",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.ends_with(&expected), "{text}");
    refuses(&quick(), &path, &["links", "sealed-events"], false);
}

/// A store is created with the features that a later version gives it.
#[test]
fn interrupted_creation_with_an_unknown_feature_is_not_finished() {
    let (directory, path) = place();
    build(&path);
    fs::rename(path.join("STORE"), path.join("STORE.new")).unwrap();
    let known = directory.path().join("known");
    copy(&path, &known);
    add(&path.join("STORE.new"), &[(FOR_WRITING, "links")]);
    refuses(&quick(), &path, &["links"], true);
    assert_eq!(log(&quick().open(&known).unwrap()).len(), 3);
}

#[test]
fn interrupted_creation_of_another_format_is_not_finished() {
    let (_directory, path) = place();
    build(&path);
    let mut bytes = fs::read(path.join("STORE")).unwrap();
    bytes[11] = 3;
    let fields = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..fields]).to_be_bytes();
    bytes[fields..].copy_from_slice(&crc);
    fs::remove_file(path.join("STORE")).unwrap();
    fs::write(path.join("STORE.new"), bytes).unwrap();
    let before = fingerprint(&path);
    let refused = quick().open(&path).unwrap_err();
    assert!(matches!(refused, Error::UnsupportedFormat { found: 3, .. }), "{refused}");
    assert_eq!(fingerprint(&path), before);
}

fn open_database(path: &Path) -> DB {
    let mut options = Options::default();
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
    let families = DB::list_cf(&options, path.join("db")).unwrap();
    DB::open_cf(&options, path.join("db"), families).unwrap()
}

/// The keys and values of the family `later`.
fn rows_of_later(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = open_database(path);
    let rows = db.iterator_cf(db.cf_handle("later").unwrap(), IteratorMode::Start);
    rows.map(|row| row.map(|(key, value)| (key.into(), value.into())).unwrap()).collect()
}

/// Some of its rows are in a table, and some in the write-ahead log.
#[test]
fn unknown_family_is_opened_and_its_rows_are_kept() {
    let (directory, path) = place();
    build(&path);
    let mut db = open_database(&path);
    db.create_cf("later", &Options::default()).unwrap();
    for number in 0..1_000_u32 {
        let later = db.cf_handle("later").unwrap();
        db.put_cf(later, number.to_be_bytes(), [7; 100]).unwrap();
        if number == 500 {
            db.flush_cf(later).unwrap();
        }
    }
    drop(db);
    let rows: Vec<_> =
        (0..1_000_u32).map(|number| (number.to_be_bytes().to_vec(), vec![7; 100])).collect();

    let store = quick().read_only(true).open(&path).unwrap();
    assert_eq!(log(&store).len(), 3);
    let [backup, restored] = ["backup", "restored"].map(|name| directory.path().join(name));
    store.restore_to(&restored).unwrap();
    store.close().unwrap();
    for round in 1..=3 {
        let store = quick().memtable_bytes(1).open(&path).unwrap();
        assert!(store.info().unwrap().table_bytes > 50_000, "its tables count");
        store.append("a", ExpectedVersion::Any, events(1)).unwrap();
        assert_eq!(log(&store).len(), 3 + round);
        assert!(store.verify(|_| {}).unwrap().is_sound());
        if round == 3 {
            store.backup(&backup).unwrap();
        }
        store.close().unwrap();
    }
    for path in [&path, &backup, &restored] {
        assert_eq!(rows_of_later(path), rows, "{}", path.display());
    }
}

#[test]
fn missing_family_is_damage_that_names_it() {
    let (directory, path) = place();
    build(&path);
    let families =
        ["streams", "packs", "tail", "keys", "index", "meta", "snapshots", "checkpoints", "views"];
    for family in families {
        let damaged = directory.path().join(family);
        copy(&path, &damaged);
        open_database(&damaged).drop_cf(family).unwrap();
        for read_only in [false, true] {
            let before = fingerprint(&damaged);
            let refused = quick().read_only(read_only).open(&damaged).unwrap_err();
            assert_eq!(fingerprint(&damaged), before);
            assert!(refused.is_corruption(), "{family}: {refused:?}");
            let text = refused.to_string();
            assert!(text.contains(&format!("found no family {family}, ")), "{text}");
        }
    }
}
