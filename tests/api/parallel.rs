//! Subscriptions on several threads: each key in order, each event once, one checkpoint
//! (G7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::{Error, PartitionBy, Position, Query, SubscriptionBuilder};

use crate::support::stores::Kept;
use crate::support::{SOON, position};

/// Enrolments in courses, in any of a few streams, and some events without a course.
fn history(store: &Arc<dyn EventStore>, events: u64) {
    for number in 0..events {
        let event = NewEvent::json("Enrolled", &number).unwrap().with_tag("year:1");
        let event = match number * 5 % 7 {
            0 => event,
            course => event.with_tag(format!("course:{course}")).with_tag("course:last"),
        };
        let stream = format!("s-{}", number * 3 % 4);
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
}

/// The key of an event, found independently.
fn key(event: &RecordedEvent, by_tag: bool) -> String {
    match event.tags().iter().find(|tag| by_tag && tag.starts_with("course:")) {
        Some(tag) => tag.clone(),
        None => event.stream().to_string(),
    }
}

fn partition_by(by_tag: bool) -> PartitionBy {
    if by_tag { PartitionBy::tag("course:") } else { PartitionBy::Stream }
}

/// Handles everything up to the head, then ends; returns the last checkpoint.
fn handle_all(
    subscribe: SubscriptionBuilder,
    head: Position,
    by_tag: bool,
    handler: impl Fn(&RecordedEvent) + Sync,
) -> Option<Position> {
    let following = subscribe.start().unwrap();
    let cancel = following.cancel_handle();
    let mut last = None;
    let parallel = following.parallel(4).partition_by(partition_by(by_tag));
    let parallel = parallel.in_flight_events(100).on_checkpoint(|position| {
        assert!(Some(position) > last, "the checkpoint goes forward");
        last = Some(position);
        if position == head {
            cancel.cancel();
        }
        Ok(())
    });
    let handled = parallel.for_each(|event| {
        handler(&event);
        Ok(())
    });
    assert_eq!(handled.clone().unwrap(), Some(head));
    handled.unwrap()
}

#[test]
fn each_event_is_handled_once_and_each_key_in_order() {
    for kept in Kept::both() {
        let store = &kept.events;
        history(store, 1_000);
        let head = store.head().unwrap().unwrap();
        for (by_tag, query) in [
            (true, Query::Everything),
            (false, Query::Everything),
            (true, Query::stream("s-1").or(Query::tag("course:3"))),
        ] {
            let handled: Mutex<Vec<RecordedEvent>> = Mutex::default();
            let threads: Mutex<BTreeSet<String>> = Mutex::default();
            let subscribe = store.subscribe().query(query.clone());
            handle_all(subscribe, head, by_tag, |event| {
                if event.position().get() % 11 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
                threads.lock().unwrap().insert(format!("{:?}", thread::current().id()));
                handled.lock().unwrap().push(event.clone());
            });
            let mut handled = handled.into_inner().unwrap();
            let mut last: BTreeMap<String, Position> = BTreeMap::new();
            for event in &handled {
                let before = last.insert(key(event, by_tag), event.position());
                assert!(before < Some(event.position()), "{event:?} after {before:?}");
            }
            handled.sort_by_key(RecordedEvent::position);
            let expected = store.read_log().query(query).into_iter().map(Result::unwrap);
            assert!(expected.eq(handled), "an event was lost or handled twice");
            assert!(threads.into_inner().unwrap().len() > 1, "one thread did all the work");
        }
    }
}

/// Blocks handlers until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
    }
}

/// Runs this at its end, also after a failed assertion, so that no thread waits forever.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// A slow key holds back neither the others nor, beyond the bound, the memory. The checkpoint stays
/// below its event.
#[test]
fn slow_key_holds_back_only_itself() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    for number in 0..200 {
        let stream = if number % 20 == 5 { "slow".to_owned() } else { format!("s-{number}") };
        let event = NewEvent::json("Happened", &number).unwrap();
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
    let (gate, handled) = (Gate::default(), AtomicUsize::new(0));
    let following = store.subscribe().start().unwrap();
    let (cancel, saved) = (following.cancel_handle(), Mutex::new(Vec::new()));
    let parallel = following.parallel(3).in_flight_events(60).on_checkpoint(|position| {
        saved.lock().unwrap().push(position.get());
        if position.get() == 200 {
            cancel.cancel();
        }
        Ok(())
    });
    thread::scope(|scope| {
        let (gate, handled, saved) = (&gate, &handled, &saved);
        scope.spawn(move || {
            let _end = AtEnd(|| gate.open());
            // The events from 6 to 65 are in flight; all but the slow ones, 6, 26 and 46, are done.
            let all_but_slow = 5 + 60 - 3;
            let until = std::time::Instant::now() + SOON;
            while handled.load(Ordering::SeqCst) < all_but_slow {
                assert!(std::time::Instant::now() < until, "{handled:?} events are handled");
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(250));
            assert_eq!(handled.load(Ordering::SeqCst), all_but_slow, "the bound is exceeded");
            assert_eq!(saved.lock().unwrap().last(), Some(&5), "the slow event is not handled");
        });
        let ended = parallel.for_each(|event| {
            if event.stream().as_str() == "slow" {
                gate.pass();
            }
            handled.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!(ended.unwrap(), Some(position(200)));
    });
    assert_eq!(handled.into_inner(), 200);
}

/// A handler that fails or panics ends it, with the checkpoint below its event. After a restart from
/// there, nothing is missing, and at most what was in flight is repeated.
#[test]
fn failed_handler_ends_it_below_its_event() {
    for kept in Kept::both() {
        let store = &kept.events;
        history(store, 600);
        let head = store.head().unwrap().unwrap();
        for panics in [false, true] {
            let handled: Mutex<Vec<Position>> = Mutex::default();
            let mut saved = None;
            let parallel = store.subscribe().start().unwrap().parallel(4).in_flight_events(50);
            let parallel = parallel.on_checkpoint(|position| {
                saved = Some(position);
                Ok(())
            });
            let failed = parallel.for_each(|event| {
                if event.position() == position(333) {
                    assert!(!panics, "boom");
                    return Err("no".into());
                }
                handled.lock().unwrap().push(event.position());
                Ok(())
            });
            let failed = failed.unwrap_err();
            assert_eq!(failed.position, Some(position(333)));
            let reason = failed.to_string();
            let expected = if panics { "the handler panicked: boom" } else { "no" };
            assert!(reason.contains(expected) && reason.contains("333"), "{reason}");
            let checkpoint = failed.checkpoint.unwrap();
            assert!(checkpoint < position(333) && checkpoint.get() >= 333 - 50, "{checkpoint}");
            assert_eq!(saved, Some(checkpoint));
            let mut before = handled.into_inner().unwrap();
            assert!(before.len() < 600, "it went on after the failure");
            let above = before.iter().filter(|position| **position > checkpoint).count();
            assert!(above < 50, "{above} events are repeated");
            before.retain(|position| *position <= checkpoint);
            let rest: Mutex<Vec<Position>> = Mutex::new(before);
            handle_all(store.subscribe().after(checkpoint), head, false, |event| {
                rest.lock().unwrap().push(event.position());
            });
            let mut all = rest.into_inner().unwrap();
            all.sort_unstable();
            assert!(all.into_iter().map(u64::from).eq(1..=600));
        }
    }
}

/// The error of the function that saves the checkpoint ends it too, and an invalid key is refused.
#[test]
fn unsaved_checkpoint_and_invalid_key_end_it() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    history(&store, 20);
    let start = || store.subscribe().after(position(5)).start().unwrap();
    let calls = AtomicUsize::new(0);
    let full = start().parallel(2).on_checkpoint(|_| {
        calls.fetch_add(1, Ordering::SeqCst);
        Err("the disk is full".into())
    });
    let failed = full.for_each(|_| Ok(())).unwrap_err();
    assert!(failed.position.is_none() && failed.checkpoint > Some(position(5)), "{failed:?}");
    assert!(failed.to_string().starts_with("the disk is full; every event up to position "));
    assert_eq!(calls.into_inner(), 1, "it was called again after its error");
    for prefix in ["", "a\nb"] {
        let by = PartitionBy::tag(prefix);
        let failed = start().parallel(2).partition_by(by).for_each(|_| panic!("not handled"));
        let failed = failed.unwrap_err();
        assert!(matches!(failed.cause.downcast_ref(), Some(Error::InvalidArgument(_))));
        assert_eq!(failed.checkpoint, Some(position(5)));
    }
}

/// It follows live, passes events that do not match, and ends when it is cancelled or its store is
/// closed, though handlers are running or nothing comes.
#[test]
fn it_follows_live_until_cancelled_or_closed() {
    for (closes, while_busy) in [(false, false), (false, true), (true, false), (true, true)] {
        let memory = MemoryStore::new();
        let store: Arc<dyn EventStore> = Arc::new(memory.clone());
        history(&store, 10);
        let following = store.subscribe().tag("wanted").start().unwrap();
        let cancel = following.cancel_handle();
        let (checkpoints, saved) = mpsc::channel();
        let gate = Gate::default();
        let is_busy = AtomicBool::new(false);
        thread::scope(|scope| {
            let handling = scope.spawn(|| {
                let parallel = following.parallel(3).on_checkpoint(move |position| {
                    checkpoints.send(position.get())?;
                    Ok(())
                });
                parallel.for_each(|event| {
                    if event.event_type() == "Slow" {
                        is_busy.store(true, Ordering::SeqCst);
                        gate.pass();
                    }
                    Ok(())
                })
            });
            let _end = AtEnd(|| {
                gate.open();
                cancel.cancel();
            });
            assert_eq!(saved.recv_timeout(SOON), Ok(10), "events that do not match are passed");
            let wanted = |event_type| {
                let event = NewEvent::json(event_type, &()).unwrap().with_tag("wanted");
                store.append("live", ExpectedVersion::Any, [event]).unwrap();
            };
            wanted("Quick");
            assert_eq!(saved.recv_timeout(SOON), Ok(11));
            if while_busy {
                wanted("Slow");
                wanted("Quick");
                while !is_busy.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
            }
            if closes {
                memory.close();
            } else {
                cancel.cancel();
            }
            thread::sleep(Duration::from_millis(30));
            assert_eq!(handling.is_finished(), !while_busy, "running handlers are waited for");
            gate.open();
            // The event that was being handled counts; the one of the same stream after it was not
            // begun.
            let expected = if while_busy { 12 } else { 11 };
            assert_eq!(handling.join().unwrap().unwrap(), Some(position(expected)));
        });
    }
}
