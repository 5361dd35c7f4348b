//! [`HeadWatch`]: lets any number of tasks wait for the head of a store, through one thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::EventStore;
use crate::error::{Error, Result};
use crate::model::Position;
use crate::signal::{Listener, Signal};
use crate::sync::{Mutex, thread};

/// Waits for the head on a thread of its own, so that waking many tasks costs the commit path no
/// more than waking one thread, and nothing while no task waits. The thread starts with the first
/// wait.
pub(crate) struct HeadWatch {
    store: Arc<dyn EventStore>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    moved: Arc<Signal>,
    is_running: Mutex<bool>,
    is_over: AtomicBool,
}

impl HeadWatch {
    /// Watches a store, which the handle must not keep open.
    pub(crate) fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, shared: Arc::default() }
    }

    /// Waits until the head is past `after`.
    pub(crate) async fn wait_past(&self, after: Option<Position>) -> Result<Option<Position>> {
        loop {
            let head = self.store.head()?;
            if head > after {
                return Ok(head);
            }
            let moved = self.listen()?;
            // The head may have moved before we listened.
            if self.store.head()? <= after {
                moved.await;
            }
        }
    }

    /// A listener for the next time that the head moves or the store closes. Load the head after
    /// this call: it may have moved before.
    pub(crate) fn listen(&self) -> Result<Listener> {
        let mut is_running = self.shared.is_running.lock();
        if !*is_running {
            let (store, shared) = (self.store.clone(), self.shared.clone());
            let seen = store.head()?;
            let run = move || shared.follow(&*store, seen);
            let started = thread::Builder::new().name("annals-feeds".to_owned()).spawn(run);
            started.map_err(|error| Error::storage("starting a thread for live feeds", error))?;
            *is_running = true;
        }
        drop(is_running);
        Ok(self.shared.moved.listen())
    }
}

impl Shared {
    fn follow(&self, store: &dyn EventStore, mut seen: Option<Position>) {
        let _running = Running(self);
        loop {
            let is_over = || self.is_over.load(Ordering::SeqCst);
            self.moved.wait_for_listener(is_over);
            if is_over() {
                return;
            }
            match store.wait_past(seen, None, &self.is_over) {
                Ok(head) => seen = head,
                Err(_) => return,
            }
            self.moved.raise();
        }
    }
}

/// Notes the end of the thread, even by a panic of a store: those that wait see the state of the
/// store themselves, and the next one starts the thread again.
struct Running<'s>(&'s Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.is_running.lock() = false;
        self.0.moved.raise();
    }
}

/// Ends the thread.
impl Drop for HeadWatch {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.moved.interrupt();
        self.store.wake();
    }
}

impl fmt::Debug for HeadWatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HeadWatch").finish_non_exhaustive()
    }
}
