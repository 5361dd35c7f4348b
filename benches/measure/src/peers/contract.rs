//! What each contender must do for its figures to mean anything: return stored events unchanged, by
//! stream and by position, also after a close and a reopen; refuse an append that was decided on an
//! older state; assign positions without gaps to callers on many threads. A baseline must write the
//! bytes that annals writes.

use std::path::Path;
use std::thread;

use annals::__internals::{Frame, Packer};

use crate::peers::contender::{
    Append, Contender, Durability, EVENT_TYPE, Event, Failure, Part, Settings,
};
use crate::peers::contenders::{ALL, Checks, Entry, Place, encode_frames};
use crate::peers::workload::{Caller, Shape, World};

/// All fields of an event that a contender returns.
type Row = (u64, [u8; 16], String, Vec<u8>);

fn open(entry: &Entry, path: &Path, durability: Durability) -> Box<dyn Contender> {
    let (path, cache_bytes, memtable_bytes) = (path.to_owned(), 8 << 20, 8 << 20);
    let settings = Settings { path, durability, cache_bytes, memtable_bytes };
    (entry.open)(&settings).unwrap_or_else(|error| panic!("{}: {error}", entry.name))
}

/// Runs a test on a new store of each selected contender, with each durability that it offers.
fn each(wanted: impl Fn(&Entry) -> bool, test: impl Fn(&Entry, Durability, &Path)) {
    for entry in ALL.iter().filter(|entry| wanted(entry)) {
        for durability in [Durability::Buffered, Durability::Sync] {
            if entry.offers(durability) {
                let directory = tempfile::tempdir().unwrap();
                test(entry, durability, directory.path());
            }
        }
    }
}

fn is_store(entry: &Entry) -> bool {
    entry.checks != Checks::Nothing
}

fn read(contender: &dyn Contender, stream: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut visit = |seen: crate::peers::contender::Seen<'_>| {
        rows.push((seen.position, seen.id, seen.event_type.to_owned(), seen.payload.to_owned()));
    };
    match stream {
        Some(stream) => contender.read_stream(stream, &mut visit),
        None => contender.replay(&mut visit),
    }
    .unwrap();
    rows
}

fn part<'a>(stream: &'a str, expected: u64, payloads: &[&'a [u8]]) -> Part<'a> {
    let event = |payload: &&'a [u8]| Event { id: [payload[0]; 16], payload };
    Part { stream, expected, events: payloads.iter().map(event).collect() }
}

fn append(parts: Vec<Part<'_>>, as_of: u64) -> Append<'_> {
    Append { parts, as_of, is_conditional: true }
}

fn row(position: u64, payload: &[u8]) -> Row {
    (position, [payload[0]; 16], EVENT_TYPE.to_owned(), payload.to_owned())
}

#[test]
fn appended_events_are_read_before_and_after_a_restart() {
    each(is_store, |entry, durability, path| {
        let large = vec![b'x'; 40_000];
        let mut contender = open(entry, path, durability);
        let first = append(vec![part("a", 0, &[b"1", b"2"])], 0);
        let second = append(vec![part("b", 0, &[b"3"]), part("a", 2, &[&large])], 2);
        // Its name has another name as a prefix.
        let third = append(vec![part("a2", 0, &[b"5"])], 4);
        let appended = [&first, &second, &third].map(|append| contender.append(append).unwrap());
        assert_eq!(appended, [2, 4, 5], "{}: the position of the last event", entry.name);
        let (mut a, b) = (vec![row(1, b"1"), row(2, b"2"), row(4, &large)], vec![row(3, b"3")]);
        for is_reopened in [false, true] {
            let at = format!("{} {durability}, reopened: {is_reopened}", entry.name);
            assert_eq!(read(&*contender, Some("a")), a, "{at}");
            assert_eq!(read(&*contender, Some("b")), b, "{at}");
            assert_eq!(read(&*contender, Some("none")), [], "{at}");
            let mut log = [&a[..], &b, &[row(5, b"5")]].concat();
            log.sort();
            assert_eq!(read(&*contender, None), log, "{at}");
            if !is_reopened {
                contender.close().unwrap();
                contender = open(entry, path, durability);
            }
        }
        // It continues at its last position.
        let fourth = append(vec![part("a", 3, &[b"6"])], 5);
        assert_eq!(contender.append(&fourth).unwrap(), 6, "{}", entry.name);
        a.push(row(6, b"6"));
        assert_eq!(read(&*contender, Some("a")), a, "{}", entry.name);
        contender.close().unwrap();
    });
}

#[test]
fn append_decided_on_an_older_state_is_refused() {
    each(is_store, |entry, durability, path| {
        let mut contender = open(entry, path, durability);
        contender.append(&append(vec![part("a", 0, &[b"1"])], 0)).unwrap();
        for is_reopened in [false, true] {
            let mut refused = vec![
                append(vec![part("a", 0, &[b"2"])], 0),
                // The first part is as expected, the second is not.
                append(vec![part("b", 0, &[b"2"]), part("a", 0, &[b"3"])], 0),
            ];
            if entry.checks == Checks::Versions {
                refused.push(append(vec![part("a", 2, &[b"2"])], 1));
            }
            for append in &refused {
                let outcome = contender.append(append);
                assert!(matches!(outcome, Err(Failure::Conflict)), "{}: {outcome:?}", entry.name);
            }
            assert_eq!(read(&*contender, None), [row(1, b"1")], "{} {durability}", entry.name);
            if !is_reopened {
                contender.close().unwrap();
                contender = open(entry, path, durability);
            }
        }
        let position = contender.append(&append(vec![part("a", 1, &[b"2"])], 1)).unwrap();
        assert_eq!(position, 2, "{}: a refused append uses no position", entry.name);
        contender.close().unwrap();
    });
}

#[test]
fn unconditional_append_ignores_the_position_seen() {
    each(is_store, |entry, durability, path| {
        let contender = open(entry, path, durability);
        for (position, payload) in [(1, b"1"), (2, b"2")] {
            let parts = vec![part("a", position - 1, &[payload])];
            let append = Append { parts, as_of: 0, is_conditional: false };
            assert_eq!(contender.append(&append).unwrap(), position, "{}", entry.name);
        }
        let expected = [row(1, b"1"), row(2, b"2")];
        assert_eq!(read(&*contender, Some("a")), expected, "{} {durability}", entry.name);
        contender.close().unwrap();
    });
}

#[test]
fn concurrent_callers_get_positions_without_gaps() {
    const CALLERS: usize = 4;
    const APPENDS: usize = 25;
    let shape = Shape { streams: 2, events: 3 };
    each(is_store, |entry, durability, path| {
        let world = World::new(CALLERS * 5, 100);
        let contender = open(entry, path, durability);
        thread::scope(|scope| {
            for number in 0..CALLERS {
                let (contender, world) = (&*contender, &world);
                scope.spawn(move || {
                    let mut caller = Caller::new(world, number, CALLERS);
                    for _ in 0..APPENDS {
                        let append = caller.choose(shape);
                        let position = contender.append(&append).unwrap();
                        caller.appended(&append, position);
                    }
                });
            }
        });
        let log = read(&*contender, None);
        let positions: Vec<_> = log.iter().map(|row| row.0).collect();
        let count = (CALLERS * APPENDS * shape.len()) as u64;
        assert_eq!(positions, (1..=count).collect::<Vec<_>>(), "{} {durability}", entry.name);
        let mut of_streams: Vec<_> =
            world.names.iter().flat_map(|name| read(&*contender, Some(name))).collect();
        of_streams.sort();
        assert!(of_streams == log, "{} {durability}: streams and log differ", entry.name);
        contender.close().unwrap();
    });
}

#[test]
fn baselines_write_the_same_bytes_as_annals() {
    use annals::prelude::*;
    use annals::{Timestamp, Version};

    const TIME: i64 = 1_700_000_000_000_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let clock = || Timestamp::from_micros(TIME);
    let store = annals::Store::options().clock(clock).open(&path).unwrap();
    let (large, small) = (World::new(300, 1_000), World::new(300, 100));
    let shapes = [(1, 1), (1, 10), (3, 2), (100, 1), (1, 100)];
    let mut expected = Vec::new();
    let mut place = Place { first_position: 1, streams: 0, recorded_at: TIME };
    for (world, number) in [(&small, 0), (&large, 1)] {
        let mut caller = Caller::new(world, number, 2);
        for (streams, events) in shapes {
            let append = caller.choose(Shape { streams, events });
            encode_frames(&append, place, |frame| {
                expected.push((frame.bytes, frame.stream_key));
                Ok(())
            })
            .unwrap();
            let mut built = annals::Append::new();
            for part in &append.parts {
                let known = Version::new(part.expected);
                let version = known.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
                let events = part.events.iter().map(|event| {
                    let built = NewEvent::bytes(EVENT_TYPE, event.payload).unwrap();
                    built.with_id(EventId::from_bytes(event.id))
                });
                built = built.to(part.stream, version, events);
                place.streams += u64::from(known.is_none());
            }
            let appended = store.submit(built).unwrap();
            caller.appended(&append, appended.last_position().get());
            place.first_position = appended.last_position().get() + 1;
        }
    }
    store.close().unwrap();
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), path.join("db")).unwrap();
    let options = rocksdb::Options::default();
    let db =
        rocksdb::DB::open_cf_for_read_only(&options, path.join("db"), families, false).unwrap();
    let rows = |family: &str| {
        let rows = db.iterator_cf(db.cf_handle(family).unwrap(), rocksdb::IteratorMode::Start);
        rows.map(|row| row.unwrap())
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect::<Vec<_>>()
    };
    let mut packs = Vec::new();
    let mut packer = Packer::default();
    let mut streams = Vec::new();
    for (frame, stream_key) in expected {
        let header = Frame::decode(&frame).unwrap().header;
        packs.extend(packer.add(&header, &frame).map(|(key, pack)| (key.to_vec(), pack.to_vec())));
        streams.push((stream_key, frame));
    }
    streams.sort();
    assert!(streams.len() > 200 && packs.len() > 1, "{} {}", streams.len(), packs.len());
    assert_eq!(rows("packs"), packs);
    assert_eq!(rows("streams"), streams);
}
