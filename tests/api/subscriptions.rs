//! What following costs, counted in events that a store hands out: nothing is read again that was passed over before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{Epochs, PageEnd, PageQuery, StreamInfo, StreamsQuery, Visitor};

use crate::support::events;

/// A store that counts the events it hands out. Also: a store of another kind, written with the public parts alone.
#[derive(Clone, Default)]
struct Counting {
    store: MemoryStore,
    handed_out: Arc<AtomicU64>,
}

impl EventStore for Counting {
    fn submit(&self, append: Append) -> annals::Result<Appended> {
        self.store.submit(append)
    }

    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> annals::Result<PageEnd> {
        self.store.read_page(query, &mut |event| {
            self.handed_out.fetch_add(1, Ordering::SeqCst);
            visit(event)
        })
    }

    fn head(&self) -> annals::Result<Option<Position>> {
        self.store.head()
    }

    fn stream_version(&self, stream: &StreamId) -> annals::Result<Option<Version>> {
        self.store.stream_version(stream)
    }

    fn list_streams(&self, query: &StreamsQuery) -> annals::Result<Vec<StreamInfo>> {
        self.store.list_streams(query)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> annals::Result<Option<Position>> {
        self.store.wait_past(after, until, cancelled)
    }

    fn wake(&self) {
        self.store.wake();
    }

    fn epochs(&self) -> annals::Result<Epochs> {
        self.store.epochs()
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(self.clone())
    }
}

/// Takes what there is now.
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
    let store = Counting::default();
    store.append("long", ExpectedVersion::Any, events(5_000)).unwrap();
    let subscribe = store.subscribe().stream("long").types(["Never"]);
    let mut following = subscribe.start().unwrap();
    assert_eq!(drain(&mut following), 0);
    for _ in 0..20 {
        store.append("other", ExpectedVersion::Any, events(1)).unwrap();
        assert_eq!(drain(&mut following), 0);
    }
    assert_eq!(store.handed_out.load(Ordering::SeqCst), 5_000);
    assert_eq!(following.checkpoint(), store.head().unwrap());
}

#[test]
fn subscription_from_now_does_not_read_the_past() {
    let store = Counting::default();
    store.append("long", ExpectedVersion::Any, events(5_000)).unwrap();
    let mut following = store.subscribe().stream("long").from_now().start().unwrap();
    store.append("long", ExpectedVersion::Any, events(3)).unwrap();
    assert_eq!(drain(&mut following), 3);
    assert!(store.handed_out.load(Ordering::SeqCst) <= 4);
}
