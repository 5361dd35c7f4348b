//! Filters and iterator bounds keep streams separate. For any stream ids, with frames in memtables,
//! in table files or in both, a read of a stream returns all of its events and no others, a stream
//! that was never written does not exist, and reads across streams miss no event (G3, G8).

use std::collections::BTreeMap;

use annals::prelude::*;
use annals::{Durability, Error, StoreOptions, Version};

use crate::support::{events, log, place};

/// Some ids are prefixes of others. The ids in `NEVER` sort between them and are never written.
const STREAMS: [&str; 8] = ["a", "a-", "a-1", "a-10", "a-1x", "a0", "aa", "b"];
const NEVER: [&str; 7] = ["A", "a-0", "a-100", "a-2", "a-1x0", "aa-", "c"];

type Expected = BTreeMap<&'static str, Vec<EventId>>;

fn id(stream: &str) -> StreamId {
    StreamId::new(stream).unwrap()
}

/// Appends to some of the streams, selected by `number`.
fn append(store: &Store, expected: &mut Expected, number: usize) {
    for (index, stream) in STREAMS.into_iter().enumerate() {
        if !(number + index).is_multiple_of(3) {
            let new = events(1 + (number + index) % 4);
            expected.entry(stream).or_default().extend(new.iter().map(NewEvent::id));
            store.append(stream, ExpectedVersion::Any, new).unwrap();
        }
    }
}

fn check(store: &Store, expected: &Expected, what: &str) {
    let ids = |read: annals::ReadStream| -> Vec<EventId> {
        read.into_iter().map(|event| event.unwrap().id()).collect()
    };
    for (stream, expected) in expected {
        let tip = u64::try_from(expected.len()).unwrap();
        assert_eq!(
            store.stream_version(&id(stream)).unwrap().map(Version::get),
            Some(tip),
            "{what}: {stream}"
        );
        assert_eq!(ids(store.read_stream(*stream)), *expected, "{what}: {stream}");
        let backward: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(ids(store.read_stream(*stream).backward()), backward, "{what}: {stream}");
        for from in 1..=tip {
            let from = Version::new(from).unwrap();
            let rest = &expected[usize::try_from(from.get() - 1).unwrap()..];
            assert_eq!(ids(store.read_stream(*stream).from(from)), rest, "{what}: {stream}@{from}");
        }
        let beyond = Version::new(tip + 1).unwrap();
        assert!(ids(store.read_stream(*stream).from(beyond)).is_empty(), "{what}: {stream}");
        assert!(ids(store.read_stream(*stream).from(Version::MAX)).is_empty(), "{what}: {stream}");
        // The end of the stored stream decides, not the version cache.
        let refused = store.append(*stream, ExpectedVersion::NoStream, events(1)).unwrap_err();
        assert!(matches!(refused, Error::WrongExpectedVersion { .. }), "{what}: {refused}");
    }
    for stream in NEVER {
        assert_eq!(store.stream_version(&id(stream)).unwrap(), None, "{what}: {stream}");
        assert!(ids(store.read_stream(stream)).is_empty(), "{what}: {stream}");
        assert!(ids(store.read_stream(stream).backward()).is_empty(), "{what}: {stream}");
    }
    let listed: Vec<_> =
        store.streams().into_iter().map(|info| info.unwrap().id.to_string()).collect();
    assert!(listed.iter().eq(expected.keys()), "{what}: {listed:?}");
    let all: usize = expected.values().map(Vec::len).sum();
    assert_eq!(log(store).len(), all, "{what}");
    assert!(store.verify(|_| {}).unwrap().is_sound(), "{what}");
}

fn apart(options: &StoreOptions) {
    let (_directory, path) = place();
    let mut expected = Expected::new();
    for number in 0..12 {
        let store = options.clone().open(&path).unwrap();
        check(&store, &expected, "in tables");
        append(&store, &mut expected, number);
        check(&store, &expected, "in both");
        if number == 0 {
            append(&store, &mut expected, number);
            check(&store, &expected, "in memtables");
        }
        store.close().unwrap();
    }
}

#[test]
fn stream_is_isolated_in_memtables_and_tables() {
    apart(&Store::options().durability(Durability::Buffered));
}

/// Every few appends write a table, and tables are compacted.
#[test]
fn stream_is_isolated_with_small_memtables_and_no_cache() {
    let small =
        Store::options().memtable_bytes(1).version_cache_streams(1).block_cache_bytes(1 << 16);
    apart(&small.durability(Durability::Buffered));
}
