//! Decorated stores: every call passes the decorator, also through handles.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use annals::prelude::*;
use annals::testing::{Decorated, Decorator};
use annals::{
    Direction, Epochs, Error, IdempotencyKey, KeyedResult, KeyedSubmission, PageEnd, PageRequest,
    Position, Query, Range, RequestDigest, Result, StreamInfo, StreamsRequest, Submitted,
    SubscriptionProgress, Timestamp, Version, Visitor,
};

use crate::support::events;

/// Counts the calls of each method.
#[derive(Default)]
struct Metered(Mutex<BTreeMap<&'static str, u64>>);

impl Metered {
    fn count(&self, method: &'static str) {
        *self.0.lock().unwrap().entry(method).or_default() += 1;
    }
}

impl Decorator for Metered {
    fn submit(&self, store: &dyn EventStore, append: Append) -> Result<Appended> {
        self.count("submit");
        store.submit(append)
    }
    fn submit_once(
        &self,
        store: &dyn EventStore,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> Result<Submitted> {
        self.count("submit_once");
        store.submit_once(key, submission)
    }
    fn find_submitted(
        &self,
        store: &dyn EventStore,
        key: &IdempotencyKey,
    ) -> Result<Option<KeyedResult>> {
        self.count("find_submitted");
        store.find_submitted(key)
    }
    fn read_page(
        &self,
        store: &dyn EventStore,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        self.count("read_page");
        store.read_page(request, visit)
    }
    fn head(&self, store: &dyn EventStore) -> Result<Option<Position>> {
        self.count("head");
        store.head()
    }
    fn stream_version(&self, store: &dyn EventStore, stream: &StreamId) -> Result<Option<Version>> {
        self.count("stream_version");
        store.stream_version(stream)
    }
    fn list_streams(
        &self,
        store: &dyn EventStore,
        request: &StreamsRequest,
    ) -> Result<Vec<StreamInfo>> {
        self.count("list_streams");
        store.list_streams(request)
    }
    fn wait_past(
        &self,
        store: &dyn EventStore,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        self.count("wait_past");
        store.wait_past(after, until, cancelled)
    }
    fn wake(&self, store: &dyn EventStore) {
        self.count("wake");
        store.wake();
    }
    fn epochs(&self, store: &dyn EventStore) -> Result<Epochs> {
        self.count("epochs");
        store.epochs()
    }
    fn watch_subscription(&self, store: &dyn EventStore, progress: &Arc<SubscriptionProgress>) {
        self.count("watch_subscription");
        store.watch_subscription(progress);
    }
    fn now(&self, store: &dyn EventStore) -> Timestamp {
        self.count("now");
        store.now()
    }
}

/// Calls every method once.
fn call_all(store: &dyn EventStore) {
    let stream = StreamId::new("a-1").unwrap();
    let append = Append::new().to("a-1", ExpectedVersion::Any, events(1));
    let appended = store.submit(append).unwrap();
    let page = PageRequest {
        range: Range::log(Position::FIRST, Position::MAX),
        direction: Direction::Forward,
        query: Query::Everything,
        events_max: 10,
    };
    store.read_page(&page, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(store.head().unwrap(), Some(appended.last_position()));
    assert!(store.stream_version(&stream).unwrap().is_some());
    assert_eq!(
        store
            .list_streams(&StreamsRequest { streams_max: 10, ..StreamsRequest::default() })
            .unwrap()
            .len(),
        1
    );
    let key = IdempotencyKey::new("calls", "one", RequestDigest::of("request")).unwrap();
    store.submit_once(&key, KeyedSubmission::nothing()).unwrap();
    assert_eq!(store.find_submitted(&key).unwrap(), Some(KeyedResult::Nothing));
    store.wait_past(None, None, &AtomicBool::new(false)).unwrap();
    store.wake();
    store.epochs().unwrap();
    store.watch_subscription(&Arc::default());
    store.now();
}

#[test]
fn decorator_intercepts_every_method() {
    let inner = MemoryStore::new();
    let store = Decorated::new(&inner, Metered::default());
    call_all(&store);
    let counts = store.decorator().0.lock().unwrap().clone();
    assert_eq!(counts.len(), 12, "{counts:?}");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    // A handle is decorated with the same decorator.
    call_all(&*store.handle());
    let counts = store.decorator().0.lock().unwrap().clone();
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
}

/// Overrides nothing.
struct Plain;

impl Decorator for Plain {}

#[test]
fn plain_decorator_forwards_every_method() {
    let inner = MemoryStore::new();
    let store = Decorated::new(&inner, Plain);
    call_all(&store);
    assert_eq!(store.head().unwrap(), inner.head().unwrap());
    inner.close();
    assert!(matches!(store.head(), Err(Error::Closed)));
    assert!(matches!(store.epochs(), Err(Error::Closed)));
}
