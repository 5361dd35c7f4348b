//! Damage to what deletions leave (G8, G17): it is reported, and never taken for a deletion.

use std::collections::BTreeMap;
use std::path::Path;

use annals::prelude::*;
use annals::{Deletion, Error};
use rocksdb::IteratorMode;

use crate::support::files::copy;
use crate::support::{database, edit, events, place, quick, version};

const STREAMS: [&str; 3] = ["cut-1", "gone-1", "kept-1"];

/// A store with a truncated and a deleted stream, and holes in its packs.
fn store_with_holes(path: &Path) {
    let store = quick().pack_bytes(400).open(path).unwrap();
    for _ in 0..5 {
        for stream in STREAMS {
            store.append(stream, ExpectedVersion::Any, events(3)).unwrap();
        }
    }
    let [cut, gone, _] = STREAMS.map(|stream| StreamId::new(stream).unwrap());
    store.delete(&Deletion::truncate(&cut, version(8))).unwrap();
    store.delete(&Deletion::delete(&gone)).unwrap();
    store.append("kept-1", ExpectedVersion::Any, events(1)).unwrap();
    store.close().unwrap();
}

/// What a reader sees of all streams.
fn seen(store: &Store) -> annals::Result<BTreeMap<String, Vec<RecordedEvent>>> {
    let mut seen = BTreeMap::new();
    for stream in STREAMS {
        let events: Result<_, _> = store.read_stream(stream).into_iter().collect();
        seen.insert(stream.to_owned(), events?);
    }
    let log: Result<_, _> = store.read_log().into_iter().collect();
    seen.insert("log".to_owned(), log?);
    Ok(seen)
}

#[test]
fn damaged_hole_is_not_taken_for_a_deletion() {
    let (directory, path) = place();
    store_with_holes(&path);
    let store = Store::open(&path).unwrap();
    let sound = seen(&store).unwrap();
    store.close().unwrap();
    let rows = |family: &str| -> Vec<(Vec<u8>, usize)> {
        let db = database(&path);
        let handle = db.cf_handle(family).unwrap();
        let rows = db.iterator_cf(handle, IteratorMode::Start).map(Result::unwrap);
        rows.map(|(key, value)| (key.to_vec(), value.len())).collect()
    };
    let mut targets = vec![("meta", rows("meta"))];
    targets[0].1.retain(|(key, _)| key == b"deletions");
    assert_eq!(targets[0].1.len(), 1);
    for family in ["streams", "packs"] {
        let mut rows = rows(family);
        rows.truncate(3);
        targets.push((family, rows));
    }
    let (mut opens, mut found) = (0, 0);
    for (family, key, at) in targets.iter().flat_map(|(family, rows)| {
        rows.iter().flat_map(move |(key, len)| {
            (0..*len).step_by(1 + len / 20).map(move |at| (*family, key, at))
        })
    }) {
        let damaged = directory.path().join("damaged");
        let _ = std::fs::remove_dir_all(&damaged);
        copy(&path, &damaged);
        edit(&damaged, family, key, |bytes| bytes[at] ^= 1 << (at % 8));
        let name = format!("byte {at} of {key:?} in {family}");
        let store = match quick().open(&damaged) {
            Ok(store) => store,
            Err(Error::Corruption { .. }) => {
                opens += 1;
                continue;
            }
            Err(error) => panic!("{name}: {error:?}"),
        };
        match seen(&store) {
            Ok(seen) => assert_eq!(seen, sound, "{name}"),
            Err(Error::Corruption { .. }) => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
        let report = store.verify(|_| {});
        let is_found = !report.is_ok_and(|report| report.is_sound());
        assert!(is_found, "{name} is not found");
        found += 1;
    }
    assert!(opens > 0 && found > 60, "{opens} refused, {found} found");
}

/// Verification lists damage also if the damage keeps a deletion from being carried out.
#[test]
fn verification_reports_damage_that_hides_what_is_decided() {
    let (_directory, path) = place();
    let store = quick().pack_bytes(1_000).open(&path).unwrap();
    for stream in ["cut-1", "kept-1", "cut-1"].into_iter().chain(["last-1"; 40]) {
        store.append(stream, ExpectedVersion::Any, events(1)).unwrap();
    }
    store.close().unwrap();
    let key = [b"kept-1".as_slice(), &[0], &1_u64.to_be_bytes()].concat();
    edit(&path, "streams", &key, |bytes| bytes[20] ^= 1);

    let store = quick().open(&path).unwrap();
    let answer = store.delete(&Deletion::delete(&StreamId::new("cut-1").unwrap()));
    assert!(matches!(answer, Err(Error::Corruption { .. })), "{answer:?}");
    assert_eq!(store.deletions().unwrap().len(), 1, "it is decided");
    let report = store.verify(|_| {}).unwrap();
    assert!(!report.is_sound(), "{report:?}");
}
