//! [`Pages`]: the items of a blocking iterator, as a stream for tasks.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::event_store::BoxFuture;
use crate::pool;

/// Most items in a page, and about how many bytes: they bound the memory of a stream.
const PAGE_ITEMS_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 256 << 10;

/// A stream that reads page by page on a thread of a pool, and only when an item is wanted.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Pages<I: Iterator> {
    page: VecDeque<I::Item>,
    rest: Rest<I>,
    /// About how many bytes an item has.
    len_of: fn(&I::Item) -> usize,
}

enum Rest<I: Iterator> {
    Unread(Box<dyn FnOnce() -> I + Send>),
    Iterator(I),
    Reading(BoxFuture<Page<I>>),
    Nothing,
}

/// A page, and the iterator unless it has ended.
type Page<I> = (VecDeque<<I as Iterator>::Item>, Option<I>);

impl<I> Pages<I>
where
    I: Iterator<Item: Send> + Send + 'static,
{
    /// `begin` may block; it is called when the first item is wanted.
    pub(crate) fn new(
        begin: impl FnOnce() -> I + Send + 'static,
        len_of: fn(&I::Item) -> usize,
    ) -> Self {
        Self { page: VecDeque::new(), rest: Rest::Unread(Box::new(begin)), len_of }
    }

    /// The next item; `None` at the end. It is cancel safe: nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<I::Item> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

fn read_page<I: Iterator>(mut from: I, len_of: fn(&I::Item) -> usize) -> Page<I> {
    let (mut page, mut bytes) = (VecDeque::new(), 0);
    while page.len() < PAGE_ITEMS_MAX && bytes < PAGE_BYTES_MAX {
        let Some(item) = from.next() else { return (page, None) };
        bytes += len_of(&item);
        page.push_back(item);
    }
    (page, Some(from))
}

/// Nothing in it is pinned.
impl<I: Iterator> Unpin for Pages<I> {}

impl<I> Stream for Pages<I>
where
    I: Iterator<Item: Send> + Send + 'static,
{
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<I::Item>> {
        loop {
            if let Some(item) = self.page.pop_front() {
                return Poll::Ready(Some(item));
            }
            let len_of = self.len_of;
            let mut reading: BoxFuture<Page<I>> =
                match std::mem::replace(&mut self.rest, Rest::Nothing) {
                    Rest::Nothing => return Poll::Ready(None),
                    Rest::Unread(begin) => Box::pin(pool::run(move || read_page(begin(), len_of))),
                    Rest::Iterator(rest) => Box::pin(pool::run(move || read_page(rest, len_of))),
                    Rest::Reading(reading) => reading,
                };
            match reading.as_mut().poll(context) {
                Poll::Pending => {
                    self.rest = Rest::Reading(reading);
                    return Poll::Pending;
                }
                Poll::Ready((page, rest)) => {
                    self.page = page;
                    self.rest = rest.map_or(Rest::Nothing, Rest::Iterator);
                }
            }
        }
    }
}

impl<I: Iterator> fmt::Debug for Pages<I> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pages").field("ready", &self.page.len()).finish_non_exhaustive()
    }
}
