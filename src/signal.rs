//! [`Signal`]: wakes tasks that wait for something to change. [`Timer`]: wakes a task after a time.

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::sync::{Condvar, Mutex, wake_task};

/// Wakes all tasks that listen, whenever it is raised.
#[derive(Default)]
pub struct Signal {
    state: Mutex<State>,
    /// Wakes the thread that waits for a listener.
    attended: Condvar,
}

#[derive(Default)]
struct State {
    /// How often it was raised.
    raised: u64,
    waiting: HashMap<u64, Waker>,
    last_id: u64,
    listeners: usize,
}

/// Waits until a signal is raised again after [`Signal::listen`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Listener {
    signal: Arc<Signal>,
    seen: u64,
    /// Its place among those that wait.
    id: Option<u64>,
}

impl Signal {
    /// Listens from now on. What is to change must be checked after this call and before waiting.
    pub fn listen(self: &Arc<Self>) -> Listener {
        let mut state = self.state.lock();
        state.listeners += 1;
        let (seen, is_first) = (state.raised, state.listeners == 1);
        drop(state);
        if is_first {
            self.attended.notify_all();
        }
        Listener { signal: self.clone(), seen, id: None }
    }

    /// Blocks until something listens, or `is_over` is true and [`Signal::interrupt`] is called.
    pub fn wait_for_listener(&self, is_over: impl Fn() -> bool) {
        let mut state = self.state.lock();
        while state.listeners == 0 && !is_over() {
            state = self.attended.wait(state);
        }
    }

    /// Makes the thread that waits for a listener check again.
    pub fn interrupt(&self) {
        // Taken so that the thread is not between its check and its wait.
        drop(self.state.lock());
        self.attended.notify_all();
    }

    /// Wakes all tasks that listen. Their wakers run without a lock.
    pub fn raise(&self) {
        let mut state = self.state.lock();
        state.raised += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(wake_task);
    }
}

impl Future for Listener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let signal = self.signal.clone();
        let mut state = signal.state.lock();
        if state.raised != self.seen {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            state.last_id += 1;
            state.last_id
        });
        self.id = Some(id);
        let replaced = state.waiting.insert(id, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

/// Leaves no waker behind.
impl Drop for Listener {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.signal.state.lock();
            state.listeners -= 1;
            self.id.and_then(|id| state.waiting.remove(&id))
        };
        // Dropped without the lock: a waker is code of an executor.
        drop(waker);
    }
}

/// Completes after a time.
pub(crate) struct Timer(futures_timer::Delay);

impl Timer {
    pub(crate) fn new(wait: Duration) -> Self {
        Self(futures_timer::Delay::new(wait))
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // The thread of the timers is shared by the process: no panic of a waker may end it.
        let waker = Waker::from(Arc::new(Guarded(context.waker().clone())));
        Pin::new(&mut self.0).poll(&mut Context::from_waker(&waker))
    }
}

/// Wakes a task, even if its waker panics.
struct Guarded(Waker);

impl Wake for Guarded {
    fn wake(self: Arc<Self>) {
        wake_task(self.0.clone());
    }
}
