//! The world: the store on disk, the memory store and the reference, run together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use annals::prelude::*;
use annals::{Durability, Error, EventType, KeyedSubmission, Limits, StoreOptions, Timestamp};

use super::deletions::Retentions;
use super::faults::{self, Kept, Synced};
use super::ops::{After, AsOf, Ask, Condition, Kind, Op, Part, Size, Start, TAGS_LEN};
use super::reference::{Call, Fact, Recorded, Reference};
use super::subject::{Subject, key_of, tags_of, version};

/// Ids that are prefixes of each other, or sort around each other's separators.
pub(crate) const STREAMS: [&str; 7] = ["a", "a-1", "a-10", "ä-1", "日本-1", "a b", "b-1"];
pub(crate) const TYPES: [&str; 3] = ["Opened", "Changed", "Closed"];
/// The number of subscriptions that operations resume.
pub(crate) const FOLLOWS: usize = 6;
const METADATA: &str = "by";
/// Tags that are prefixes of each other, or hold more than ASCII.
pub(crate) const TAGS: [&str; TAGS_LEN] = ["a", "a:1", "ab", "日本:1"];
/// Half of the bits are set, and each pair of neighbours occurs.
const DOORS: u64 = 0x6996_9669_9669_6996;

/// Both stores and the reference, with their state.
pub(crate) struct World {
    pub(crate) disk: Option<Store>,
    /// The store on disk; and the store in memory, until the first deletion, which it does not have.
    pub(crate) subjects: Vec<Subject>,
    pub(crate) reference: Reference,
    calls: Vec<Call>,
    pub(crate) clock: Arc<AtomicI64>,
    options: StoreOptions,
    /// The current path of the store on disk.
    pub(crate) path: PathBuf,
    numbers: u64,
    /// One bit for each operation, in turn: whether it goes through the async API.
    doors: u64,
    pub(crate) kept: Kept,
    pub(crate) synced: Synced,
    pub(crate) retentions: Retentions,
    directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(
        memtable_bytes: usize,
        pack_bytes: usize,
        version_cache_streams: usize,
        has_all_indexes: bool,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        faults::copy_at_rest(new_store(), &path);
        let clock = Arc::new(AtomicI64::new(1_000));
        let options = Store::options()
            .durability(Durability::Buffered)
            .memtable_bytes(memtable_bytes)
            .pack_bytes(pack_bytes)
            .read_ahead_bytes(1 << 20)
            .version_cache_streams(version_cache_streams)
            .index_types(has_all_indexes)
            .index_categories(has_all_indexes)
            .clock(reader_of(&clock));
        let disk = options.clone().open(&path).unwrap();
        let memory = MemoryStore::with(Limits::default(), reader_of(&clock));
        Self {
            subjects: vec![Subject::new(disk.clone()), Subject::new(memory)],
            disk: Some(disk),
            reference: Reference::default(),
            calls: Vec::new(),
            clock,
            options,
            synced: Synced::now(&path, 0),
            path,
            numbers: 0,
            doors: DOORS,
            kept: Kept::default(),
            retentions: Retentions::default(),
            directory,
        }
    }

    fn event(&mut self, size: Size, tags: u8, time: Option<i64>) -> NewEvent {
        self.numbers += 1;
        let mut payload = self.numbers.to_string().into_bytes();
        if matches!(size, Size::Large) {
            payload.resize(30_000, 7);
        }
        let event_type = TYPES[usize::try_from(self.numbers % 3).unwrap()];
        let event = NewEvent::new(EventType::new(event_type).unwrap(), payload);
        let twice = tags_of(tags).take(usize::from(tags >> TAGS_LEN));
        let event = tags_of(tags).chain(twice).fold(event, NewEvent::with_tag);
        let has_metadata = self.numbers.is_multiple_of(2);
        let event = if has_metadata { event.with_metadata(METADATA, "Ada") } else { event };
        match time {
            Some(time) => event.with_recorded_at(Timestamp::from_micros(time)),
            None => event,
        }
    }

    pub(crate) fn call(
        &mut self,
        parts: &[Part],
        times: Option<i64>,
        conditions: &[Condition],
    ) -> Call {
        let head = self.reference.log.len() as u64;
        let conditions = conditions.iter().map(|condition| {
            let after = match condition.after {
                After::Nothing => 0,
                After::BelowHead(back) => head.saturating_sub(back),
                After::At(position) => position,
            };
            (condition.items.clone(), after)
        });
        let conditions = conditions.collect();
        let mut call = Call { expected: Vec::new(), events: Vec::new(), conditions };
        let mut time = times.map(|offset| self.clock.load(Ordering::SeqCst) + offset);
        for part in parts {
            let stream = STREAMS[part.stream];
            if call.expected.iter().all(|(named, _)| *named != stream) {
                let expected = match part.kind {
                    Kind::Any => ExpectedVersion::Any,
                    Kind::NoStream => ExpectedVersion::NoStream,
                    Kind::Exists => ExpectedVersion::StreamExists,
                    Kind::Tip => self.reference.stream_version(stream).map(version).into(),
                    Kind::At(at) => ExpectedVersion::Exact(version(at)),
                };
                call.expected.push((stream, expected));
            }
            for _ in 0..part.count {
                call.events.push((stream, self.event(part.size, part.tags, time)));
                time = time.map(|time| time + i64::from(self.numbers.is_multiple_of(3)));
            }
        }
        call
    }

    pub(crate) fn submit(&mut self, call: &Call) {
        let outcome = self.reference.append(call, self.clock.load(Ordering::SeqCst));
        for subject in &self.subjects {
            assert_eq!(subject.append(call), outcome);
        }
    }

    fn submit_once(&mut self, call: &Call, key: usize, other: bool) {
        let clock = self.clock.load(Ordering::SeqCst);
        let answer = self.reference.append_once(call, (key, other), clock);
        let key = key_of(key, other);
        for subject in &self.subjects {
            assert_eq!(subject.append_once(call, &key), answer);
        }
    }

    fn retry(&mut self, back: usize, change: i8) {
        let Some(at) = self.calls.len().checked_sub(1 + back) else { return };
        let mut call = self.calls[at].clone();
        match (change, call.events.last().cloned()) {
            (1, Some((stream, last))) => {
                let time = last.recorded_at().map(Timestamp::as_micros);
                call.events.push((stream, self.event(Size::Small, 3, time)));
            }
            (-1, Some(_)) => drop(call.events.pop()),
            _ => {}
        }
        self.submit(&call);
    }

    fn list(&self, prefix: &str, after: Option<usize>) {
        let after = after.map(|after| STREAMS[after]);
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for fact in &self.reference.log {
            let is_live = self.reference.stream_version(&fact.stream).is_some();
            if is_live
                && fact.stream.starts_with(prefix)
                && after.is_none_or(|after| &*fact.stream > after)
            {
                expected.insert(&fact.stream, fact.version);
            }
        }
        for subject in &self.subjects {
            let after = after.map(|after| StreamId::new(after).unwrap());
            let listed = subject.list(prefix, after);
            let listed = listed.iter().map(|(id, version)| (id.as_str(), *version));
            assert!(listed.eq(expected.iter().map(|(id, version)| (*id, *version))));
        }
    }

    fn reopen(&mut self) {
        self.close();
        self.open();
        self.kept.check(self.store());
        self.synced = Synced::now(&self.path, self.reference.log.len() as u64);
    }

    pub(crate) fn store(&self) -> &Store {
        self.disk.as_ref().unwrap()
    }

    /// Closes the store on disk and ignores the result.
    pub(crate) fn close(&mut self) {
        self.disk = None;
        // The subject holds the last handle, so replace it.
        self.subjects[0].replace(MemoryStore::new());
    }

    pub(crate) fn open(&mut self) {
        let store = self.options.clone().open(&self.path).unwrap();
        self.subjects[0].replace(store.clone());
        self.disk = Some(store);
    }

    /// Simulates a process crash or a power loss, and continues with the remaining files.
    fn crash(&mut self, left: Option<u8>) {
        let image = self.image();
        if let Some(left) = left {
            faults::lose(&image, &self.synced, left);
        }
        self.close();
        std::fs::remove_dir_all(&self.path).unwrap();
        self.path = image;
        self.open();
        let head = self.store().head().unwrap().map_or(0, u64::from);
        let before = self.reference.log.len() as u64;
        let least = if left.is_some_and(|left| left < 255) { self.synced.head } else { before };
        assert!((least..=before).contains(&head), "{head} of {before}, at least {least}");
        self.kept.truncate(self.disk.as_ref().unwrap(), head);
        let keys = self.reference.keys.len();
        self.truncate_keys(head, left);
        if head == before {
            self.kept_whole(left);
        }
        if head < before || self.reference.keys.len() < keys {
            self.reference.truncate(head);
            self.forget(head);
        }
        // The promises stay the same, but the write-ahead logs are new.
        self.synced = Synced { head: self.synced.head, ..Synced::default() };
    }

    /// Checks that the keys up to one moment survived, the same moment as for the log (G15), and
    /// drops the later ones.
    fn truncate_keys(&mut self, head: u64, left: Option<u8>) {
        let is_there = |known: &Recorded| {
            let found = self.store().find_submitted(&key_of(known.key, known.other)).unwrap();
            found.is_some()
        };
        let kept = self.reference.keys.iter().take_while(|known| is_there(known)).count();
        let (there, gone) = self.reference.keys.split_at(kept);
        assert!(there.iter().all(|known| known.log <= head), "a key without its events");
        let may_be_gone = |known: &Recorded| match known.result.last() {
            Some(last) => *last > head,
            None => left.is_some() && known.log >= head,
        };
        assert!(gone.iter().all(|known| may_be_gone(known) && !is_there(known)), "{gone:?}");
        self.reference.keys.truncate(kept);
    }

    /// A process crash must lose nothing, including derived data.
    fn kept_whole(&self, left: Option<u8>) {
        if left.is_none_or(|left| left == 255) {
            self.kept.check(self.store());
        }
    }

    /// Rebuilds the memory store from the truncated reference, and moves subscriptions past the
    /// head back to it.
    fn forget(&mut self, head: u64) {
        for seen in self.subjects.iter_mut().flat_map(|subject| &mut subject.seen) {
            *seen = (*seen).min(Some(head).filter(|head| *head > 0));
        }
        let Some(subject) = self.subjects.get_mut(1) else { return };
        let memory = MemoryStore::with(Limits::default(), reader_of(&self.clock));
        for commit in self.reference.log.chunk_by(|a, b| a.commit == b.commit) {
            let append = commit.iter().fold(Append::new(), |append, fact| {
                let event_type = EventType::new(&fact.event_type).unwrap();
                let event = NewEvent::new(event_type, fact.payload.clone()).with_id(fact.id);
                let event = event.with_recorded_at(Timestamp::from_micros(fact.time));
                let event = fact.tags.iter().fold(event, NewEvent::with_tag);
                let event =
                    if fact.has_metadata { event.with_metadata(METADATA, "Ada") } else { event };
                append.to(fact.stream.as_str(), ExpectedVersion::Any, [event])
            });
            let positions: Vec<_> = commit.iter().map(|fact| fact.position).collect();
            match self.reference.keys.iter().find(|known| known.result == positions) {
                Some(Recorded { key, other, .. }) => {
                    drop(memory.submit_once(&key_of(*key, *other), append.into()).unwrap());
                }
                None => drop(memory.submit(append).unwrap()),
            }
        }
        for known in self.reference.keys.iter().filter(|known| known.result.is_empty()) {
            let key = key_of(known.key, known.other);
            memory.submit_once(&key, KeyedSubmission::nothing()).unwrap();
        }
        subject.replace(memory);
    }

    /// Copies the files that a process crash would leave now.
    fn image(&mut self) -> PathBuf {
        self.numbers += 1;
        let image = self.directory.path().join(format!("image-{}", self.numbers));
        faults::copy_at_rest(&self.path, &image);
        image
    }

    /// Checks a copy with a flipped bit: every read is correct or fails (G8).
    fn damage(&mut self, file: u16, at: u16, bit: u8) {
        let image = self.image();
        let (name, at) = faults::flip(&image, file, at, bit);
        if let Ok(store) = self.options.clone().open(&image) {
            let head = store.head().unwrap().map_or(0, u64::from);
            let told = format!("byte {at} of {}", name.display());
            assert!(head >= self.synced.head, "{told}: {head} of {}", self.synced.head);
            let log = store.read_log().into_iter();
            check_answer(log, self.reference.left().filter(|fact| fact.position <= head), &told);
            for stream in STREAMS {
                let events = store.read_stream(stream).into_iter();
                if self.reference.is_tombstoned(stream) {
                    check_refused(events, &told);
                    continue;
                }
                let facts = self.reference.left().filter(|fact| fact.stream == stream);
                let facts = facts.filter(|fact| fact.position <= head);
                check_answer(events, facts, &told);
            }
            let _ = store.verify(|_| {}).unwrap();
        }
        std::fs::remove_dir_all(&image).unwrap();
    }

    /// Compares one read with the reference.
    fn check_read(&self, subject: &Subject, ask: &Ask, clock: i64) {
        let read = subject.read(ask, clock);
        let has_deletions = self.reference.has_deletions();
        let holes = if has_deletions { subject.holes(ask, clock) } else { Ok(BTreeSet::new()) };
        if ask.stream.is_some_and(|stream| self.reference.is_tombstoned(STREAMS[stream])) {
            // A read of no version at all is not refused.
            let is_whole = matches!((ask.start, ask.as_of), (Start::Beginning, AsOf::Now));
            let may_be_empty = !is_whole || ask.limit == Some(0);
            return match (read, holes) {
                (Err(Error::Tombstoned { .. }), Err(Error::Tombstoned { .. })) => {}
                (Ok(read), Ok(holes)) if may_be_empty => {
                    assert!(read.is_empty() && holes.is_empty());
                }
                other => panic!("{other:?}"),
            };
        }
        let (read, expected) = (read.unwrap(), self.reference.read(ask, clock));
        assert!(read == expected, "read {} of {}", read.len(), expected.len());
        if let Some(expected) = self.reference.holes(ask, clock) {
            assert_eq!(holes.unwrap(), expected, "holes");
        }
        if let AsOf::Time(before) = ask.as_of {
            let time = clock - before;
            assert_eq!(subject.position_at(time), self.reference.position_at(time));
        }
    }

    /// Reads everything in every way.
    pub(crate) fn look(&mut self) {
        for stream in std::iter::once(None).chain((0..STREAMS.len()).map(Some)) {
            for backward in [false, true] {
                self.run(&Op::Read(Ask {
                    stream,
                    backward,
                    start: Start::Beginning,
                    limit: None,
                    types: 0,
                    category: None,
                    prefix: None,
                    as_of: AsOf::Now,
                    tags: 0,
                    items: Vec::new(),
                }));
            }
        }
        for which in 0..FOLLOWS {
            self.run(&Op::Follow { which, deliveries: usize::MAX });
        }
        self.check_deletions();
    }

    pub(crate) fn run(&mut self, op: &Op) {
        self.doors = self.doors.rotate_left(1);
        for subject in &mut self.subjects {
            subject.by_task = self.doors & 1 == 1;
        }
        match op {
            Op::Append(parts, times, conditions) => {
                let call = self.call(parts, *times, conditions);
                self.submit(&call);
                self.calls.push(call);
            }
            Op::Keyed { parts, conditions, key, other } => {
                let call = self.call(parts, None, conditions);
                self.submit_once(&call, *key, *other);
            }
            Op::Retry { back, change } => self.retry(*back, *change),
            Op::Read(ask) => {
                let clock = self.clock.load(Ordering::SeqCst);
                self.subjects.iter().for_each(|subject| self.check_read(subject, ask, clock));
            }
            Op::List { prefix, after } => self.list(prefix, *after),
            Op::Follow { which, deliveries } => {
                for subject in &mut self.subjects {
                    subject.follow(*which, *deliveries, &self.reference);
                }
            }
            Op::Delete(target) => self.delete(*target),
            Op::Retain { stream, of_category, count, age } => {
                self.retain((STREAMS[*stream], *of_category), (*count, *age));
            }
            Op::Scavenge => self.scavenge(),
            Op::Clock(change) => {
                self.clock.fetch_add(*change, Ordering::SeqCst);
            }
            Op::Keep { view } => {
                let log = self.reference.log.len() as u64;
                self.kept.write(self.disk.as_ref().unwrap(), *view, log);
            }
            Op::Sync => {
                self.store().sync().unwrap();
                self.synced = Synced::now(&self.path, self.reference.log.len() as u64);
            }
            Op::Reopen => self.reopen(),
            Op::Crash { left } => self.crash(*left),
            Op::Damage { file, at, bit } => self.damage(*file, *at, *bit),
        }
        self.check_summary();
    }

    pub(crate) fn check_summary(&self) {
        for subject in &self.subjects {
            subject.check_summary(&self.reference);
        }
        let streams: BTreeSet<_> = self.reference.log.iter().map(|fact| &*fact.stream).collect();
        assert_eq!(self.store().info().unwrap().streams, streams.len() as u64);
    }
}

/// A store without events, created once: opening a copy is faster than creating a store.
fn new_store() -> &'static Path {
    static NEW: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = NEW.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        Store::open(&path).unwrap().close().unwrap();
        (directory, path)
    });
    path
}

fn reader_of(clock: &Arc<AtomicI64>) -> impl Fn() -> Timestamp + Send + Sync + 'static {
    let clock = clock.clone();
    move || Timestamp::from_micros(clock.load(Ordering::SeqCst))
}

/// Checks that a read of a stream that was deleted for good is refused, or finds damage.
fn check_refused(events: impl Iterator<Item = Result<RecordedEvent, Error>>, told: &str) {
    let read: Result<Vec<_>, _> = events.collect();
    let is_refused = |error: &Error| matches!(error, Error::Tombstoned { .. });
    let is_known = |error: &Error| is_refused(error) || error.is_corruption();
    assert!(read.as_ref().is_err_and(is_known), "{told}: {read:?}");
}

/// Checks that the events are correct up to the first damage error; without damage, that all were
/// read.
fn check_answer<'f>(
    events: impl Iterator<Item = Result<RecordedEvent, Error>>,
    mut facts: impl Iterator<Item = &'f Fact>,
    told: &str,
) {
    for event in events {
        match event {
            Ok(event) => assert_eq!(Some(&Fact::from(event)), facts.next(), "{told}"),
            Err(error) => return assert!(error.is_corruption(), "{told}: {error}"),
        }
    }
    assert_eq!(facts.next(), None, "{told}");
}
