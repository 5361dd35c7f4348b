//! The memory store with readers and subscriptions. A subscription delivers every event once and in
//! order, from history into live (G7). Reads agree with the head (G6). Of two appends that expect
//! the same version, one is refused (G3).

use annals::{
    Delivery, Error, EventStore, EventStoreExt, EventType, ExpectedVersion, MemoryStore, NewEvent,
    Position, Subscription,
};
use shuttle::thread;

use crate::check;

fn event() -> NewEvent {
    NewEvent::new(EventType::new("Happened").unwrap(), *b"{}")
}

#[test]
fn subscription_from_any_start_delivers_each_event_once() {
    check(|| {
        let store = MemoryStore::new();
        let writers = ["a-1", "b-1"].map(|stream| {
            let store = store.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    store.append(stream, ExpectedVersion::Any, [event()]).unwrap();
                }
            })
        });
        let followers = [None, Some("a")].map(|category| {
            let store = store.clone();
            thread::spawn(move || {
                let all = store.subscribe();
                let wanted = if category.is_some() { 3 } else { 6 };
                let mut following = match category {
                    None => all.start().unwrap(),
                    Some(category) => all.category(category).start().unwrap(),
                };
                let mut found = Vec::new();
                while found.len() < wanted {
                    match following.recv().unwrap() {
                        Delivery::Event(event) => found.push(event.position().get()),
                        Delivery::CaughtUp(_) | Delivery::Progress(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
                assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
                if category.is_none() {
                    assert_eq!(found, [1, 2, 3, 4, 5, 6]);
                }
            })
        });
        writers.into_iter().chain(followers).for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn reader_sees_whole_appends_up_to_the_head() {
    check(|| {
        let store = MemoryStore::new();
        let writer = {
            let store = store.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    store.append("a-1", ExpectedVersion::Any, [event(), event()]).unwrap();
                }
            })
        };
        let reader = {
            let store = store.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    let head = store.head().unwrap().map_or(0, Position::get);
                    let count = store.read_log().into_iter().map(Result::unwrap).count() as u64;
                    assert!(count >= head && count.is_multiple_of(2), "{count} at {head}");
                }
            })
        };
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn one_of_many_rivals_for_a_version_succeeds() {
    check(|| {
        let store = MemoryStore::new();
        let callers = [(); 3].map(|()| {
            let store = store.clone();
            thread::spawn(move || store.append("a-1", ExpectedVersion::NoStream, [event()]))
        });
        let outcomes = callers.map(|caller| caller.join().unwrap());
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(refused, Error::WrongExpectedVersion { .. }), "{refused}");
        }
    });
}

#[test]
fn subscription_ends_when_cancelled_or_store_closed() {
    check(|| {
        let store = MemoryStore::new();
        let mut cancelled = store.subscribe().start().unwrap();
        let cancel = cancelled.cancel_handle();
        let mut closed = store.subscribe().start().unwrap();
        let until_end = |following: &mut Subscription| {
            while following.recv().unwrap() != Delivery::Ended {}
        };
        let one = thread::spawn(move || until_end(&mut cancelled));
        cancel.cancel();
        one.join().unwrap();
        let other = thread::spawn(move || until_end(&mut closed));
        store.close();
        other.join().unwrap();
    });
}
