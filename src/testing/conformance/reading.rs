//! Rules for reads: compares every combination of options with a plain filter over the appended
//! events.

use std::sync::Arc;

use super::{event, events, log, position, version};
use crate::error::Error;
use crate::event_store::{Append, EventStore, Query, QueryItem, StreamInfo, StreamsRequest};
use crate::extension::EventStoreExt;
use crate::model::{
    EventId, ExpectedVersion, NewEvent, Position, RecordedEvent, StreamId, Timestamp, Version,
};

/// Ids that are prefixes of each other, or sort around each other's separators.
pub(super) const STREAMS: [&str; 8] = ["a", "a-1", "a-10", "a b", "ab", "b-1", "ä-1", "日本-1"];
const TYPES: [&str; 3] = ["Opened", "Changed", "Closed"];

/// Appends one to five events at a time to one or two streams, some of them at the same time.
/// Returns the expected log.
pub(super) fn history(store: &Arc<dyn EventStore>) -> Vec<RecordedEvent> {
    let mut number = 0;
    let mut expected: Vec<(EventId, &str, u64)> = Vec::new();
    let mut versions = [0_u64; STREAMS.len()];
    for round in 0..24_usize {
        let mut append = Append::new();
        for part in 0..=round % 2 {
            let which = (round * 5 + part * 3) % STREAMS.len();
            let run: Vec<NewEvent> = (0..=(round + part) % 5)
                .map(|_| {
                    number += 1;
                    let time = i64::try_from(number / 3).unwrap() * 10;
                    event(TYPES[number % 3], number).with_recorded_at(Timestamp::from_micros(time))
                })
                .collect();
            for event in &run {
                versions[which] += 1;
                expected.push((event.id(), STREAMS[which], versions[which]));
            }
            append = append.to(STREAMS[which], ExpectedVersion::Any, run);
        }
        store.submit(append).unwrap();
    }
    let log = log(store);
    let places =
        log.iter().map(|event| (event.id(), event.stream().as_str(), event.version().get()));
    assert!(places.eq(expected), "the log differs from the appended events");
    assert!(log.iter().map(|event| event.position().get()).eq(1..=expected_len(&log)));
    log
}

fn expected_len(log: &[RecordedEvent]) -> u64 {
    u64::try_from(log.len()).unwrap()
}

/// Compares reads of any start, direction and limit with the events of the range in order.
fn expect(
    events: &[RecordedEvent],
    place: impl Fn(&RecordedEvent) -> u64,
    start: Start,
    backward: bool,
    limit: Option<u64>,
) -> Vec<RecordedEvent> {
    let mut wanted: Vec<_> = events
        .iter()
        .filter(|event| match (start, backward) {
            (Start::None, _) => true,
            (Start::From(from), false) => place(event) >= from,
            (Start::From(from), true) => place(event) <= from,
            (Start::After(after), false) => place(event) > after,
            (Start::After(after), true) => place(event) < after,
        })
        .cloned()
        .collect();
    if backward {
        wanted.reverse();
    }
    wanted.truncate(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()));
    wanted
}

#[derive(Debug, Clone, Copy)]
enum Start {
    None,
    From(u64),
    After(u64),
}

fn starts(last: u64) -> impl Iterator<Item = Start> {
    let places = (1..=last + 2).chain([u64::MAX]);
    std::iter::once(Start::None)
        .chain(places.flat_map(|place| [Start::From(place), Start::After(place)]))
}

const LIMITS: [Option<u64>; 4] = [None, Some(0), Some(1), Some(7)];

macro_rules! with_options {
    ($read:expr, $place:ident, $start:expr, $backward:expr, $limit:expr) => {{
        let mut read = $read;
        match $start {
            Start::None => {}
            Start::From(place) => read = read.from($place::new(place).unwrap()),
            Start::After(place) => read = read.after($place::new(place)),
        }
        if $backward {
            read = read.backward();
        }
        if let Some(limit) = $limit {
            read = read.limit(limit);
        }
        read
    }};
}

fn collect(events: impl Iterator<Item = Result<RecordedEvent, Error>>) -> Vec<RecordedEvent> {
    events.collect::<Result<_, _>>().unwrap()
}

/// Every read and query of an empty store is empty.
pub fn empty_store_reads_as_empty(store: &Arc<dyn EventStore>) {
    assert_eq!(store.head().unwrap(), None);
    assert_eq!(store.stream_version(&StreamId::new("a").unwrap()).unwrap(), None);
    assert_eq!(store.streams().into_iter().count(), 0);
    assert_eq!(store.position_at(Timestamp::from_micros(i64::MAX)).unwrap(), None);
    for backward in [false, true] {
        for start in starts(2) {
            let read = with_options!(store.read_log(), Position, start, backward, None);
            assert_eq!((read.clone().into_iter().count(), read.clone().last().unwrap()), (0, None));
            let now = Timestamp::from_micros(0);
            assert_eq!(read.as_of_time(now).first().unwrap(), None);
            let read = with_options!(store.read_stream("a"), Version, start, backward, None);
            assert_eq!((read.clone().into_iter().count(), read.last().unwrap()), (0, None));
        }
    }
}

/// Checks every start, both directions, limits and queries.
pub fn log_read_follows_its_options(store: &Arc<dyn EventStore>) {
    let log = history(store);
    let queries = [
        Query::Everything,
        Query::types(["Closed"]),
        Query::category("a"),
        QueryItem::new().category("日本").category("b").types(["Closed"]).into(),
        QueryItem::new().stream_prefix("a").category("a").into(),
        QueryItem::new().stream_prefix("ä").stream_prefix("a ").into(),
        Query::category("nobody"),
        Query::stream_prefix("nobody"),
    ];
    let wanted: [fn(&RecordedEvent) -> bool; 8] = [
        |_| true,
        |event| event.event_type().as_str() == "Closed",
        |event| ["a", "a-1", "a-10"].contains(&event.stream().as_str()),
        |event| {
            ["日本-1", "b-1"].contains(&event.stream().as_str())
                && event.event_type().as_str() == "Closed"
        },
        |event| ["a", "a-1", "a-10"].contains(&event.stream().as_str()),
        |event| ["ä-1", "a b"].contains(&event.stream().as_str()),
        |_| false,
        |_| false,
    ];
    for (query, wanted) in queries.iter().zip(wanted) {
        let matching: Vec<_> = log.iter().filter(|event| wanted(event)).cloned().collect();
        for backward in [false, true] {
            for start in starts(expected_len(&log)) {
                for limit in LIMITS {
                    let read = store.read_log().query(query.clone());
                    let read = with_options!(read, Position, start, backward, limit);
                    let expected =
                        expect(&matching, |event| event.position().get(), start, backward, limit);
                    assert_eq!(
                        collect(read.into_iter()),
                        expected,
                        "{start:?} {backward} {limit:?} {query:?}"
                    );
                }
                let read = store.read_log().query(query.clone());
                let read = with_options!(read, Position, start, backward, None);
                let all = expect(&matching, |event| event.position().get(), start, backward, None);
                assert_eq!(read.clone().first().unwrap().as_ref(), all.first());
                assert_eq!(read.clone().last().unwrap().as_ref(), all.last());
                let mut visited = Vec::new();
                read.for_each(|event| {
                    visited.push(event.to_owned());
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
                assert_eq!(visited, all, "the visitor sees the iterator's events");
            }
        }
    }
}

/// Includes ids that are prefixes of others: a naive prefix scan would return those streams too.
pub fn stream_read_follows_its_options_and_sees_one_stream(store: &Arc<dyn EventStore>) {
    let log = history(store);
    for name in STREAMS.into_iter().chain(["a-", "A", "b", "nobody"]) {
        let events: Vec<_> =
            log.iter().filter(|event| event.stream().as_str() == name).cloned().collect();
        let id = StreamId::new(name).unwrap();
        assert_eq!(store.stream_version(&id).unwrap(), events.last().map(RecordedEvent::version));
        let place = |event: &RecordedEvent| event.version().get();
        for backward in [false, true] {
            for start in starts(expected_len(&events)) {
                for limit in LIMITS {
                    let read =
                        with_options!(store.read_stream(&id), Version, start, backward, limit);
                    let expected = expect(&events, place, start, backward, limit);
                    assert_eq!(
                        collect(read.into_iter()),
                        expected,
                        "{name} {start:?} {backward} {limit:?}"
                    );
                }
                let read = with_options!(store.read_stream(&id), Version, start, backward, None);
                let read = read.types(["Changed", "Opened"]);
                let mut expected = expect(&events, place, start, backward, None);
                expected.retain(|event| event.event_type().as_str() != "Closed");
                assert_eq!(read.clone().first().unwrap().as_ref(), expected.first());
                assert_eq!(read.clone().last().unwrap().as_ref(), expected.last());
                assert_eq!(collect(read.into_iter()), expected);
            }
        }
    }
}

/// A read as of the past returns what the log held then, in both directions. If several bounds are
/// given, the narrowest applies.
pub fn read_as_of_position_version_or_time_returns_the_past(store: &Arc<dyn EventStore>) {
    let log = history(store);
    let count = expected_len(&log);
    for backward in [false, true] {
        let ordered = |mut events: Vec<RecordedEvent>| {
            if backward {
                events.reverse();
            }
            events
        };
        for bound in (1..=count + 1).chain([u64::MAX]) {
            let then = |keep: &dyn Fn(&RecordedEvent) -> bool| {
                ordered(log.iter().filter(|event| keep(event)).cloned().collect())
            };
            let read = store.read_log().as_of_position(position(bound));
            let read = if backward { read.backward() } else { read };
            assert_eq!(collect(read.into_iter()), then(&|event| event.position().get() <= bound));
            for name in STREAMS {
                let read = store.read_stream(name).as_of_position(position(bound));
                let read = if backward { read.backward() } else { read };
                let of = |event: &RecordedEvent| event.stream().as_str() == name;
                let expected = then(&|event| of(event) && event.position().get() <= bound);
                assert_eq!(read.clone().last().unwrap().as_ref(), expected.last());
                assert_eq!(collect(read.into_iter()), expected, "{name} as of {bound}");
                let read = store.read_stream(name).as_of_version(version(bound));
                let read = if backward { read.backward() } else { read };
                let narrow = read.clone().as_of_position(position(20)).into_iter();
                let expected = then(&|event| of(event) && event.version().get() <= bound);
                assert_eq!(collect(read.into_iter()), expected, "{name} as of version {bound}");
                let narrowed = expected.into_iter().filter(|event| event.position().get() <= 20);
                assert_eq!(collect(narrow), narrowed.collect::<Vec<_>>());
            }
        }
        let last = log.last().unwrap().recorded_at().as_micros();
        for micros in (-1..=last + 1).step_by(3).chain([i64::MIN, i64::MAX, last]) {
            let time = Timestamp::from_micros(micros);
            let in_time = log.iter().filter(|event| event.recorded_at() <= time);
            let expected = ordered(in_time.cloned().collect());
            let read = store.read_log().as_of_time(time);
            let read = if backward { read.backward() } else { read };
            assert_eq!(collect(read.into_iter()), expected, "as of {micros}");
            let read = store.read_stream("a-1").as_of_time(time);
            let read = if backward { read.backward() } else { read };
            let expected = expected.into_iter().filter(|event| event.stream().as_str() == "a-1");
            assert_eq!(collect(read.into_iter()), expected.collect::<Vec<_>>());
        }
    }
}

/// The position is that of the last event recorded at or before the time, even if many events have
/// the same time.
pub fn position_is_found_by_time(store: &Arc<dyn EventStore>) {
    let log = history(store);
    let last = log.last().unwrap().recorded_at().as_micros();
    for micros in (-1..=last + 1).chain([i64::MIN, i64::MAX]) {
        let time = Timestamp::from_micros(micros);
        let expected = log.iter().rfind(|event| event.recorded_at() <= time);
        assert_eq!(store.position_at(time).unwrap(), expected.map(RecordedEvent::position));
    }
}

/// G6: a read covers the log up to the head at its creation, regardless of how long the iterator
/// lives.
pub fn read_ends_at_the_head_of_its_creation(store: &Arc<dyn EventStore>) {
    store.append("a", ExpectedVersion::Any, events(2_000)).unwrap();
    let log_before = log(store);
    let mut forward = store.read_log().into_iter();
    let mut backward = store.read_stream("a").backward().into_iter();
    let (first, last) = (forward.next().unwrap().unwrap(), backward.next().unwrap().unwrap());
    assert_eq!((&first, &last), (&log_before[0], &log_before[1_999]));
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    store.append("b", ExpectedVersion::Any, events(3)).unwrap();
    let rest = std::thread::spawn(move || (collect(forward), collect(backward))).join().unwrap();
    assert_eq!(rest.0, log_before[1..]);
    assert!(rest.1.iter().eq(log_before[..1_999].iter().rev()));
    assert_eq!(log(store).len(), 2_006);
}

/// The read must not look empty instead.
pub fn invalid_read_yields_only_its_error(store: &Arc<dyn EventStore>) {
    store.append("a", ExpectedVersion::Any, events(2)).unwrap();
    let bad = [
        store.read_stream("$mine").into_iter(),
        store.read_stream("").backward().into_iter(),
        store.read_stream("a").types([""]).into_iter(),
        store.read_log().category("a-1").into_iter(),
    ];
    for mut events in bad {
        assert!(matches!(events.next(), Some(Err(Error::InvalidArgument(_)))));
        assert!(events.next().is_none());
    }
    assert!(matches!(store.read_log().types(["\n"]).first(), Err(Error::InvalidArgument(_))));
    assert!(matches!(store.read_stream("$mine").last(), Err(Error::InvalidArgument(_))));
}

/// Lists by prefix and after an id, in pages of any size, with the version of each stream.
pub fn streams_are_listed_by_prefix_in_id_order(store: &Arc<dyn EventStore>) {
    let log = history(store);
    let mut all: Vec<StreamInfo> = Vec::new();
    for name in STREAMS {
        let version = log.iter().rfind(|event| event.stream().as_str() == name).unwrap().version();
        all.push(StreamInfo { id: StreamId::new(name).unwrap(), version });
    }
    all.sort_by(|a, b| a.id.as_str().as_bytes().cmp(b.id.as_str().as_bytes()));
    let afters =
        STREAMS.into_iter().chain(["a-", "0", "z", "語"]).map(|id| StreamId::new(id).unwrap());
    let afters: Vec<_> = std::iter::once(None).chain(afters.map(Some)).collect();
    for prefix in
        ["", "a", "a-", "a-1", "a-10", "a ", "ab", "b", "ä", "日", "日本-1", "zzz", "a-100"]
    {
        for after in &afters {
            let expected: Vec<_> = all
                .iter()
                .filter(|info| info.id.as_str().starts_with(prefix))
                .filter(|info| after.as_ref().is_none_or(|after| info.id > *after))
                .cloned()
                .collect();
            let listed = store.streams().prefix(prefix).after(after.clone()).into_iter();
            assert_eq!(
                listed.collect::<Result<Vec<_>, _>>().unwrap(),
                expected,
                "{prefix:?} {after:?}"
            );
            for streams_max in [0, 1, 3] {
                let (prefix, after) = (prefix.to_owned(), after.clone());
                let request = StreamsRequest { prefix, after, streams_max };
                let some: Vec<_> = expected.iter().take(streams_max).cloned().collect();
                assert_eq!(store.list_streams(&request).unwrap(), some, "{request:?}");
            }
        }
    }
    // More streams than a page holds.
    for number in 0..700 {
        store.append(format!("many-{number:03}"), ExpectedVersion::NoStream, events(1)).unwrap();
    }
    let listed =
        store.streams().prefix("many-").into_iter().map(|info| info.unwrap().id.to_string());
    assert!(listed.eq((0..700).map(|number| format!("many-{number:03}"))));
}
