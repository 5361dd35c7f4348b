//! Queries and conditions over more events than the writer holds and than one page looks at (G16).
//! The rules for them are in the conformance suites.

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    AsyncStore, Error, IdempotencyKey, KeyedResult, Position, Query, QueryItem, RequestDigest,
    Result, Store,
};

use crate::support::random::Random;
use crate::support::{copy, database, log, place, quick};

type Selects = fn(&RecordedEvent) -> bool;

fn has(event: &RecordedEvent, tag: &str) -> bool {
    event.tags().iter().any(|of_event| of_event == tag)
}

fn item() -> QueryItem {
    QueryItem::new()
}

fn numbers(events: impl IntoIterator<Item = Result<RecordedEvent>>) -> Vec<u64> {
    events.into_iter().map(|event| event.unwrap().position().get()).collect()
}

/// An append of one event that no query selects, with a condition.
fn conditional(query: Query, after: Option<Position>) -> Append {
    Append::of([NewEvent::json("Decided", &()).unwrap()]).fail_if(query).after(after)
}

/// The position that refuses an append; `None` if it is accepted.
fn refused_at(outcome: Result<Appended>) -> Option<u64> {
    match outcome {
        Ok(_) => None,
        Err(Error::ConditionFailed { position, .. }) => Some(position.get()),
        Err(error) => panic!("{error}"),
    }
}

/// Event `number` of a long history. The tags `even` and `odd` never occur together.
fn event(number: u64) -> NewEvent {
    let name = if number.is_multiple_of(13_001) { "Rare" } else { "Often" };
    let parity = if number.is_multiple_of(2) { "even" } else { "odd" };
    let event = NewEvent::json(name, &()).unwrap().with_tag("all").with_tag(parity);
    if number.is_multiple_of(9_999) { event.with_tag("few") } else { event }
}

/// Appends events of 2 streams, 2,000 in each commit.
fn append_history(store: &Store, count: u64) {
    for first in (1..=count).step_by(2_000) {
        let many = (first..first + 1_990).map(event);
        let few = (first + 1_990..first + 2_000).map(event);
        let append = Append::new().to("many-1", ExpectedVersion::Any, many);
        store.submit(append.to("few-1", ExpectedVersion::Any, few)).unwrap();
    }
}

/// Asserts that a query finds the same events by reads in both directions, a subscription and
/// conditions as a scan does.
fn finds_what_a_scan_finds(store: &Store, log: &[RecordedEvent], query: &Query, selects: Selects) {
    let selected = log.iter().filter(|event| selects(event));
    let expected: Vec<u64> = selected.map(|event| event.position().get()).collect();
    let read = || store.read_log().query(query.clone());
    assert_eq!(numbers(read()), expected, "{query}");
    let mut backward = numbers(read().backward());
    backward.reverse();
    assert_eq!(backward, expected, "{query}, backward");
    let mut followed = Vec::new();
    let mut following = store.subscribe().query(query.clone()).start().unwrap();
    loop {
        match following.recv().unwrap() {
            Delivery::Event(event) => followed.push(event.position().get()),
            Delivery::CaughtUp(_) => break,
            _ => {}
        }
    }
    assert_eq!(followed, expected, "{query}, followed");
    // The condition holds if it begins after the last one.
    let middle = expected.get(expected.len() / 2).copied();
    let places = [Some(0), middle.map(|at| at - 1), middle, expected.last().copied()];
    for after in places.into_iter().flatten() {
        let found = refused_at(store.submit(conditional(query.clone(), Position::new(after))));
        let first = expected.iter().copied().find(|position| *position > after);
        assert_eq!(found, first, "{query} after {after}");
    }
}

#[test]
fn long_searches_find_what_a_scan_finds() {
    let selections: [(Query, Selects); 8] = [
        (item().tag("even").tag("odd").into(), |event| has(event, "even") && has(event, "odd")),
        // Two items, each of which takes long.
        (
            Query::any_of([
                item().tag("even").tag("odd"),
                item().tag("odd").tag("even").types(["Often", "None"]),
            ]),
            |event| has(event, "even") && has(event, "odd"),
        ),
        (item().tag("all").types(["Rare"]).into(), |event| event.event_type() == "Rare"),
        (Query::stream("many-1"), |event| event.stream().as_str() == "many-1"),
        (item().stream("many-1").types(["Rare"]).into(), |event| {
            event.stream().as_str() == "many-1" && event.event_type() == "Rare"
        }),
        (item().stream("few-1").tag("even").into(), |event| {
            event.stream().as_str() == "few-1" && has(event, "even")
        }),
        (item().tag("odd").tag("few").into(), |event| has(event, "odd") && has(event, "few")),
        (
            Query::any_of([item().tag("few"), item().stream("few-1").types(["Rare", "Often"])]),
            |event| has(event, "few") || event.stream().as_str() == "few-1",
        ),
    ];
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    append_history(&store, 40_000);
    let all = log(&store);
    for (query, selects) in &selections {
        finds_what_a_scan_finds(&store, &all, query, *selects);
    }
    // Events that have both are found far behind those that have one.
    let both = || event(1).with_tag("even");
    store.append("few-1", ExpectedVersion::Any, [both(), event(2), both()]).unwrap();
    let all = log(&store);
    for (query, selects) in &selections {
        finds_what_a_scan_finds(&store, &all, query, *selects);
    }
}

/// Random events with the tag `all`: most of one stream, and one of another.
fn random_append(random: &mut Random, count: usize) -> Append {
    let often = (0..count).map(|_| {
        let name = if random.below(700) == 0 { "C" } else { ["A", "B", "B"][random.below(3)] };
        let event = NewEvent::json(name, &()).unwrap().with_tag("all");
        if random.below(300) == 0 { event.with_tag("some") } else { event }
    });
    let append = Append::new().to("often-1", ExpectedVersion::Any, often.collect::<Vec<_>>());
    let event = NewEvent::json(["A", "B"][random.below(2)], &()).unwrap().with_tag("all");
    append.to(format!("rare-{}", random.below(3)), ExpectedVersion::Any, [event])
}

/// Submits an append in one of four ways.
fn submit_somehow(store: &Store, random: &mut Random, append: Append) -> Result<Appended> {
    let tasks = AsyncStore::new(store.clone());
    let name = random.next().to_string();
    let key = IdempotencyKey::new("tests", name, RequestDigest::of("")).unwrap();
    let submitted = match random.below(4) {
        0 => return store.submit(append),
        1 => return smol::block_on(tasks.submit(append)),
        2 => store.submit_once(&key, append.into()),
        _ => smol::block_on(tasks.submit_once(&key, append.into())),
    };
    match submitted?.result {
        KeyedResult::Appended(appended) => Ok(appended),
        other => panic!("{other:?}"),
    }
}

/// Appends and conditions alternate with a long stretch without conditions. The writer holds the
/// events after some of the places, and only some, or none, of those after others.
#[test]
fn conditions_equal_a_scan_however_far_back_they_begin() {
    let selections: [(Query, Selects); 9] = [
        (Query::tag("some"), |event| has(event, "some")),
        (item().tag("some").types(["A"]).into(), |event| {
            has(event, "some") && event.event_type() == "A"
        }),
        (item().tag("some").tag("all").types(["A", "C"]).into(), |event| {
            has(event, "some") && ["A", "C"].contains(&event.event_type().as_str())
        }),
        (Query::Everything, |_| true),
        (Query::types(["C"]), |event| event.event_type() == "C"),
        (Query::category("rare"), |event| event.stream().category() == "rare"),
        (Query::any_of([item().tag("unused"), item().category("rare").types(["A"])]), |event| {
            event.stream().category() == "rare" && event.event_type() == "A"
        }),
        (Query::any_of([item().tag("some"), item().stream("rare-1")]), |event| {
            has(event, "some") || event.stream().as_str() == "rare-1"
        }),
        (item().stream("rare-2").tag("all").into(), |event| event.stream().as_str() == "rare-2"),
    ];
    let (_directory, path) = place();
    let store = quick().index_types(true).index_categories(true).open(&path).unwrap();
    let mut random = Random(1);
    let mut all: Vec<RecordedEvent> = Vec::new();
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..90 {
        // In the middle, so much is appended without a condition that the writer drops everything.
        let is_without_conditions = (40..60).contains(&round);
        let count = if is_without_conditions { 2_000 } else { 1 + random.below(1_200) };
        store.submit(random_append(&mut random, count)).unwrap();
        all.extend(events_after(&store, &all));
        for _ in 0..if is_without_conditions { 0 } else { 6 } {
            let back = [0, 1, 300, 3_000, 16_384, 50_000][random.below(6)];
            let after = all.len().saturating_sub(random.below(back + 1));
            // The first rounds have only conditions by tag, so no stream is noted yet.
            let kinds = if round < 20 { 4 } else { selections.len() };
            let (query, selects) = &selections[random.below(kinds)];
            let expected = all[after..].iter().find(|event| selects(event));
            let append = conditional(query.clone(), Position::new(after as u64));
            let found = refused_at(submit_somehow(&store, &mut random, append));
            let expected = expected.map(|event| event.position().get());
            assert_eq!(found, expected, "{query} after {after}");
            refused += u64::from(found.is_some());
            accepted += u64::from(found.is_none());
            all.extend(events_after(&store, &all));
        }
    }
    assert!(refused > 100 && accepted > 50, "{refused} refused, {accepted} accepted");
    assert_eq!(log(&store), all);
}

/// The events after those that are known.
fn events_after(store: &Store, known: &[RecordedEvent]) -> Vec<RecordedEvent> {
    let last = known.last().map(RecordedEvent::position);
    store.read_log().after(last).into_iter().map(Result::unwrap).collect()
}

/// The writer notes events by their streams only from the first condition on that needs it.
#[test]
fn first_condition_by_stream_sees_earlier_events() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    append_history(&store, 2_000);
    let head = store.head().unwrap();
    assert_eq!(refused_at(store.submit(conditional(Query::tag("unused"), head))), None);
    let at = store.append("a-1", ExpectedVersion::Any, [event(1), event(2)]).unwrap();
    let later = at.first_position();
    for (stream, after, expected) in [
        ("a-1", head, Some(later.get())),
        ("a-1", Some(later), Some(at.last_position().get())),
        ("a-1", Some(at.last_position()), None),
        ("few-1", head, None),
    ] {
        let found = refused_at(store.submit(conditional(Query::stream(stream), after)));
        assert_eq!(found, expected, "{stream} after {after:?}");
    }
}

/// While a condition is looked up, an event that it forbids is appended, and then more events than
/// the writer holds.
#[test]
fn condition_sees_events_that_the_writer_has_dropped() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    append_history(&store, 20_000);
    // Looking these up takes long: the two tags never occur together.
    let slow =
        |append: Append| (0..20).fold(append, |it, _| it.fail_if(item().tag("even").tag("odd")));
    let mut refused = 0;
    for _ in 0..4 {
        let before = store.head().unwrap();
        let append = slow(conditional(Query::tag("forbidden"), before));
        let start = Barrier::new(2);
        let (outcome, forbidden) = thread::scope(|scope| {
            let conditional = scope.spawn(|| {
                start.wait();
                store.submit(append)
            });
            start.wait();
            thread::sleep(Duration::from_millis(10));
            let event = NewEvent::json("Forbidden", &()).unwrap().with_tag("forbidden");
            let forbidden = store.append("other", ExpectedVersion::Any, [event]).unwrap();
            // It holds two times 16,384 events and entries, and one append more.
            for _ in 0..4 {
                let events = (0..17_000).map(|_| NewEvent::json("Plain", &()).unwrap());
                store.append("other", ExpectedVersion::Any, events).unwrap();
            }
            (conditional.join().unwrap(), forbidden.last_position())
        });
        match outcome {
            Ok(appended) => assert!(appended.last_position() < forbidden),
            Err(error) => {
                assert_eq!(refused_at(Err(error)), Some(forbidden.get()));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no condition was looked up while others appended");
}

/// A backup whose index is ahead of its log, as after the log has lost its end.
#[test]
fn entries_of_lost_events_are_removed() {
    let (directory, path) = place();
    let short = directory.path().join("short");
    let tagged = |tag: &str| [NewEvent::json("Happened", &()).unwrap().with_tag(tag)];
    let store = quick().index_types(true).open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, tagged("kept")).unwrap();
    store.backup(&short).unwrap();
    store.append("a", ExpectedVersion::Any, tagged("lost")).unwrap();
    store.append("a", ExpectedVersion::Any, tagged("kept")).unwrap();
    store.close().unwrap();
    let (longer, backup) = (database(&path), database(&short));
    let all = longer.iterator_cf(longer.cf_handle("index").unwrap(), rocksdb::IteratorMode::Start);
    for (key, value) in all.map(Result::unwrap) {
        backup.put_cf(backup.cf_handle("index").unwrap(), key, value).unwrap();
    }
    drop(backup);
    // The same loss in a store that is not a backup.
    let cut = directory.path().join("cut");
    copy(&path, &cut);
    fs::remove_dir_all(cut.join("db")).unwrap();
    copy(&short.join("db"), &cut.join("db"));
    let accepting = quick().accept_lost_history_after(Position::new(1));
    for (path, options) in [(&short, quick()), (&cut, accepting)] {
        let store = options.open(path).unwrap();
        let others = (0..3).map(|_| NewEvent::json("Other", &()).unwrap());
        store.append("a", ExpectedVersion::Any, others).unwrap();
        assert_eq!(numbers(store.read_log().tag("lost")), [0_u64; 0]);
        assert_eq!(numbers(store.read_log().tag("kept")), [1]);
        assert_eq!(numbers(store.read_log().query(Query::types(["Happened"]))), [1]);
        for tag in ["lost", "kept"] {
            let append = conditional(Query::tag(tag), Position::new(1));
            assert_eq!(refused_at(store.submit(append)), None);
        }
        let report = store.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.damage);
    }
}
