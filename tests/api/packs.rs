//! The log is the same however it is divided into packs: for readers in both directions, for
//! subscriptions (G7), after every reopen (G10), and while a writer fills packs (G2, G6). `tail`
//! names the frames that are in no pack, and does not grow. An append, with the packs that it fills,
//! is all or nothing (G1).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::prelude::*;
use annals::{EventType, StoreOptions};
use rocksdb::IteratorMode;

use crate::opening::record_types;
use crate::support::files::{contents, copy_at_rest};
use crate::support::random::Random;
use crate::support::{SOON, copy, database, log, memory, place, position, quick};

/// Each frame is a pack; a pack ends within an append or between two; nearly all frames stay in the
/// open pack.
const SIZES: [usize; 3] = [1, 500, 32 << 10];
const APPENDS: usize = 48;
const STREAMS: [&str; 4] = ["a", "a-1", "b-1", "b-2"];

fn sized(pack_bytes: usize) -> StoreOptions {
    quick().pack_bytes(pack_bytes)
}

fn event(len: usize) -> NewEvent {
    NewEvent::new(EventType::new("Happened").unwrap(), vec![7; len])
}

/// Appends of one to four frames, of small and large events.
fn appends(count: usize) -> Vec<Append> {
    let mut random = Random(1);
    let append = |_| {
        let mut append = Append::new();
        for _ in 0..[1, 1, 1, 2, 4][random.below(5)] {
            let events: Vec<_> =
                (0..=random.below(3)).map(|_| event([3, 60, 700][random.below(3)])).collect();
            append = append.to(STREAMS[random.below(4)], ExpectedVersion::Any, events);
        }
        append
    };
    (0..count).map(append).collect()
}

/// What the log must hold after these appends: stream and id of each event.
fn expected(appends: &[Append]) -> Vec<(StreamId, EventId)> {
    let events = appends.iter().flat_map(Append::events);
    events.map(|(stream, event)| (stream.clone(), event.id())).collect()
}

/// Checks the whole log against the appends; returns it.
fn is_log_of(store: &Store, appends: &[Append], told: &str) -> Vec<RecordedEvent> {
    let log = log(store);
    let found: Vec<_> = log.iter().map(|event| (event.stream().clone(), event.id())).collect();
    assert_eq!(found, expected(appends), "{told}");
    let positions = log.iter().map(|event| event.position().get());
    assert!(positions.eq(1..=log.len() as u64), "{told}");
    assert_eq!(store.head().unwrap(), log.last().map(RecordedEvent::position), "{told}");
    let backward: Vec<_> = store.read_log().backward().into_iter().map(Result::unwrap).collect();
    assert!(backward.iter().rev().eq(&log), "{told}");
    log
}

/// Reads from every position, both ways, with small limits, and as of every position.
fn ask_everything(store: &Store, log: &[RecordedEvent], told: &str) {
    for from in 1..=log.len() {
        let told = format!("{told}, position {from}");
        let at = position(from as u64);
        for limit in [1, 2, 5] {
            let read = || store.read_log().from(at).limit(limit as u64);
            let forward: Vec<_> = read().into_iter().map(Result::unwrap).collect();
            assert!(forward.iter().eq(log[from - 1..].iter().take(limit)), "{told}");
            let backward: Vec<_> = read().backward().into_iter().map(Result::unwrap).collect();
            assert!(backward.iter().eq(log[..from].iter().rev().take(limit)), "{told}");
        }
        let then = || store.read_log().as_of_position(at);
        assert_eq!(then().into_iter().count(), from, "{told}");
        assert_eq!(then().last().unwrap().as_ref(), log.get(from - 1), "{told}");
        let time = log[from - 1].recorded_at();
        let last = log.iter().rfind(|event| event.recorded_at() <= time);
        let then = store.read_log().as_of_time(time);
        assert_eq!(then.last().unwrap().as_ref(), last, "{told}");
        let event = &log[from - 1];
        let version = event.version();
        let read = store.read_stream(event.stream()).from(version).first().unwrap();
        assert_eq!(read.as_ref(), Some(event), "{told}");
    }
    let beyond = store.read_log().from(position(log.len() as u64 + 1));
    assert!(beyond.first().unwrap().is_none(), "{told}");
}

/// The keys of a family of a closed store, and the number of bytes in its values.
fn rows(path: &Path, family: &str) -> Vec<(Vec<u8>, usize)> {
    let db = database(path);
    let rows = db.iterator_cf(db.cf_handle(family).unwrap(), IteratorMode::Start);
    rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.len())).unwrap()).collect()
}

#[test]
fn reads_are_the_same_for_every_pack_size() {
    let appends = appends(APPENDS);
    for pack_bytes in SIZES {
        let (_directory, path) = place();
        let told = format!("packs of {pack_bytes} bytes");
        let store = sized(pack_bytes).open(&path).unwrap();
        for append in &appends {
            store.submit(append.clone()).unwrap();
        }
        let log = is_log_of(&store, &appends, &told);
        ask_everything(&store, &log, &told);
        assert!(store.verify(|_| {}).unwrap().is_sound(), "{told}");
        store.close().unwrap();

        let (packs, tail) = (rows(&path, "packs").len(), rows(&path, "tail").len());
        match pack_bytes {
            1 => assert!(packs > APPENDS && tail == 0, "{packs} packs, {tail} rows"),
            500 => assert!(packs > 20 && tail > 0, "{packs} packs, {tail} rows"),
            _ => assert!(packs == 1 && tail > 9, "{packs} packs, {tail} rows"),
        }

        for read_only in [true, false] {
            let store = sized(pack_bytes).read_only(read_only).open(&path).unwrap();
            let told = format!("{told}, read only: {read_only}");
            is_log_of(&store, &appends, &told);
            ask_everything(&store, &log, &told);
            assert!(store.verify(|_| {}).unwrap().is_sound(), "{told}");
        }
    }
}

/// A subscriber sees each event once its append is acknowledged, in whichever pack it is.
#[test]
fn subscription_is_live_across_the_ends_of_packs() {
    let appends = appends(APPENDS);
    for pack_bytes in SIZES {
        let (_directory, path) = place();
        let store = sized(pack_bytes).open(&path).unwrap();
        let mut following = store.subscribe().start().unwrap();
        let mut of_stream = store.subscribe().stream(STREAMS[1]).start().unwrap();
        let next = |following: &mut annals::Subscription| loop {
            match following.recv_timeout(SOON).unwrap() {
                Delivery::Event(event) => return (event.stream().clone(), event.id()),
                Delivery::Ended => panic!("the subscription ended"),
                _ => {}
            }
        };
        for append in &appends {
            store.submit(append.clone()).unwrap();
            for event in expected(std::slice::from_ref(append)) {
                assert_eq!(next(&mut following), event);
                if event.0.as_str() == STREAMS[1] {
                    assert_eq!(next(&mut of_stream), event);
                }
            }
        }
    }
}

/// Each open continues the open pack, with any pack size: after a clean shutdown, and after a kill,
/// of which the copies are the remains.
#[test]
fn log_is_the_same_after_every_reopen() {
    let appends = appends(16);
    for interval in [1, 3] {
        for pack_bytes in [Some(1), Some(500), Some(32 << 10), None] {
            let directory = memory();
            let [path, copied] = ["store", "copied"].map(|name| directory.path().join(name));
            for (index, group) in appends.chunks(interval).enumerate() {
                let pack_bytes = pack_bytes.unwrap_or([32 << 10, 1, 500, 4_000][index % 4]);
                let written = ((index + 1) * interval).min(appends.len());
                let told =
                    format!("{written} appends, {interval} each, packs of {pack_bytes} bytes");
                let store = sized(pack_bytes).open(&path).unwrap();
                is_log_of(&store, &appends[..index * interval], &told);
                for append in group {
                    store.submit(append.clone()).unwrap();
                }
                is_log_of(&store, &appends[..written], &told);
                let first = store.submit(appends[written - 1].clone()).unwrap();
                assert!(first.is_retry(), "{told}");
                if index % 4 == 1 {
                    copy_at_rest(&path, &copied);
                    let killed = sized(pack_bytes).open(&copied).unwrap();
                    is_log_of(&killed, &appends[..written], &told);
                    killed.append("killed", ExpectedVersion::NoStream, [event(9)]).unwrap();
                    assert_eq!(killed.read_log().into_iter().count(), log(&store).len() + 1);
                    assert!(killed.verify(|_| {}).unwrap().is_sound(), "{told}");
                }
                store.close().unwrap();
                let store = sized(pack_bytes).read_only(true).open(&path).unwrap();
                is_log_of(&store, &appends[..written], &told);
                assert!(store.verify(|_| {}).unwrap().is_sound(), "{told}");
            }
        }
    }
}

/// RocksDB keeps or loses a record of its log as a whole.
#[test]
fn append_and_the_packs_that_it_fills_are_one_record() {
    for pack_bytes in SIZES {
        let (_directory, path) = place();
        let store = sized(pack_bytes).open(&path).unwrap();
        let records = || -> usize {
            let files = contents(&path.join("db")).unwrap().into_iter();
            let logs = files.filter(|(name, _)| name.extension().is_some_and(|e| e == "log"));
            logs.map(|(_, bytes)| record_types(&bytes).len()).sum()
        };
        for (stream, count) in [("a", 1), ("b", 1), ("c", 3), ("d", 1)] {
            let before = records();
            let mut append = Append::new();
            for number in 0..count {
                let stream = format!("{stream}-{number}");
                append = append.to(stream, ExpectedVersion::NoStream, [event(300), event(9)]);
            }
            store.submit(append).unwrap();
            assert_eq!(records(), before + 1, "{stream}, packs of {pack_bytes} bytes");
        }
    }
}

/// The rows of `tail` are numbered from 0 in each open pack, so a long log does not add rows.
#[test]
fn tail_has_no_more_rows_than_one_open_pack_needs() {
    let (_directory, path) = place();
    for _ in 0..3 {
        let store = sized(2_000).open(&path).unwrap();
        for _ in 0..200 {
            store.append("a-1", ExpectedVersion::Any, [event(60)]).unwrap();
        }
        store.close().unwrap();
    }
    let (packs, tail) = (rows(&path, "packs"), rows(&path, "tail"));
    assert!(packs.len() > 30, "{} packs", packs.len());
    // A frame has at least 100 bytes, and the frame that fills a pack needs no row.
    assert!((1..20).contains(&tail.len()), "{} rows", tail.len());
    let numbers = tail.iter().map(|(key, _)| key.clone());
    assert!(numbers.eq((0..tail.len()).map(|row| u32::try_from(row).unwrap().to_be_bytes())));
    // A pack ends with the frame that brings it to the size.
    assert!(packs.iter().all(|(_, len)| (2_000..2_300).contains(len)), "{packs:?}");
}

/// A missing row, a row of the wrong open pack after a stale one, and a row that does not continue
/// the log are damage.
#[test]
fn tail_with_a_gap_or_a_row_after_a_stale_one_does_not_open() {
    let (directory, path) = place();
    let store = sized(1_000).open(&path).unwrap();
    // Four frames of 250 bytes or more are a pack. The second pack leaves a stale row 2.
    for number in 0..6 {
        store.append(format!("s-{number}"), ExpectedVersion::NoStream, [event(200)]).unwrap();
    }
    store.close().unwrap();
    let tail = rows(&path, "tail");
    assert_eq!((rows(&path, "packs").len(), tail.len()), (1, 3));
    // Copies a row under another number, or deletes it.
    let open_with = |changes: &[(u32, Option<u32>)]| {
        let damaged = directory.path().join("damaged");
        let _ = std::fs::remove_dir_all(&damaged);
        copy(&path, &damaged);
        let db = database(&damaged);
        let tail = db.cf_handle("tail").unwrap();
        for (from, to) in changes {
            let row = db.get_cf(tail, from.to_be_bytes()).unwrap().unwrap();
            match to {
                Some(to) => db.put_cf(tail, to.to_be_bytes(), row).unwrap(),
                None => db.delete_cf(tail, from.to_be_bytes()).unwrap(),
            }
        }
        drop(db);
        quick().read_only(true).open(&damaged).map(|store| store.head().unwrap())
    };
    // A stale row has no meaning, and may be anywhere after the others.
    for changes in [&[][..], &[(2, None)], &[(2, Some(9))]] {
        assert_eq!(open_with(changes).unwrap(), Some(position(6)), "{changes:?}");
    }
    for (what, changes) in [
        ("the first row is missing", &[(0, None)][..]),
        ("the first row is stale", &[(2, Some(0))]),
        ("the first row is there twice", &[(0, Some(1))]),
        ("the last row is there twice", &[(1, Some(2))]),
        ("a row has a later number", &[(1, Some(3)), (1, None), (2, None)]),
        ("a row follows a stale one", &[(1, Some(3)), (1, None)]),
    ] {
        let opened = open_with(changes);
        assert!(opened.as_ref().is_err_and(annals::Error::is_corruption), "{what}: {opened:?}");
    }
}

/// While writers fill packs, each read is a gapless part of the log up to the head, from any
/// position and in both directions.
#[test]
fn concurrent_readers_see_no_gap_at_the_end_of_a_pack() {
    const WRITERS: usize = 3;
    const EACH: usize = 400;
    for pack_bytes in [1, 500, 4_000] {
        let (_directory, path) = place();
        let store = sized(pack_bytes).open(&path).unwrap();
        store.append("first", ExpectedVersion::NoStream, [event(9)]).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for backward in [false, true] {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let mut random = Random(pack_bytes as u64);
                    while !done.load(Ordering::SeqCst) {
                        read_near_the_head(store, backward, &mut random);
                    }
                });
            }
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let store = &store;
                    scope.spawn(move || {
                        for number in 0..EACH {
                            let stream = format!("writer-{writer}");
                            let given = vec![event([9, 200, 900][number % 3]); 1 + number % 2];
                            let given = given.into_iter().map(|e| e.with_id(EventId::random()));
                            store.append(stream, ExpectedVersion::Any, given).unwrap();
                        }
                    })
                })
                .collect();
            let written: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::SeqCst);
            assert!(written.iter().all(Result::is_ok));
        });
        assert!(store.verify(|_| {}).unwrap().is_sound());
        let whole = log(&store);
        store.close().unwrap();
        assert_eq!(log(&sized(pack_bytes).open(&path).unwrap()), whole);
    }
}

/// Reads a few events around a random position near the head, or all up to it.
fn read_near_the_head(store: &Store, backward: bool, random: &mut Random) {
    let head = store.head().unwrap().unwrap().get();
    let from = head - random.next() % head.min(40);
    let read = store.read_log().from(position(from));
    let mut next = from;
    if backward {
        for event in read.backward().limit(60) {
            assert_eq!(event.unwrap().position().get(), next, "from {from}, head {head}");
            next -= 1;
        }
        assert_eq!(next, from.saturating_sub(60), "from {from}, head {head}");
    } else {
        for event in read {
            assert_eq!(event.unwrap().position().get(), next, "from {from}, head {head}");
            next += 1;
        }
        assert!(next > head, "from {from}, head {head}: the read ended before {next}");
    }
}
