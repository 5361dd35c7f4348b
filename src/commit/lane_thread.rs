//! The thread of the lane: it starts with the first submission of a task, and ends with the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::prepare::Submission;
use super::queue::{Outcome, Queue, Ticket};
use super::room::{Permit, Room};
use crate::error::{Error, Result};
use crate::pool;
use crate::sync::Mutex;

pub(super) struct LaneThread {
    queue: Arc<Queue>,
    room: Room,
    is_running: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LaneThread {
    pub(super) fn new(queue: Arc<Queue>, waiting_bytes: usize) -> Self {
        let is_running = AtomicBool::new(false);
        Self { queue, room: Room::new(waiting_bytes), is_running, thread: Mutex::new(None) }
    }

    /// Waits until this many bytes may be prepared and submitted.
    pub(super) async fn room(&self, bytes: usize) -> Permit {
        self.room.take(bytes).await
    }

    /// How many bytes are submitted and not committed.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.room.taken()
    }

    /// Enters a submission and waits for its outcome. The first one starts the thread, which runs
    /// `commit` for each group.
    pub(super) async fn submit(
        &self,
        submission: Submission,
        room: Permit,
        commit: impl FnMut(&[Arc<Ticket>]) + Send + 'static,
    ) -> Outcome {
        if !self.is_running.load(Ordering::Acquire) {
            self.start(commit)?;
        }
        self.queue.enter_task(submission, room)?.await
    }

    fn start(&self, commit: impl FnMut(&[Arc<Ticket>]) + Send + 'static) -> Result<()> {
        let mut thread = self.thread.lock();
        if self.is_running.load(Ordering::Acquire) {
            return Ok(());
        }
        let queue = self.queue.clone();
        let started = thread::Builder::new()
            .name("annals-commit".to_owned())
            .spawn(move || {
                // A waker that drops the last `AsyncStore` here begins a close that joins this thread.
                pool::wait_for_nothing_at_the_end();
                queue.run_lane(commit);
            })
            .map_err(|error| Error::storage("starting the thread that commits", error))?;
        *thread = Some(started);
        self.is_running.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends the thread, and waits until it has ended. If a waker closes the store on this thread
    /// itself, the thread ends after it.
    pub(super) fn end(&self) {
        self.queue.end_lane();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|of| of.thread().id() != thread::current().id()) {
            // The lane catches the panics of commits and wakers.
            let _ = thread.join();
        }
    }
}
