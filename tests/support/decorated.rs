//! A store around another one, which does something of its own at a call: the decorator of all
//! tests.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use annals::prelude::*;
use annals::{Epochs, PageEnd, PageQuery, Result, StreamInfo, StreamsQuery, Visitor};

/// What is done around the calls of a store; each passes on to it unless said otherwise.
pub(crate) trait Decoration: Send + Sync + 'static {
    fn submit(&self, store: &dyn EventStore, append: Append) -> Result<Appended> {
        store.submit(append)
    }

    fn read_page(
        &self,
        store: &dyn EventStore,
        query: &PageQuery,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        store.read_page(query, visit)
    }
}

/// A store with its decoration, whose own methods it has too.
pub(crate) struct Decorated<D> {
    store: Arc<dyn EventStore>,
    decoration: Arc<D>,
}

impl<D: Decoration> Decorated<D> {
    pub(crate) fn over(store: &dyn EventStore, decoration: D) -> Self {
        Self { store: store.handle(), decoration: Arc::new(decoration) }
    }
}

impl<D> Deref for Decorated<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.decoration
    }
}

impl<D: Decoration> EventStore for Decorated<D> {
    fn submit(&self, append: Append) -> Result<Appended> {
        self.decoration.submit(&*self.store, append)
    }

    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        self.decoration.read_page(&*self.store, query, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        self.store.head()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.store.stream_version(stream)
    }

    fn list_streams(&self, query: &StreamsQuery) -> Result<Vec<StreamInfo>> {
        self.store.list_streams(query)
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

    fn now(&self) -> Timestamp {
        self.store.now()
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(Self { store: self.store.clone(), decoration: self.decoration.clone() })
    }
}
