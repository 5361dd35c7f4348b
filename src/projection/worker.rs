//! A worker drives one build of one projection. It reads the checkpoint, subscribes, handles
//! events, and writes their changes and the new checkpoint in one write.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Handled, Setup};
use super::builds::{Build, Directory, build_view, drop_others, skipped_prefix};
use super::discarded::Discarded;
use super::handler::{Handler, HandlerFailure, disk_full, guarded, is_cancelled, is_closed};
use super::shared::{BuildRun, Shared, Task};
use super::stage::Stage;
use super::status::{
    CheckpointAhead, FailureOutcome, ProjectionFailure, ProjectionNotice, ProjectionState,
};
use super::unhandled::{self, Noted, ParkedStreams, added, noted_after, parked_changes};
use super::{OnFailure, ProjectionOptions, Target};
use crate::error::{Cause, Error, Result};
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::model::{Position, RecordedEvent};
use crate::options::{Clock, now};
use crate::subscription::{Delivery, Subscription};
use crate::trace;
use crate::view_store::{Checkpoint, ViewChange, ViewCommit, ViewStore};

/// Events that do not match advance the stored checkpoint only every so many positions: after a
/// crash these events are skipped again.
const PROGRESS_LEN: u64 = 10_000;

/// A batch ends when its payloads have this many bytes, even if more events are available: bounds
/// memory.
const BATCH_LEN_MAX: usize = 8 << 20;

/// How long a build that can be promoted waits for events before it tries again.
const PROMOTE_PAUSE: Duration = Duration::from_millis(20);

/// Called for each failure.
pub(super) type Listener = Arc<dyn Fn(&ProjectionNotice) + Send + Sync>;

/// Everything a worker needs to drive its projection.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) options: ProjectionOptions,
    pub(super) events: Arc<dyn EventStore>,
    pub(super) views: Arc<dyn ViewStore>,
    pub(super) follows_other_log: bool,
    pub(super) clock: Clock,
    pub(super) listener: Option<Listener>,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Worker {
    pub(super) job: Job,
    build: Build,
    /// The build begins after this position.
    start: Option<Position>,
    pub(super) view: Arc<str>,
    /// The checkpoint as last written.
    checkpoint: Option<Checkpoint>,
    /// Every event up to here was handled, or does not match.
    pub(super) seen: Option<Position>,
    pub(super) parked: ParkedStreams,
    /// The discarded events of the batch.
    discarded: Discarded,
    /// The change count of the discard decisions that the build has applied.
    pub(super) reconciled: Option<u64>,
    /// Events after `seen` that were already handled, with effects outside the view.
    ahead: HashSet<Position>,
    /// Those of them whose notes are stored.
    noted: HashSet<Position>,
    /// The event on which the handler has failed last.
    failing: Option<Failing>,
    /// Whether it has reached the head since it last began to follow.
    has_caught_up: bool,
}

/// Events that are handled together.
struct EventBatch {
    events: Vec<Arc<RecordedEvent>>,
    /// Every event up to here is in the batch, or does not match.
    up_to: Option<Position>,
    /// The subscription had no further events.
    has_caught_up: bool,
    /// The subscription was interrupted, or its store was closed.
    has_ended: bool,
    /// The error of the subscription after these events.
    error: Option<Error>,
}

/// An event on which the handler has failed: how often, and when it is tried again.
#[derive(Clone, Copy)]
struct Failing {
    position: Position,
    tries: u32,
    until: Option<Instant>,
}

/// Whether the handled events were recorded.
enum Finished {
    /// They were. The handler may have failed on the next event.
    Kept(Option<HandlerFailure>),
    /// The target did not keep them: [`Projection::flush`](super::Projection::flush) failed.
    NotKept(Cause),
}

/// What to do after the handler failed on an event.
enum Next {
    Again,
    Skip,
    Leave,
}

/// How long a projection waits at least before it asks again for space on the disk.
const SPACE_PAUSE_MIN: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) fn new(job: Job, build: Build, start: Option<Position>) -> Self {
        let view = build_view(&job.name, build.generation).into();
        Self {
            job,
            build,
            start,
            view,
            checkpoint: None,
            seen: None,
            parked: ParkedStreams::new(),
            discarded: Discarded::default(),
            reconciled: None,
            ahead: HashSet::new(),
            noted: HashSet::new(),
            failing: None,
            has_caught_up: false,
        }
    }

    /// Runs until it is told to stop, or fails.
    pub(super) fn run(mut self) {
        let _mark = self.job.shared.mark_thread(self.build.generation);
        let failure = match guarded(|| self.work()) {
            Ok(Ok(())) => None,
            // A closed store is not a failure.
            Ok(Err(failure)) if self.is_closed() || is_closed(&failure) => None,
            Ok(Err(failure)) if is_cancelled(&failure.cause) => None,
            Ok(Err(failure)) => Some(failure),
            Err(panicked) => Some(failure(None, 1, panicked)),
        };
        if let Some(failure) = &failure {
            self.notify(FailureOutcome::Stopped, failure);
        }
        self.job.shared.ended(self.build.generation, failure);
    }

    fn work(&mut self) -> Result<(), ProjectionFailure> {
        self.begin()?;
        loop {
            let task = self.job.shared.next_task(self.build.generation);
            let is_last = matches!(task, Task::Stop);
            let done = match task {
                Task::Follow => self.follow(),
                Task::Answer(asked) => self.answer(asked),
                Task::Stop => self.write(Vec::new(), self.seen).map_err(Into::into),
            };
            if let Err(failure) = done {
                // Nothing was changed, so it can begin again when there is space.
                let Some(full) = disk_full(&failure) else { return Err(failure) };
                if !is_last {
                    self.wait_for_space(1, full);
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Loads the state of the build.
    fn begin(&mut self) -> Result<(), ProjectionFailure> {
        let views = &*self.job.views;
        self.checkpoint = views.checkpoint(&self.view)?;
        self.seen = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.position);
        let head = self.job.events.head()?;
        if let Some(checkpoint) = self.seen.filter(|seen| Some(*seen) > head) {
            return Err(failure(None, 1, Cause::new(CheckpointAhead { checkpoint, head })));
        }
        // If the log was restored from an older copy and ends before `start`, the build continues
        // after its head, so that it handles new events.
        self.seen = self.seen.max(self.start.min(head));
        if self.checkpoint.is_none() && self.job.target == Target::External {
            self.job.handler.reset().map_err(|cause| failure(None, 1, cause))?;
        }
        let (seen, ahead) = (self.seen, &mut self.noted);
        let noted = Noted::read(views, &self.view, |position| {
            ahead.extend(Some(position).filter(|position| Some(*position) > seen));
        })?;
        self.ahead.clone_from(&self.noted);
        self.parked = noted.streams;
        let streams = self.parked.len();
        self.tell(|run| {
            run.position = seen;
            run.parked_events = noted.parked;
            run.parked_streams = count(streams);
            run.skipped_events = noted.skipped;
        });
        Ok(())
    }

    /// Follows the log until there is something else to do.
    fn follow(&mut self) -> Result<(), ProjectionFailure> {
        self.reconcile()?;
        let subscribe = self.job.events.subscribe().query(self.job.handler.query());
        let mut following = subscribe.after(self.seen).start()?;
        if !self.job.shared.follow(self.build.generation, following.cancel_handle()) {
            return Ok(());
        }
        self.has_caught_up = false;
        self.tell(|run| run.state = ProjectionState::CatchingUp);
        loop {
            let batch = self.gather(&mut following);
            self.has_caught_up |= batch.has_caught_up;
            if batch.has_ended || !self.process(&batch)? {
                return Ok(());
            }
            if let Some(error) = batch.error {
                return Err(error.into());
            }
            if self.has_caught_up {
                self.tell(|run| run.state = ProjectionState::Live);
                self.promote()?;
            }
        }
    }

    /// Waits for the first event, and takes as many as are available and fit into a batch.
    fn gather(&self, following: &mut Subscription) -> EventBatch {
        let (events, up_to) = (Vec::new(), self.seen);
        let mut len = 0;
        let mut batch =
            EventBatch { events, up_to, has_caught_up: false, has_ended: false, error: None };
        let waits_for_promotion = self.job.shared.is_building(self.build.generation);
        while batch.events.len() < self.job.options.batch_events && len < BATCH_LEN_MAX {
            let delivery = match (batch.events.is_empty(), waits_for_promotion) {
                (false, _) => following.recv_timeout(Duration::ZERO),
                (true, true) => following.recv_timeout(PROMOTE_PAUSE),
                (true, false) => following.recv(),
            };
            match delivery {
                Ok(Delivery::Event(event)) => {
                    len += event.payload().len();
                    batch.events.push(Arc::new(event));
                }
                Ok(Delivery::Progress(_) | Delivery::Idle) => break,
                Ok(Delivery::CaughtUp(_)) => {
                    batch.has_caught_up = true;
                    break;
                }
                Ok(Delivery::Ended) => {
                    batch.has_ended = true;
                    break;
                }
                Err(error) => {
                    batch.error = Some(error);
                    break;
                }
            }
        }
        batch.up_to = Subscription::checkpoint(following).max(batch.up_to);
        batch
    }

    /// Handles all events of a batch, in as many steps as needed. Returns whether to continue
    /// following.
    fn process(&mut self, batch: &EventBatch) -> Result<bool, ProjectionFailure> {
        let mut rest = batch.events.as_slice();
        let Some(mut tries) = self.tries_before(rest.first()) else { return Ok(false) };
        if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
            let (first, last) = (first.position(), last.position());
            self.discarded = self.job.shared.look(|state| state.discarded.between(first, last));
        }
        while let Some(first) = rest.first() {
            let timer = trace::BatchTimer::start();
            let handled = self.setup().run(rest);
            let step = rest.get(handled.count);
            let up_to = step.map_or(batch.up_to, |event| event.position().previous());
            let step_len = handled.count;
            let refused = match self.finish(handled, up_to)? {
                // Handle all of them again.
                Finished::NotKept(cause) => {
                    self.ahead.clone_from(&self.noted);
                    tries += 1;
                    self.tell(|run| run.failed_tries += 1);
                    if !self.try_again(first, tries, cause)? {
                        return Ok(false);
                    }
                    continue;
                }
                Finished::Kept(refused) => refused,
            };
            if step_len > 0 {
                timer.written(&self.job.name, step_len, up_to.map_or(0, Position::get));
            }
            rest = rest.get(step_len..).unwrap_or_default();
            tries = if step_len > 0 { 0 } else { tries };
            let (Some(event), Some(refusal)) = (rest.first(), refused) else { continue };
            if refusal.is_cancelled() {
                return Ok(false);
            }
            tries += 1;
            self.tell(|run| run.failed_tries += 1);
            match self.refused(event, tries, refusal)? {
                Next::Again => {}
                Next::Skip => {
                    rest = rest.get(1..).unwrap_or_default();
                    tries = 0;
                }
                Next::Leave => return Ok(false),
            }
        }
        self.passed(batch.up_to)?;
        Ok(true)
    }

    pub(super) fn setup(&self) -> Setup<'_> {
        Setup {
            handler: &*self.job.handler,
            views: &self.job.views,
            view: &self.view,
            shared: &self.job.shared,
            generation: self.build.generation,
            is_outside: self.job.target != Target::View,
            ahead: &self.ahead,
            parked: &self.parked,
            discarded: &self.discarded,
            on_unreadable: self.job.options.on_unreadable,
            partitions: self.job.options.partitions,
            partition_by: &self.job.options.partition_by,
            now: now(&self.job.clock),
        }
    }

    /// Records the handled events: flushes the target, then writes the changes and the checkpoint.
    fn finish(&mut self, handled: Handled, up_to: Option<Position>) -> Result<Finished> {
        let Handled { count: done, changes, refused, had_conflict, ahead } = handled;
        let has_done = done > 0 || !ahead.is_empty();
        if has_done && let Err(cause) = self.job.handler.flush() {
            return Ok(Finished::NotKept(cause));
        }
        // Report these before the position, because threads wait for the position.
        self.tell(|run| {
            run.handled += count(done);
            run.conflicts += u64::from(had_conflict);
            if refused.is_none() {
                run.failure = None;
            }
        });
        if has_done {
            let noted: Vec<_> = noted_after(&changes, up_to).collect();
            self.write(changes, up_to)?;
            self.noted.extend(noted);
        }
        self.ahead.extend(ahead);
        self.ahead.retain(|position| Some(*position) > up_to);
        self.noted.retain(|position| Some(*position) > up_to);
        Ok(Finished::Kept(refused))
    }

    /// Decides what to do about an event on which the handler failed.
    fn refused(
        &mut self,
        event: &Arc<RecordedEvent>,
        tries: u32,
        refusal: HandlerFailure,
    ) -> Result<Next, ProjectionFailure> {
        if refusal.may_pass() && tries <= self.job.options.retries {
            let goes_on = self.try_again(event, tries, refusal.into_cause())?;
            return Ok(if goes_on { Next::Again } else { Next::Leave });
        }
        let cause = refusal.into_cause();
        match self.job.options.on_failure {
            OnFailure::Stop => Err(failure(Some(event), tries, cause)),
            OnFailure::Park => {
                self.tell(|run| run.failure = None);
                let mut stage = self.stage();
                unhandled::park(&mut stage, event, Some(&cause.to_string()), now(&self.job.clock));
                self.write(stage.into_changes().collect(), Some(event.position()))?;
                self.notify(FailureOutcome::Parked, &failure(Some(event), tries, cause));
                Ok(Next::Skip)
            }
        }
    }

    /// How often the first event of a batch was tried before something else came up, after waiting
    /// for the rest of the time before the next try. `None` if something else comes up again.
    fn tries_before(&self, first: Option<&Arc<RecordedEvent>>) -> Option<u32> {
        let position = first.map(|event| event.position());
        let failing = self.failing.filter(|failing| Some(failing.position) == position);
        let Some(Failing { tries, until, .. }) = failing else { return Some(0) };
        let left =
            until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        self.job.shared.back_off(self.build.generation, left).then_some(tries)
    }

    /// Waits before an event is retried. Returns whether to continue; fails if no retries are left.
    fn try_again(
        &mut self,
        event: &Arc<RecordedEvent>,
        tries: u32,
        cause: Cause,
    ) -> Result<bool, ProjectionFailure> {
        let failed = failure(Some(event), tries, cause);
        if tries > self.job.options.retries || self.is_closed() {
            return Err(failed);
        }
        self.notify(FailureOutcome::Retried, &failed);
        self.tell(|run| {
            run.state = ProjectionState::Retrying;
            run.failure = Some(failed);
        });
        let backoff = self.job.options.backoff_before(tries);
        let until = Instant::now().checked_add(backoff);
        self.failing = Some(Failing { position: event.position(), tries, until });
        let goes_on = self.job.shared.back_off(self.build.generation, backoff);
        self.tell(|run| run.state = ProjectionState::CatchingUp);
        Ok(goes_on)
    }

    /// Every event up to here was handled, or does not match.
    fn passed(&mut self, up_to: Option<Position>) -> Result<()> {
        let place = |position: Option<Position>| position.map_or(0, Position::get);
        let written = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.position);
        if place(up_to) - place(written).min(place(up_to)) >= PROGRESS_LEN {
            return self.write(Vec::new(), up_to);
        }
        if up_to > self.seen {
            let shared = self.job.shared.clone();
            let _alone = shared.directory();
            self.seen = up_to;
            self.tell(|run| run.position = up_to);
        }
        Ok(())
    }

    /// Writes changes and checkpoint atomically (G12). While the disk is full, it waits for space.
    pub(super) fn write(
        &mut self,
        changes: Vec<ViewChange>,
        up_to: Option<Position>,
    ) -> Result<()> {
        let written = self.checkpoint.as_ref().map(|checkpoint| checkpoint.position);
        if changes.is_empty() && written == Some(up_to) {
            return Ok(());
        }
        let commit = ViewCommit {
            view: self.view.to_string(),
            expected: self.checkpoint.clone(),
            changes,
            checkpoint: Some(Checkpoint { position: up_to, state: Vec::new() }),
            follows_other_log: self.job.follows_other_log,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.write_once(&commit) {
                Err(error @ Error::DiskFull { .. }) if self.wait_for_space(tries, &error) => {}
                written => return written,
            }
        }
    }

    /// Waits before a write is retried that found the disk full. Returns whether to continue.
    fn wait_for_space(&self, tries: u32, error: &Error) -> bool {
        let failed = failure(None, tries, Cause::new(error.clone()));
        if tries == 1 {
            self.notify(FailureOutcome::Retried, &failed);
        }
        self.tell(|run| {
            run.state = ProjectionState::Retrying;
            run.failure = Some(failed);
        });
        let backoff = self.job.options.backoff_before(tries).max(SPACE_PAUSE_MIN);
        let goes_on = !self.is_closed() && self.job.shared.back_off(self.build.generation, backoff);
        self.tell(|run| {
            run.state = ProjectionState::CatchingUp;
            run.failure = None;
        });
        goes_on
    }

    fn write_once(&mut self, commit: &ViewCommit) -> Result<()> {
        let shared = self.job.shared.clone();
        let _alone = shared.directory();
        if !shared.is_wanted(self.build.generation) {
            // Another build replaced this one, so no reader would see the write.
            return Ok(());
        }
        let parked = parked_changes(&commit.changes);
        let skipped = added(&commit.changes, &skipped_prefix());
        self.job.views.commit_view(commit)?;
        self.checkpoint.clone_from(&commit.checkpoint);
        let up_to = commit.checkpoint.as_ref().and_then(|checkpoint| checkpoint.position);
        self.seen = up_to;
        for (stream, change) in &parked {
            let events = self.parked.entry(stream.clone()).or_default();
            *events = events.saturating_add_signed(*change);
            if *events == 0 {
                self.parked.remove(stream);
            }
        }
        let parked: i64 = parked.values().sum();
        let streams = count(self.parked.len());
        self.tell(|run| {
            run.position = up_to;
            run.parked_events = run.parked_events.saturating_add_signed(parked);
            run.parked_streams = streams;
            run.skipped_events = run.skipped_events.saturating_add_signed(skipped);
        });
        Ok(())
    }

    /// Promotes a shadow build that has caught up, unless the serving build is ahead of it.
    fn promote(&mut self) -> Result<()> {
        if !self.job.shared.is_building(self.build.generation) {
            return Ok(());
        }
        self.reconcile()?;
        self.write(Vec::new(), self.seen)?;
        let (views, shared) = (&*self.job.views, &*self.job.shared);
        let switching = shared.directory();
        if shared.serving_position() > self.seen || !self.is_reconciled() {
            // The serving build advanced meanwhile, and readers must not go back in time, or an
            // event was discarded or restored. This build tries again soon.
            return Ok(());
        }
        let directory = Directory::read(views, &self.job.name)?;
        if directory.building != Some(self.build) {
            // Another manager has replaced this build.
            let (view, expected) = (self.view.to_string(), self.seen);
            return Err(Error::CheckpointMoved { view, expected, found: None });
        }
        let serving = Directory { serving: Some(self.build), building: None, ..directory.clone() };
        let serving = serving.with_definitions_of_builds();
        directory.replace(views, &self.job.name, &serving)?;
        let retired = shared.promote(self.build.generation);
        drop(switching);
        shared.wait_for_end(retired);
        let _alone = shared.directory();
        drop_others(views, &self.job.name, &Directory::read(views, &self.job.name)?)
    }

    fn is_closed(&self) -> bool {
        matches!(self.job.events.head(), Err(Error::Closed))
    }

    /// Calls the listener.
    fn notify(&self, outcome: FailureOutcome, failure: &ProjectionFailure) {
        trace::event!(
            warn, projection = %self.job.name, ?outcome, %failure, "a projection failed"
        );
        let Some(listener) = &self.job.listener else { return };
        let projection = self.job.name.clone();
        let notice = ProjectionNotice { projection, outcome, failure: failure.clone() };
        // A panic in a listener is ignored.
        let _ = guarded(|| listener(&notice));
    }

    pub(super) fn generation(&self) -> u64 {
        self.build.generation
    }

    pub(super) fn stage(&self) -> Stage {
        Stage::new(self.job.views.clone(), self.view.clone())
    }

    pub(super) fn tell(&self, tell: impl FnOnce(&mut BuildRun)) {
        self.job.shared.tell(self.build.generation, tell);
    }
}

pub(super) fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn failure(event: Option<&Arc<RecordedEvent>>, tries: u32, cause: Cause) -> ProjectionFailure {
    ProjectionFailure {
        position: event.map(|event| event.position()),
        event_id: event.map(|event| event.id()),
        stream: event.map(|event| event.stream().clone()),
        tries,
        cause,
    }
}
