//! [`Turn`]: after a conflict over an aggregate, the callers of this process take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use crate::model::StreamId;
#[cfg(feature = "async")]
use crate::signal::Timer;
use crate::sync::{Mutex, MutexGuard, wake_task};

/// How long a caller waits for its turn before it tries without one. This resolves a deadlock
/// between callers that wait for each other while they decide, and ends the wait for a task that is
/// not polled. Turns only reduce conflicts; correctness rests on the version that an append
/// expects.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The lines of this process, shared by all repositories, because several repositories may use one
/// store. Streams with the same name in two stores share a line, which costs a wait if there are
/// conflicts over both.
static LINES: Mutex<Option<Lines>> = Mutex::new(None);

#[derive(Default)]
struct Lines {
    /// The callers in line for each stream; the first has its turn. A line exists only after a
    /// conflict, so that callers do not wait for a stream without conflicts.
    of_streams: HashMap<StreamId, VecDeque<Place>>,
    last_id: u64,
}

/// The place of a caller in a line.
struct Place {
    id: u64,
    /// `None` for a task.
    thread: Option<ThreadId>,
    waker: Option<Waker>,
}

fn lines() -> MutexGuard<'static, Option<Lines>> {
    LINES.lock()
}

/// A caller's place in the line for a stream. Dropping it gives the turn to the next caller.
pub(crate) struct Turn {
    stream: StreamId,
    id: u64,
}

impl Turn {
    /// Whether there is a line for this stream.
    pub(crate) fn is_contended(stream: &StreamId) -> bool {
        lines().as_ref().is_some_and(|lines| lines.of_streams.contains_key(stream))
    }

    /// Joins the line and waits for the turn. Returns `None` after [`WAIT_MAX`], and for a thread
    /// that is in this line already: it would wait for itself.
    pub(crate) fn wait(stream: &StreamId) -> Option<Self> {
        let own = thread::current();
        let turn = Self::join(stream, Some(own.id()))?;
        let deadline = Instant::now() + WAIT_MAX;
        let waker = Waker::from(Arc::new(Unpark(own)));
        let mut context = Context::from_waker(&waker);
        while turn.poll(&mut context).is_pending() {
            thread::park_timeout(deadline.checked_duration_since(Instant::now())?);
        }
        Some(turn)
    }

    /// Joins the line and waits for the turn as a task. Returns `None` after [`WAIT_MAX`].
    #[cfg(feature = "async")]
    pub(crate) async fn wait_as_task(stream: StreamId) -> Option<Self> {
        let turn = Self::join(&stream, None)?;
        let is_first = futures_lite::future::poll_fn(|context| turn.poll(context));
        let is_first = async {
            is_first.await;
            true
        };
        let is_late = async {
            Timer::new(WAIT_MAX).await;
            false
        };
        futures_lite::future::or(is_first, is_late).await.then_some(turn)
    }

    /// From here on, dropping the turn removes the caller from the line, on every path.
    fn join(stream: &StreamId, thread: Option<ThreadId>) -> Option<Self> {
        let mut lines = lines();
        let lines = lines.get_or_insert_default();
        let line = lines.of_streams.entry(stream.clone()).or_default();
        if thread.is_some() && line.iter().any(|place| place.thread == thread) {
            return None;
        }
        lines.last_id += 1;
        line.push_back(Place { id: lines.last_id, thread, waker: None });
        Some(Self { stream: stream.clone(), id: lines.last_id })
    }

    /// Whether it is this caller's turn.
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let mut lines = lines();
        let line = lines.as_mut().and_then(|lines| lines.of_streams.get_mut(&self.stream));
        let Some(line) = line else { return Poll::Ready(()) };
        match line.iter_mut().position(|place| place.id == self.id) {
            None | Some(0) => Poll::Ready(()),
            Some(at) => {
                let replaced = line.get_mut(at).and_then(|place| place.waker.replace(waker));
                // Dropped without the lock: a waker may be code of an executor.
                drop(lines);
                drop(replaced);
                Poll::Pending
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut lines = lines();
            let Some(lines) = lines.as_mut() else { return };
            let Some(line) = lines.of_streams.get_mut(&self.stream) else { return };
            let own = line.iter().position(|place| place.id == self.id);
            let own = own.and_then(|own| line.remove(own));
            let next = line.front_mut().and_then(|first| first.waker.take());
            if line.is_empty() {
                lines.of_streams.remove(&self.stream);
            }
            (own, next)
        };
        // Without the lock: a waker may be code of an executor.
        let (own, next) = next;
        drop(own);
        next.into_iter().for_each(wake_task);
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
