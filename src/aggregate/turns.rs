//! Who decides next on an aggregate that many work on: after a conflict, the callers of this
//! process take turns.

use std::collections::{HashMap, VecDeque};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::model::StreamId;
use crate::sync::{Mutex, MutexGuard};

/// How long a caller waits for its turn before it tries without. A turn is a courtesy: what is
/// right is decided by the version that an append expects. So callers that wait for each other,
/// through what they do while they decide, get on.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The lines of this process, of all repositories together, for those over one store need not know
/// of each other. Lines of streams that have one name in two stores are one line: that costs a
/// wait, where both are fought over.
static LINES: Mutex<Option<Lines>> = Mutex::new(None);

/// Who is in line for which stream; who is first has its turn. There is a line only where somebody
/// met a conflict, so that nobody waits for a stream that is not fought over.
type Lines = HashMap<StreamId, VecDeque<Thread>>;

fn lines() -> MutexGuard<'static, Option<Lines>> {
    LINES.lock()
}

/// A caller's place in the line for a stream. When it is dropped, the next one has its turn.
pub(super) struct Turn<'s>(&'s StreamId);

impl<'s> Turn<'s> {
    /// Stands in line after those who met a conflict, if there are any, and waits for the turn.
    pub(super) fn behind_others(stream: &'s StreamId) -> Option<Self> {
        let is_fought_over = lines().as_ref().is_some_and(|lines| lines.contains_key(stream));
        is_fought_over.then(|| Self::wait(stream)).flatten()
    }

    /// Stands in line and waits for the turn. `None` after a long wait, and for a thread that is in
    /// this line already: it would wait for itself.
    pub(super) fn wait(stream: &'s StreamId) -> Option<Self> {
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
        // From here on dropping it leaves the line, however it is left.
        let turn = Self(stream);
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

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let own = thread::current().id();
        let mut lines = lines();
        let Some(lines) = lines.as_mut() else { return };
        let Some(line) = lines.get_mut(self.0) else { return };
        line.retain(|thread| thread.id() != own);
        match line.front() {
            Some(first) => first.unpark(),
            None => drop(lines.remove(self.0)),
        }
    }
}
