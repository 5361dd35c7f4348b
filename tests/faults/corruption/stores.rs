//! The stores that are damaged: small, and of every shape that a directory can have. The contents
//! of a store follow from the number of rounds written to it, so only that number has to be stored.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    Checkpoint, Durability, Position, Snapshot, SnapshotStore, Timestamp, Version, ViewChange,
    ViewCommit, ViewEntry, ViewStore,
};

use super::damage::kind_of;
use crate::support::files::{copy_at_rest, names};

pub(crate) const VIEW: &str = "totals";
pub(crate) const KIND: &str = "state";
/// The stream of the snapshots.
pub(crate) const SUMMED: &str = "s-0";
/// Number of snapshots that are kept.
pub(crate) const KEPT: usize = 2;
/// Events of one round.
pub(crate) const ROUND: u64 = 5;

/// Called with what a round writes.
pub(crate) trait Anything: EventStore + SnapshotStore + ViewStore {}
impl<S: EventStore + SnapshotStore + ViewStore> Anything for S {}

/// The steps that make a store, in order.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Rounds of `Buffered` appends.
    Rounds(u64),
    /// One more round, of `Sync` appends.
    Durable,
    /// Close cleanly, and open again.
    Reopen,
    /// The same, with a round between, until a compaction has merged tables.
    Compact,
    /// Keep a copy of the directory in its current state: an older state.
    Keep,
    /// Close cleanly. Without it, the process dies.
    Close,
}

/// The steps that give a store its shape.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    memtable_bytes: usize,
    pack_bytes: usize,
    /// Length of payloads.
    payload_len: usize,
    steps: &'static [Step],
}

use Step::{Close, Compact, Durable, Keep, Reopen, Rounds};

pub(crate) const SHAPES: [Shape; 6] = [
    // Everything in one write-ahead log, after the process died.
    Shape {
        name: "log",
        memtable_bytes: 64 << 20,
        pack_bytes: 32 << 10,
        payload_len: 20,
        steps: &[Rounds(4), Durable, Keep, Rounds(7), Durable],
    },
    // Everything in tables, of all families.
    Shape {
        name: "closed",
        memtable_bytes: 64 << 20,
        pack_bytes: 300,
        payload_len: 20,
        steps: &[Rounds(8), Keep, Rounds(4), Close],
    },
    // Tables, and a write-ahead log after the process died.
    Shape {
        name: "reopened",
        memtable_bytes: 64 << 20,
        pack_bytes: 300,
        payload_len: 20,
        steps: &[Rounds(8), Reopen, Keep, Rounds(4), Durable, Keep, Rounds(3), Durable],
    },
    // Tables, and several write-ahead logs that are all needed.
    Shape {
        name: "logs",
        memtable_bytes: 256 << 10,
        pack_bytes: 4 << 10,
        payload_len: 1_500,
        steps: &[Rounds(4), Reopen, Rounds(6), Keep, Rounds(12), Durable],
    },
    // Tables that were merged from others.
    Shape {
        name: "compacted",
        memtable_bytes: 64 << 20,
        pack_bytes: 1,
        payload_len: 20,
        steps: &[Rounds(3), Reopen, Rounds(3), Keep, Compact, Rounds(2), Close],
    },
    // The newest events are in the write-ahead log, and not known to be durable.
    Shape {
        name: "buffered",
        memtable_bytes: 64 << 20,
        pack_bytes: 32 << 10,
        payload_len: 20,
        steps: &[Rounds(4), Reopen, Rounds(3), Durable, Keep, Rounds(4)],
    },
];

/// A store of a shape, and what it must hold.
pub(crate) struct Built {
    pub(crate) path: PathBuf,
    /// Its older states, the oldest first.
    pub(crate) older: Vec<PathBuf>,
    /// A store made the same way, with other events of the same lengths.
    pub(crate) other: PathBuf,
    pub(crate) truth: Truth,
}

/// What a store must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth {
    pub(crate) salt: char,
    pub(crate) payload_len: usize,
    pub(crate) rounds: u64,
    /// This many rounds must be present regardless of the rest.
    pub(crate) durable: u64,
}

impl Shape {
    /// Makes the store in a directory, or uses the one that another process made there.
    pub(crate) fn build(&self, root: &Path) -> Built {
        let root = root.join(self.name);
        let (path, other, made) = (root.join("whole"), root.join("other"), root.join("made"));
        let older = |number: usize| root.join(format!("older-{number}"));
        if !made.exists() {
            fs::create_dir_all(&root).unwrap();
            let numbers = self.run(&path, 'a', &older);
            assert_eq!(numbers, self.run(&other, 'b', &|_| root.join("unused")));
            let _ = fs::remove_dir_all(root.join("unused"));
            fs::write(&made, format!("{} {}", numbers.0, numbers.1)).unwrap();
        }
        let numbers = fs::read_to_string(made).unwrap();
        let (rounds, durable) = numbers.split_once(' ').unwrap();
        let truth = Truth {
            salt: 'a',
            payload_len: self.payload_len,
            rounds: rounds.parse().unwrap(),
            durable: durable.parse().unwrap(),
        };
        let older = (0..self.steps.len()).map(older).take_while(|path| path.exists()).collect();
        Built { path, older, other, truth }
    }

    /// Returns how many rounds were written, and how many of them are durable.
    fn run(&self, path: &Path, salt: char, older: &dyn Fn(usize) -> PathBuf) -> (u64, u64) {
        let live = path.with_extension("live");
        let mut writing = Writing { shape: self, live, salt, rounds: 0, durable: 0, store: None };
        writing.open();
        let mut kept = 0;
        for step in self.steps {
            match step {
                Rounds(count) => (0..*count).for_each(|_| writing.round(Durability::Buffered)),
                Durable => {
                    writing.round(Durability::Sync);
                    writing.durable = writing.rounds;
                }
                Close => writing.close(),
                Reopen => {
                    writing.close();
                    writing.open();
                }
                Compact => writing.compact(),
                Keep => {
                    let _ = fs::remove_dir_all(older(kept));
                    copy_at_rest(&writing.live, &older(kept));
                    kept += 1;
                }
            }
        }
        // A copy taken while the store is open is what a dead process leaves.
        copy_at_rest(&writing.live, path);
        (writing.rounds, writing.durable)
    }
}

/// A store while its steps run.
struct Writing<'s> {
    shape: &'s Shape,
    live: PathBuf,
    salt: char,
    rounds: u64,
    durable: u64,
    store: Option<Store>,
}

impl Writing<'_> {
    fn open(&mut self) {
        let options = Store::options().memtable_bytes(self.shape.memtable_bytes);
        let options = options.pack_bytes(self.shape.pack_bytes);
        self.store = Some(options.open(&self.live).unwrap());
    }

    fn close(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.durable = self.rounds;
    }

    fn round(&mut self, durability: Durability) {
        self.rounds += 1;
        let store = self.store.as_ref().unwrap();
        write_round(store, self.rounds, (self.salt, self.shape.payload_len), durability);
    }

    /// Each open and close leaves tables; once there are enough, they are merged in the background.
    fn compact(&mut self) {
        let before: Vec<_> =
            names(&self.live).into_iter().filter(|name| kind_of(name) == "table").collect();
        for _ in 0..6 {
            self.round(Durability::Buffered);
            self.close();
            self.open();
        }
        let begun = Instant::now();
        while before.iter().all(|name| self.live.join(name).exists()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is merged");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        drop(self.store.take());
        let _ = fs::remove_dir_all(&self.live);
    }
}

/// Writes round n. Derived data is written before the events of the round, so that the events are
/// last.
fn write_round(
    store: &impl Anything,
    n: u64,
    (salt, payload_len): (char, usize),
    durability: Durability,
) {
    if n.is_multiple_of(2) {
        let mut changes: Vec<_> = entries_at(n)
            .into_iter()
            .filter(|(key, value)| key == b"count" || *value == n.to_be_bytes())
            .map(|(key, value)| ViewChange::Put { key, value })
            .collect();
        if n.is_multiple_of(10) {
            changes.push(ViewChange::Clear);
        }
        let expected = store.checkpoint(VIEW).unwrap();
        let commit = ViewCommit {
            view: VIEW.to_owned(),
            expected,
            changes,
            checkpoint: Some(checkpoint_at(n)),
            follows_other_log: true,
        };
        store.commit_view(&commit).unwrap();
    }
    if let Some(snapshot) = snapshot_at(n, salt) {
        store.save_snapshot(&snapshot, NonZeroUsize::new(KEPT).unwrap()).unwrap();
    }
    let event = |at: u64| {
        let mut payload = format!("{salt} {n} {at} ").into_bytes();
        // Incompressible.
        while payload.len() < payload_len {
            payload.extend(event_id(salt, n, payload.len() as u64).as_bytes());
        }
        NewEvent::bytes("Happened", payload)
            .unwrap()
            .with_id(event_id(salt, n, at))
            .with_metadata("round", n.to_string())
            .with_tag("small")
            .with_recorded_at(Timestamp::from_micros(
                1_700_000_000_000_000 + i64::try_from(n * 100 + at).unwrap(),
            ))
    };
    let one = Append::new().to(format!("s-{}", n % 3), ExpectedVersion::Any, (0..3).map(event));
    let two = Append::new().to("shared", ExpectedVersion::Any, [event(3)]).to(
        format!("t-{}", n % 5),
        ExpectedVersion::Any,
        [event(4)],
    );
    for append in [one, two] {
        store.submit(append.with_durability(durability)).unwrap();
    }
}

fn event_id(salt: char, n: u64, at: u64) -> EventId {
    EventId::from_bytes([7; 16]).derived(format!("{salt} {n} {at}"))
}

/// The entries of the view after round n, if that round writes the view.
pub(crate) fn entries_at(n: u64) -> Vec<ViewEntry> {
    let since = (n - n % 10).max(2);
    let mut entries = std::collections::BTreeMap::new();
    entries.insert(b"count".to_vec(), n.to_be_bytes().to_vec());
    for round in (since..=n).step_by(2) {
        entries.insert(format!("k-{}", round % 8).into_bytes(), round.to_be_bytes().to_vec());
    }
    entries.into_iter().collect()
}

/// The view's checkpoint then: it covers the rounds before.
pub(crate) fn checkpoint_at(n: u64) -> Checkpoint {
    Checkpoint { position: Position::new((n - 1) * ROUND), state: n.to_be_bytes().to_vec() }
}

/// The snapshot that round n takes, if any: one for every third event of its stream.
pub(crate) fn snapshot_at(n: u64, salt: char) -> Option<Snapshot> {
    let before = n.checked_sub(3).filter(|before| before.is_multiple_of(3) && *before > 0)?;
    Some(Snapshot {
        kind: KIND.to_owned(),
        stream: StreamId::new(SUMMED).unwrap(),
        version: Version::new(before).unwrap(),
        event_id: event_id(salt, before, 2),
        schema_version: 1,
        taken_at: Timestamp::from_micros(i64::try_from(n).unwrap()),
        state: format!("{salt} {before}").into_bytes(),
    })
}

impl Truth {
    /// The log, from a store without a disk.
    pub(crate) fn log(&self) -> Vec<RecordedEvent> {
        let store = MemoryStore::new();
        for n in 1..=self.rounds {
            write_round(&store, n, (self.salt, self.payload_len), Durability::Buffered);
        }
        let log: Vec<_> = store.read_log().into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(log.last().map(RecordedEvent::position), Position::new(self.rounds * ROUND));
        log
    }
}
