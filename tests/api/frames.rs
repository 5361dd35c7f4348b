//! An append of very many or very large events is split into several frames, which does not change
//! any read.

use annals::EventType;
use annals::limits::{FRAME_EVENTS_MAX, FRAME_LEN_TARGET, PAYLOAD_LEN_MAX};
use annals::prelude::*;

use crate::support::{events, log, place, position, quick, version};

fn large(count: usize, len: usize) -> Vec<NewEvent> {
    let event_type = || EventType::new("Large").unwrap();
    (0..count)
        .map(|number| NewEvent::new(event_type(), vec![u8::try_from(number % 256).unwrap(); len]))
        .collect()
}

/// Appends that are split by count and by length, read from versions before, at and after each
/// frame boundary.
#[test]
fn range_is_read_across_frames_in_both_directions() {
    let shapes = [
        events(FRAME_EVENTS_MAX * 2 + 3),
        events(FRAME_EVENTS_MAX),
        large(40, FRAME_LEN_TARGET / 3),
        large(6, FRAME_LEN_TARGET * 2),
        large(700, 800),
    ];
    for memtable_bytes in [1, 64 << 20] {
        let (_directory, path) = place();
        let store = quick().memtable_bytes(memtable_bytes).open(&path).unwrap();
        store.append("before", ExpectedVersion::Any, events(5)).unwrap();
        for (shape, given) in shapes.iter().enumerate() {
            let name = format!("shape-{shape}");
            store.append(name.as_str(), ExpectedVersion::NoStream, events(2)).unwrap();
            let appended =
                store.append(name.as_str(), ExpectedVersion::Exact(version(2)), given.clone());
            let commit = appended.as_ref().map(|a| a.first_position()..=a.last_position()).unwrap();
            store.append("between", ExpectedVersion::Any, events(1)).unwrap();
            let whole: Vec<_> =
                store.read_stream(name.as_str()).into_iter().map(Result::unwrap).collect();
            assert!(whole[2..].iter().map(RecordedEvent::id).eq(given.iter().map(NewEvent::id)));
            assert!(
                whole[2..].iter().zip(given).all(|(read, given)| read.payload() == given.payload())
            );
            assert!(whole[2..].iter().all(|event| event.commit() == commit));
            let last = whole.len();
            let steps = (1..=last).step_by((last / 40).max(1)).chain([last]);
            for from in steps.chain((1022..=1030).filter(|from| *from <= last)) {
                let at = version(from as u64);
                let read = || store.read_stream(name.as_str()).from(at);
                for limit in [1, 2, last] {
                    let limited = limit as u64;
                    let forward: Vec<_> =
                        read().limit(limited).into_iter().map(Result::unwrap).collect();
                    assert!(
                        forward.iter().eq(whole[from - 1..].iter().take(limit)),
                        "{from} {limit}"
                    );
                    let backward = read().backward().limit(limited).into_iter().map(Result::unwrap);
                    let backward: Vec<_> = backward.collect();
                    assert!(
                        backward.iter().eq(whole[..from].iter().rev().take(limit)),
                        "{from} {limit}"
                    );
                }
                let position = whole[from - 1].position();
                let first = store.read_log().from(position).first().unwrap();
                assert_eq!(first.as_ref(), Some(&whole[from - 1]));
                let then = store.read_stream(name.as_str()).as_of_position(position).backward();
                assert_eq!(then.first().unwrap().as_ref(), Some(&whole[from - 1]));
            }
        }
        let before = log(&store);
        store.close().unwrap();
        assert_eq!(log(&quick().open(&path).unwrap()), before);
    }
}

/// The largest allowed payload, between small events.
#[test]
fn largest_event_is_stored() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let mut given = events(1);
    given.extend(large(1, PAYLOAD_LEN_MAX));
    given.extend(events(1));
    store.append("a", ExpectedVersion::NoStream, given.clone()).unwrap();
    store.close().unwrap();
    let store = quick().open(&path).unwrap();
    assert_eq!(store.head().unwrap(), Some(position(3)));
    let read = log(&store);
    assert!(read.iter().zip(&given).all(|(read, given)| read.payload() == given.payload()));
    assert!(store.append("a", ExpectedVersion::NoStream, given).unwrap().is_retry());
}
