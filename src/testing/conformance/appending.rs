//! Rules for acknowledged appends and the places of their events.

use std::sync::Arc;

use super::{contents, event, events, log, position, stream, version};
use crate::error::Error;
use crate::event_store::{Append, EventStore};
use crate::extension::EventStoreExt;
use crate::model::{
    ContentType, EventId, EventType, ExpectedVersion, NewEvent, RecordedEvent, StreamId, Timestamp,
    limits,
};

/// G4: checks every expectation against a stream with no, one and two events; a conflict reports
/// the actual version.
pub fn expected_version_is_checked_against_the_stream(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, Exact, NoStream, StreamExists};
    // The expectation, then whether a stream with 0, 1 or 2 events accepts the append.
    let table = [
        (Any, [true, true, true]),
        (NoStream, [true, false, false]),
        (StreamExists, [false, true, true]),
        (Exact(version(1)), [false, true, false]),
        (Exact(version(2)), [false, false, true]),
        (Exact(version(3)), [false, false, false]),
    ];
    for (row, (expected, taken)) in table.into_iter().enumerate() {
        for (count, taken) in taken.into_iter().enumerate() {
            let id = StreamId::new(format!("row-{row}-{count}")).unwrap();
            if count > 0 {
                store.append(&id, Any, events(count)).unwrap();
            }
            let tip = store.stream_version(&id).unwrap();
            assert_eq!(tip.map_or(0, u64::from), count as u64);
            let before = contents(store);
            let outcome = store.append(&id, expected, [event("Asked", row)]);
            if taken {
                let appended = outcome.unwrap();
                assert_eq!(
                    appended.last_version().get(),
                    count as u64 + 1,
                    "{expected} at {tip:?}"
                );
                assert!(!appended.is_retry());
                assert_eq!(store.stream_version(&id).unwrap(), Some(appended.last_version()));
            } else {
                let refused = outcome.unwrap_err();
                assert!(refused.is_conflict(), "{expected} at {tip:?}: {refused}");
                let Error::WrongExpectedVersion { stream, expected: said, actual, .. } = refused
                else {
                    panic!("a conflict has the wrong error: {refused}");
                };
                assert_eq!((stream, said, actual), (id, expected, tip));
                assert_eq!(contents(store), before, "a refused append changed something");
            }
        }
    }
}

/// G2, G3: positions and versions count from 1 without gaps, even with refused appends between
/// them; a caller sees its own append.
pub fn positions_and_versions_have_no_gaps(store: &Arc<dyn EventStore>) {
    assert_eq!(store.head().unwrap(), None);
    let (mut head, mut tips) = (0, [0; 3]);
    for round in 0..40_usize {
        let (which, count) = (round % 3, 1 + round % 4);
        let name = format!("stream-{which}");
        store.append(name.as_str(), ExpectedVersion::Exact(version(1_000)), events(2)).unwrap_err();
        let appended = store.append(name.as_str(), ExpectedVersion::Any, events(count)).unwrap();
        let positions: Vec<u64> = appended.positions().map(u64::from).collect();
        let count = count as u64;
        assert_eq!(positions, (head + 1..=head + count).collect::<Vec<_>>());
        let id = StreamId::new(&name).unwrap();
        let versions = version(tips[which] + 1)..=version(tips[which] + count);
        assert_eq!(appended.versions(), [(id.clone(), versions)]);
        (head, tips[which]) = (head + count, tips[which] + count);
        assert_eq!(store.head().unwrap(), Some(position(head)));
        assert_eq!(store.stream_version(&id).unwrap(), Some(version(tips[which])));
        let newest = store.read_stream(&id).backward().first().unwrap().unwrap();
        assert_eq!(newest.position(), appended.last_position());
    }
    let log = log(store);
    assert!(log.iter().map(|event| event.position().get()).eq(1..=head));
    for (which, tip) in tips.into_iter().enumerate() {
        let events = stream(store, &format!("stream-{which}"));
        assert!(events.iter().map(|event| event.version().get()).eq(1..=tip));
    }
}

/// G1: an append keeps the caller's order across streams and is one commit, also if a stream is
/// given twice or is only checked.
pub fn multi_stream_append_keeps_order_and_is_one_commit(store: &Arc<dyn EventStore>) {
    store.append("b", ExpectedVersion::NoStream, [event("Before", 0)]).unwrap();
    let append = Append::new()
        .to("a", ExpectedVersion::NoStream, [event("First", 1), event("Second", 2)])
        .check("rate", ExpectedVersion::NoStream)
        .to("b", ExpectedVersion::Exact(version(1)), [event("Third", 3)])
        .to("a", ExpectedVersion::NoStream, [event("Fourth", 4)])
        .to("c", ExpectedVersion::Any, [event("Fifth", 5)])
        .to("b", ExpectedVersion::Exact(version(1)), [event("Sixth", 6)]);
    let appended = store.submit(append).unwrap();
    assert!(appended.positions().map(u64::from).eq(2..=7));
    let versions: Vec<_> = appended
        .versions()
        .iter()
        .map(|(stream, versions)| (stream.as_str(), versions.start().get(), versions.end().get()))
        .collect();
    assert_eq!(versions, [("a", 1, 3), ("b", 2, 3), ("c", 1, 1)]);

    let log = log(store);
    let order: Vec<_> = log
        .iter()
        .skip(1)
        .map(|event| (event.event_type().as_str(), event.stream().as_str(), event.version().get()))
        .collect();
    let expected = [
        ("First", "a", 1),
        ("Second", "a", 2),
        ("Third", "b", 2),
        ("Fourth", "a", 3),
        ("Fifth", "c", 1),
        ("Sixth", "b", 3),
    ];
    assert_eq!(order, expected);
    assert_eq!(log[0].commit(), position(1)..=position(1));
    assert!(log[1..].iter().all(|event| event.commit() == (position(2)..=position(7))));
    assert_eq!(store.stream_version(&StreamId::new("rate").unwrap()).unwrap(), None);
}

/// Every way of reading returns an event exactly as it was appended.
pub fn events_keep_every_field(store: &Arc<dyn EventStore>) {
    let every_byte: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    let full = NewEvent::new(EventType::new("Größe geändert").unwrap(), every_byte)
        .with_id(EventId::from_bytes([0; 16]))
        .with_schema_version(u32::MAX)
        .with_content_type(ContentType::new("application/cbor").unwrap())
        .with_metadata("z", "last key first")
        .with_metadata("a", "")
        .with_metadata("名", "value\nwith a control character")
        .caused_by("command-7")
        .correlated_by("order-9")
        .with_tag("blue")
        .with_tag("青")
        .with_tag("blue")
        .with_recorded_at(Timestamp::from_micros(-7));
    let bare = NewEvent::new(EventType::new("x").unwrap(), [])
        .with_id(EventId::from_bytes([255; 16]))
        .with_recorded_at(Timestamp::from_micros(1_317_422_324_546_123));
    let given = [full, bare];
    store.append("stream with space", ExpectedVersion::NoStream, given.clone()).unwrap();
    let check = |read: Vec<RecordedEvent>| {
        assert_eq!(read.len(), given.len());
        for (place, (event, given)) in (1..).zip(read.iter().zip(&given)) {
            assert_eq!(event.id(), given.id());
            assert_eq!(event.event_type(), given.event_type());
            assert_eq!(event.schema_version(), given.schema_version());
            assert_eq!(event.content_type(), given.content_type());
            assert!(event.metadata().iter().eq(given.metadata().iter()), "metadata in order");
            assert_eq!(event.tags(), given.tags());
            assert_eq!(event.payload(), given.payload());
            assert_eq!(Some(event.recorded_at()), given.recorded_at());
            assert_eq!((event.position(), event.version()), (position(place), version(place)));
            assert_eq!(event.commit(), position(1)..=position(2));
            assert_eq!(event.stream().as_str(), "stream with space");
        }
    };
    check(log(store));
    check(stream(store, "stream with space"));
    let mut backward: Vec<_> =
        store.read_log().backward().into_iter().collect::<Result<_, _>>().unwrap();
    backward.reverse();
    check(backward);
    let followed = store.subscribe().start().unwrap().take(2).collect::<Result<_, _>>().unwrap();
    check(followed);
}

/// This holds for times from the caller and from the store, and if the store's clock is behind the
/// log.
pub fn recorded_at_never_decreases(store: &Arc<dyn EventStore>) {
    let past = Timestamp::from_micros(1_000);
    store.append("a", ExpectedVersion::Any, [event("Old", 1).with_recorded_at(past)]).unwrap();
    store.append("b", ExpectedVersion::Any, [event("Now", 2), event("Now", 3)]).unwrap();
    let future: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
    store.append("a", ExpectedVersion::Any, [event("Ahead", 4).with_recorded_at(future)]).unwrap();
    store.append("a", ExpectedVersion::Any, [event("Ahead", 5).with_recorded_at(future)]).unwrap();
    store.append("b", ExpectedVersion::Any, [event("Clamped", 6)]).unwrap();
    let times: Vec<_> = log(store).iter().map(RecordedEvent::recorded_at).collect();
    assert_eq!(times[0], past);
    assert!(past < times[1] && times[1] == times[2], "one append has one time: {times:?}");
    assert_eq!(times[3..], [future; 3], "recorded-at never decreases");
}

/// Uses names of the maximum length, in bytes of UTF-8, and the maximum number of tags.
pub fn longest_names_are_accepted(store: &Arc<dyn EventStore>) {
    let long = |len: usize| "é".repeat(len / 2) + &"x".repeat(len % 2);
    let tags: Vec<String> = (0..limits::TAGS_COUNT_MAX).map(|number| number.to_string()).collect();
    let mut event = NewEvent::new(EventType::new(long(limits::EVENT_TYPE_LEN_MAX)).unwrap(), [1])
        .with_tag(long(limits::TAG_LEN_MAX))
        .with_metadata("key", long(limits::METADATA_LEN_MAX - 3));
    for tag in &tags[1..] {
        event = event.with_tag(tag);
    }
    let name = long(limits::STREAM_ID_LEN_MAX);
    store.append(name.as_str(), ExpectedVersion::NoStream, [event.clone()]).unwrap();
    let read = stream(store, &name);
    assert_eq!(read[0].stream().as_str(), name);
    assert_eq!(read[0].event_type(), event.event_type());
    assert_eq!(read[0].tags(), event.tags());
    assert_eq!(read[0].metadata(), event.metadata());
}
