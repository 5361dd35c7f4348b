//! The creation of a store is interrupted at each of its steps: the next open completes it (G10),
//! and does not mistake any other directory for an unfinished creation.

use std::fs;
use std::path::Path;

use annals::prelude::*;
use annals::{Error, Position};

use crate::support::copy;

/// Undoes a creation back to one of its steps.
type Undo = fn(&Path);

const STEPS: [(&str, Undo); 8] = [
    ("the directory alone", |root| {
        empty(root);
        fs::remove_file(root.join("LOCK")).unwrap();
    }),
    ("LOCK", empty),
    ("STORE.new, torn", |root| {
        empty(root);
        fs::write(root.join("STORE.new"), b"anna").unwrap();
    }),
    ("STORE.new", |root| {
        let store = fs::read(root.join("STORE")).unwrap();
        empty(root);
        fs::write(root.join("STORE.new"), store).unwrap();
    }),
    ("db.new, half", |root| {
        fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap();
        fs::rename(root.join("db"), root.join("db.new")).unwrap();
        fs::remove_file(root.join("db.new/CURRENT")).unwrap();
        fs::remove_file(root.join("watermark")).unwrap();
    }),
    ("db.new, whole", |root| {
        fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap();
        fs::rename(root.join("db"), root.join("db.new")).unwrap();
        fs::remove_file(root.join("watermark")).unwrap();
    }),
    ("db", |root| {
        fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap();
        fs::remove_file(root.join("watermark")).unwrap();
    }),
    ("watermark", |root| fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap()),
];

#[test]
fn unfinished_creation_is_completed_by_the_next_open() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    Store::open(&whole).unwrap().close().unwrap();
    for (step, undo) in STEPS {
        let cut = directory.path().join(step);
        copy(&whole, &cut);
        undo(&cut);
        let reading = Store::options().read_only(true).open(&cut);
        assert!(matches!(reading, Err(Error::NotAStore { .. })), "{step}: reading does not create");
        let store = Store::open(&cut).unwrap_or_else(|error| panic!("{step}: {error}"));
        store.append("a", ExpectedVersion::NoStream, [NewEvent::json("A", &1).unwrap()]).unwrap();
        store.close().unwrap();
        let store = Store::open(&cut).unwrap();
        assert_eq!(store.head().unwrap(), Some(Position::FIRST), "{step}");
        assert!(store.verify(|_| {}).unwrap().is_sound(), "{step}");
    }
}

#[test]
fn database_without_store_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::open(&path).unwrap();
    store.append("a", ExpectedVersion::NoStream, [NewEvent::json("A", &1).unwrap()]).unwrap();
    store.close().unwrap();
    let identity = fs::read(path.join("STORE")).unwrap();
    fs::remove_file(path.join("STORE")).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Corruption { .. })));
    fs::write(path.join("STORE"), identity).unwrap();
    assert_eq!(Store::open(&path).unwrap().head().unwrap(), Some(Position::FIRST));
}

/// Removes everything but LOCK.
fn empty(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else if entry.file_name() != "LOCK" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}
