//! The cost of a subscription, counted in events that a store returns: skipped events are not read
//! again.

use std::time::Duration;

use annals::prelude::*;

use crate::support::events;
use crate::support::stores::failing_store;

/// Receives the events that are available now; returns their number.
fn drain(following: &mut annals::Subscription) -> usize {
    let mut taken = 0;
    loop {
        match following.recv_timeout(Duration::ZERO).unwrap() {
            Delivery::Event(_) => taken += 1,
            Delivery::Idle => return taken,
            _ => {}
        }
    }
}

#[test]
fn events_that_do_not_match_are_read_once() {
    let store = failing_store(&MemoryStore::new());
    store.append("long", ExpectedVersion::Any, events(5_000)).unwrap();
    let subscribe = store.subscribe().stream("long").types(["Never"]);
    let mut following = subscribe.start().unwrap();
    assert_eq!(drain(&mut following), 0);
    for _ in 0..20 {
        store.append("other", ExpectedVersion::Any, events(1)).unwrap();
        assert_eq!(drain(&mut following), 0);
    }
    assert_eq!(store.decorator().read(), 5_000);
    assert_eq!(following.checkpoint(), store.head().unwrap());
}

#[test]
fn subscription_from_now_does_not_read_the_past() {
    let store = failing_store(&MemoryStore::new());
    store.append("long", ExpectedVersion::Any, events(5_000)).unwrap();
    let mut following = store.subscribe().stream("long").from_now().start().unwrap();
    store.append("long", ExpectedVersion::Any, events(3)).unwrap();
    assert_eq!(drain(&mut following), 3);
    assert!(store.decorator().read() <= 4);
}
