//! [`Pages`]: the items of a blocking iterator, as a stream for tasks.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::event_store::BoxFuture;
use crate::pool;

/// Most items in a page: it bounds the memory of a stream.
const PAGE_ITEMS_MAX: usize = 256;

/// A stream that reads page by page on a thread of a pool, and only when an item is wanted.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Pages<I: Iterator> {
    page: VecDeque<I::Item>,
    rest: Rest<I>,
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
    pub(crate) fn new(begin: impl FnOnce() -> I + Send + 'static) -> Self {
        Self { page: VecDeque::new(), rest: Rest::Unread(Box::new(begin)) }
    }

    /// The next item; `None` at the end. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<I::Item>
    where
        Self: Unpin,
    {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

fn read_page<I: Iterator>(mut from: I) -> Page<I> {
    let page: VecDeque<_> = from.by_ref().take(PAGE_ITEMS_MAX).collect();
    let rest = (page.len() == PAGE_ITEMS_MAX).then_some(from);
    (page, rest)
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
            let mut reading: BoxFuture<Page<I>> =
                match std::mem::replace(&mut self.rest, Rest::Nothing) {
                    Rest::Nothing => return Poll::Ready(None),
                    Rest::Unread(begin) => Box::pin(pool::run(move || read_page(begin()))),
                    Rest::Iterator(rest) => Box::pin(pool::run(move || read_page(rest))),
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
