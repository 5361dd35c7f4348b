//! Decisions with a cache of their models (G16): the same answers as without it, also under
//! contention and after deletions (G17), from fewer events.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::prelude::*;
use annals::{AsyncDecisions, CachedDecisions, DecisionModel, Decisions, Deletion, Error, Query};
use serde::{Deserialize, Serialize};

use crate::support::stores::{Kept, failing_store};
use crate::support::{place, position, quick, version};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Taken {
    series: String,
    number: u64,
}

annals::domain_events! {
    tags |taken| vec![format!("series:{}", taken.series), "taken".to_owned()];
    Taken => "NumberTaken"
}

/// The last number of a series, and the sum of all. Both are wrong if an event is applied twice or
/// not at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Series {
    name: String,
    last: u64,
    sum: u64,
}

/// Makes [`Series::apply`] panic at the number 13 of the series `unlucky`.
static PANICS: AtomicBool = AtomicBool::new(false);

impl DecisionModel for Series {
    type Event = Taken;

    fn query(&self) -> Query {
        Query::tag(format!("series:{}", self.name))
    }

    fn apply(&mut self, taken: Taken) {
        self.last = taken.number;
        self.sum += taken.number;
        let is_unlucky = taken.series == "unlucky" && taken.number == 13;
        assert!(!is_unlucky || !PANICS.load(Ordering::SeqCst), "unlucky");
    }
}

fn series(name: &str) -> Series {
    Series { name: name.to_owned(), last: 0, sum: 0 }
}

/// The next number of a series.
#[expect(clippy::unnecessary_wraps, reason = "a decision returns a result")]
fn next(series: &Series) -> Result<[Taken; 1], Infallible> {
    Ok([Taken { series: series.name.clone(), number: series.last + 1 }])
}

fn take(decisions: &CachedDecisions<Series>, of: &str) {
    decisions.decide(series(of)).run(next).unwrap();
}

/// Each number is taken once and in order, by threads and tasks, with and without a cache.
#[test]
fn cached_state_is_never_decided_upon_when_stale() {
    for kept in Kept::both() {
        let decisions = Decisions::new(&kept.events);
        let cached = decisions.clone().cached(4);
        let tasks = AsyncDecisions::new(decisions.clone()).cached(4);
        let names = ["a", "b", "c", "d", "e"];
        thread::scope(|scope| {
            for at in 0..5 {
                let (decisions, cached, tasks) = (&decisions, &cached, &tasks);
                scope.spawn(move || {
                    for step in 0..60 {
                        let of = names[(at * 7 + step * 3) % names.len()];
                        match at {
                            0 => drop(decisions.decide(series(of)).run(next).unwrap()),
                            1 | 2 => take(cached, of),
                            _ => drop(smol::block_on(tasks.decide(series(of)).run(next)).unwrap()),
                        }
                    }
                });
            }
        });
        for name in names {
            let read = kept.events.read_log().tag(format!("series:{name}")).into_iter();
            let numbers: Vec<u64> =
                read.map(|event| event.unwrap().json::<Taken>().unwrap().number).collect();
            let count = u64::try_from(numbers.len()).unwrap();
            assert!(numbers.into_iter().eq(1..=count), "a number of {name} is missing or doubled");
            let expected = decisions.read(series(name)).unwrap();
            assert_eq!(expected.sum, count * (count + 1) / 2);
            assert_eq!(cached.read(series(name)).unwrap(), expected);
            assert_eq!(smol::block_on(tasks.read(series(name))).unwrap(), expected);
        }
    }
}

/// Only newer events are read. The number of states is bounded, and models with another initial
/// value have a state of their own.
#[test]
fn state_is_kept_for_models_as_they_were_given() {
    let store = failing_store(&MemoryStore::new());
    let decisions = Decisions::new(&store).cached(10);
    for _ in 0..200 {
        take(&decisions, "a");
    }
    assert_eq!(decisions.read(series("a")).unwrap().sum, 20_100);
    assert_eq!(store.decorator().read(), 200, "a decision reads the events of the last one only");

    let later = Series { sum: 1_000, ..series("a") };
    assert_eq!(decisions.read(later.clone()).unwrap().sum, 1_000 + 20_100);
    assert_eq!(store.decorator().read(), 200, "the initial value is another");
    assert_eq!(decisions.read(later).unwrap().sum, 1_000 + 20_100);
    assert_eq!(decisions.read(series("a")).unwrap().sum, 20_100);
    assert_eq!(store.decorator().read(), 0);

    for other in 0..10 {
        decisions.read(series(&other.to_string())).unwrap();
    }
    assert_eq!(decisions.read(series("a")).unwrap().sum, 20_100);
    assert_eq!(store.decorator().read(), 200, "ten states are kept");
}

/// After a deletion or a redaction, the state is that of the events that are left.
#[test]
fn state_of_deleted_events_is_not_used() {
    let (_directory, path) = place();
    let store = quick().open(path).unwrap();
    let stream = StreamId::new("numbers").unwrap();
    let decisions = Decisions::new(&store);
    let cached = decisions.clone().cached(10);
    for _ in 0..10 {
        cached.decide(series("a")).stream(&stream).run(next).unwrap();
    }
    assert_eq!(cached.read(series("a")).unwrap().sum, 55);
    let seventh = store.read_log().from(position(7)).first().unwrap().unwrap().id();
    for (deletion, left) in [
        (Deletion::redact(position(7), seventh).removing_tags(["series:a"]), 48),
        (Deletion::truncate(&stream, version(4)), 42),
        (Deletion::delete(&stream), 0),
    ] {
        store.delete(&deletion).unwrap();
        let expected = decisions.read(series("a")).unwrap();
        assert_eq!(expected.sum, left, "{deletion:?}");
        assert_eq!(cached.read(series("a")).unwrap(), expected, "{deletion:?}");
    }
    take(&cached, "a");
    assert_eq!(cached.read(series("a")).unwrap(), Series { last: 1, sum: 1, ..series("a") });

    // A redacted event that keeps its tags cannot be read, from a cached state neither.
    let last = store.read_log().tag("series:a").backward().first().unwrap().unwrap();
    store.delete(&Deletion::redact(last.position(), last.id())).unwrap();
    assert!(matches!(cached.read(series("a")), Err(Error::Unreadable { .. })));
}

/// A state that was read while a deletion was carried out may hold some of its events.
#[test]
fn state_read_during_a_deletion_is_not_used_after_it() {
    let (_directory, path) = place();
    let store = quick().pack_bytes(4_096).open(path).unwrap();
    let stream = StreamId::new("numbers").unwrap();
    let cached = Decisions::new(&store).cached(10);
    for round in 0..5 {
        for chunk in 0..20 {
            let events = (0..100).map(|number| {
                let taken = Taken { series: "a".to_owned(), number: chunk * 100 + number };
                taken.encode().unwrap().with_metadata("note", "x".repeat(200))
            });
            store.append(&stream, ExpectedVersion::Any, events).unwrap();
        }
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let _ = cached.read(series("a"));
                }
            });
            let deleted = store.delete(&Deletion::delete(&stream));
            is_over.store(true, Ordering::SeqCst);
            assert_eq!(deleted.unwrap().events, 2_000);
        });
        assert_eq!(cached.read(series("a")).unwrap(), series("a"), "round {round}");
    }
}

#[test]
fn panic_while_applying_leaves_no_state() {
    let store = MemoryStore::new();
    let (decisions, others) =
        (Decisions::new(&store).cached(10), Decisions::new(&store).cached::<Series>(10));
    for _ in 0..20 {
        take(&decisions, "unlucky");
        if decisions.read(series("unlucky")).unwrap().last == 10 {
            others.read(series("unlucky")).unwrap();
        }
    }
    PANICS.store(true, Ordering::SeqCst);
    let read = catch_unwind(AssertUnwindSafe(|| others.read(series("unlucky"))));
    PANICS.store(false, Ordering::SeqCst);
    assert!(read.is_err());
    assert_eq!(others.read(series("unlucky")).unwrap().sum, 210);
}
