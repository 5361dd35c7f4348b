//! [`Turn`]: after a conflict over an aggregate, the callers of this process take turns.

use std::collections::{HashMap, VecDeque};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::model::StreamId;
use crate::sync::{Mutex, MutexGuard};

/// How long a caller waits for its turn before it tries without one. This resolves a deadlock
/// between callers that wait for each other while they decide. Turns only reduce conflicts;
/// correctness rests on the version that an append expects.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The lines of this process, shared by all repositories, because several repositories may use one
/// store. Streams with the same name in two stores share a line, which costs a wait if there are
/// conflicts over both.
static LINES: Mutex<Option<Lines>> = Mutex::new(None);

/// The threads in line for each stream; the first has its turn. A line exists only after a
/// conflict, so that callers do not wait for a stream without conflicts.
type Lines = HashMap<StreamId, VecDeque<Thread>>;

fn lines() -> MutexGuard<'static, Option<Lines>> {
    LINES.lock()
}

/// A caller's place in the line for a stream. Dropping it gives the turn to the next caller.
pub(super) struct Turn(StreamId);

impl Turn {
    /// Joins the line after the callers that met a conflict, if there are any, and waits for the
    /// turn.
    pub(super) fn behind_others(stream: &StreamId) -> Option<Self> {
        Self::is_contended(stream).then(|| Self::wait(stream)).flatten()
    }

    /// Whether there is a line for this stream.
    pub(super) fn is_contended(stream: &StreamId) -> bool {
        lines().as_ref().is_some_and(|lines| lines.contains_key(stream))
    }

    /// Joins the line and waits for the turn. Returns `None` after [`WAIT_MAX`], and for a thread
    /// that is in this line already: it would wait for itself.
    pub(super) fn wait(stream: &StreamId) -> Option<Self> {
        let own = thread::current();
        let deadline = Instant::now() + WAIT_MAX;
        {
            let mut lines = lines();
            let line = lines.get_or_insert_default().entry(stream.clone()).or_default();
            if line.iter().any(|thread| thread.id() == own.id()) {
                return None;
            }
            line.push_back(own.clone());
        }
        // From here on, dropping `turn` removes the thread from the line, on every path.
        let turn = Self(stream.clone());
        loop {
            let is_first = {
                let lines = lines();
                let line = lines.as_ref().and_then(|lines| lines.get(stream));
                line.and_then(VecDeque::front).is_none_or(|first| first.id() == own.id())
            };
            if is_first {
                return Some(turn);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            thread::park_timeout(left);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let own = thread::current().id();
        let mut lines = lines();
        let Some(lines) = lines.as_mut() else { return };
        let Some(line) = lines.get_mut(&self.0) else { return };
        line.retain(|thread| thread.id() != own);
        match line.front() {
            Some(first) => first.unpark(),
            None => drop(lines.remove(&self.0)),
        }
    }
}
