//! Damaged bytes are reported at their place, never returned and never skipped (G8). Damages every
//! frame of a stream in every way, and runs every query.

use std::path::Path;

use annals::Error;
use annals::prelude::*;

use crate::support::{copy, database, events, log, place, position, quick, version};

/// Events in each frame, and frames of the stream that is damaged.
const FRAME: u64 = 3;
const FRAMES: u64 = 5;
const STREAM: &str = "a-1";
/// A size that each frame exceeds, so that each is a pack.
const EACH: usize = 1;

/// How a frame can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Deleted,
    BitFlipped,
    CutShort,
    Emptied,
    /// The right bytes of another frame.
    Swapped,
}

const DAMAGES: [Damage; 5] =
    [Damage::Deleted, Damage::BitFlipped, Damage::CutShort, Damage::Emptied, Damage::Swapped];

/// Writes the frames of three streams in turn; each id is a prefix of the next one. The last frame
/// of the log belongs to none of the three.
fn build(path: &Path, pack_bytes: usize) -> Vec<RecordedEvent> {
    let store = quick().pack_bytes(pack_bytes).open(path).unwrap();
    for _ in 0..FRAMES {
        for stream in ["a", STREAM, "a-10"] {
            store
                .append(stream, ExpectedVersion::Any, events(usize::try_from(FRAME).unwrap()))
                .unwrap();
        }
    }
    store.append("z", ExpectedVersion::Any, events(1)).unwrap();
    let log = log(&store);
    store.close().unwrap();
    log
}

fn stream_key(stream: &str, first: u64) -> Vec<u8> {
    [stream.as_bytes(), &[0], &first.to_be_bytes()].concat()
}

fn edit(path: &Path, family: &str, key: &[u8], damage: Damage, other: &[u8]) {
    let db = database(path);
    let family = db.cf_handle(family).unwrap();
    let mut bytes = db.get_cf(family, key).unwrap().unwrap();
    match damage {
        Damage::Deleted => return db.delete_cf(family, key).unwrap(),
        Damage::BitFlipped => {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        Damage::CutShort => bytes.truncate(bytes.len() - 1),
        Damage::Emptied => bytes.clear(),
        Damage::Swapped => bytes = db.get_cf(family, other).unwrap().unwrap(),
    }
    db.put_cf(family, key, bytes).unwrap();
}

/// Reads the events up to the first error, and that error.
fn read(
    events: impl Iterator<Item = Result<RecordedEvent, Error>>,
) -> (Vec<RecordedEvent>, Option<Error>) {
    let (mut read, mut error) = (Vec::new(), None);
    for event in events {
        assert!(error.is_none(), "the read continued after {error:?}");
        match event {
            Ok(event) => read.push(event),
            Err(met) => error = Some(met),
        }
    }
    (read, error)
}

/// Checks that a read returns the right answer, or its beginning up to the damage and then an error
/// that names the place.
fn check_answer(
    (read, error): (Vec<RecordedEvent>, Option<Error>),
    expected: &[RecordedEvent],
    place: &str,
    told: &str,
) {
    match error {
        None => assert_eq!(read, expected, "{told}"),
        Some(Error::Corruption { location, .. }) => {
            let said = location.to_string();
            assert!(said.contains(place), "{told}: damage in {place} was reported in {said}");
            assert!(expected.starts_with(&read), "{told}");
        }
        Some(error) => panic!("{told}: {error}"),
    }
}

/// Reads every range, both ways, with small limits. A read fails exactly if its answer contains a
/// damaged event.
fn ask_everything(
    store: &Store,
    whole: &[RecordedEvent],
    hole: std::ops::RangeInclusive<u64>,
    by_stream: bool,
    told: &str,
) {
    let place = if by_stream { "family streams" } else { "the log" };
    for backward in [false, true] {
        for from in 1..=whole.len() + 1 {
            let at = from as u64;
            for limit in [1, 2, 4, usize::MAX] {
                let mut expected: Vec<_> = if backward {
                    whole[..from.min(whole.len())].iter().rev().cloned().collect()
                } else {
                    whole[from - 1..].to_vec()
                };
                expected.truncate(limit);
                let limit = limit as u64;
                let outcome = if by_stream {
                    let events = store.read_stream(STREAM).from(version(at)).limit(limit);
                    read(if backward { events.backward().into_iter() } else { events.into_iter() })
                } else {
                    let events = store.read_log().from(position(at)).limit(limit);
                    read(if backward { events.backward().into_iter() } else { events.into_iter() })
                };
                let place_of = |event: &RecordedEvent| {
                    if by_stream { event.version().get() } else { event.position().get() }
                };
                let is_hit = expected.iter().any(|event| hole.contains(&place_of(event)));
                let told = format!("{told}: from {from}, backward {backward}, limit {limit}");
                // The end of a stream is unknown if its last frame cannot be read.
                let is_beyond = from > whole.len() && *hole.end() == whole.len() as u64;
                assert!(is_beyond || outcome.1.is_some() == is_hit, "{told}: {:?}", outcome.1);
                check_answer(outcome, &expected, place, &told);
            }
        }
    }
}

/// Reads as of the past search for their end over frames: the search must end, and must not step
/// over a hole.
fn ask_for_the_past(store: &Store, whole: &[RecordedEvent], told: &str) {
    for up_to in 1..=FRAMES * FRAME * 3 + 1 {
        let expected: Vec<_> =
            whole.iter().filter(|event| event.position().get() <= up_to).cloned().collect();
        let then = || store.read_stream(STREAM).as_of_position(position(up_to));
        let told = format!("{told}: as of {up_to}");
        check_answer(read(then().into_iter()), &expected, "family streams", &told);
        let backward: Vec<_> = expected.iter().rev().cloned().collect();
        check_answer(read(then().backward().into_iter()), &backward, "family streams", &told);
    }
    for last in 1..=whole.len() {
        let then = || store.read_stream(STREAM).as_of_version(version(last as u64));
        let expected = &whole[..last];
        check_answer(read(then().into_iter()), expected, "family streams", told);
        let backward: Vec<_> = expected.iter().rev().cloned().collect();
        check_answer(read(then().backward().into_iter()), &backward, "family streams", told);
    }
}

/// Damages the family `streams`. If a stream has lost its very last frame, a reader of that stream
/// alone sees a shorter stream; verify reads both families and finds the loss.
#[test]
fn damaged_stream_frame_fails_exactly_the_reads_of_its_range() {
    let (directory, path) = place();
    let all = build(&path, EACH);
    let whole: Vec<_> = all.iter().filter(|e| e.stream().as_str() == STREAM).cloned().collect();
    for damage in DAMAGES {
        for frame in 0..FRAMES {
            if damage == Damage::Deleted && frame == FRAMES - 1 {
                continue;
            }
            let told = format!("{damage:?} frame {frame}");
            let damaged = directory.path().join(&told);
            copy(&path, &damaged);
            let first = 1 + frame * FRAME;
            let other = stream_key(STREAM, 1 + (frame + 1) % FRAMES * FRAME);
            edit(&damaged, "streams", &stream_key(STREAM, first), damage, &other);
            let store = quick().open(&damaged).unwrap();
            ask_everything(&store, &whole, first..=first + FRAME - 1, true, &told);
            ask_for_the_past(&store, &whole, &told);
            assert_eq!(log(&store), all, "{told}: the log itself is whole");
            let tip = store.stream_version(&StreamId::new(STREAM).unwrap());
            if frame == FRAMES - 1 {
                assert!(matches!(tip, Err(Error::Corruption { .. })), "{told}: {tip:?}");
                let append = store.append(STREAM, ExpectedVersion::Any, events(1));
                assert!(append.unwrap_err().is_corruption(), "{told}");
                let streams: Result<Vec<_>, _> = store.streams().into_iter().collect();
                assert!(streams.unwrap_err().is_corruption(), "{told}");
            } else {
                assert_eq!(tip.unwrap(), Some(version(FRAMES * FRAME)), "{told}");
            }
        }
    }
}

/// Damages packs in the middle of the log and at its beginning.
#[test]
fn damaged_log_frame_fails_exactly_the_reads_of_its_range() {
    let (directory, path) = place();
    let all = build(&path, EACH);
    for damage in DAMAGES {
        for frame in [0, 1, 7, FRAMES * 3 - 1] {
            let told = format!("{damage:?} frame {frame}");
            let damaged = directory.path().join(&told);
            copy(&path, &damaged);
            let first = 1 + frame * FRAME;
            let last = (first + FRAME - 1).to_be_bytes();
            let other = ((1 + (frame + 1) % (FRAMES * 3)) * FRAME).to_be_bytes();
            edit(&damaged, "packs", &last, damage, &other);
            let store = quick().open(&damaged).unwrap();
            ask_everything(&store, &all, first..=first + FRAME - 1, false, &told);
            let whole: Vec<_> = store.read_stream(STREAM).into_iter().map(Result::unwrap).collect();
            assert_eq!(whole.len() as u64, FRAMES * FRAME, "{told}: the stream itself is whole");

            let mut following = store.subscribe().start().unwrap();
            for number in 1..first {
                let delivery = following.recv().unwrap();
                assert!(matches!(delivery, Delivery::Event(e) if e.position().get() == number));
            }
            assert!(following.recv().unwrap_err().is_corruption(), "{told}");
            assert_eq!(following.recv().unwrap(), Delivery::Ended);
        }
    }
}

/// The last frame determines the head: a store that lost it or cannot read it does not open. So does
/// a store that cannot read a frame of the open pack, or its row.
#[test]
fn store_with_a_damaged_end_does_not_open() {
    let (directory, path) = place();
    for (pack_bytes, family, key, other) in [
        (EACH, "packs", 46_u64.to_be_bytes().to_vec(), 45_u64.to_be_bytes().to_vec()),
        (EACH, "streams", stream_key("z", 1), stream_key("a", 1)),
        (usize::MAX, "tail", 15_u32.to_be_bytes().to_vec(), 14_u32.to_be_bytes().to_vec()),
        (usize::MAX, "tail", 0_u32.to_be_bytes().to_vec(), 1_u32.to_be_bytes().to_vec()),
        (usize::MAX, "streams", stream_key("z", 1), stream_key("a", 1)),
        (usize::MAX, "streams", stream_key("a", 4), stream_key("a", 1)),
    ] {
        let whole = path.with_extension(pack_bytes.to_string());
        if !whole.exists() {
            assert_eq!(build(&whole, pack_bytes).len(), 46);
        }
        for damage in DAMAGES {
            let damaged =
                directory.path().join(format!("{damage:?} {family} {key:?} {pack_bytes}"));
            copy(&whole, &damaged);
            edit(&damaged, family, &key, damage, &other);
            for read_only in [true, false] {
                let refused = quick().read_only(read_only).open(&damaged).unwrap_err();
                let is_lost = matches!(refused, Error::HistoryLost { .. });
                assert!(is_lost || refused.is_corruption(), "{damage:?} in {family}: {refused}");
            }
        }
    }
}
