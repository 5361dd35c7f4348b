//! Deletion from a store on disk (G17): what is gone is gone, and nothing else is.

use std::num::NonZeroU64;
use std::path::Path;

use annals::prelude::*;
use annals::{
    Append, Deletion, Error, InvalidArgument, Query, Retention, RetentionScope, ScavengeOptions,
    Store,
};

use crate::support::{place, position, quick, version};

fn id(stream: &str) -> StreamId {
    StreamId::new(stream).unwrap()
}

fn open(path: &Path) -> Store {
    quick().index_types(true).index_categories(true).pack_bytes(400).open(path).unwrap()
}

/// Events of a visitor, one append each.
fn visits(store: &Store, stream: &str, count: u64) {
    for number in 1..=count {
        let event = NewEvent::json("Came", &number).unwrap().with_tag("all");
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
}

fn came(number: u64) -> NewEvent {
    NewEvent::json("Came", &number).unwrap()
}

/// G4, G17: it cannot be known whether an append to a deleted place is a retry.
#[test]
fn an_append_to_a_deleted_place_is_refused() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 5);
    let done = [came(6)];
    store.append("a-1", version(5).into(), done.clone()).unwrap();
    visits(&store, "a-1", 1);
    assert!(store.append("a-1", version(5).into(), done.clone()).unwrap().is_retry());
    store.delete(&Deletion::truncate(&id("a-1"), version(7))).unwrap();

    for expected in [ExpectedVersion::Exact(version(5)), ExpectedVersion::NoStream] {
        let refused = store.append("a-1", expected, done.clone()).unwrap_err();
        assert!(matches!(refused, Error::Deleted { .. }) && refused.is_conflict(), "{refused}");
    }
    let refused = store.append("a-1", version(6).into(), [came(9)]).unwrap_err();
    assert!(matches!(refused, Error::WrongExpectedVersion { .. }));

    // After a deletion as a whole, the last event is still known.
    let last = [came(8)];
    store.append("a-1", version(7).into(), last.clone()).unwrap();
    store.delete(&Deletion::delete(&id("a-1"))).unwrap();
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Any] {
        let refused = store.append("a-1", expected, last.clone()).unwrap_err();
        assert!(matches!(refused, Error::Deleted { .. }), "{refused}");
    }
    let again = [came(1), came(2)];
    let appended = store.append("a-1", ExpectedVersion::NoStream, again.clone()).unwrap();
    assert_eq!(appended.last_version(), version(10));
    visits(&store, "a-1", 1);
    let retried = store.append("a-1", ExpectedVersion::NoStream, again).unwrap();
    assert!(retried.is_retry(), "a retry of the append that created it again");
}

/// G16, G17: a condition that continues an earlier read is refused if events after it were deleted.
#[test]
fn a_condition_does_not_miss_deleted_events() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 3);
    let append = |after: Option<u64>| {
        Append::of([came(9)]).fail_if(Query::tag("all")).after(after.map(position))
    };
    store.delete(&Deletion::truncate(&id("a-1"), version(3))).unwrap();
    let refused = store.submit(append(Some(1))).unwrap_err();
    assert!(matches!(refused, Error::Deleted { .. }) && refused.is_conflict(), "{refused}");
    assert!(matches!(store.submit(append(Some(2))), Err(Error::ConditionFailed { .. })));
    assert!(matches!(store.submit(append(None)), Err(Error::ConditionFailed { .. })));
    store.delete(&Deletion::delete(&id("a-1"))).unwrap();
    assert!(matches!(store.submit(append(Some(2))), Err(Error::Deleted { .. })));
    store.submit(append(Some(3))).unwrap();
    store.submit(append(None)).unwrap();
    // It is known after a restart, too.
    store.close().unwrap();
    assert!(matches!(open(&path).submit(append(Some(2))), Err(Error::Deleted { .. })));
}

/// G16, G17: an event that was kept in memory for conditions is forgotten once it is deleted.
#[test]
fn a_condition_does_not_see_a_deleted_event() {
    let (_directory, path) = place();
    let store = open(&path);
    let once = || {
        let event = came(1).with_tag("email:x");
        Append::new().to("user-1", ExpectedVersion::Any, [event]).fail_if(Query::tag("email:x"))
    };
    let first = store.submit(once()).unwrap();
    assert!(matches!(store.submit(once()), Err(Error::ConditionFailed { .. })));
    store.delete(&Deletion::delete(&id("user-1"))).unwrap();
    let again = store.submit(once()).unwrap();
    assert!(again.first_position() > first.first_position());
    let stored = store.read_log().tag("email:x").first().unwrap().unwrap();
    let redaction = Deletion::redact(stored.position(), stored.id());
    store.delete(&redaction.removing_tags(["email:x"])).unwrap();
    store.submit(once()).unwrap();
}

/// Only the store appends to the stream of deletions, and nothing is deleted from it.
#[test]
fn the_stream_of_deletions_is_protected() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 2);
    store.delete(&Deletion::truncate(&id("a-1"), version(2))).unwrap();
    let decision = store.read_log().backward().first().unwrap().unwrap();
    let stream = decision.stream();
    for deletion in [
        Deletion::delete(stream),
        Deletion::tombstone(stream),
        Deletion::truncate(stream, version(9)),
        Deletion::redact(decision.position(), decision.id()),
    ] {
        let refused = store.delete(&deletion).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument(InvalidArgument::Reserved { .. })));
    }
    let refused = store.append(stream, ExpectedVersion::Any, [came(1)]).unwrap_err();
    assert!(refused.is_invalid(), "{refused}");
    let newest = Retention::newest(NonZeroU64::MIN);
    assert!(store.set_retention(&RetentionScope::from(stream), Some(newest)).is_err());
    store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap();
    assert_eq!(store.deletions().unwrap().len(), 1);
}

/// G13: a deletion that is not possible changes nothing and says why.
#[test]
fn an_impossible_deletion_is_refused() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 2);
    let head = store.head().unwrap();
    let first = store.read_log().first().unwrap().unwrap();
    let other = Deletion::redact(position(2), first.id());
    let invalid = |deletion: &Deletion| match store.delete(deletion).unwrap_err() {
        Error::InvalidArgument(invalid) => invalid,
        error => panic!("{error}"),
    };
    assert!(matches!(invalid(&other), InvalidArgument::OtherEvent { .. }));
    let nothing = Deletion::tombstone(&id("b-1"));
    assert!(matches!(invalid(&nothing), InvalidArgument::NothingToTombstone { .. }));
    let long = Deletion::delete(&id("a-1")).because("x".repeat(1_025));
    assert!(matches!(invalid(&long), InvalidArgument::TooLong { .. }));
    // From a file of deletions that was changed.
    let twice = r#"{"kind":"truncate","streams":[["a-1",2],["a-1",1]]}"#;
    let twice = serde_json::from_str(twice).unwrap();
    assert!(matches!(invalid(&twice), InvalidArgument::TruncatedTwice { .. }));
    let far = Deletion::redact(position(9), first.id());
    assert!(matches!(store.delete(&far), Err(Error::PositionAhead { .. })));
    let dashed = RetentionScope::Category("a-b".to_owned());
    let newest = Retention::newest(NonZeroU64::MIN);
    assert!(store.set_retention(&dashed, Some(newest)).unwrap_err().is_invalid());
    assert_eq!((store.head().unwrap(), store.deletions().unwrap().len()), (head, 0));
    assert_eq!(store.preview(&Deletion::delete(&id("a-1"))).unwrap().events, 2);
    assert_eq!(store.head().unwrap(), head);

    store.delete(&Deletion::truncate(&id("a-1"), version(2))).unwrap();
    let gone = Deletion::redact(first.position(), first.id());
    assert!(matches!(store.delete(&gone), Err(Error::Deleted { .. })));
    store.close().unwrap();
    let store = quick().read_only(true).open(&path).unwrap();
    assert!(matches!(store.delete(&gone), Err(Error::ReadOnly)));
    assert_eq!(store.read_stream("a-1").into_iter().count(), 1);
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// G17: holes that meet become one, whichever of them came first.
#[test]
fn neighbouring_holes_are_joined() {
    let (_directory, path) = place();
    let store = open(&path);
    // Each event fills a pack.
    let long = "x".repeat(500);
    for stream in ["a-1", "a-2", "a-3", "a-4"] {
        let event = NewEvent::json("Came", &long).unwrap();
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
    for (stream, holes) in [("a-2", 1), ("a-4", 2), ("a-1", 2), ("a-3", 1)] {
        store.delete(&Deletion::delete(&id(stream))).unwrap();
        assert_eq!(store.read_log().holes().unwrap().len(), holes, "{stream}");
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// G8, G17: on a full disk, a scavenge drops packs only once something has replaced them.
#[test]
fn scavenge_without_space_loses_nothing() {
    let (_directory, path) = place();
    let store = open(&path);
    let visit = |count: u64| {
        for number in 0..count {
            store.append("visit-1", ExpectedVersion::Any, [came(number)]).unwrap();
        }
    };
    visit(40);
    // Its pack begins with a visit, and what is left of it takes more than a nearly full disk allows.
    let large = NewEvent::bytes("Kept", vec![7; 300 << 10]).unwrap();
    let append = Append::new().to("visit-1", ExpectedVersion::Any, [came(40)]);
    store.submit(append.to("a-1", ExpectedVersion::Any, [large])).unwrap();
    visit(3);
    store.close().unwrap();

    let full = quick().pack_bytes(400).disk_reserve_bytes(u64::MAX / 4);
    let store = full.open(&path).unwrap();
    let newest = Retention::newest(NonZeroU64::new(3).unwrap());
    store.set_retention(&RetentionScope::Category("visit".into()), Some(newest)).unwrap();
    let done = store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap();
    assert!(done.is_incomplete && done.events == 41, "{done:?}");
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
    // The log may still have events that the stream has no longer.
    assert!(store.read_log().into_iter().all(|event| event.is_ok()));
    assert_eq!(store.read_stream("visit-1").into_iter().flatten().count(), 3);
    store.close().unwrap();

    let store = open(&path);
    assert!(!store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap().is_incomplete);
    assert!(store.verify(|_| {}).unwrap().is_sound());
    let holes = store.read_log().holes().unwrap();
    assert_eq!(holes.iter().map(|hole| hole.last - hole.first + 1).sum::<u64>(), 41, "{holes:?}");
}
