//! Rules for the conditions of appends (G16): an append succeeds only if no event after a position
//! matches a query, at the moment of the commit.
//!
//! A store may lack an index of event types or categories, and refuse a condition that needs one
//! with [`Error::NotIndexed`]. A condition on tags or streams is always answered.

use std::sync::Arc;

use super::queries::{TAGS, Wanted, tagged, tagged_history};
use super::{contents, event, events, log, position, version};
use crate::error::{Error, Result};
use crate::event_store::{Append, Appended, EventStore, KeyedResult, Query, QueryItem};
use crate::extension::EventStoreExt;
use crate::model::limits::APPEND_CONDITIONS_MAX;
use crate::model::{
    ExpectedVersion, IdempotencyKey, InvalidArgument, Position, RecordedEvent, RequestDigest,
};

use ExpectedVersion::{Any, Exact, NoStream};

/// The position and the label of a failed condition.
fn failed(result: Result<Appended>) -> (u64, Option<String>) {
    match result.unwrap_err() {
        Error::ConditionFailed { position, label, .. } => (position.get(), label),
        other => panic!("{other} instead of a failed condition"),
    }
}

fn failed_at(result: Result<Appended>) -> u64 {
    failed(result).0
}

/// An append of one event that no query of these rules matches.
fn append() -> Append {
    Append::of([event("Decided", 0)])
}

fn first_match(
    log: &[RecordedEvent],
    selection: &[Wanted],
    after: Option<Position>,
) -> Option<Position> {
    let later = log.iter().filter(|event| Some(event.position()) > after);
    let is_selected = |event: &&RecordedEvent| selection.iter().any(|item| item.selects(event));
    later.into_iter().find(is_selected).map(RecordedEvent::position)
}

/// Whether every item is about tags or streams, which every store has an index of.
fn is_always_indexed(selection: &[Wanted]) -> bool {
    selection.iter().all(|item| !item.tags.is_empty() || !item.streams.is_empty())
}

fn selections() -> Vec<Vec<Wanted>> {
    let all = Wanted::default();
    let each_tag = TAGS.chunks(1).map(|tags| vec![Wanted { tags, ..all }]);
    let mut selections: Vec<_> = each_tag.collect();
    selections.extend([
        vec![Wanted { tags: &["a", "a:1"], ..all }],
        vec![Wanted { tags: &["b", "b", "a"], types: &["Closed", "Opened"], ..all }],
        vec![Wanted { tags: &["a"], types: &["Closed"], prefixes: &["b", "日"], ..all }],
        vec![Wanted { tags: &["a b"], categories: &["日本"], ..all }],
        vec![Wanted { tags: &["a", "unused"], ..all }],
        vec![Wanted { tags: &["unused"], ..all }, Wanted { tags: &["ä:1"], ..all }],
        vec![Wanted { streams: &["b-1"], types: &["Changed"], ..all }],
        vec![Wanted { streams: &["none"], ..all }, Wanted { tags: &["ab", "b"], ..all }],
        vec![Wanted { types: &["Changed"], ..all }],
        vec![Wanted { categories: &["b"], types: &["Closed"], ..all }],
        vec![Wanted { tags: &["unused"], ..all }, Wanted { categories: &["日本"], ..all }],
    ]);
    selections
}

/// For any query and any place, the outcome is that of a naive scan: it names the first event that
/// matches, though that is in the middle of a commit, and a refused append changes nothing.
pub fn condition_equals_a_naive_scan(store: &Arc<dyn EventStore>) {
    let mut log = tagged_history(store);
    let end = log.len() as u64 + 1;
    let (mut refused, mut accepted) = (0, 0);
    for selection in selections() {
        let query = || Query::any_of(selection.iter().map(Wanted::item));
        // Exactly at, one below and one above each position.
        for after in (0..=end).map(Position::new) {
            let expected = first_match(&log, &selection, after);
            let head = store.head().unwrap();
            match (store.submit(append().fail_if(query()).after(after)), expected) {
                (Err(Error::ConditionFailed { position, .. }), Some(expected)) => {
                    assert_eq!(position, expected, "{selection:?} after {after:?}");
                    refused += 1;
                }
                (Ok(appended), None) => {
                    assert_eq!(Some(appended.first_position()), head.map(Position::next));
                    log.extend(store.read_log().after(head).into_iter().map(Result::unwrap));
                    accepted += 1;
                }
                (Err(Error::NotIndexed { .. }), _) if !is_always_indexed(&selection) => {}
                (outcome, expected) => {
                    panic!("{selection:?} after {after:?}: {outcome:?}, expected {expected:?}")
                }
            }
        }
    }
    assert!(refused > 100 && accepted > 100, "{refused} refused, {accepted} accepted");
    assert_eq!(super::log(store), log, "a refused append changed the log");
}

/// Plain appends count, to any stream and with any expectation, and so do conditional ones, those
/// to several streams, and those with an idempotency key.
pub fn every_append_counts_for_a_later_condition(store: &Arc<dyn EventStore>) {
    let with_tag = |number: usize| [tagged("Happened", number, &["other", "x"])];
    let key = IdempotencyKey::new("requests", "one", RequestDigest::of("one")).unwrap();
    let once = |append: Append| match store.submit_once(&key, append.into())?.result {
        KeyedResult::Appended(appended) => Ok(appended),
        other => panic!("{other:?}"),
    };
    let plain: [&dyn Fn() -> Result<Appended>; 6] = [
        &|| store.append("a", Any, with_tag(1)),
        &|| store.append("b", NoStream, with_tag(2)),
        &|| store.append("b", Exact(version(1)), with_tag(3)),
        &|| store.submit(Append::of(events(2)).to("c-1", Any, with_tag(4)).to("d", Any, events(1))),
        &|| store.submit(Append::of(with_tag(5)).fail_if(Query::tag("unused"))),
        &|| once(Append::new().to("a", Any, with_tag(6))),
    ];
    for append_plainly in plain {
        let before = store.head().unwrap();
        let conditional = || append().fail_if(Query::tag("x")).after(before);
        append_plainly().unwrap();
        let matching = store.read_log().tag("x").after(before).first().unwrap().unwrap();
        assert_eq!(failed_at(store.submit(conditional())), matching.position().get());
        let after = store.head().unwrap();
        store.submit(append().fail_if(Query::tag("x")).after(after)).unwrap();
    }
}

/// An append is not judged by its own events, though they go to several streams, and the next one
/// is judged by them.
pub fn append_is_not_judged_by_its_own_events(store: &Arc<dyn EventStore>) {
    let first = Append::of([tagged("Happened", 1, &["x"]), event("Happened", 2)])
        .to("a", NoStream, [tagged("Happened", 3, &["y", "x"])])
        .fail_if(Query::tag("x"))
        .fail_if(Query::tag("y"))
        .fail_if(Query::Everything);
    store.submit(first).unwrap();
    let second = |tag: &str| Append::of([tagged("Happened", 4, &[tag])]).fail_if(Query::tag(tag));
    assert_eq!(failed_at(store.submit(second("y"))), 3);
    assert_eq!(failed_at(store.submit(second("x"))), 1);
    assert_eq!(failed_at(store.submit(second("x").after(position(1)))), 3);
    store.submit(second("x").after(position(3))).unwrap();
}

/// It is invalid whatever its condition says; so is a place without a condition.
pub fn empty_append_is_refused_before_its_condition(store: &Arc<dyn EventStore>) {
    store.append("a", Any, [tagged("Happened", 1, &["x"])]).unwrap();
    let before = contents(store);
    let empty = [Append::new(), Append::new().check("a", NoStream), Append::of([])];
    for append in empty {
        let refused = store.submit(append.fail_if(Query::tag("x"))).unwrap_err();
        assert!(
            matches!(refused, Error::InvalidArgument(InvalidArgument::Empty { .. })),
            "{refused}"
        );
    }
    let refused = store.submit(append().after(position(1))).unwrap_err();
    assert!(
        matches!(refused, Error::InvalidArgument(InvalidArgument::AfterWithoutCondition)),
        "{refused}"
    );
    let many = (0..=APPEND_CONDITIONS_MAX).fold(append(), |append, _| append.fail_if(tag("y")));
    assert!(matches!(store.submit(many), Err(Error::LimitExceeded(_))));
    assert_eq!(contents(store), before);
    let most = (0..APPEND_CONDITIONS_MAX).fold(append(), |append, _| append.fail_if(tag("y")));
    store.submit(most).unwrap();
}

fn tag(tag: &str) -> Query {
    Query::tag(tag)
}

/// A retry meets its own events, which must not refuse it. The commit shows that they are its own.
pub fn retry_of_a_conditional_append_is_acknowledged(store: &Arc<dyn EventStore>) {
    store.append("a", Any, events(3)).unwrap();
    let shapes = [
        ("x", Append::of([tagged("Happened", 1, &["x"])]).fail_if(tag("x"))),
        (
            "y",
            Append::of([event("Happened", 2), tagged("Happened", 3, &["y"])])
                .to("b", Any, [tagged("Happened", 4, &["y"])])
                .to("events", Any, [event("Happened", 5)])
                .fail_if(tag("unused"))
                .fail_if(tag("y"))
                .after(position(2)),
        ),
    ];
    for (same_tag, append) in shapes {
        let first = store.submit(append.clone()).unwrap();
        assert!(!first.is_retry());
        for _ in 0..2 {
            // Later events of its streams hide its events from a retry by stream.
            let later = Append::of(events(1)).to("b", Any, [tagged("Happened", 6, &[same_tag])]);
            store.submit(later).unwrap();
            let before = contents(store);
            let again = store.submit(append.clone()).unwrap();
            assert!(again.is_retry());
            assert!(again.positions().eq(first.positions()));
            assert_eq!(again.versions(), first.versions());
            assert_eq!(contents(store), before, "a retry wrote something");
        }
    }
}

/// The first match belongs to another commit, or its commit is not exactly this append.
pub fn retry_that_its_commit_does_not_show_is_refused(store: &Arc<dyn EventStore>) {
    let own = [tagged("Happened", 1, &["x"]), tagged("Happened", 2, &["x"])];
    let [first, second] = own.clone();
    let third = tagged("Happened", 3, &["x"]);
    let places = store.submit(Append::of(own).fail_if(tag("x"))).unwrap();
    store.append("events", Any, events(2)).unwrap();
    let before = contents(store);
    let others = [
        vec![first.clone()],
        vec![second.clone(), first.clone()],
        vec![first.clone(), second.clone(), third.clone()],
        vec![third],
    ];
    for events in others {
        let result = store.submit(Append::of(events).fail_if(tag("x")));
        assert_eq!(failed_at(result), places.first_position().get());
    }
    let in_another_stream = Append::new().to("b", Any, [first, second]).fail_if(tag("x"));
    assert_eq!(failed_at(store.submit(in_another_stream)), places.first_position().get());
    // Its own events do not match, so the first match is always the commit of another append.
    let unseen = append().fail_if(tag("y"));
    store.submit(unseen.clone()).unwrap();
    store.append("events", Any, [tagged("Happened", 4, &["y"])]).unwrap();
    assert_eq!(failed_at(store.submit(unseen)), before.0.unwrap().get() + 2);
    assert_eq!(log(store).len(), before.1.len() + 2);
}

/// The first of several conditions that fails is reported, with its label and the first event that
/// matches it.
pub fn first_failed_condition_is_reported(store: &Arc<dyn EventStore>) {
    let run = ["z", "y", "x", "y", "x"].map(|tag| tagged("Happened", 0, &[tag]));
    store.append("a", Any, run).unwrap();
    let before = contents(store);
    let three = |after: [u64; 3]| {
        let [x, y, z] = after.map(Position::new);
        append()
            .fail_if(tag("x"))
            .after(x)
            .label("first")
            .fail_if(tag("y"))
            .after(y)
            .fail_if(tag("z"))
            .after(z)
            .label("replaced")
            .label("third")
    };
    let failures = [
        ([0, 0, 0], 3, Some("first")),
        ([4, 0, 0], 5, Some("first")),
        ([5, 0, 0], 2, None),
        ([5, 3, 0], 4, None),
        ([9, 4, 0], 1, Some("third")),
        ([2, 4, 1], 3, Some("first")),
    ];
    for (after, position, label) in failures {
        let found = failed(store.submit(three(after)));
        assert_eq!(found, (position, label.map(str::to_owned)), "{after:?}");
    }
    let refused = store.submit(three([9, 4, 0])).unwrap_err();
    assert_eq!(refused.label(), Some("third"));
    assert!(refused.is_conflict() && refused.to_string().contains("third"), "{refused}");
    assert_eq!(contents(store), before);
    store.submit(three([5, 4, 1])).unwrap();
}

/// Expected versions, checked streams and conditions must all hold.
pub fn condition_and_expected_versions_must_both_hold(store: &Arc<dyn EventStore>) {
    store.append("a", Any, [tagged("Happened", 1, &["x"])]).unwrap();
    store.append("b", Any, events(2)).unwrap();
    let before = contents(store);
    let append = |of_a: ExpectedVersion, of_b: ExpectedVersion, after: u64| {
        let append = Append::new().to("a", of_a, [tagged("Happened", 2, &["x"])]);
        append.check("b", of_b).label("b").fail_if(tag("x")).after(Position::new(after)).label("x")
    };
    let [one, two] = [1, 2].map(|number| Exact(version(number)));
    assert_eq!(failed(store.submit(append(one, two, 0))), (1, Some("x".to_owned())));
    for (of_a, of_b) in [(NoStream, two), (one, one)] {
        let refused = store.submit(append(of_a, of_b, 1)).unwrap_err();
        assert!(matches!(refused, Error::WrongExpectedVersion { .. }), "{refused}");
        let both = store.submit(append(of_a, of_b, 0)).unwrap_err();
        assert!(both.is_conflict(), "{both}");
    }
    assert_eq!(contents(store), before);
    store.submit(append(one, two, 1)).unwrap();
    assert_eq!(failed_at(store.submit(append(two, two, 1))), 4);
}

/// A refused append leaves its key unused. A repeated key returns the recorded result, although the
/// condition would fail now.
pub fn condition_and_idempotency_key_work_together(store: &Arc<dyn EventStore>) {
    let key = IdempotencyKey::new("requests", "one", RequestDigest::of("one")).unwrap();
    let request = |after: u64| {
        let append = Append::of([event("Happened", 1)]).to("b", Any, events(1));
        append.fail_if(tag("x")).after(Position::new(after))
    };
    store.append("a", Any, [tagged("Happened", 2, &["x"])]).unwrap();
    let before = contents(store);
    let refused = store.submit_once(&key, request(0).into()).unwrap_err();
    assert!(matches!(refused, Error::ConditionFailed { .. }), "{refused}");
    assert_eq!(contents(store), before);
    assert_eq!(store.find_submitted(&key).unwrap(), None);
    let first = store.submit_once(&key, request(1).into()).unwrap();
    assert!(!first.is_retry);
    store.append("a", Any, [tagged("Happened", 3, &["x"])]).unwrap();
    let before = contents(store);
    assert_eq!(failed_at(store.submit(request(1))), 4);
    for after in [0, 1] {
        let again = store.submit_once(&key, request(after).into()).unwrap();
        assert!(again.is_retry);
        match (&again.result, &first.result) {
            (KeyedResult::Appended(again), KeyedResult::Appended(first)) => {
                assert!(again.is_retry() && again.positions().eq(first.positions()));
                assert_eq!(again.versions(), first.versions());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(contents(store), before);
}

/// `Everything` means that nothing at all was appended since.
pub fn everything_is_a_condition_on_the_whole_log(store: &Arc<dyn EventStore>) {
    let alone = || append().fail_if(Query::Everything);
    store.submit(alone()).unwrap();
    assert_eq!(failed_at(store.submit(alone())), 1);
    store.append("a-1", Any, events(3)).unwrap();
    for after in 1..4 {
        let result = store.submit(alone().after(position(after)));
        assert_eq!(failed_at(result), after + 1);
    }
    store.submit(alone().after(position(4))).unwrap();
    assert_eq!(failed_at(store.submit(alone().after(position(4)))), 5);
}

/// A place past the head excludes the events up to it, once they are appended.
pub fn place_past_the_head_excludes_later_events(store: &Arc<dyn EventStore>) {
    let happened = |number: usize| Append::of([tagged("Happened", number, &["x"])]);
    let queries = [Query::Everything, tag("x"), Query::stream("events")];
    let after_third = |append: Append| {
        queries
            .iter()
            .fold(append, |append, query| append.fail_if(query.clone()).after(position(3)))
    };
    for number in 1..=4 {
        store.submit(after_third(happened(number))).unwrap();
    }
    let before = contents(store);
    assert_eq!(failed_at(store.submit(after_third(happened(5)))), 4);
    for query in queries {
        let far = happened(6).fail_if(query).after(Position::MAX);
        store.submit(far).unwrap();
    }
    assert_eq!(log(store).len(), before.1.len() + 3);
}

/// G16: a decision that reads, then appends after
/// [`Events::read_up_to`](crate::Events::read_up_to), is refused if a matching event was appended
/// after the read had begun, whenever that was.
pub fn event_appended_during_a_read_fails_its_condition(store: &Arc<dyn EventStore>) {
    let seat = |number: usize| [tagged("Reserved", number, &["flight"])];
    store.append("a", Any, seat(0)).unwrap();
    let decide = |appended_before: usize| {
        let mut read = store.read_log().tag("flight").into_iter();
        let mut count = 0;
        loop {
            if count == appended_before {
                store.append("rival", Any, seat(count)).unwrap();
            }
            let Some(event) = read.next() else { break };
            event.unwrap();
            count += 1;
        }
        let append = Append::of([event("Decided", count)]);
        (count, store.submit(append.fail_if(tag("flight")).after(read.read_up_to())))
    };
    // At the beginning, in the middle, and after the last event.
    for (there, appended_before) in [(1, 0), (2, 1), (3, 2), (4, 4)] {
        let head = store.head().unwrap().unwrap();
        let (count, result) = decide(appended_before);
        assert_eq!(count, there, "the read ends at the head of its creation");
        assert_eq!(failed_at(result), head.next().get());
    }
    decide(usize::MAX).1.unwrap();
}

/// No index holds prefixes of stream ids, so a condition on nothing else is refused, next to others
/// too; one on types or categories is refused or answered.
pub fn condition_without_an_index_is_refused(store: &Arc<dyn EventStore>) {
    store.append("a-1", Any, [tagged("Happened", 1, &["x"])]).unwrap();
    let before = contents(store);
    let prefix = || QueryItem::new().stream_prefix("a");
    let key = IdempotencyKey::new("requests", "one", RequestDigest::of("one")).unwrap();
    let unanswered = [
        append().fail_if(prefix()),
        append().fail_if(Query::any_of([QueryItem::new().tag("unused"), prefix()])),
        append().fail_if(tag("unused")).fail_if(prefix()).after(position(1)),
        append().fail_if(prefix()).fail_if(tag("x")),
    ];
    for append in unanswered {
        let refused = [
            store.submit(append.clone()).unwrap_err(),
            store.submit_once(&key, append.into()).unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error, Error::NotIndexed { .. }), "{error}");
        }
        assert_eq!(contents(store), before);
        assert_eq!(store.find_submitted(&key).unwrap(), None);
    }
    let narrowed = prefix().tag("x");
    assert_eq!(failed_at(store.submit(append().fail_if(narrowed))), 1);
    for query in [Query::types(["Happened"]), Query::category("a")] {
        match store.submit(append().fail_if(query)) {
            Err(Error::NotIndexed { .. }) => {}
            result => assert_eq!(failed_at(result), 1),
        }
        assert_eq!(contents(store), before);
    }
}
