//! Deletion during all other work (G17): readers, subscriptions, conditions and verification run on
//! several threads while another one truncates, deletes, redacts and scavenges.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    Deletion, Error, Position, Query, REDACTED, Retention, RetentionScope, ScavengeOptions,
    StoreOptions, Version,
};

use crate::support::random::Random;
use crate::support::{place, quick, version};

const STREAMS: usize = 4;
const TIME: Duration = Duration::from_millis(2_500);

/// What the threads share.
struct Shared {
    store: Store,
    is_over: AtomicBool,
    /// For each stream, the first version that a deletion that has returned has left.
    firsts: [AtomicU64; STREAMS],
    /// Positions whose redaction has returned.
    redacted: Mutex<BTreeSet<u64>>,
}

fn stream(number: usize) -> StreamId {
    StreamId::new(format!("w-{number}")).unwrap()
}

fn events(random: &mut Random, writer: usize) -> Vec<NewEvent> {
    let count = 1 + random.below(5);
    let event = |n: usize| {
        let len = if n == 3 { 900 } else { 1 + random.below(60) };
        let event = NewEvent::bytes("Happened", vec![7; len]).unwrap();
        event.with_tag(format!("writer:{writer}")).with_tag("all")
    };
    (0..count).map(event).collect()
}

/// What readers have seen of one place or another: it must never come back.
#[derive(Default)]
struct Seen {
    firsts: BTreeMap<String, u64>,
}

impl Seen {
    /// Notes the first version of a stream in a read.
    fn note(&mut self, stream: &str, first: u64) {
        let known = self.firsts.entry(stream.to_owned()).or_insert(first);
        assert!(first >= *known, "{stream}: version {first} came back, {known} was the first");
        *known = first;
    }
}

impl Shared {
    fn each_turn(&self, mut turn: impl FnMut()) -> usize {
        let mut turns = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            turn();
            turns += 1;
            // All others must keep up.
            thread::sleep(Duration::from_micros(300));
        }
        turns
    }

    fn firsts(&self) -> [u64; STREAMS] {
        std::array::from_fn(|n| self.firsts[n].load(Ordering::SeqCst))
    }

    fn write(&self, writer: usize, random: &mut Random) {
        let number = random.below(STREAMS);
        let events = events(random, writer);
        self.store.append(stream(number), ExpectedVersion::Any, events).unwrap();
    }

    /// Appends on the condition that this writer has appended nothing since it looked.
    fn write_on_condition(&self, writer: usize, random: &mut Random) {
        let head = self.store.head().unwrap();
        let events = events(random, writer);
        let append = Append::new().fail_if(Query::tag(format!("writer:{writer}"))).after(head);
        match self.store.submit(append.to(stream(0), ExpectedVersion::Any, events)) {
            Ok(_) | Err(Error::Deleted { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    fn read_streams(&self, seen: &mut Seen, is_backward: bool) {
        let firsts = self.firsts();
        for (number, left) in firsts.into_iter().enumerate() {
            let id = stream(number);
            let read = self.store.read_stream(&id);
            let read = if is_backward { read.backward() } else { read };
            let mut versions: Vec<_> =
                read.into_iter().map(|event| event.unwrap().version().get()).collect();
            if is_backward {
                versions.reverse();
            }
            // A read goes past what is deleted while it runs.
            assert!(versions.is_sorted_by(|a, b| a < b), "{id}: {versions:?}");
            let Some(first) = versions.first() else { continue };
            assert!(*first >= left, "{id}: read {first} after the deletion of those below {left}");
            // A backward read may have begun before a deletion, and end after it.
            if !is_backward {
                seen.note(id.as_str(), *first);
            }
        }
    }

    /// Reads the log, with or without the index.
    fn read_log(&self, seen: &mut Seen, query: Option<&Query>) {
        let (firsts, redacted) = (self.firsts(), self.redacted.lock().unwrap().clone());
        let read = self.store.read_log();
        let read = match query {
            None => read,
            Some(query) => read.query(query.clone()),
        };
        let (mut last, mut versions) = (0, BTreeMap::<String, u64>::new());
        for event in read {
            let event = event.unwrap();
            assert!(event.position().get() > last, "{} after {last}", event.position());
            last = event.position().get();
            let (id, version) = (event.stream().as_str().to_owned(), event.version().get());
            if let Some(number) = (0..STREAMS).find(|number| stream(*number).as_str() == id) {
                assert!(version >= firsts[number], "{id}: {version} of {}", firsts[number]);
            }
            if let Some(before) = versions.insert(id.clone(), version) {
                assert!(version > before, "{id}: {version} after {before}");
            } else if query.is_none() {
                seen.note(&id, version);
            }
            if redacted.contains(&last) {
                assert_eq!(event.content_type().as_str(), REDACTED, "position {last}");
            }
        }
    }

    /// Follows the log until it has reached the head after everything is over; returns the positions
    /// of all events.
    fn follow(&self, end: &Mutex<Option<Position>>) -> HashSet<u64> {
        let (mut following, mut got) = (self.store.subscribe().start().unwrap(), HashSet::new());
        let mut last = 0;
        loop {
            let received = following.recv_timeout(Duration::from_millis(20)).unwrap();
            if let Delivery::Event(event) = received {
                assert!(event.position().get() > last, "{} after {last}", event.position());
                last = event.position().get();
                got.insert(last);
                continue;
            }
            let end = *end.lock().unwrap();
            if end.is_some() && following.checkpoint() >= end {
                return got;
            }
        }
    }

    /// Deletes something.
    fn delete(&self, random: &mut Random) {
        let (number, store) = (random.below(STREAMS), &self.store);
        let id = stream(number);
        let last = store.stream_version(&id).unwrap().map_or(0, Version::get);
        match random.below(10) {
            0..5 => {
                let before = last.saturating_sub(random.below(30) as u64).max(1);
                store.delete(&Deletion::truncate(&id, version(before))).unwrap();
                self.firsts[number].fetch_max(before, Ordering::SeqCst);
            }
            5 => {
                let was = self.firsts();
                store.delete(&Deletion::delete(&id)).unwrap();
                let first = (last + 1).max(was[number]);
                self.firsts[number].fetch_max(first, Ordering::SeqCst);
            }
            6..9 => {
                let event =
                    store.read_stream(&id).backward().into_iter().skip(random.below(3)).last();
                let Some(event) = event.transpose().unwrap() else { return };
                store
                    .delete(&Deletion::redact(event.position(), event.id()).removing_tags(["all"]))
                    .unwrap();
                self.redacted.lock().unwrap().insert(event.position().get());
            }
            _ => {
                let newest = Retention::newest(NonZeroU64::new(40).unwrap());
                store.set_retention(&RetentionScope::Category("w".into()), Some(newest)).unwrap();
                store.scavenge(&ScavengeOptions::new().unthrottled(), |_| {}).unwrap();
            }
        }
    }
}

/// Runs all threads on a store with these options.
fn race(options: StoreOptions) {
    let (_directory, path) = place();
    let store = options.open(path).unwrap();
    let shared = Shared {
        store: store.clone(),
        is_over: AtomicBool::new(false),
        firsts: Default::default(),
        redacted: Mutex::default(),
    };
    let (shared, end) = (&shared, &Mutex::new(None));
    thread::scope(|scope| {
        let follower = scope.spawn(move || shared.follow(end));
        let mut threads = Vec::new();
        for writer in 0..2 {
            threads.push(scope.spawn(move || {
                let mut random = Random::from_entropy();
                shared.each_turn(|| match random.below(3) {
                    0 if writer == 0 => shared.write_on_condition(writer, &mut random),
                    _ => shared.write(writer, &mut random),
                })
            }));
        }
        let mut seen = Seen::default();
        threads.push(scope.spawn(move || {
            shared.each_turn(|| {
                for way in [false, true] {
                    shared.read_streams(&mut seen, way);
                }
            })
        }));
        let mut seen = Seen::default();
        threads.push(scope.spawn(move || {
            shared.each_turn(|| {
                let (removed, kept) = (Query::tag("all"), Query::tag("writer:1"));
                let types = Query::types(["Happened"]);
                for query in [None, Some(removed), Some(kept), Some(types)] {
                    shared.read_log(&mut seen, query.as_ref());
                }
            })
        }));
        threads.push(scope.spawn(move || {
            shared.each_turn(|| {
                let report = shared.store.verify(|_| {}).unwrap();
                assert!(report.is_sound(), "{:#?}", report.damage);
                // A deletion waits for a verification.
                thread::sleep(Duration::from_millis(60));
            })
        }));
        let mut random = Random::from_entropy();
        let began = Instant::now();
        let mut deletions = 0;
        // A thread that has failed ends the race.
        while (began.elapsed() < TIME || deletions < 12)
            && threads.iter().all(|thread| !thread.is_finished())
        {
            shared.delete(&mut random);
            deletions += 1;
        }
        shared.is_over.store(true, Ordering::SeqCst);
        let turns: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Also after a failure, so that the follower ends.
        *end.lock().unwrap() = shared.store.head().unwrap();
        let got = follower.join().unwrap();
        let turns: Vec<_> = turns.into_iter().map(Result::unwrap).collect();
        assert!(deletions > 11 && turns.iter().all(|turns| *turns > 0), "{deletions} {turns:?}");
        let left = store.read_log().into_iter().map(|event| event.unwrap().position().get());
        let missed: Vec<_> = left.filter(|position| !got.contains(position)).collect();
        assert!(missed.is_empty(), "the subscription has skipped {missed:?}");
        let report = store.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{:#?}", report.damage);
    });
}

#[test]
fn readers_and_writers_work_during_deletions_in_small_packs() {
    race(quick().pack_bytes(400).index_types(true));
}

#[test]
fn readers_and_writers_work_during_deletions() {
    race(quick());
}
