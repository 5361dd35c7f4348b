//! The room for submissions of tasks: it bounds the bytes that wait to be committed.
//!
//! Threads need no such bound, because each of them waits for its own submission.

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]

use std::sync::Arc;

use crate::signal::Signal;
use crate::sync::Mutex;

/// Room for a number of bytes.
pub struct Room(Arc<Shared>);

struct Shared {
    bytes_max: usize,
    free: Mutex<usize>,
    /// Tasks that wait for room are served in order: only the first of them takes any.
    line: async_lock::Mutex<()>,
    freed: Arc<Signal>,
}

/// Bytes that are taken until this is dropped.
pub struct Permit {
    of: Arc<Shared>,
    bytes: usize,
}

impl Room {
    pub fn new(bytes_max: usize) -> Self {
        let (free, line) = (Mutex::new(bytes_max), async_lock::Mutex::new(()));
        Self(Arc::new(Shared { bytes_max, free, line, freed: Arc::default() }))
    }

    /// How many bytes are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.bytes_max - *self.0.free.lock()
    }

    /// Waits until this many bytes are free, and takes them. More bytes than there are wait until
    /// all are free.
    pub async fn take(&self, bytes: usize) -> Permit {
        let shared = &self.0;
        let bytes = bytes.min(shared.bytes_max);
        let _first = shared.line.lock().await;
        loop {
            if let Some(permit) = shared.try_take(bytes) {
                return permit;
            }
            let freed = shared.freed.listen();
            if let Some(permit) = shared.try_take(bytes) {
                return permit;
            }
            freed.await;
        }
    }
}

impl Shared {
    fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let mut free = self.free.lock();
        *free = free.checked_sub(bytes)?;
        Some(Permit { of: self.clone(), bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.of.free.lock() += self.bytes;
        self.of.freed.raise();
    }
}
