//! Appends that concern deleted events (G17): a retry or a condition that can no longer be answered
//! is refused, and appends nothing.

use annals::prelude::*;
use annals::{Deletion, Error, Query};

use crate::support::{events, place, quick, version};

fn is_deleted<T: std::fmt::Debug>(answer: &annals::Result<T>) -> bool {
    matches!(answer, Err(Error::Deleted { .. }))
}

#[test]
fn retry_at_a_deleted_place_is_refused() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let stream = StreamId::new("a-1").unwrap();
    let (first, second) = (events(3), events(2));
    let after = ExpectedVersion::Exact(version(3));
    store.append(&stream, ExpectedVersion::NoStream, first.clone()).unwrap();
    store.append(&stream, after, second.clone()).unwrap();
    // In the middle of the first append.
    store.delete(&Deletion::truncate(&stream, version(3))).unwrap();
    let head = store.head().unwrap();
    let again = store.append(&stream, ExpectedVersion::NoStream, first);
    assert!(is_deleted(&again), "{again:?}");
    assert!(store.append(&stream, after, second.clone()).unwrap().is_retry());
    assert_eq!(store.head().unwrap(), head);

    store.delete(&Deletion::delete(&stream)).unwrap();
    let head = store.head().unwrap();
    for expected in [after, ExpectedVersion::NoStream] {
        let again = store.append(&stream, expected, second.clone());
        assert!(is_deleted(&again), "{expected}: {again:?}");
    }
    assert_eq!(store.head().unwrap(), head);
}

#[test]
fn condition_below_a_hole_is_refused() {
    let (_directory, path) = place();
    let mut store = quick().open(&path).unwrap();
    let stream = StreamId::new("a-1").unwrap();
    let seen = store.append(&stream, ExpectedVersion::Any, events(1)).unwrap().last_position();
    let tagged = events(1).pop().unwrap().with_tag("seat:7");
    store.append(&stream, ExpectedVersion::Any, [tagged]).unwrap();
    store.delete(&Deletion::delete(&stream)).unwrap();
    for _ in 0..2 {
        // The event that fails it is gone.
        let append = Append::new().fail_if(Query::tag("seat:7"));
        let append = append.to("b-1", ExpectedVersion::Any, events(1));
        let answer = store.submit(append.clone().after(seen));
        assert!(is_deleted(&answer), "{answer:?}");
        let head = store.head().unwrap();
        assert_eq!(store.submit(append.after(head)).unwrap().last_position(), head.unwrap().next());
        // It is known after a reopen.
        store.close().unwrap();
        store = quick().open(&path).unwrap();
    }
}

/// G4, G16: a deletion of other events does not hide that an append is a retry.
#[test]
fn retry_with_a_condition_below_a_hole_is_recognised() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let seen = store.append("a-1", ExpectedVersion::Any, events(1)).unwrap().last_position();
    store.append("a-1", ExpectedVersion::Any, events(1)).unwrap();
    let tagged = events(1).pop().unwrap().with_tag("seat:7");
    let append = |expected| {
        let append = Append::new().to("b-1", expected, [tagged.clone()]);
        // Its own event matches the last one only.
        let append = append.fail_if(Query::tag("seat:8")).after(seen);
        append.fail_if(Query::tag("seat:7")).after(seen)
    };
    let first = store.submit(append(ExpectedVersion::NoStream)).unwrap();
    store.append("b-1", ExpectedVersion::Any, events(1)).unwrap();
    store.delete(&Deletion::delete(&StreamId::new("a-1").unwrap())).unwrap();
    let head = store.head().unwrap();
    // Recognised by its place; then, because it is no longer the last one, by what it has matched.
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Any] {
        let again = store.submit(append(expected)).unwrap();
        assert!(again.is_retry(), "{expected}");
        assert_eq!(again.last_position(), first.last_position());
    }
    let other = append(ExpectedVersion::Exact(version(9)));
    let conflict = store.submit(other).unwrap_err();
    assert!(matches!(conflict, Error::WrongExpectedVersion { .. }), "{conflict}");
    assert_eq!(store.head().unwrap(), head);
}

/// G4: a stream that an append only checks need not be as it was for a retry.
#[test]
fn retry_that_checks_a_tombstoned_stream_is_recognised() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a-1", ExpectedVersion::Any, events(1)).unwrap();
    let added = events(1);
    let append = |events: Vec<NewEvent>| {
        let append = Append::new().check("a-1", ExpectedVersion::StreamExists);
        append.to("b-1", ExpectedVersion::NoStream, events)
    };
    store.submit(append(added.clone())).unwrap();
    store.delete(&Deletion::tombstone(&StreamId::new("a-1").unwrap())).unwrap();
    assert!(store.submit(append(added)).unwrap().is_retry());
    let other = append(events(1)).to("b-2", ExpectedVersion::Any, events(1));
    let refused = store.submit(other).unwrap_err();
    assert!(matches!(refused, Error::Tombstoned { .. }), "{refused}");
}

/// G16: the error names an event that is left.
#[test]
fn condition_on_everything_ignores_deleted_events() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a-1", ExpectedVersion::Any, events(3)).unwrap();
    let left = store.append("b-1", ExpectedVersion::Any, events(1)).unwrap().last_position();
    store.delete(&Deletion::delete(&StreamId::new("a-1").unwrap())).unwrap();
    let append = Append::of(events(1)).fail_if(Query::Everything);
    match store.submit(append).unwrap_err() {
        Error::ConditionFailed { position, .. } => assert_eq!(position, left),
        error => panic!("{error}"),
    }
}

/// A view of the past that shows no deleted event reports no hole, wherever it begins.
#[test]
fn view_before_a_deleted_stream_has_no_hole() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let before = store.append("b-1", ExpectedVersion::Any, events(1)).unwrap().last_position();
    let last = store.append("a-1", ExpectedVersion::Any, events(3)).unwrap().last_position();
    store.delete(&Deletion::delete(&StreamId::new("a-1").unwrap())).unwrap();
    for from in [1, 3, 4] {
        let read = || store.read_stream("a-1").from(version(from));
        assert_eq!(read().as_of_position(before).holes().unwrap(), []);
        let hole = read().as_of_position(last).holes().unwrap();
        assert_eq!((hole.len(), hole[0].last), (1, 3), "from {from}");
    }
}
