//! Simulates faults. A copy of the files of an open store is the state after a process dies; a
//! truncated newest write-ahead log is the state after a power loss; a flipped bit is damage.

#[allow(dead_code, reason = "the model only copies")]
#[path = "../support/files.rs"]
mod files;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use annals::prelude::*;
use annals::{
    Checkpoint, Position, Snapshot, SnapshotStore, Timestamp, Version, ViewChange, ViewCommit,
    ViewScan, ViewStore,
};

pub(crate) use files::copy_at_rest;

/// The data known to survive a power loss.
#[derive(Debug, Default)]
pub(crate) struct Synced {
    /// The last position.
    pub(crate) head: u64,
    /// The length of each write-ahead log.
    pub(crate) logs: BTreeMap<PathBuf, u64>,
}

impl Synced {
    pub(crate) fn now(store: &Path, head: u64) -> Self {
        Self { head, logs: logs(store).into_iter().collect() }
    }
}

/// The write-ahead logs, the newest last, with their lengths.
fn logs(store: &Path) -> Vec<(PathBuf, u64)> {
    let files = files(store).into_iter();
    let logs = files.filter(|(path, ..)| path.extension().is_some_and(|ending| ending == "log"));
    logs.map(|(path, len, _)| (path, len)).collect()
}

/// The files of a store in the order of their paths: each with its length and modification time,
/// without RocksDB's info logs.
fn files(store: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut files = Vec::new();
    for directory in [store.to_owned(), store.join("db")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // A file may be deleted meanwhile.
            let Ok(about) = fs::metadata(&path) else { continue };
            if about.is_file() {
                let name = path.strip_prefix(store).unwrap().to_owned();
                files.push((name, about.len(), about.modified().unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Truncates the unsynced part of the newest write-ahead log to `left`/255 of its length.
pub(crate) fn lose(store: &Path, synced: &Synced, left: u8) {
    let Some((newest, len)) = logs(store).pop() else { return };
    let baseline = synced.logs.get(&newest).copied().unwrap_or_default();
    let kept = baseline + (len - baseline) * u64::from(left) / 255;
    File::options().write(true).open(store.join(newest)).unwrap().set_len(kept).unwrap();
}

/// Flips a bit, and returns where.
pub(crate) fn flip(store: &Path, file: u16, at: u16, bit: u8) -> (PathBuf, usize) {
    let part = |of: usize, share: u16| (of * usize::from(share)) >> 16;
    let files: Vec<_> = files(store).into_iter().filter(|(_, len, _)| *len > 0).collect();
    let (name, ..) = files[part(files.len(), file)].clone();
    let mut bytes = fs::read(store.join(&name)).unwrap();
    let at = part(bytes.len(), at);
    bytes[at] ^= 1 << bit;
    fs::write(store.join(&name), bytes).unwrap();
    (name, at)
}

const VIEW: &str = "v";
const KIND: &str = "k";
/// The stream that has snapshots.
pub(crate) const SNAPSHOTS_OF: &str = "a";
const SNAPSHOTS_KEPT: usize = 2;

/// The derived data written so far: the writes in order, each with the length of the log at that
/// time. Write number n stores the value n.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<(Write, u64)>);

#[derive(Debug, Clone)]
enum Write {
    View,
    /// A snapshot, at the version that is its number.
    Snapshot,
    /// The events below this version were deleted.
    Cut(u64),
    /// A redaction removed the snapshots from this version on.
    Clear(u64),
}

/// The numbers of the last write to the view and of the last snapshot that a store returns.
type Shown = (u64, u64);

impl Kept {
    pub(crate) fn write(&mut self, store: &Store, view: bool, log: u64) {
        let known = self.shown();
        self.0.push((if view { Write::View } else { Write::Snapshot }, log));
        let number = self.0.len() as u64;
        let state = number.to_be_bytes().to_vec();
        if !view {
            let snapshot = Snapshot {
                kind: KIND.to_owned(),
                stream: stream(),
                version: Version::new(number).unwrap(),
                event_id: EventId::from_bytes([7; 16]),
                schema_version: 1,
                taken_at: Timestamp::from_micros(0),
                state,
            };
            let keep = SNAPSHOTS_KEPT.try_into().unwrap();
            return store.save_snapshot(&snapshot, keep).unwrap();
        }
        let checkpoint = |number: u64| Checkpoint {
            position: Position::new(log),
            state: number.to_be_bytes().to_vec(),
        };
        let expected = ViewStore::checkpoint(store, VIEW).unwrap();
        let found = expected.as_ref().map_or(0, |found| number_of(&found.state));
        assert_eq!(found, known.0);
        let mut changes = vec![ViewChange::Put { key: vec![slot(number)], value: state }];
        if number.is_multiple_of(5) {
            changes.push(ViewChange::Delete { key: vec![slot(number + 1)] });
        }
        let checkpoint = Some(checkpoint(number));
        store
            .commit_view(&ViewCommit {
                view: VIEW.to_owned(),
                expected,
                changes,
                checkpoint,
                follows_other_log: true,
            })
            .unwrap();
    }

    /// Removes the snapshots of deleted events, those below a version; returns how many there are.
    pub(crate) fn cut(&mut self, before: u64, log: u64) -> u64 {
        self.remove(Write::Cut(before), log)
    }

    /// Removes the snapshots from a version on; returns how many there are.
    pub(crate) fn clear(&mut self, from: u64, log: u64) -> u64 {
        self.remove(Write::Clear(from), log)
    }

    fn remove(&mut self, removal: Write, log: u64) -> u64 {
        let before = self.snapshots(self.0.len()).len();
        self.0.push((removal, log));
        (before - self.snapshots(self.0.len()).len()) as u64
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Option<u64> {
        self.snapshots(self.0.len()).last().copied()
    }

    /// The snapshots that are left after the first writes.
    fn snapshots(&self, writes: usize) -> Vec<u64> {
        let (mut left, mut cut) = (Vec::new(), 1);
        for (number, (write, _)) in (1..).zip(&self.0[..writes]) {
            match write {
                Write::View => {}
                // It rests on a deleted event, so it is not saved.
                Write::Snapshot if number < cut => {}
                Write::Snapshot => {
                    left.push(number);
                    left.drain(..left.len().saturating_sub(SNAPSHOTS_KEPT));
                }
                Write::Cut(before) => {
                    cut = cut.max(*before);
                    left.retain(|version| *version >= cut);
                }
                Write::Clear(from) => left.retain(|version| version < from),
            }
        }
        left
    }

    fn shown(&self) -> Shown {
        self.shown_of(self.0.len())
    }

    /// The result if only the first writes survived.
    fn shown_of(&self, writes: usize) -> Shown {
        let is_view = |(write, _): &(Write, u64)| matches!(write, Write::View);
        let view = self.0[..writes].iter().rposition(is_view).map_or(0, |at| at as u64 + 1);
        (view, self.snapshots(writes).last().copied().unwrap_or_default())
    }

    /// Checks that every write is present.
    pub(crate) fn check(&self, store: &Store) {
        assert_eq!(self.look(store), self.shown());
    }

    /// Checks that exactly the writes up to one moment survived, the same moment as for the log
    /// (G10, G12), and drops the later ones.
    pub(crate) fn truncate(&mut self, store: &Store, head: u64) {
        let found = self.look(store);
        let is_left = |writes: &usize| {
            let (left, lost) = self.0.split_at(*writes);
            self.shown_of(*writes) == found
                && left.iter().all(|(_, log)| *log <= head)
                && lost.iter().all(|(_, log)| *log >= head)
        };
        // A removal is synced, and so is everything before it. It may not show.
        let removes = |(write, _): &(Write, u64)| matches!(write, Write::Cut(_) | Write::Clear(_));
        let synced = self.0.iter().rposition(removes).map_or(0, |at| at + 1);
        let writes = (synced..=self.0.len()).find(is_left);
        let writes =
            writes.unwrap_or_else(|| panic!("{found:?} next to a log of {head}: {self:?}"));
        self.0.truncate(writes);
    }

    /// Reads what a store returns, and checks that the values of the view match its checkpoint.
    fn look(&self, store: &Store) -> Shown {
        let newest = store.load_snapshot(KIND, &stream(), Version::MAX).unwrap();
        let snapshot = newest.map_or(0, |newest| {
            assert_eq!(newest.version.get(), number_of(&newest.state));
            newest.version.get()
        });
        let checkpoint = ViewStore::checkpoint(store, VIEW).unwrap();
        let view = checkpoint.map_or(0, |checkpoint| number_of(&checkpoint.state));
        let mut expected = BTreeMap::new();
        let writes = (1..=view).zip(&self.0);
        for (number, _) in writes.filter(|(_, (write, _))| matches!(write, Write::View)) {
            expected.insert(vec![slot(number)], number.to_be_bytes().to_vec());
            if number.is_multiple_of(5) {
                expected.remove(&vec![slot(number + 1)]);
            }
        }
        let scan = ViewScan { view: VIEW.to_owned(), entries_max: 9, ..ViewScan::default() };
        let entries = store.scan_view(&scan).unwrap().entries;
        assert_eq!(entries, expected.into_iter().collect::<Vec<_>>());
        (view, snapshot)
    }
}

fn stream() -> StreamId {
    StreamId::new(SNAPSHOTS_OF).unwrap()
}

fn slot(number: u64) -> u8 {
    u8::try_from(number % 3).unwrap()
}

fn number_of(state: &[u8]) -> u64 {
    u64::from_be_bytes(state.try_into().unwrap())
}
