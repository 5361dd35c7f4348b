//! Every later version of the code must open, read and continue a store of each released format
//! version. Format version 1 wrote the store in `tests/fixtures/v1` from `v1.jsonl`; it must never
//! be written again.

use std::fs;
use std::path::Path;

use annals::ImportOptions;
use annals::prelude::*;

use crate::support::{copy, fingerprint, place};

#[test]
fn store_of_format_version_1_is_read_and_continued() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let lines = fs::read_to_string(fixtures.join("v1.jsonl")).unwrap();
    let (_directory, path) = place();
    copy(&fixtures.join("v1"), &path);

    let before = fingerprint(&path);
    let store = Store::options().read_only(true).open(&path).unwrap();
    let mut exported = Vec::new();
    store.export(&mut exported, |_| {}).unwrap();
    assert_eq!(String::from_utf8(exported).unwrap(), lines);
    assert!(store.verify(|_| {}).unwrap().is_sound());
    let info = store.info().unwrap();
    assert_eq!((info.format_version, info.streams), (1, 4));
    store.close().unwrap();
    assert_eq!(fingerprint(&path), before, "reading changes nothing");

    let store = Store::open(&path).unwrap();
    let imported = store.import(lines.as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    assert_eq!(imported.added, 0, "the lines that were imported then are recognised");
    let event = NewEvent::json("Again", &1).unwrap();
    let appended = store.append("account-1", ExpectedVersion::StreamExists, [event]).unwrap();
    assert_eq!((appended.last_position().get(), appended.last_version().get()), (9, 5));
    assert!(store.verify(|_| {}).unwrap().is_sound());
}
