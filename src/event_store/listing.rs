//! [`Streams`]: a listing of the streams of any [`EventStore`].

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Blocking, EventStore, StreamInfo, StreamsRequest};
use crate::error::Result;
use crate::model::StreamId;

/// Most streams in a page of a listing.
const PAGE_STREAMS_MAX: usize = 256;

/// A listing of streams: all of them, or those with a prefix, in the order of their ids.
#[derive(Clone)]
#[must_use = "a listing does nothing until its streams are taken"]
pub struct Streams<D = Blocking> {
    store: Arc<dyn EventStore>,
    prefix: String,
    after: Option<StreamId>,
    api: PhantomData<fn() -> D>,
}

impl Streams {
    pub(crate) fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, prefix: String::new(), after: None, api: PhantomData }
    }
}

impl<D> Streams<D> {
    /// The same listing in another API.
    #[cfg(feature = "async")]
    pub(crate) fn in_api<E>(self) -> Streams<E> {
        Streams { store: self.store, prefix: self.prefix, after: self.after, api: PhantomData }
    }

    /// Only streams whose id begins with this prefix.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only streams whose id sorts after this one.
    pub fn after(mut self, stream: impl Into<Option<StreamId>>) -> Self {
        self.after = stream.into();
        self
    }
}

/// Iterates over the streams, with their versions. Streams that are created meanwhile may or may
/// not be listed.
impl IntoIterator for Streams {
    type Item = Result<StreamInfo>;
    type IntoIter = StreamInfos;

    fn into_iter(self) -> StreamInfos {
        StreamInfos { listing: self, page: VecDeque::new(), done: false }
    }
}

impl<D> fmt::Debug for Streams<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Streams").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The iterator over the streams of a listing. It ends after the first error.
#[derive(Debug)]
pub struct StreamInfos {
    listing: Streams,
    page: VecDeque<StreamInfo>,
    done: bool,
}

impl Iterator for StreamInfos {
    type Item = Result<StreamInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.done {
            let request = StreamsRequest {
                prefix: self.listing.prefix.clone(),
                after: self.listing.after.clone(),
                streams_max: PAGE_STREAMS_MAX,
            };
            match self.listing.store.list_streams(&request) {
                Ok(streams) => {
                    self.done = streams.len() < PAGE_STREAMS_MAX;
                    self.listing.after = streams.last().map(|stream| stream.id.clone());
                    self.page = streams.into();
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl std::iter::FusedIterator for StreamInfos {}
