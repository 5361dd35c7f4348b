//! The queue of submissions and the hand-over of leadership between callers.
//!
//! A caller is a thread, which may lead, or a task, which never does: for tasks the thread of the
//! [lane](super::lane) leads.

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, clippy::new_without_default)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use smallvec::SmallVec;

use super::gate::CutShort;
use super::prepare::Submission;
#[cfg(feature = "async")]
use super::room::Permit;
use crate::error::{Cause, Error, Result};
use crate::event_store::{Appended, Submitted};
use crate::options::Durability;
use crate::sync::{BriefWait, Condvar, Mutex, MutexGuard, wake_task};

/// The most submissions in one group: bounds how long the first of them waits for the others.
const GROUP_LEN_MAX: usize = 1_024;

/// How long the leader of a synced group waits for callers that were answered just now, in all and
/// after the last one that came back. A sync takes longer than either.
const GATHER_MAX: Duration = Duration::from_micros(200);
const GATHER_IDLE: Duration = Duration::from_micros(30);
/// With fewer callers, waiting costs more than a shared sync saves.
const GATHER_CALLERS_MIN: usize = 4;

/// The result of a submission.
pub(super) type Outcome = Result<Answer>;

/// The answer to a submission that was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The result of each append.
    pub appended: SmallVec<[Appended; 1]>,
    /// The result of the request, if it has an idempotency key.
    pub keyed: Option<Submitted>,
    /// Nothing was done, because so much was appended since the caller looked its conditions up that
    /// it must look them up again.
    pub must_look_again: bool,
}

/// The result for a caller, once the batch of its submission was written or the write failed.
///
/// After a failure, the staged appends may or may not be on disk. A rejection may depend on them,
/// so the caller of a rejected submission gets [`Error::Poisoned`]: none of it was appended.
pub fn settle(outcome: Outcome, written: &Result<()>) -> Outcome {
    match (outcome, written) {
        (outcome, Ok(())) => outcome,
        (Ok(answer), Err(error)) if !answer.must_look_again => Err(error.clone()),
        (_, Err(Error::Indeterminate { cause })) => Err(Error::Poisoned { cause: cause.clone() }),
        (Ok(_), Err(error)) => Err(error.clone()),
        (Err(refused), Err(_)) => Err(refused),
    }
}

/// Whether a caller commits now or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Lead,
    Follow,
}

pub struct Queue {
    pub(super) state: Mutex<State>,
    /// Wakes the thread of the lane.
    pub(super) lane: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    waiting: VecDeque<Arc<Ticket>>,
    /// How many of those that wait are tasks.
    pub(super) tasks: usize,
    has_leader: bool,
    /// How many threads called when the last synced group ended: those it answered, and those that
    /// waited. Only a thread comes back at once, so only threads are worth waiting for.
    callers: usize,
    /// Whether the lane leads the next group.
    pub(super) lane_leads: bool,
    /// Whether the lane is to end. No task enters any more.
    pub(super) lane_ends: bool,
}

/// A submission in the queue, on which its caller waits.
pub struct Ticket {
    durability: Durability,
    /// Whether a thread waits for it, which may lead. Otherwise a task does.
    has_thread: bool,
    pub(super) state: Mutex<TicketState>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct TicketState {
    submission: Option<Submission>,
    pub(super) outcome: Option<Outcome>,
    /// Whether its caller leads the next group.
    leads: bool,
    /// Whether its caller sleeps. To wake a caller that does not is a system call for nothing.
    sleeps: bool,
    /// Wakes the task that waits.
    pub(super) waker: Option<Waker>,
    /// The room that a task's submission takes, until it has ended.
    #[cfg(feature = "async")]
    pub(super) room: Option<Permit>,
}

impl Queue {
    pub fn new() -> Self {
        Self { state: Mutex::new(State::default()), lane: Condvar::new() }
    }

    /// Commits a submission, either through the current leader or as leader. A leader runs `commit`
    /// for all waiting submissions.
    pub fn submit(&self, submission: Submission, commit: impl FnOnce(&[Arc<Ticket>])) -> Outcome {
        let (ticket, role) = self.enter(submission);
        if role == Role::Follow
            && let Some(outcome) = ticket.wait()
        {
            return outcome;
        }
        // We lead. Our own submission is in the group, because it was the first one waiting.
        let leading = self.lead();
        commit(&leading.group);
        // The next leader begins before our followers are woken.
        leading.finish();
        ticket.wait().unwrap_or(Err(Error::Closed))
    }

    /// Enters a submission, and returns whether its caller leads.
    fn enter(&self, submission: Submission) -> (Arc<Ticket>, Role) {
        let ticket = Arc::new(Ticket::new(submission, true));
        let mut state = self.state.lock();
        let leads = state.enter(ticket.clone());
        (ticket, if leads { Role::Lead } else { Role::Follow })
    }

    /// Takes all waiting submissions, up to [`GROUP_LEN_MAX`], in order of arrival.
    pub(super) fn lead(&self) -> Leading<'_> {
        let mut state = self.gather(self.state.lock());
        let count = state.waiting.len().min(GROUP_LEN_MAX);
        let group: Vec<_> = state.waiting.drain(..count).collect();
        state.tasks -= group.iter().filter(|ticket| !ticket.has_thread).count();
        Leading { queue: self, group, is_finished: false }
    }

    /// Waits briefly for the callers that were answered just now, if one sync can serve them all.
    /// Without this, a leader syncs for half of them while the others are on their way back.
    fn gather<'q>(&'q self, mut state: MutexGuard<'q, State>) -> MutexGuard<'q, State> {
        let expected = state.callers.min(GROUP_LEN_MAX);
        let is_synced =
            state.waiting.front().is_some_and(|first| first.durability == Durability::Sync);
        if !is_synced || expected < GATHER_CALLERS_MIN {
            return state;
        }
        let mut wait = BriefWait::begin();
        let mut has_changed = false;
        while state.threads() < expected {
            let seen = state.threads();
            drop(state);
            let goes_on = wait.goes_on(has_changed, GATHER_MAX, GATHER_IDLE);
            state = self.state.lock();
            has_changed = state.threads() > seen;
            if !goes_on {
                break;
            }
        }
        state
    }

    /// Makes the first waiting caller the next leader, if one is waiting: for a task, the lane.
    fn hand_over(&self, group: &[Arc<Ticket>]) {
        let mut state = self.state.lock();
        let is_synced = group.iter().any(|ticket| ticket.durability == Durability::Sync);
        let answered = group.iter().filter(|ticket| ticket.has_thread).count();
        state.callers = if is_synced { answered + state.threads() } else { 0 };
        match state.waiting.front() {
            None => {
                state.has_leader = false;
                if state.lane_ends {
                    self.lane.notify_one();
                }
            }
            Some(next) if next.has_thread => {
                let mut ticket = next.state.lock();
                ticket.leads = true;
                next.wake(ticket);
            }
            Some(_) => {
                state.lane_leads = true;
                self.lane.notify_one();
            }
        }
    }
}

impl State {
    /// Adds a ticket. Returns whether its caller leads, or, for a task, the lane.
    pub(super) fn enter(&mut self, ticket: Arc<Ticket>) -> bool {
        self.tasks += usize::from(!ticket.has_thread);
        self.waiting.push_back(ticket);
        !std::mem::replace(&mut self.has_leader, true)
    }

    /// How many threads wait.
    fn threads(&self) -> usize {
        self.waiting.len() - self.tasks
    }
}

/// The group that one leader commits. When it ends, even by a panic, leadership is handed over and
/// no follower is left waiting.
pub(super) struct Leading<'q> {
    queue: &'q Queue,
    pub(super) group: Vec<Arc<Ticket>>,
    is_finished: bool,
}

impl Leading<'_> {
    /// Hands over leadership, then wakes the callers of the group.
    pub(super) fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        self.queue.hand_over(&self.group);
        for ticket in &self.group {
            let mut state = ticket.state.lock();
            // If the leader panicked, some callers have no outcome: they must not wait forever.
            if state.outcome.is_none() {
                let cause = Cause::new(CutShort);
                let is_untouched = state.submission.is_some();
                state.outcome = Some(Err(if is_untouched {
                    Error::Poisoned { cause }
                } else {
                    Error::Indeterminate { cause }
                }));
            }
            ticket.wake(state);
        }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Ticket {
    pub(super) fn new(submission: Submission, has_thread: bool) -> Self {
        let durability = submission.durability;
        let state = TicketState { submission: Some(submission), ..TicketState::default() };
        Self { durability, has_thread, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for the outcome; `None` if the caller must lead instead.
    fn wait(&self) -> Option<Outcome> {
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return Some(outcome);
            }
            if std::mem::take(&mut state.leads) {
                return None;
            }
            state.sleeps = true;
            state = self.changed.wait(state);
            state.sleeps = false;
        }
    }

    /// Wakes the caller if it sleeps.
    fn wake(&self, mut state: MutexGuard<'_, TicketState>) {
        let (sleeps, waker) = (state.sleeps, state.waker.take());
        #[cfg(feature = "async")]
        let room = state.room.take();
        drop(state);
        if sleeps {
            self.changed.notify_one();
        }
        #[cfg(feature = "async")]
        drop(room);
        if let Some(waker) = waker {
            wake_task(waker);
        }
    }

    /// The durability that its caller asked for.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Takes the submission, for the leader to commit.
    pub fn take(&self) -> Option<Submission> {
        self.state.lock().submission.take()
    }

    /// Sets the outcome. The caller receives it when the group is finished.
    pub fn set(&self, outcome: Outcome) {
        self.state.lock().outcome = Some(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Position, StreamId, Version};

    #[test]
    fn failed_write_settles_appends_as_indeterminate_and_refusals_as_poisoned() {
        let stream = StreamId::new("a").unwrap();
        let versions = vec![(stream.clone(), Version::FIRST..=Version::FIRST)];
        let appended = Appended::new(vec![Position::FIRST..=Position::FIRST], versions, false);
        let appended = [appended.unwrap()].into_iter().collect();
        let appended = Answer { appended, ..Answer::default() };
        let again = Answer { must_look_again: true, ..Answer::default() };
        let refused = Error::PartialRetry { stream };
        let failed = Err(Error::Indeterminate { cause: Cause::new(CutShort) });
        assert_eq!(settle(Ok(appended.clone()), &Ok(())).unwrap(), appended);
        let given = settle(Err(refused.clone()), &Ok(()));
        assert!(matches!(given, Err(Error::PartialRetry { .. })));
        assert!(matches!(settle(Ok(appended), &failed), Err(Error::Indeterminate { .. })));
        assert!(matches!(settle(Ok(again), &failed), Err(Error::Poisoned { .. })));
        assert!(matches!(settle(Err(refused), &failed), Err(Error::Poisoned { .. })));
    }
}
