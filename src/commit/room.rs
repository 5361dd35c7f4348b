//! The room for submissions of tasks: it bounds the bytes that wait to be committed.
//!
//! Threads need no such bound, because each of them waits for its own submission.

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, wake_task};

/// Room for a number of bytes, given in the order in which it was asked for.
pub struct Room(Arc<Shared>);

struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// Those that wait, by increasing id.
    line: VecDeque<Waiter>,
    last_id: u64,
}

struct Waiter {
    id: u64,
    bytes: usize,
    waker: Waker,
}

/// Waits for room. Freed room is given to the first in line at once, so that a future that is not
/// polled does not delay others that fit.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Take {
    of: Arc<Shared>,
    bytes: usize,
    /// Its place in line, once it has one.
    id: Option<u64>,
}

/// Bytes that are taken until this is dropped.
pub struct Permit {
    of: Arc<Shared>,
    bytes: usize,
}

impl Room {
    /// At least one byte, so that one submission at a time finds room.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.max(1);
        let state = State { free: bytes_max, line: VecDeque::new(), last_id: 0 };
        Self(Arc::new(Shared { bytes_max, state: Mutex::new(state) }))
    }

    /// How many bytes are taken.
    #[cfg_attr(not(feature = "rocksdb"), allow(dead_code))]
    pub(super) fn taken(&self) -> usize {
        self.0.bytes_max - self.0.state.lock().free
    }

    /// Waits until this many bytes are free, and takes them. More bytes than there are wait until
    /// all are free.
    pub fn take(&self, bytes: usize) -> Take {
        Take { of: self.0.clone(), bytes: bytes.clamp(1, self.0.bytes_max), id: None }
    }
}

impl Shared {
    /// Frees bytes, and gives them to those that are first in line.
    fn free(&self, bytes: usize) {
        let mut given = Vec::new();
        {
            let mut state = self.state.lock();
            state.free += bytes;
            while let Some(first) = state.line.front()
                && let Some(left) = state.free.checked_sub(first.bytes)
            {
                state.free = left;
                given.extend(state.line.pop_front().map(|waiter| waiter.waker));
            }
        }
        given.into_iter().for_each(wake_task);
    }
}

impl Future for Take {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let waker = context.waker().clone();
        let of = self.of.clone();
        let mut state = of.state.lock();
        let Some(id) = self.id else {
            if state.line.is_empty()
                && let Some(left) = state.free.checked_sub(self.bytes)
            {
                state.free = left;
                drop(state);
                return Poll::Ready(Permit { of, bytes: self.bytes });
            }
            state.last_id += 1;
            let (id, bytes) = (state.last_id, self.bytes);
            state.line.push_back(Waiter { id, bytes, waker });
            self.id = Some(id);
            return Poll::Pending;
        };
        if let Ok(place) = state.line.binary_search_by_key(&id, |waiter| waiter.id) {
            let replaced =
                state.line.get_mut(place).map(|found| std::mem::replace(&mut found.waker, waker));
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        // It is no longer in line, so it was given its bytes.
        drop(state);
        self.id = None;
        Poll::Ready(Permit { of, bytes: self.bytes })
    }
}

/// Leaves the line, or returns what it was given.
impl Drop for Take {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let left = {
            let mut state = self.of.state.lock();
            let place = state.line.binary_search_by_key(&id, |waiter| waiter.id);
            place.ok().and_then(|place| state.line.remove(place))
        };
        // Those after it may fit now.
        self.of.free(if left.is_some() { 0 } else { self.bytes });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.free(self.bytes);
    }
}
