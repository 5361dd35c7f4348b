//! A store that counts the pages that are read, from disk and from memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use annals::{
    Append, Appended, Epochs, EventStore, IdempotencyKey, KeyedResult, KeyedSubmission, PageEnd,
    PageRequest, Position, Result, StreamId, StreamInfo, StreamsRequest, Submitted, Timestamp,
    Version, Visitor,
};

/// The counts.
#[derive(Debug, Default)]
pub struct Pages {
    pub read: AtomicU64,
    pub in_memory: AtomicU64,
}

/// A handle to a store whose pages are counted. `annals::testing::Decorated` would send all pages
/// through `read_page`.
pub struct Counted {
    pub store: Arc<dyn EventStore>,
    pub pages: Arc<Pages>,
}

impl EventStore for Counted {
    fn submit(&self, append: Append) -> Result<Appended> {
        self.store.submit(append)
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        self.store.submit_once(key, submission)
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        self.store.find_submitted(key)
    }

    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        self.pages.read.fetch_add(1, Ordering::Relaxed);
        self.store.read_page(request, visit)
    }

    fn read_page_in_memory(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<PageEnd>> {
        let end = self.store.read_page_in_memory(request, visit)?;
        self.pages.in_memory.fetch_add(u64::from(end.is_some()), Ordering::Relaxed);
        Ok(end)
    }

    fn head(&self) -> Result<Option<Position>> {
        self.store.head()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.store.stream_version(stream)
    }

    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        self.store.list_streams(request)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        self.store.wait_past(after, until, cancelled)
    }

    fn wake(&self) {
        self.store.wake();
    }

    fn epochs(&self) -> Result<Epochs> {
        self.store.epochs()
    }

    fn removals(&self) -> u64 {
        self.store.removals()
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(Self { store: self.store.clone(), pages: self.pages.clone() })
    }
}
