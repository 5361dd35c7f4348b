//! Rules for refused appends: each has its error, and none changes anything (G13).

use std::sync::Arc;

use super::{contents, event, events, version};
use crate::error::Error;
use crate::event_store::{Append, EventStore};
use crate::extension::EventStoreExt;
use crate::model::{
    EventType, ExpectedVersion, InvalidArgument, Metadata, NewEvent, Timestamp, limits,
};

/// G1: this holds for any conflicting part of an append to several streams, written or only
/// checked.
pub fn conflict_in_one_part_refuses_all_parts(store: &Arc<dyn EventStore>) {
    store.append("there", ExpectedVersion::NoStream, events(2)).unwrap();
    let before = contents(store);
    let right = [
        ("new", ExpectedVersion::NoStream),
        ("there", ExpectedVersion::Exact(version(2))),
        ("other", ExpectedVersion::Any),
    ];
    let wrong = [
        ("new", ExpectedVersion::StreamExists),
        ("there", ExpectedVersion::Exact(version(1))),
        ("other", ExpectedVersion::Exact(version(1))),
    ];
    for failing in 0..3 {
        for checked in [None, Some(0), Some(1), Some(2)] {
            let mut append = Append::new();
            for (part, (right, wrong)) in right.into_iter().zip(wrong).enumerate() {
                let (stream, expected) = if part == failing { wrong } else { right };
                append = if checked == Some(part) {
                    append.check(stream, expected)
                } else {
                    append.to(stream, expected, events(2))
                };
            }
            match store.submit(append) {
                Err(Error::WrongExpectedVersion { stream, expected, actual, .. }) => {
                    assert_eq!((stream.as_str(), expected), wrong[failing]);
                    let tip = if failing == 1 { Some(version(2)) } else { None };
                    assert_eq!(actual, tip);
                }
                other => panic!("part {failing} should have been a conflict: {other:?}"),
            }
            assert_eq!(contents(store), before);
        }
    }
}

fn is_invalid(error: &Error, is_it: impl Fn(&InvalidArgument) -> bool) -> bool {
    matches!(error, Error::InvalidArgument(invalid) if is_it(invalid))
}

/// Checks every kind of invalid argument and its error.
pub fn invalid_append_is_refused_with_its_reason(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, NoStream};
    type IsIt = fn(&InvalidArgument) -> bool;
    store.append("there", NoStream, events(2)).unwrap();
    let before = contents(store);
    let one = || event("Happened", 1);
    let at = |micros: i64| Timestamp::from_micros(4_000_000_000_000_000 + micros);
    let twice = one();
    let reserved: IsIt = |it| matches!(it, InvalidArgument::Reserved { .. });
    let control: IsIt = |it| matches!(it, InvalidArgument::ControlCharacter { .. });
    let empty: IsIt = |it| matches!(it, InvalidArgument::Empty { .. });
    let long: IsIt = |it| matches!(it, InvalidArgument::TooLong { .. });
    let duplicate: IsIt = |it| matches!(it, InvalidArgument::DuplicateEventId { .. });
    let mixed: IsIt = |it| matches!(it, InvalidArgument::MixedRecordedAt);
    let back: IsIt = |it| matches!(it, InvalidArgument::RecordedAtGoesBack { .. });
    let two: IsIt = |it| matches!(it, InvalidArgument::TwoExpectations { .. });
    let range: IsIt = |it| matches!(it, InvalidArgument::RecordedAtOutOfRange { .. });
    let zero: IsIt = |it| matches!(it, InvalidArgument::SchemaVersionZero);
    let to = |stream: &str| Append::new().to(stream, Any, [one()]);
    let table = [
        (Append::new(), empty),
        (Append::new().to("a", Any, []), empty),
        (Append::new().check("there", Any), empty),
        (to(""), empty),
        (to("$mine"), reserved),
        (to("two\nlines"), control),
        (to("nul\0"), control),
        (to("c1\u{85}"), control),
        (to(&"é".repeat(limits::STREAM_ID_LEN_MAX / 2 + 1)), long),
        (to("a").check("$mine", Any), reserved),
        (Append::new().to("a", Any, [twice.clone(), twice.clone()]), duplicate),
        (Append::new().to("a", Any, [twice.clone()]).to("b", Any, [twice]), duplicate),
        (Append::new().to("a", Any, [one().with_recorded_at(at(0)), one()]), mixed),
        (to("a").to("b", Any, [one().with_recorded_at(at(0))]), mixed),
        (
            Append::new().to("a", Any, [one().with_recorded_at(at(2))]).to(
                "b",
                Any,
                [one().with_recorded_at(at(1))],
            ),
            back,
        ),
        (
            Append::new().to("a", Any, [one().with_recorded_at(Timestamp::from_micros(i64::MAX))]),
            range,
        ),
        (
            Append::new().to("a", Any, [one().with_recorded_at(Timestamp::from_micros(i64::MIN))]),
            range,
        ),
        (to("a").to("a", NoStream, [one()]), two),
        (to("a").check("a", NoStream), two),
        (Append::new().to("a", Any, [one().with_schema_version(0)]), zero),
        (Append::new().to("a", Any, [one().with_tag("")]), empty),
        (Append::new().to("a", Any, [one().with_tag("tab\t")]), control),
        (Append::new().to("a", Any, [one().with_tag("x".repeat(256))]), long),
        (Append::new().to("a", Any, [one().with_metadata("$mine", "1")]), reserved),
        (Append::new().to("a", Any, [one().with_metadata("", "1")]), empty),
    ];
    for (row, (append, is_it)) in table.into_iter().enumerate() {
        let refused = store.submit(append).unwrap_err();
        assert!(is_invalid(&refused, is_it), "row {row} has the wrong error: {refused}");
    }
    assert_eq!(contents(store), before);
}

/// Exceeds every hard limit by one.
pub fn oversized_append_is_refused_with_the_limit(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::Any;
    let one = || event("Happened", 1);
    let metadata = |count: usize| (0..count).map(|key| (key.to_string(), "")).collect::<Metadata>();
    let many_tags =
        (0..=limits::TAGS_COUNT_MAX).fold(one(), |event, tag| event.with_tag(tag.to_string()));
    let large = |len| NewEvent::new(EventType::new("Large").unwrap(), vec![7; len]);
    let many_streams = (0..=limits::APPEND_STREAMS_MAX)
        .fold(Append::new().to("a", Any, [one()]), |append, number| {
            append.check(format!("checked-{number}"), Any)
        });
    let to = |events: Vec<NewEvent>| Append::new().to("a", Any, events);
    let quarter = limits::APPEND_LEN_MAX / 4;
    let table = [
        ("payload_len_max", to(vec![large(limits::PAYLOAD_LEN_MAX + 1)])),
        ("tags_count_max", to(vec![many_tags])),
        (
            "metadata_count_max",
            to(vec![one().with_all_metadata(metadata(limits::METADATA_COUNT_MAX + 1))]),
        ),
        (
            "metadata_len_max",
            to(vec![one().with_metadata("key", "x".repeat(limits::METADATA_LEN_MAX - 2))]),
        ),
        ("append_len_max", to((0..4).map(|_| large(quarter)).collect())),
        ("append_events_max", to(vec![one(); limits::APPEND_EVENTS_MAX + 1])),
        ("append_streams_max", many_streams),
    ];
    for (limit, append) in table {
        match store.submit(append) {
            Err(Error::LimitExceeded(exceeded)) => {
                assert_eq!(exceeded.limit, limit);
                assert!(exceeded.got > exceeded.max, "{exceeded}");
            }
            other => panic!("{limit} should have been exceeded: {other:?}"),
        }
    }
    assert_eq!(store.head().unwrap(), None);
}

/// Includes appends whose latest time is in the middle, or in another stream.
pub fn time_before_the_head_is_refused(store: &Arc<dyn EventStore>) {
    let at = Timestamp::from_micros;
    let timed = |micros| event("Timed", 0).with_recorded_at(at(micros));
    store.append("a", ExpectedVersion::Any, [timed(10), timed(30)]).unwrap();
    let before = contents(store);
    for given in [-60_000_000_000_000_000, 9, 10, 29] {
        match store.append("b", ExpectedVersion::Any, [timed(given), timed(40)]) {
            Err(Error::RecordedAtBeforeHead { given: said, last }) => {
                assert_eq!((said, last), (at(given), at(30)));
            }
            other => panic!("recorded-at {given} should have been refused: {other:?}"),
        }
    }
    assert_eq!(contents(store), before);
    store.append("b", ExpectedVersion::Any, [timed(30)]).unwrap();
}
