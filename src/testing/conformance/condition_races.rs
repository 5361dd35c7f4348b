//! Rules for conditions under concurrency (G16): no append slips in between the check of another
//! one and its commit.

use std::sync::{Arc, Barrier};
use std::thread;

use super::queries::{Wanted, tagged};
use super::{event, log};
use crate::error::Error;
use crate::event_store::{Append, EventStore, Query};
use crate::extension::EventStoreExt;
use crate::model::{EventId, ExpectedVersion, Position, RecordedEvent};
use crate::options::Durability;

const THREADS: usize = 8;

/// Runs this on several threads at once, which begin together; returns their results.
fn together<T: Send>(run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let begin = Barrier::new(THREADS);
    thread::scope(|scope| {
        let (run, begin) = (&run, &begin);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    begin.wait();
                    run(thread)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Of several appends with the same condition, which all match it, exactly one succeeds, also if
/// all of them wait for the same commit; the others name its event.
pub fn one_of_many_rivals_for_a_condition_succeeds(store: &Arc<dyn EventStore>) {
    for round in 0..40 {
        let seat = format!("seat:{round}");
        let outcomes = together(|rival| {
            let stream = if round % 2 == 0 { "events".to_owned() } else { format!("of-{rival}") };
            let claim = tagged("Claimed", rival, &["hot", &seat]);
            let append = Append::new().to(stream, ExpectedVersion::Any, [claim]);
            // While one call syncs, the others wait and are committed together.
            let append = append.with_durability(Durability::Sync);
            match store.submit(append.fail_if(Query::tag(&seat))) {
                Ok(appended) => (true, appended.first_position()),
                Err(Error::ConditionFailed { position, .. }) => (false, position),
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(outcomes.iter().filter(|(won, _)| *won).count(), 1, "round {round}");
        let claims = store.read_log().tag(&seat).into_iter().map(|event| event.unwrap().position());
        let claims: Vec<_> = claims.collect();
        assert!(outcomes.iter().all(|(_, position)| claims == [*position]), "round {round}");
    }
}

/// Threads read, decide and append until the capacity is used up: it is never exceeded, and no
/// place stays empty.
pub fn concurrent_decisions_keep_their_rule(store: &Arc<dyn EventStore>) {
    const CAPACITY: usize = 40;
    let enrolled = together(|thread| {
        let (mut enrolled, mut attempt) = (0, 0);
        loop {
            let course = Query::tag("course:c1");
            let mut read = store.read_log().query(course.clone()).into_iter();
            let taken = read.by_ref().map(Result::unwrap).count();
            assert!(taken <= CAPACITY);
            if taken == CAPACITY {
                return enrolled;
            }
            attempt += 1;
            let student = format!("student:{thread}-{attempt}");
            let enrolment = tagged("Enrolled", taken, &["course:c1", &student]);
            let append = Append::of([enrolment]).fail_if(course).after(read.read_up_to());
            match store.submit(append) {
                Ok(_) => enrolled += 1,
                Err(Error::ConditionFailed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            store.append("noise", ExpectedVersion::Any, [event("Noise", attempt)]).unwrap();
        }
    });
    assert_eq!(enrolled.iter().sum::<usize>(), CAPACITY);
    assert_eq!(store.read_log().tag("course:c1").into_iter().count(), CAPACITY);
}

/// `SplitMix64`: random numbers that depend only on the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

const TAGS: [&str; 5] = ["a", "a:1", "b", "c", "d"];
const TYPES: [&str; 3] = ["Opened", "Changed", "Closed"];

/// A condition of an append: the items of its query, and the place.
type Condition = (Vec<Wanted>, Option<Position>);

/// An append that was submitted, with its outcome.
struct Attempt {
    conditions: Vec<Condition>,
    ids: Vec<EventId>,
    /// The first position, or the position that was reported.
    outcome: Result<Position, Position>,
}

fn random_condition(random: &mut Random, read_up_to: Option<Position>) -> Condition {
    const SETS: [&[&str]; 8] =
        [&["a"], &["a:1"], &["b"], &["c"], &["d"], &["a", "b"], &["c", "d"], &["a", "c"]];
    const STREAMS: [&[&str]; 3] = [&["events"], &["s-0"], &["s-1", "s-2"]];
    let items = (0..=random.below(2)).map(|_| {
        let of_types: &[&str] = if random.below(3) == 0 { &["Closed", "Opened"] } else { &[] };
        let item = Wanted { types: of_types, ..Wanted::default() };
        match random.below(8) {
            0 => Wanted { streams: STREAMS[random.below(STREAMS.len())], ..item },
            _ => Wanted { tags: SETS[random.below(SETS.len())], ..item },
        }
    });
    let items = items.collect();
    let back = if random.below(4) == 0 { random.below(6) as u64 } else { 0 };
    (items, read_up_to.and_then(|head| Position::new(head.get().saturating_sub(back))))
}

/// One append of one to three tagged events to one or two streams, with up to two conditions.
fn attempt(store: &Arc<dyn EventStore>, random: &mut Random) -> Attempt {
    let read_up_to = store.head().unwrap();
    let count = [0, 1, 1, 1, 1, 2][random.below(6)];
    let conditions: Vec<_> = (0..count).map(|_| random_condition(random, read_up_to)).collect();
    let mut append = Append::new();
    for _ in 0..=random.below(2) {
        let stream = ["events", "s-0", "s-1", "s-2"][random.below(4)];
        let events = (0..=random.below(2)).map(|number| {
            let tags: Vec<_> = (0..random.below(4)).map(|_| TAGS[random.below(5)]).collect();
            tagged(TYPES[random.below(3)], number, &tags)
        });
        append = append.to(stream, ExpectedVersion::Any, events.collect::<Vec<_>>());
    }
    for (items, after) in &conditions {
        append = append.fail_if(Query::any_of(items.iter().map(Wanted::item))).after(*after);
    }
    let ids = append.events().map(|(_, event)| event.id()).collect();
    let outcome = match store.submit(append) {
        Ok(appended) => Ok(appended.first_position()),
        Err(Error::ConditionFailed { position, .. }) => Err(position),
        Err(error) => panic!("{error}"),
    };
    Attempt { conditions, ids, outcome }
}

/// Recomputes the conditions of one append from the log.
fn check(attempt: &Attempt, log: &[RecordedEvent]) {
    let first_match = |(items, after): &Condition| {
        let is_match = |event: &&RecordedEvent| {
            Some(event.position()) > *after && items.iter().any(|item| item.selects(event))
        };
        log.iter().find(is_match).map(RecordedEvent::position)
    };
    let matches = attempt.conditions.iter().map(first_match);
    match attempt.outcome {
        Ok(first) => {
            let own = log.iter().skip_while(|event| event.position() < first);
            let ids = own.map(RecordedEvent::id).take(attempt.ids.len());
            assert!(
                ids.eq(attempt.ids.iter().copied()),
                "its events are not at the reported place"
            );
            for (found, condition) in matches.zip(&attempt.conditions) {
                let holds = found.is_none_or(|found| found >= first);
                assert!(holds, "{condition:?} matches {found:?}, but {first} was accepted");
            }
        }
        Err(position) => {
            let of_condition = matches.flatten().any(|found| found == position);
            assert!(of_condition, "{position} is not the first match of {:?}", attempt.conditions);
            let is_stored = log.iter().any(|event| attempt.ids.contains(&event.id()));
            assert!(!is_stored, "a refused append left events");
        }
    }
}

/// Threads append random events with random conditions. Afterwards, the log alone shows that each
/// condition of an accepted append held when it was committed, and that each refusal was right.
pub fn conditions_of_concurrent_appends_hold_in_the_log(store: &Arc<dyn EventStore>) {
    let attempts = together(|thread| {
        let mut random = Random(thread as u64);
        (0..120).map(|_| attempt(store, &mut random)).collect::<Vec<_>>()
    });
    let log = log(store);
    let attempts: Vec<_> = attempts.into_iter().flatten().collect();
    for attempt in &attempts {
        check(attempt, &log);
    }
    let accepted = attempts.iter().filter(|attempt| attempt.outcome.is_ok());
    let stored: usize = accepted.clone().map(|attempt| attempt.ids.len()).sum();
    assert_eq!(stored, log.len());
    let conditional = accepted.filter(|attempt| !attempt.conditions.is_empty()).count();
    let refused = attempts.iter().filter(|attempt| attempt.outcome.is_err()).count();
    assert!(conditional > 20 && refused > 20, "{conditional} accepted, {refused} refused");
}
