//! The tails of RocksDB's write-ahead log and of its manifest, as a power loss leaves unsynced
//! data: with sectors missing before the end, or with a later file but not an earlier one. The
//! store always opens with a prefix of what was written (G10). Data known to have been durable is
//! not cut off, and damage is not taken for a power loss: the store is refused and unchanged (G8,
//! G11).
//!
//! The store is copied while it is open, so that the copy has a log to recover; the copy is torn.

use std::fs;
use std::path::{Path, PathBuf};

use annals::Error;
use annals::prelude::*;
use tempfile::TempDir;

use crate::support::{copy, fingerprint, log, place, quick};

const APPENDS: usize = 60;
const SECTOR: usize = 512;

/// A copy of a store with a log of appends that were not synced, or were synced at the end.
struct Copied {
    directory: TempDir,
    log: Vec<RecordedEvent>,
}

impl Copied {
    fn new(len: usize, is_synced: bool) -> Self {
        let (directory, path) = place();
        let store = quick().open(&path).unwrap();
        for number in 0..APPENDS {
            let byte = u8::try_from(number + 1).unwrap();
            let event = NewEvent::bytes("Happened", vec![byte; len]).unwrap();
            store.append(format!("a-{}", number % 3), ExpectedVersion::Any, [event]).unwrap();
        }
        if is_synced {
            store.sync().unwrap();
        }
        copy(&path, &directory.path().join("copy"));
        Self { directory, log: log(&store) }
    }

    /// Makes another copy; returns it and the path of its log.
    fn copy(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = self.directory.path().join(name);
        copy(&self.directory.path().join("copy"), &path);
        let files = fs::read_dir(path.join("db")).unwrap().map(|entry| entry.unwrap().path());
        let mut logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
        let log = logs.next().unwrap();
        assert_eq!(logs.next(), None);
        (path, log)
    }
}

/// Zeroes a sector.
fn tear(log: &Path, at: usize) {
    let mut bytes = fs::read(log).unwrap();
    bytes[at..at + SECTOR].fill(0);
    fs::write(log, bytes).unwrap();
}

/// Opens a torn store and continues; returns how many events were left.
fn check_prefix(path: &Path, all: &[RecordedEvent]) -> usize {
    let store = quick().open(path).unwrap();
    let found = log(&store);
    assert!(all.starts_with(&found), "{} of {} events, and not the first", found.len(), all.len());
    assert!(store.verify(|_| {}).unwrap().is_sound());
    let event = NewEvent::json("Again", &1).unwrap();
    let appended = store.append("b", ExpectedVersion::NoStream, [event]).unwrap();
    assert_eq!(appended.last_position().get(), found.len() as u64 + 1);
    store.close().unwrap();
    assert!(!path.join("probe").exists());
    let store = Store::options().read_only(true).open(path).unwrap();
    assert_eq!(log(&store).len(), found.len() + 1);
    found.len()
}

/// All files but RocksDB's own log files.
fn contents(path: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let files = fingerprint(path).into_iter();
    files.filter(|(file, _)| !file.starts_with(path.join("log"))).collect()
}

#[test]
fn torn_unsynced_log_tail_is_cut_off() {
    let copied = Copied::new(2_000, false);
    let (_, whole) = copied.copy("whole");
    let len = fs::metadata(whole).unwrap().len();
    let sectors = usize::try_from(len).unwrap() / SECTOR;
    let mut before = 0;
    for sector in (1..sectors).step_by(23) {
        let (path, wal) = copied.copy(&format!("torn-{sector}"));
        tear(&wal, sector * SECTOR);
        let contents_before = contents(&path);
        let refused = Store::options().read_only(true).open(&path).unwrap_err();
        assert!(refused.to_string().contains("open the store for writing once"), "{refused}");
        assert!(!refused.is_corruption(), "{refused}");
        assert!(contents(&path) == contents_before, "reading changes nothing");
        let found = check_prefix(&path, &copied.log);
        assert!(found >= before, "sector {sector}: {found} events after {before}");
        before = found;
    }
    assert!(before > APPENDS - 10, "{before}");
}

/// A power loss may tear a write of the watermark too. The other slot must not describe the clean
/// shutdown before.
#[test]
fn torn_log_is_cut_off_if_a_slot_of_the_watermark_is_torn() {
    let copied = Copied::new(2_000, false);
    for slot in [0, 1] {
        let (path, wal) = copied.copy(&format!("slot-{slot}"));
        tear(&wal, 100 * SECTOR);
        let watermark = path.join("watermark");
        let mut bytes = fs::read(&watermark).unwrap();
        bytes[slot * SECTOR + 40..(slot + 1) * SECTOR].fill(0);
        fs::write(&watermark, bytes).unwrap();
        assert!(check_prefix(&path, &copied.log) > 10, "slot {slot}");
    }
}

#[test]
fn torn_durable_log_is_refused() {
    let copied = Copied::new(2_000, true);
    let (path, wal) = copied.copy("torn");
    tear(&wal, 100 * SECTOR);
    let before = contents(&path);
    let refused = quick().open(&path).unwrap_err();
    assert!(matches!(refused, Error::HistoryLost { .. }), "{refused}");
    assert!(contents(&path) == before, "a store that is refused is not changed");
}

#[test]
fn flipped_bit_in_the_log_is_not_cut_off() {
    let copied = Copied::new(2_000, false);
    for at in [10, 5_000, 70_000, 130_000] {
        let (path, wal) = copied.copy(&format!("flipped-{at}"));
        let mut bytes = fs::read(&wal).unwrap();
        bytes[at] ^= 0x10;
        fs::write(wal, bytes).unwrap();
        let before = contents(&path);
        let refused = quick().open(&path).unwrap_err();
        assert!(matches!(refused, Error::Corruption { .. }), "{at}: {refused}");
        assert!(contents(&path) == before, "a store that is refused is not changed");
    }
}

/// Two files of the log; the first lost its end. RocksDB would open them with a hole.
#[test]
fn gap_between_log_files_ends_the_log() {
    // Little enough that all of it is in one block, where batches can be separated.
    let copied = Copied::new(60, false);
    for (kept, from) in [(30, 30), (30, 31), (0, 1), (10, 50)] {
        let (path, wal) = copied.copy(&format!("hole-{kept}-{from}"));
        let bytes = fs::read(&wal).unwrap();
        let mut ends = vec![0];
        while let Some(record) = bytes.get(*ends.last().unwrap()..).filter(|rest| rest.len() >= 7) {
            let len = usize::from(record[4]) + (usize::from(record[5]) << 8);
            ends.push(ends.last().unwrap() + 7 + len);
        }
        assert!(bytes.len() < 32 * 1024 && ends.len() > APPENDS, "{} records", ends.len());
        // The first batches are not appends.
        let skipped = ends.len() - 1 - APPENDS;
        let number: u64 = wal.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let later = wal.with_file_name(format!("{:06}.log", number + 1));
        fs::write(&wal, &bytes[..ends[skipped + kept]]).unwrap();
        fs::write(&later, &bytes[ends[skipped + from]..]).unwrap();
        let expected = if kept == from { APPENDS } else { kept };
        assert_eq!(check_prefix(&path, &copied.log), expected, "{kept} kept, then from {from}");
    }
}

/// RocksDB removes log files some time after their events are in tables. Torn data in such an
/// obsolete file is not missing, and the log continues after it.
#[test]
fn torn_obsolete_log_file_loses_nothing() {
    let copied = Copied::new(2_000, false);
    let (_, old) = copied.copy("before");
    tear(&old, 100 * SECTOR);
    let path = copied.directory.path().join("store");
    let store = quick().open(&path).unwrap();
    store.append("c", ExpectedVersion::NoStream, [NewEvent::json("Later", &1).unwrap()]).unwrap();
    let all = log(&store);
    let later = copied.directory.path().join("later");
    copy(&path, &later);
    let left_over = later.join("db").join(old.file_name().unwrap());
    assert!(!left_over.exists());
    fs::copy(old, left_over).unwrap();
    assert_eq!(check_prefix(&later, &all), APPENDS + 1);
}

/// The power failed while an entry was being added to the manifest. RocksDB has removed no file for
/// that entry yet, so nothing is lost.
#[test]
fn torn_manifest_tail_is_cut_off_and_loses_nothing() {
    let copied = Copied::new(2_000, true);
    let entry = [&[1, 2, 3, 4, 0xd0, 7, 1][..], &[7; 2_000]].concat();
    for (name, missing) in [("begin", 0..100), ("middle", 600..1_300), ("end", 1_900..2_007)] {
        let (path, _) = copied.copy(name);
        let current = fs::read_to_string(path.join("db/CURRENT")).unwrap();
        let manifest = path.join("db").join(current.trim_end());
        let whole = fs::read(&manifest).unwrap();
        let mut torn = [whole.clone(), entry.clone()].concat();
        torn[whole.len() + missing.start..whole.len() + missing.end].fill(0);
        fs::write(&manifest, torn).unwrap();
        let before = contents(&path);
        let refused = Store::options().read_only(true).open(&path).unwrap_err();
        assert!(matches!(refused, Error::TornLog { .. }), "{name}: {refused}");
        assert!(contents(&path) == before, "reading changes nothing");
        assert_eq!(check_prefix(&path, &copied.log), APPENDS, "{name}");
    }
}

/// The part of the manifest that the watermark records as durable is not cut off.
#[test]
fn manifest_that_lost_durable_sectors_is_refused() {
    let copied = Copied::new(2_000, true);
    let (path, _) = copied.copy("torn");
    let current = fs::read_to_string(path.join("db/CURRENT")).unwrap();
    let manifest = path.join("db").join(current.trim_end());
    let mut bytes = fs::read(&manifest).unwrap();
    let last = bytes.len() - 60;
    bytes[last..].fill(0);
    fs::write(&manifest, bytes).unwrap();
    let before = contents(&path);
    let refused = quick().open(&path).unwrap_err();
    assert!(matches!(refused, Error::Corruption { .. }), "{refused}");
    assert!(contents(&path) == before, "a store that is refused is not changed");
}
