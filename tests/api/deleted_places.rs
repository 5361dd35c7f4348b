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
