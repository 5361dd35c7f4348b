//! Any sequence of calls has the outcome that a plain list of events would have: the store on disk and the one in
//! memory run the same random operations, and each answer is compared with a reference that is written down here, on
//! purpose without any code of theirs.
//!
//! The reference is a `Vec`. Everything that can be asked of it is a filter over that `Vec`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod ops;
mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use annals::prelude::*;
use annals::{Limits, StoreOptions, Subscription};
use proptest::prelude::*;
use proptest::sample::select;

use ops::{AsOf, Ask, Kind, Op, Part, Size, Start, ops};
use reference::{Call, Fact, Outcome, Reference};

/// Ids that begin with each other, or sort around each other's separators.
const STREAMS: [&str; 7] = ["a", "a-1", "a-10", "ä-1", "日本-1", "a b", "b-1"];
const TYPES: [&str; 3] = ["Opened", "Changed", "Closed"];
/// How many subscriptions there are to go on with.
const FOLLOWS: usize = 4;

fn position(number: u64) -> Position {
    Position::new(number).unwrap()
}

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

macro_rules! with {
    ($read:expr, $ask:expr, $clock:expr, $place:path) => {{
        let mut read = $read.types(TYPES[..$ask.types].iter().copied());
        read = match $ask.start {
            Start::Beginning => read,
            Start::From(from) => read.from($place(from)),
            Start::After(after) => read.after($place(after)),
        };
        if $ask.backward {
            read = read.backward();
        }
        if let Some(limit) = $ask.limit {
            read = read.limit(limit);
        }
        match $ask.as_of {
            AsOf::Now | AsOf::Version(_) => read,
            AsOf::Position(up_to) => read.as_of_position(position(up_to)),
            AsOf::Time(before) => read.as_of_time(Timestamp::from_micros($clock - before)),
        }
    }};
}

fn read(store: &Arc<dyn EventStore>, ask: &Ask, clock: i64) -> Vec<Fact> {
    let events = if let Some(stream) = ask.stream {
        let mut read = with!(store.read_stream(STREAMS[stream]), ask, clock, version);
        if let AsOf::Version(last) = ask.as_of {
            read = read.as_of_version(version(last));
        }
        read.iter()
    } else {
        let mut read = with!(store.read_log(), ask, clock, position);
        if let Some(category) = ask.category {
            read = read.category(category);
        }
        if let Some(prefix) = ask.prefix {
            read = read.stream_prefix(prefix);
        }
        read.iter()
    };
    events.map(|event| Fact::from(event.unwrap())).collect()
}

fn append(store: &Arc<dyn EventStore>, call: &Call) -> Outcome {
    let mut append = Append::new();
    // All expectations first, in their order; then the events, each with the expectation of its stream.
    for (stream, expected) in &call.expected {
        append = append.check(*stream, *expected);
    }
    for (stream, event) in &call.events {
        let (_, expected) = call.expected.iter().find(|(of, _)| of == stream).unwrap();
        append = append.to(*stream, *expected, [event.clone()]);
    }
    match store.submit(append) {
        Ok(appended) => {
            let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
            for (stream, _) in &call.events {
                *versions.entry(stream).or_default() += 1;
            }
            let told = appended.versions().iter().map(|(stream, versions)| {
                (stream.as_str(), versions.end().get() - versions.start().get() + 1)
            });
            assert_eq!(told.collect::<BTreeMap<_, _>>(), versions);
            assert_eq!(Some(appended.last_position()), appended.positions().last());
            Outcome::Done(appended.positions().map(u64::from).collect(), appended.is_replay())
        }
        Err(Error::WrongExpectedVersion { stream, actual, .. }) => {
            Outcome::Conflict(stream.to_string(), actual.map(u64::from))
        }
        Err(Error::PartialRetry { .. }) => Outcome::Partial,
        Err(Error::RecordedAtBeforeHead { .. }) => Outcome::TooEarly,
        Err(Error::InvalidArgument(_)) => Outcome::Invalid,
        Err(error) => panic!("{error}"),
    }
}

/// What the subscriptions follow; the reference says the same in its own words.
fn subscribe(store: &Arc<dyn EventStore>, which: usize, after: Option<u64>) -> Subscription {
    let subscribe = store.subscribe().after(after.map(position));
    let subscribe = match which {
        0 => subscribe,
        1 => subscribe.category("a"),
        2 => subscribe.stream("a-1"),
        _ => subscribe.types(["Closed"]).stream_prefix("a"),
    };
    subscribe.start().unwrap()
}

fn is_followed(which: usize, fact: &Fact) -> bool {
    match which {
        0 => true,
        1 => ["a", "a-1", "a-10"].contains(&&*fact.stream),
        2 => fact.stream == "a-1",
        _ => fact.event_type == "Closed" && fact.stream.starts_with('a'),
    }
}

/// One of the two stores, and how far its subscriptions are.
struct Subject {
    store: Arc<dyn EventStore>,
    seen: [Option<u64>; FOLLOWS],
}

impl Subject {
    fn new(store: impl EventStore + 'static) -> Self {
        Self { store: Arc::new(store), seen: [None; FOLLOWS] }
    }

    /// As if a program went on where it had stopped.
    fn follow(&mut self, which: usize, deliveries: usize, reference: &Reference) {
        let after = self.seen[which];
        let mut following = subscribe(&self.store, which, after);
        let mut delivered = Vec::new();
        for _ in 0..deliveries {
            match following.next_timeout(Duration::ZERO).unwrap() {
                Delivery::Event(event) => delivered.push(Fact::from(event)),
                Delivery::CaughtUp(head) => {
                    assert_eq!(head.map_or(0, u64::from), reference.log.len() as u64);
                }
                Delivery::Progress(position) => assert_eq!(following.position(), Some(position)),
                Delivery::Idle => break,
                Delivery::Ended => panic!("it ended by itself"),
            }
        }
        let now = following.position().map(u64::from);
        assert!(now >= after, "it went back from {after:?} to {now:?}");
        let expected: Vec<_> = reference
            .log
            .iter()
            .filter(|fact| Some(fact.position) > after && Some(fact.position) <= now)
            .filter(|fact| is_followed(which, fact))
            .cloned()
            .collect();
        assert_eq!(delivered, expected, "subscription {which} after {after:?} up to {now:?}");
        self.seen[which] = now;
    }

    fn check_summary(&self, reference: &Reference) {
        let head = self.store.head().unwrap().map_or(0, u64::from);
        assert_eq!(head, reference.log.len() as u64);
        for stream in STREAMS {
            let tip = self.store.tip(&StreamId::new(stream).unwrap()).unwrap().map(u64::from);
            assert_eq!(tip, reference.tip(stream), "{stream}");
        }
    }
}

/// Everything that runs together.
struct World {
    disk: Option<Store>,
    subjects: [Subject; 2],
    reference: Reference,
    calls: Vec<Call>,
    clock: Arc<AtomicI64>,
    options: StoreOptions,
    path: PathBuf,
    numbers: u64,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(memtable_bytes: usize, tip_cache_streams: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let clock = Arc::new(AtomicI64::new(1_000));
        let now = |clock: &Arc<AtomicI64>| {
            let clock = clock.clone();
            move || Timestamp::from_micros(clock.load(Ordering::SeqCst))
        };
        let options = Store::options()
            .durability(Durability::Buffered)
            .memtable_bytes(memtable_bytes)
            .tip_cache_streams(tip_cache_streams)
            .clock(now(&clock));
        let disk = options.clone().open(&path).unwrap();
        let memory = MemoryStore::with(Limits::default(), now(&clock));
        Self {
            subjects: [Subject::new(disk.clone()), Subject::new(memory)],
            disk: Some(disk),
            reference: Reference::default(),
            calls: Vec::new(),
            clock,
            options,
            path,
            numbers: 0,
            _directory: directory,
        }
    }

    fn event(&mut self, size: Size, time: Option<i64>) -> NewEvent {
        self.numbers += 1;
        let mut payload = self.numbers.to_string().into_bytes();
        if matches!(size, Size::Large) {
            payload.resize(30_000, 7);
        }
        let event_type = TYPES[usize::try_from(self.numbers % 3).unwrap()];
        let event = NewEvent::new(EventType::new(event_type).unwrap(), payload);
        match time {
            Some(time) => event.recorded_at(Timestamp::from_micros(time)),
            None => event,
        }
    }

    fn call(&mut self, parts: &[Part], times: Option<i64>) -> Call {
        let mut call = Call { expected: Vec::new(), events: Vec::new() };
        let mut time = times.map(|offset| self.clock.load(Ordering::SeqCst) + offset);
        for part in parts {
            let stream = STREAMS[part.stream];
            if call.expected.iter().all(|(named, _)| *named != stream) {
                let expected = match part.kind {
                    Kind::Any => ExpectedVersion::Any,
                    Kind::NoStream => ExpectedVersion::NoStream,
                    Kind::Exists => ExpectedVersion::StreamExists,
                    Kind::Tip => self.reference.tip(stream).map(version).into(),
                    Kind::At(at) => ExpectedVersion::Exact(version(at)),
                };
                call.expected.push((stream, expected));
            }
            for _ in 0..part.count {
                call.events.push((stream, self.event(part.size, time)));
                time = time.map(|time| time + i64::from(self.numbers.is_multiple_of(3)));
            }
        }
        call
    }

    fn submit(&mut self, call: &Call) {
        let outcome = self.reference.append(call, self.clock.load(Ordering::SeqCst));
        for subject in &self.subjects {
            assert_eq!(append(&subject.store, call), outcome);
        }
    }

    fn retry(&mut self, back: usize, change: i8) {
        let Some(at) = self.calls.len().checked_sub(1 + back) else { return };
        let mut call = self.calls[at].clone();
        match (change, call.events.last().cloned()) {
            (1, Some((stream, last))) => {
                let time = last.get_recorded_at().map(Timestamp::as_micros);
                call.events.push((stream, self.event(Size::Small, time)));
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
            if fact.stream.starts_with(prefix) && after.is_none_or(|after| &*fact.stream > after) {
                expected.insert(&fact.stream, fact.version);
            }
        }
        for Subject { store, .. } in &self.subjects {
            let after = after.map(|after| StreamId::new(after).unwrap());
            let listed: Vec<_> = store.streams().prefix(prefix).after(after).iter().collect();
            let listed = listed.iter().map(|info| info.as_ref().unwrap());
            let listed = listed.map(|info| (info.id.as_str(), info.tip.get()));
            assert!(listed.eq(expected.iter().map(|(id, tip)| (*id, *tip))));
        }
    }

    fn reopen(&mut self) {
        self.disk = None;
        // What the subject holds is the last owner.
        self.subjects[0].store = Arc::new(MemoryStore::new());
        let store = self.options.clone().open(&self.path).unwrap();
        let info = store.info().unwrap();
        let streams = STREAMS.iter().filter(|stream| self.reference.tip(stream).is_some());
        assert_eq!(info.streams, streams.count() as u64);
        self.subjects[0].store = Arc::new(store.clone());
        self.disk = Some(store);
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Append(parts, times) => {
                let call = self.call(parts, *times);
                self.submit(&call);
                self.calls.push(call);
            }
            Op::Retry { back, change } => self.retry(*back, *change),
            Op::Read(ask) => {
                let clock = self.clock.load(Ordering::SeqCst);
                let expected = self.reference.read(ask, clock);
                for subject in &self.subjects {
                    let read = read(&subject.store, ask, clock);
                    assert!(read == expected, "read {} of {}", read.len(), expected.len());
                }
            }
            Op::List { prefix, after } => self.list(prefix, *after),
            Op::Follow { which, deliveries } => {
                for subject in &mut self.subjects {
                    subject.follow(*which, *deliveries, &self.reference);
                }
            }
            Op::Clock(change) => {
                self.clock.fetch_add(*change, Ordering::SeqCst);
            }
            Op::Sync => self.disk.as_ref().unwrap().sync().unwrap(),
            Op::Reopen => self.reopen(),
        }
        for subject in &self.subjects {
            subject.check_summary(&self.reference);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_that_of_a_plain_list_of_events(
        memtable_bytes in select(vec![1_usize, 64 << 20]),
        tip_cache_streams in select(vec![1_usize, 1_000]),
        ops in prop::collection::vec(ops(), 1..60),
    ) {
        let mut world = World::new(memtable_bytes, tip_cache_streams);
        for op in &ops {
            world.run(op);
        }
        // At the end everything is looked at once more, after reopening too.
        for reopen in [false, true] {
            if reopen {
                world.run(&Op::Reopen);
            }
            for stream in std::iter::once(None).chain((0..STREAMS.len()).map(Some)) {
                for backward in [false, true] {
                    world.run(&Op::Read(Ask {
                        stream, backward, start: Start::Beginning, limit: None, types: 0,
                        category: None, prefix: None, as_of: AsOf::Now,
                    }));
                }
            }
            for which in 0..FOLLOWS {
                world.run(&Op::Follow { which, deliveries: usize::MAX });
            }
        }
    }
}
