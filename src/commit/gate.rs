//! The gate decides whether writes are allowed. Every writer checks it; a failed write closes it
//! for all writers (G9).

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, clippy::new_without_default)]

use crate::error::{Cause, Error, Result};
use crate::sync::{Mutex, MutexGuard};
use crate::trace;

/// Shared by the writer of the log and the writer of derived data.
pub struct Gate {
    state: Mutex<State>,
}

enum State {
    Open,
    Poisoned(Cause),
    Closed,
}

impl Gate {
    pub fn new() -> Self {
        Self { state: Mutex::new(State::Open) }
    }

    /// Fails unless writes are allowed now.
    pub fn check(&self) -> Result<()> {
        match &*self.lock() {
            State::Open => Ok(()),
            State::Poisoned(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            State::Closed => Err(Error::Closed),
        }
    }

    /// Fails if an earlier write failed, even while the store is being closed.
    pub fn check_sound(&self) -> Result<()> {
        match self.check() {
            Err(error @ Error::Poisoned { .. }) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub fn close(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Open) {
            *state = State::Closed;
        }
    }

    /// Runs a write. If it returns [`Error::Indeterminate`] or panics, the gate refuses all later
    /// writes, because it is unknown how much of this one reached the disk.
    pub fn attempt<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut attempt = Attempt { gate: self, is_over: false };
        let written = write();
        attempt.is_over = true;
        if let Err(Error::Indeterminate { cause }) = &written {
            self.poison(cause.clone());
        }
        written
    }

    fn poison(&self, cause: Cause) {
        let mut state = self.lock();
        // Later errors report the first failure.
        if !matches!(*state, State::Poisoned(_)) {
            trace::event!(error, %cause, "a write failed: the store takes no appends until it is reopened");
            *state = State::Poisoned(cause);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A write panicked: it is unknown how much of it reached the disk.
#[derive(Debug, thiserror::Error)]
#[error("a commit was cut short by a panic")]
pub(super) struct CutShort;

/// A write under way.
struct Attempt<'g> {
    gate: &'g Gate,
    is_over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.gate.poison(Cause::new(CutShort));
        }
    }
}
