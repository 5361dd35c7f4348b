//! Every later version of the code must open, read and continue a store of each released format
//! version. None is released yet. `tests/fixtures/v1` is a store of version 1, which was never
//! released; `tests/fixtures/events.jsonl` is its export.

use std::fs;
use std::path::{Path, PathBuf};

use annals::prelude::*;
use annals::{Error, FORMAT_VERSION, ImportOptions};

use crate::support::{copy, fingerprint, place};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
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
