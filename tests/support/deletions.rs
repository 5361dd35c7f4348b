//! The deletions that were asked of a store, and what they say must be gone (G17).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{Deletion, DeletionTarget, Error, REDACTED, RecordedDeletion, StreamState};

/// How long a deletion that was cut short may take after the store is opened again.
const RESUME_MAX: Duration = Duration::from_secs(20);

/// A deletion in one word, without spaces.
pub(crate) fn name_of(deletion: &Deletion) -> String {
    match deletion.target() {
        DeletionTarget::Truncate { streams } => {
            let each = streams.iter().map(|(stream, before)| format!("{stream}:{before}"));
            format!("truncate:{}", each.collect::<Vec<_>>().join(","))
        }
        DeletionTarget::Delete { stream, .. } => format!("delete:{stream}"),
        DeletionTarget::Tombstone { stream } => format!("tombstone:{stream}"),
        DeletionTarget::Redact { position, .. } => format!("redact:{position}"),
        other => panic!("{other:?}"),
    }
}

/// What was asked, and what was answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    names: HashSet<String>,
    /// Categories with a retention.
    retained: HashSet<String>,
    /// The deletions that were answered, by number.
    done: BTreeMap<u64, String>,
    /// Whether a deletion was asked and not answered.
    pub(crate) is_open: bool,
}

impl Asked {
    /// Adds a promise: see `promises`.
    pub(crate) fn add(&mut self, mark: &str, rest: &str) {
        self.is_open = matches!(mark, "x" | "s");
        match mark {
            "x" => drop(self.names.insert(rest.to_owned())),
            "s" => drop(self.retained.insert(rest.to_owned())),
            "y" => {
                let (number, name) = rest.split_once(' ').unwrap();
                self.done.insert(number.parse().unwrap(), name.to_owned());
            }
            _ => {}
        }
    }

    /// Checks that the store has recorded each deletion that was answered, and only those that were
    /// asked; waits until all are carried out. Returns what must be gone.
    pub(crate) fn check(&self, store: &Store) -> Gone {
        let recorded = store.deletions().unwrap();
        let names: BTreeMap<u64, String> =
            recorded.iter().map(|it| (it.number.get(), name_of(&it.deletion))).collect();
        for (number, name) in &self.done {
            assert_eq!(names.get(number), Some(name), "deletion {number}");
        }
        for it in &recorded {
            let of_retention = |target: &DeletionTarget| match target {
                DeletionTarget::Truncate { streams } => {
                    streams.iter().all(|(stream, _)| self.retained.contains(stream.category()))
                }
                _ => false,
            };
            let is_asked = match it.deletion.author() {
                "scavenge" => of_retention(it.deletion.target()),
                _ => names.get(&it.number.get()).is_some_and(|name| self.names.contains(name)),
            };
            assert!(is_asked, "not asked: {it:?}");
        }
        let gone = Gone::of(&recorded);
        if !recorded.is_empty() {
            gone.wait(store);
        }
        gone
    }
}

/// What must be gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// The first version of each stream that is left, and whether it ended there.
    firsts: HashMap<StreamId, (u64, StreamState)>,
    /// The deletion that redacted the event at a position.
    redacted: BTreeMap<u64, u64>,
}

impl Gone {
    fn of(recorded: &[RecordedDeletion]) -> Self {
        let mut gone = Self::default();
        for it in recorded {
            match it.deletion.target() {
                DeletionTarget::Truncate { streams } => streams.iter().for_each(|(id, before)| {
                    gone.end(id, before.get(), StreamState::Live);
                }),
                DeletionTarget::Delete { stream, before } => {
                    gone.end(stream, before.unwrap().get(), StreamState::Deleted);
                }
                DeletionTarget::Tombstone { stream } => {
                    gone.end(stream, u64::MAX, StreamState::Tombstoned);
                }
                DeletionTarget::Redact { position, .. } => {
                    gone.redacted.insert(position.get(), it.number.get());
                }
                other => panic!("{other:?}"),
            }
        }
        gone
    }

    fn end(&mut self, stream: &StreamId, first: u64, state: StreamState) {
        let (known, ended) = self.firsts.entry(stream.clone()).or_default();
        if first >= *known {
            (*known, *ended) = (first, state);
        }
    }

    /// The first version of a stream that is left.
    pub(crate) fn first(&self, stream: &StreamId) -> u64 {
        self.firsts.get(stream).map_or(1, |(first, _)| *first)
    }

    pub(crate) fn is_redacted(&self, position: u64) -> bool {
        self.redacted.contains_key(&position)
    }

    /// Whether an event is as the deletions left it.
    fn is_as_decided(&self, event: &RecordedEvent) -> bool {
        let is_left = event.version().get() >= self.first(event.stream());
        let is_redacted = event.content_type().as_str() == REDACTED;
        is_left && is_redacted == self.is_redacted(event.position().get())
    }

    /// Waits until the log is as the deletions say.
    fn wait(&self, store: &Store) {
        let began = Instant::now();
        loop {
            let mut log = store.read_log().into_iter().map(Result::unwrap);
            let Some(left) = log.find(|event| !self.is_as_decided(event)) else { return };
            let place = format!("{} {}", left.stream(), left.version());
            assert!(began.elapsed() < RESUME_MAX, "{place} is not as {self:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Checks an event that is left.
    pub(crate) fn check_left(&self, event: &RecordedEvent) {
        assert!(self.is_as_decided(event), "{} {}", event.stream(), event.version());
        if let Some(number) = self.redacted.get(&event.position().get()) {
            assert_eq!((event.payload(), event.metadata().len()), (&number.to_be_bytes()[..], 0));
        }
    }

    /// Checks that these positions, of which some were acknowledged as `stream version id`, were
    /// deleted.
    pub(crate) fn check_hole<'a>(&self, acknowledged: impl Iterator<Item = (&'a u64, &'a String)>) {
        for (position, place) in acknowledged {
            let mut words = place.split(' ');
            let stream = StreamId::new(words.next().unwrap()).unwrap();
            let version: u64 = words.next().unwrap().parse().unwrap();
            assert!(version < self.first(&stream), "position {position} is lost: {place}");
        }
    }

    /// Checks the streams that ended, and that the holes of the log are what is missing there.
    pub(crate) fn check_ends(&self, store: &Store, missing: &BTreeSet<u64>) {
        for (stream, (first, state)) in &self.firsts {
            let newest = store.read_stream(stream).backward().first();
            let version = store.stream_version(stream);
            match (newest, state) {
                (newest, StreamState::Tombstoned) => {
                    assert!(matches!(newest, Err(Error::Tombstoned { .. })), "{newest:?}");
                }
                (Ok(None), StreamState::Deleted) => assert_eq!(version.unwrap(), None),
                (Ok(None), _) => assert_eq!(version.unwrap().unwrap().get(), first - 1),
                (Ok(Some(event)), _) => assert_eq!(version.unwrap(), Some(event.version())),
                (Err(error), _) => panic!("{error}"),
            }
        }
        let holes = store.read_log().holes().unwrap();
        let in_holes = holes.iter().flat_map(|hole| hole.first..=hole.last);
        assert!(in_holes.eq(missing.iter().copied()), "{holes:?} for {missing:?}");
    }
}
