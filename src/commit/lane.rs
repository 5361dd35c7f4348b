//! The lane: the thread that leads for tasks.
//!
//! A task must not sync the disk on a thread of its executor, so it never leads. Its submission
//! waits in the same queue as those of threads, in order of arrival; when the first one waiting is
//! a task's, the lane leads. A submission belongs to the queue: dropping the future that waits for
//! it cancels nothing.

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]
#![allow(clippy::missing_errors_doc)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::prepare::Submission;
use super::queue::{Outcome, Queue, Ticket};
use super::room::Permit;
use crate::error::{Error, Result};

/// A submission of a task. It is in the queue, whether or not this future is polled.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Submitting(Arc<Ticket>);

impl Queue {
    /// Enters a submission that no thread waits for. [`Queue::run_lane`] must be running.
    pub fn enter_task(&self, submission: Submission, room: Permit) -> Result<Submitting> {
        let ticket = Arc::new(Ticket::new(submission, false));
        ticket.state.lock().room = Some(room);
        let mut state = self.state.lock();
        if state.lane_ends {
            return Err(Error::Closed);
        }
        if state.enter(ticket.clone()) {
            state.lane_leads = true;
            drop(state);
            self.lane.notify_one();
        }
        Ok(Submitting(ticket))
    }

    /// Leads whenever the first submission waiting is a task's, until [`Queue::end_lane`] is called
    /// and no task waits.
    pub fn run_lane(&self, mut commit: impl FnMut(&[Arc<Ticket>])) {
        while self.wait_to_lead() {
            let leading = self.lead();
            // After a panic the writer is poisoned, and the callers get an error. The lane
            // continues, so that later tasks get theirs.
            let committed = catch_unwind(AssertUnwindSafe(|| commit(&leading.group)));
            drop(committed);
            leading.finish();
        }
    }

    /// Waits until the lane leads; false if it is to end.
    fn wait_to_lead(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.lane_leads) {
                return true;
            }
            if state.lane_ends && state.tasks == 0 {
                return false;
            }
            state = self.lane.wait(state);
        }
    }

    /// Lets the lane end once no task waits. Tasks that come later get [`Error::Closed`].
    pub fn end_lane(&self) {
        self.state.lock().lane_ends = true;
        self.lane.notify_one();
    }
}

impl Future for Submitting {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.state.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Forgets the task, but not its submission.
impl Drop for Submitting {
    fn drop(&mut self) {
        let waker = self.0.state.lock().waker.take();
        // Dropped without the lock: a waker is code of an executor.
        drop(waker);
    }
}
