//! Rules for retries: appending the same events again returns their places or an error, and never
//! writes them twice by mistake.

use std::sync::Arc;

use super::{contents, event, events, stream, version};
use crate::error::Error;
use crate::event_store::{Append, Appended, EventStore};
use crate::extension::EventStoreExt;
use crate::model::{ExpectedVersion, NewEvent};

/// Checks each expectation, with appends of one, a few, and very many events.
pub fn retry_returns_original_places_and_writes_nothing(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, Exact, NoStream, StreamExists};
    for (row, count) in [1, 3, 2_500].into_iter().enumerate() {
        for (column, expected) in
            [NoStream, Any, StreamExists, Exact(version(2))].iter().enumerate()
        {
            let name = format!("retried-{row}-{column}");
            if matches!(expected, StreamExists | Exact(_)) {
                store.append(name.as_str(), NoStream, events(2)).unwrap();
            }
            let given = events(count);
            let first = store.append(name.as_str(), *expected, given.clone()).unwrap();
            assert!(!first.is_retry());
            let before = contents(store);
            for _ in 0..2 {
                let again = store.append(name.as_str(), *expected, given.clone()).unwrap();
                same_places(&first, &again);
            }
            assert_eq!(contents(store), before, "a retry of {expected} wrote something");
        }
    }
}

fn same_places(first: &Appended, again: &Appended) {
    assert!(again.is_retry());
    assert!(again.positions().eq(first.positions()));
    assert_eq!(again.versions(), first.versions());
    assert_eq!(again.first_position(), first.first_position());
    assert_eq!(again.last_position(), first.last_position());
    assert_eq!(again.last_version(), first.last_version());
}

/// `NoStream` and `Exact` name a place, so later events do not hide a retry. For `Any` and
/// `StreamExists` only the end of the stream counts, so after later events the same call appends
/// again.
pub fn retry_with_a_named_place_is_recognised_after_later_events(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, Exact, NoStream, StreamExists};
    for (column, expected) in
        [NoStream, Exact(version(1)), Any, StreamExists].into_iter().enumerate()
    {
        let name = format!("later-{column}");
        if matches!(expected, StreamExists | Exact(_)) {
            store.append(name.as_str(), NoStream, events(1)).unwrap();
        }
        let given = events(3);
        let first = store.append(name.as_str(), expected, given.clone()).unwrap();
        store.append(name.as_str(), Any, events(2)).unwrap();
        let before = contents(store);
        let again = store.append(name.as_str(), expected, given.clone()).unwrap();
        if matches!(expected, NoStream | Exact(_)) {
            same_places(&first, &again);
            assert_eq!(contents(store), before);
        } else {
            assert!(!again.is_retry(), "{expected} names no place");
            assert_eq!(again.last_version().get(), first.last_version().get() + 5);
            let newest = stream(store, &name).into_iter().rev().take(3);
            assert!(newest.map(|event| event.id()).eq(given.iter().rev().map(NewEvent::id)));
        }
    }
}

/// Checks interleaved parts, mixed expectations, and a stream that was only checked and has grown
/// since.
pub fn multi_stream_retry_needs_all_its_parts(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, Exact, NoStream, StreamExists};
    store.append("b", NoStream, events(2)).unwrap();
    let begun = Append::new()
        .to("a", NoStream, events(2))
        .to("b", Exact(version(2)), events(1))
        .check("rate", NoStream)
        .to("a", NoStream, events(1));
    let append = begun.clone().to("c", Any, events(2));
    let first = store.submit(append.clone()).unwrap();
    store.append("a", Any, events(1)).unwrap();
    store.append("rate", NoStream, events(1)).unwrap();
    let before = contents(store);
    same_places(&first, &store.submit(append.clone()).unwrap());
    assert_eq!(contents(store), before);
    // The end of `c` has moved: the commit that contains the other parts shows that this is a
    // retry.
    store.append("c", StreamExists, events(1)).unwrap();
    let before = contents(store);
    same_places(&first, &store.submit(append.clone()).unwrap());
    // With an additional or a different event it is not the committed append.
    for other in [append.to("c", Any, events(1)), begun.to("c", Any, events(2))] {
        let refused = store.submit(other).unwrap_err();
        assert!(matches!(refused, Error::PartialRetry { .. }), "{refused}");
        assert_eq!(contents(store), before);
    }
}

/// If only some ids are found at their place, the caller reused an id, and gets an error.
pub fn partial_retry_is_refused_with_its_own_error(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, Exact, NoStream, StreamExists};
    let base = events(1);
    store.append("a", NoStream, base.clone()).unwrap();
    let given = events(2);
    store.append("a", Exact(version(1)), given.clone()).unwrap();
    let before = contents(store);
    let new = || event("New", 9);
    let [first, second] = [given[0].clone(), given[1].clone()];
    let table = [
        (Exact(version(1)), vec![first.clone(), new()]),
        (Exact(version(1)), vec![new(), second.clone()]),
        (Exact(version(1)), vec![second.clone(), first.clone()]),
        (Exact(version(1)), vec![first.clone(), second.clone(), new()]),
        (Exact(version(2)), vec![new(), second.clone()]),
        (NoStream, vec![base[0].clone(), new()]),
        (NoStream, vec![base[0].clone(), first.clone(), second.clone(), new()]),
        (Any, vec![new(), second.clone()]),
        (Any, vec![second.clone(), new()]),
        (StreamExists, vec![second.clone(), first.clone()]),
        (Any, vec![new(), new(), new(), new(), second.clone()]),
    ];
    for (row, (expected, events)) in table.into_iter().enumerate() {
        match store.append("a", expected, events) {
            Err(Error::PartialRetry { stream }) => assert_eq!(stream.as_str(), "a"),
            other => panic!("row {row} should have been a partial retry: {other:?}"),
        }
    }
    // One of two streams has its part, the other does not.
    let half = Append::new().to("b", NoStream, [new()]).to("a", Exact(version(1)), given.clone());
    let refused = store.submit(half).unwrap_err();
    assert!(
        matches!(&refused, Error::PartialRetry { stream } if stream.as_str() == "a"),
        "{refused}"
    );
    assert_eq!(contents(store), before);
    // A shorter retry is found at the place that it names.
    assert!(store.append("a", Exact(version(1)), [first]).unwrap().is_retry());
    assert!(store.append("a", Exact(version(2)), [second]).unwrap().is_retry());
}
