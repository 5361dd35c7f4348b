//! Async subscriptions to the memory store: each delivers every event once and in order, from any
//! start, wakes for each new head, and ends when the store is closed (G6, G7).

use annals::{
    AsyncStore, AsyncSubscription, Delivery, Error, EventStoreExt, EventType, ExpectedVersion,
    MemoryStore, NewEvent, Position,
};
use futures_lite::future::poll_once;
use shuttle::future::block_on;
use shuttle::thread;

use crate::check;

fn event() -> NewEvent {
    NewEvent::new(EventType::new("Happened").unwrap(), *b"{}")
}

/// The positions of the next events. Some of the calls are dropped, which loses nothing.
async fn positions(feed: &mut AsyncSubscription, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        let delivery = match poll_once(feed.next()).await {
            Some(delivery) => delivery,
            None => feed.next().await,
        };
        if let Delivery::Event(event) = delivery.unwrap().unwrap() {
            positions.push(event.position().get());
        }
    }
    positions
}

#[test]
fn feed_delivers_each_event_once_and_ends_with_the_store() {
    check(|| {
        let store = MemoryStore::new();
        let tasks = AsyncStore::new(store.clone());
        let feeds = [0, 1].map(|after| {
            let feed = tasks.subscribe().after(Position::new(after)).wait_if_ahead();
            thread::spawn(move || {
                block_on(async {
                    let mut feed = feed.start().await.unwrap();
                    let expected: Vec<_> = (after + 1..=3).collect();
                    assert_eq!(positions(&mut feed, expected.len()).await, expected);
                    feed
                })
            })
        });
        for _ in 0..3 {
            store.append("a-1", ExpectedVersion::Any, [event()]).unwrap();
        }
        let ends = feeds.map(|feed| {
            let mut feed = feed.join().unwrap();
            thread::spawn(move || {
                block_on(async {
                    while let Some(delivery) = feed.next().await {
                        assert!(!matches!(delivery.unwrap(), Delivery::Event(_)));
                    }
                });
            })
        });
        store.close();
        for end in ends {
            end.join().unwrap();
        }
    });
}

#[test]
fn waiting_task_sees_its_head_and_the_end() {
    check(|| {
        let store = MemoryStore::new();
        let tasks = AsyncStore::new(store.clone());
        let wait = |after| {
            let tasks = tasks.clone();
            thread::spawn(move || block_on(tasks.wait_past(Position::new(after))))
        };
        let (waiters, late) = ([0, 1].map(wait), wait(9));
        for _ in 0..2 {
            store.append("a-1", ExpectedVersion::Any, [event()]).unwrap();
        }
        for (after, waiter) in (0..).zip(waiters) {
            assert!(waiter.join().unwrap().unwrap() > Position::new(after));
        }
        store.close();
        assert!(matches!(late.join().unwrap(), Err(Error::Closed)));
    });
}
