//! The contract of every store, kept by the methods that tasks use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use annals::{
    Append, Appended, AsyncStore, Epochs, EventStore, IdempotencyKey, KeyedResult, KeyedSubmission,
    MemoryStore, PageEnd, PageRequest, Position, Result, StreamId, StreamInfo, StreamsRequest,
    Submitted, Timestamp, Version, Visitor,
};
use futures_lite::future::{self, FutureExt};

use crate::support::{place, quick};

/// Calls the async API wherever there is one.
struct ThroughTasks<S: EventStore + 'static>(AsyncStore<S>);

impl<S: EventStore + 'static> ThroughTasks<S> {
    fn inner(&self) -> &S {
        self.0.blocking()
    }
}

impl<S: EventStore + 'static> EventStore for ThroughTasks<S> {
    fn submit(&self, append: Append) -> Result<Appended> {
        future::block_on(self.0.submit(append))
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        future::block_on(self.0.submit_once(key, submission))
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        future::block_on(self.0.find_submitted(key))
    }

    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        match self.inner().read_page_in_memory(request, visit)? {
            Some(end) => Ok(end),
            None => self.inner().read_page(request, visit),
        }
    }

    fn head(&self) -> Result<Option<Position>> {
        self.0.head()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        future::block_on(self.0.stream_version(stream))
    }

    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        self.inner().list_streams(request)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        let wait = async { Some(self.0.wait_past(after).await) };
        let stop = async {
            loop {
                smol::Timer::after(std::time::Duration::from_millis(1)).await;
                let is_late = until.is_some_and(|until| Instant::now() >= until);
                if is_late || cancelled.load(Ordering::SeqCst) {
                    return None;
                }
            }
        };
        future::block_on(wait.or(stop)).unwrap_or_else(|| self.head())
    }

    fn wake(&self) {
        self.inner().wake();
    }

    fn epochs(&self) -> Result<Epochs> {
        self.0.epochs()
    }

    fn removals(&self) -> u64 {
        self.inner().removals()
    }

    fn now(&self) -> Timestamp {
        self.inner().now()
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(ThroughTasks(self.0.clone()))
    }
}

mod disk {
    use super::*;

    annals::event_store_conformance!({
        let (directory, path) = place();
        (ThroughTasks(AsyncStore::new(quick().open(path).unwrap())), directory)
    });
}

mod memory {
    use super::*;

    annals::event_store_conformance!((ThroughTasks(AsyncStore::new(MemoryStore::new())), ()));
}
