//! Rules for concurrent threads: there is one log, and all readers see the same events.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use super::{event, log, stream, version};
use crate::error::Error;
use crate::event_store::{Append, EventStore};
use crate::extension::EventStoreExt;
use crate::model::{EventId, ExpectedVersion, NewEvent, Position, RecordedEvent, StreamId};

const WRITERS: usize = 6;
const ROUNDS: usize = 60;

/// Appends to the writer's own stream and to a shared one, and checks each acknowledgement at once.
/// Returns the acknowledged ids and positions.
fn write(store: &Arc<dyn EventStore>, writer: usize) -> Vec<(EventId, Position)> {
    let own = format!("own-{writer}");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let tip = (round as u64).checked_sub(1).map(|_| version(2 * round as u64));
        let given = [event("Own", round), event("Shared", round), event("Own", round)];
        let [first, shared, last] = given.clone();
        let expected = ExpectedVersion::from(tip);
        let append = Append::new()
            .to(own.as_str(), expected, [first])
            .to("shared", ExpectedVersion::Any, [shared])
            .to(own.as_str(), expected, [last]);
        let appended = store.submit(append).unwrap();
        assert!(
            store.head().unwrap() >= Some(appended.last_position()),
            "not visible to its caller"
        );
        let read = store.read_log().from(appended.first_position()).limit(3).into_iter();
        let read: Vec<_> = read.collect::<Result<_, _>>().unwrap();
        assert!(read.iter().map(RecordedEvent::id).eq(given.iter().map(NewEvent::id)));
        acknowledged.extend(given.iter().map(NewEvent::id).zip(appended.positions()));
    }
    acknowledged
}

/// Reads until `done` is set. Events up to the head never change, and the head never goes back
/// (G6).
fn watch(store: &Arc<dyn EventStore>, done: &AtomicBool) -> Vec<EventId> {
    let (mut head, mut seen) = (None, Vec::new());
    loop {
        let is_last = done.load(Ordering::SeqCst);
        let now = store.head().unwrap();
        assert!(now >= head, "the head went back from {head:?} to {now:?}");
        let new = store.read_log().after(head).into_iter().map(Result::unwrap);
        for event in new {
            seen.push(event.id());
            assert_eq!(event.position().get(), seen.len() as u64, "positions have no gaps");
            head = Some(event.position());
        }
        assert!(head >= now, "an iterator ended below the head");
        if is_last {
            return seen;
        }
    }
}

/// G2, G3, G6, G7: runs several writers, readers and subscriptions at once.
pub fn concurrent_writers_make_one_log_without_gaps(store: &Arc<dyn EventStore>) {
    let count = WRITERS * ROUNDS * 3;
    let done = AtomicBool::new(false);
    let (acknowledged, watched, followed) = thread::scope(|scope| {
        let followers: Vec<_> = (0..2)
            .map(|_| {
                let following = store.subscribe().start().unwrap();
                scope.spawn(move || {
                    let events = following.take(count).map(|event| event.unwrap().id());
                    events.collect::<Vec<_>>()
                })
            })
            .collect();
        let watchers: Vec<_> = (0..2).map(|_| scope.spawn(|| watch(store, &done))).collect();
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(store, writer))).collect();
        let acknowledged: Vec<_> =
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::SeqCst);
        let watched: Vec<_> = watchers.into_iter().map(|one| one.join().unwrap()).collect();
        let followed: Vec<_> = followers.into_iter().map(|one| one.join().unwrap()).collect();
        (acknowledged, watched, followed)
    });
    let log = log(store);
    assert!(log.iter().map(|event| event.position().get()).eq(1..=count as u64));
    let ids: Vec<_> = log.iter().map(RecordedEvent::id).collect();
    assert!(watched.iter().chain(&followed).all(|seen| *seen == ids), "a reader saw another log");
    let places: BTreeMap<_, _> = log.iter().map(|event| (event.id(), event.position())).collect();
    assert_eq!(acknowledged.len(), count);
    assert!(acknowledged.iter().all(|(id, place)| places[id] == *place));
    let shared = stream(store, "shared");
    assert!(shared.iter().map(|event| event.version().get()).eq(1..=(WRITERS * ROUNDS) as u64));
    assert!(log.iter().all(|event| event.commit().contains(&event.position())));
}

/// G4: of several appends that expect the same version, one succeeds and the others get a conflict.
pub fn one_of_many_rivals_for_a_version_succeeds(store: &Arc<dyn EventStore>) {
    let rounds: u64 = 40;
    let won: Vec<u64> = thread::scope(|scope| {
        let rivals: Vec<_> = (0..WRITERS)
            .map(|rival| {
                scope.spawn(move || {
                    let mut won = Vec::new();
                    let mut tip = None;
                    while tip.map_or(0, u64::from) < rounds {
                        let expected = ExpectedVersion::from(tip);
                        match store.append("prize", expected, [event("Won", rival)]) {
                            Ok(appended) => {
                                tip = Some(appended.last_version());
                                won.push(appended.last_version().get());
                            }
                            Err(Error::WrongExpectedVersion { actual, .. }) => {
                                assert!(actual > tip, "a conflict without a rival");
                                tip = actual;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                    won
                })
            })
            .collect();
        rivals.into_iter().flat_map(|rival| rival.join().unwrap()).collect()
    });
    let mut sorted = won;
    sorted.sort_unstable();
    let last = sorted.last().copied().unwrap();
    assert!(sorted.iter().copied().eq(1..=last), "a version has two winners or none: {sorted:?}");
    assert_eq!(stream(store, "prize").len() as u64, last);
}

/// A retry is recognised even while the first attempt is in progress, also for an append to several
/// streams.
pub fn same_append_from_many_threads_is_written_once(store: &Arc<dyn EventStore>) {
    let rounds = 40;
    store.append("a", ExpectedVersion::NoStream, [event("Before", 0)]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Another writer keeps the store busy, so that the callers meet while they wait for it.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.append("noise", ExpectedVersion::Any, [event("Noise", 0)]).unwrap();
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            (0..rounds).for_each(|round| submit_from_many_threads(store, round % 2 == 0));
        }));
        done.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    assert_eq!((stream(store, "a").len(), stream(store, "b").len()), (1 + rounds * 2, rounds));
}

fn submit_from_many_threads(store: &Arc<dyn EventStore>, is_exact: bool) {
    let tip = store.stream_version(&StreamId::new("a").unwrap()).unwrap();
    let expected = if is_exact { ExpectedVersion::from(tip) } else { ExpectedVersion::Any };
    let append = Append::new().to("a", expected, [event("Once", 1), event("Once", 2)]).to(
        "b",
        ExpectedVersion::Any,
        [event("Once", 3)],
    );
    let begin = Barrier::new(WRITERS);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (append, begin) = (append.clone(), &begin);
                scope.spawn(move || {
                    begin.wait();
                    store.submit(append).unwrap()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.is_retry()).count(), 1);
    for outcome in &outcomes {
        assert!(outcome.positions().eq(outcomes[0].positions()));
        assert_eq!(outcome.versions(), outcomes[0].versions());
    }
}
