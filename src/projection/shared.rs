//! The state that a manager and the workers of one projection share.

use std::cell::Cell;
use std::ptr;
#[cfg(feature = "async")]
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::builds::Build;
use super::discarded::Discarded;
use super::status::{ProjectionFailure, ProjectionState};
use super::unhandled::UnhandledEvent;
use crate::model::Position;
#[cfg(feature = "async")]
use crate::signal::Signal;
use crate::subscription::CancelHandle;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The state that the manager requests from the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Run,
    Pause,
    Stop,
}

/// A worker's next task.
pub(super) enum Task {
    /// Follow the log.
    Follow,
    /// Serve requests.
    Answer(Vec<Ask>),
    /// Stop.
    Stop,
}

/// A request to the worker of the serving build, which serves it between two batches.
pub(super) enum Ask {
    /// Retry the parked events, and report how many are left.
    Retry(Sender<u64>),
    /// Discard a parked event, and report whether it was parked.
    Discard { parked: UnhandledEvent, reply: Sender<bool> },
    /// Park a discarded event again, and report whether it was discarded.
    Restore { discarded: UnhandledEvent, reply: Sender<bool> },
}

/// One build, with the state of the worker that drives it, if any.
pub(super) struct BuildRun {
    pub(super) build: Build,
    pub(super) is_running: bool,
    pub(super) state: ProjectionState,
    pub(super) position: Option<Position>,
    pub(super) failure: Option<ProjectionFailure>,
    pub(super) handled: u64,
    pub(super) failed_tries: u64,
    pub(super) conflicts: u64,
    pub(super) parked_events: u64,
    pub(super) parked_streams: u64,
    pub(super) skipped_events: u64,
    interrupt: Option<CancelHandle>,
    /// Requests to serve before the worker continues.
    asked: Vec<Ask>,
}

impl BuildRun {
    pub(super) fn new(build: Build, position: Option<Position>, is_running: bool) -> Self {
        let state = if is_running { ProjectionState::CatchingUp } else { ProjectionState::Stopped };
        Self {
            build,
            is_running,
            state,
            position,
            failure: None,
            handled: 0,
            failed_tries: 0,
            conflicts: 0,
            parked_events: 0,
            parked_streams: 0,
            skipped_events: 0,
            interrupt: None,
            asked: Vec::new(),
        }
    }

    fn interrupt(&mut self) {
        if let Some(cancel) = self.interrupt.take() {
            cancel.cancel();
        }
    }
}

pub(super) struct State {
    pub(super) wanted: Wanted,
    /// The build that readers see.
    pub(super) serving: Option<BuildRun>,
    /// The shadow build.
    pub(super) building: Option<BuildRun>,
    /// Builds that no longer serve, but whose workers have not ended yet.
    retiring: Vec<BuildRun>,
    /// The discarded events, as they are stored.
    pub(super) discarded: Discarded,
}

impl State {
    /// Whether at least one build of this version exists, and a worker drives each of them.
    pub(super) fn is_driven(&self, version: u32) -> bool {
        let builds = [&self.serving, &self.building].into_iter().flatten();
        let mut ours = builds.filter(|run| run.build.version == version).peekable();
        self.wanted != Wanted::Stop && ours.peek().is_some() && ours.all(|run| run.is_running)
    }

    /// Whether any build has a running worker.
    pub(super) fn is_running(&self) -> bool {
        let builds = [&self.serving, &self.building].into_iter().flatten();
        builds.chain(&self.retiring).any(|run| run.is_running)
    }

    /// Whether the builds were neither loaded nor started.
    pub(super) fn is_unknown(&self) -> bool {
        self.serving.is_none() && self.building.is_none()
    }

    /// Forgets all builds, after everything that the projection stored was removed.
    pub(super) fn forget(&mut self) {
        (self.wanted, self.serving, self.building) = (Wanted::Stop, None, None);
        self.discarded.refresh(Vec::new());
    }

    /// The position of the build that readers see.
    pub(super) fn serving_position(&self) -> Option<Position> {
        self.serving.as_ref().and_then(|run| run.position)
    }

    fn want(&mut self, wanted: Wanted) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        for run in [&mut self.serving, &mut self.building].into_iter().flatten() {
            run.interrupt();
        }
    }

    fn run(&mut self, generation: u64) -> Option<&mut BuildRun> {
        let runs = [&mut self.serving, &mut self.building].into_iter().flatten();
        runs.into_iter().find(|run| run.build.generation == generation)
    }

    /// Whether a build should still be driven, and its worker was not told to stop.
    fn is_to_go_on(&mut self, generation: u64) -> bool {
        self.wanted != Wanted::Stop && self.run(generation).is_some()
    }

    /// Whether a worker should continue its current work.
    fn may_go_on(&mut self, generation: u64) -> bool {
        let is_wanted = self.wanted == Wanted::Run;
        self.run(generation).is_some_and(|run| is_wanted && run.asked.is_empty())
    }
}

thread_local! {
    /// The address of the [`Shared`] of the projection that this thread drives, and the generation
    /// of its build; 0 for none.
    static DRIVEN_HERE: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// See [`Shared::mark_thread`].
pub(super) struct Mark;

impl Drop for Mark {
    fn drop(&mut self) {
        DRIVEN_HERE.set((0, 0));
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The same for tasks.
    #[cfg(feature = "async")]
    changed_for_tasks: Arc<Signal>,
    directory: Mutex<()>,
}

impl Shared {
    pub(super) fn new() -> Self {
        let (serving, building, retiring) = (None, None, Vec::new());
        let discarded = Discarded::default();
        let state = State { wanted: Wanted::Stop, serving, building, retiring, discarded };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            #[cfg(feature = "async")]
            changed_for_tasks: Arc::default(),
            directory: Mutex::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Locks the directory. Held while the directory and the runs change, because they must agree,
    /// and while a build is written, so that no build advances while another is promoted. A thread
    /// that waits for a worker must not hold it.
    pub(super) fn directory(&self) -> MutexGuard<'_, ()> {
        self.directory.lock()
    }

    /// Reads the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state, and wakes everything that waits for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.notify();
        changed
    }

    /// Wakes all threads and tasks that wait for a change.
    fn notify(&self) {
        self.changed.notify_all();
        #[cfg(feature = "async")]
        self.changed_for_tasks.raise();
    }

    /// Waits until `look` returns a value or the time is over.
    pub(super) fn wait<T>(
        &self,
        until: Option<Instant>,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            state = match until {
                None => self.changed.wait(state),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now())?;
                    self.changed.wait_timeout(state, left)
                }
            };
        }
    }

    /// Waits until `look` returns a value, as [`Shared::wait`] does, without a thread.
    #[cfg(feature = "async")]
    pub(super) async fn wait_async<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Listen before looking, so that no change is missed.
            let changed = self.changed_for_tasks.listen();
            let found = look(&mut self.lock());
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    // Called by the manager.

    /// Sets what the workers should do, and wakes those that wait for events.
    pub(super) fn want(&self, wanted: Wanted) {
        self.change(|state| state.want(wanted));
    }

    /// Pauses the workers, unless they should stop.
    pub(super) fn pause(&self) {
        self.change(|state| {
            if state.wanted == Wanted::Run {
                state.want(Wanted::Pause);
            }
        });
    }

    /// Sends a request to the serving worker; returns whether one is running.
    pub(super) fn ask(&self, ask: Ask) -> bool {
        self.change(|state| {
            let run = state.serving.as_mut().filter(|run| run.is_running);
            let Some(run) = run else { return false };
            run.asked.push(ask);
            run.interrupt();
            true
        })
    }

    /// Whether this thread drives the projection. If so, waiting for the projection would deadlock.
    pub(super) fn is_driven_here(&self) -> bool {
        self.is_driven_by(DRIVEN_HERE.get())
    }

    fn is_driven_by(&self, (shared, _): (usize, u64)) -> bool {
        shared == ptr::from_ref(self).addr()
    }

    /// The generation of the build that this thread drives, if it drives the projection.
    #[cfg(feature = "async")]
    pub(super) fn generation_driven_here(&self) -> Option<u64> {
        let driven = DRIVEN_HERE.get();
        self.is_driven_by(driven).then_some(driven.1)
    }

    // Called by the workers.

    /// Marks this thread as one that drives a build of the projection, until the mark is dropped.
    pub(super) fn mark_thread(&self, generation: u64) -> Mark {
        DRIVEN_HERE.set((ptr::from_ref(self).addr(), generation));
        Mark
    }

    /// Returns the next task; waits while paused.
    pub(super) fn next_task(&self, generation: u64) -> Task {
        let mut state = self.lock();
        loop {
            let wanted = state.wanted;
            // A replaced build is no longer driven.
            let Some(run) = state.run(generation) else { return Task::Stop };
            run.interrupt = None;
            if !run.asked.is_empty() {
                return Task::Answer(std::mem::take(&mut run.asked));
            }
            match wanted {
                Wanted::Stop => return Task::Stop,
                Wanted::Run => return Task::Follow,
                Wanted::Pause if run.state == ProjectionState::Paused => {
                    state = self.changed.wait(state);
                }
                Wanted::Pause => {
                    run.state = ProjectionState::Paused;
                    // Without the lock: wakers are code of an executor.
                    drop(state);
                    self.notify();
                    state = self.lock();
                }
            }
        }
    }

    /// Registers the handle that interrupts a subscription. Returns false if the worker has
    /// something else to do.
    pub(super) fn follow(&self, generation: u64, interrupt: CancelHandle) -> bool {
        let mut state = self.lock();
        let may_go_on = state.may_go_on(generation);
        if let (Some(run), true) = (state.run(generation), may_go_on) {
            run.interrupt = Some(interrupt);
        }
        may_go_on
    }

    /// Waits before a retry; returns whether to continue with it.
    pub(super) fn back_off(&self, generation: u64, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut state = self.lock();
        while state.may_go_on(generation) {
            let left = until
                .map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left.min(Duration::from_secs(3_600)));
        }
        false
    }

    /// Updates the reported state of a build.
    pub(super) fn tell(&self, generation: u64, tell: impl FnOnce(&mut BuildRun)) {
        self.change(|state| state.run(generation).map(tell));
    }

    pub(super) fn is_building(&self, generation: u64) -> bool {
        let building = |state: &State| state.building.as_ref().map(|run| run.build.generation);
        self.look(building) == Some(generation)
    }

    /// Whether a build should still be driven: it was not replaced.
    pub(super) fn is_wanted(&self, generation: u64) -> bool {
        self.lock().run(generation).is_some()
    }

    /// Whether a build should still be driven, and its worker was not told to stop.
    pub(super) fn is_to_go_on(&self, generation: u64) -> bool {
        self.lock().is_to_go_on(generation)
    }

    /// Waits until a build should no longer be driven.
    #[cfg(feature = "async")]
    pub(super) async fn wait_for_halt(&self, generation: u64) {
        self.wait_async(|state| (!state.is_to_go_on(generation)).then_some(())).await;
    }

    /// The position of the build that readers see.
    pub(super) fn serving_position(&self) -> Option<Position> {
        self.look(State::serving_position)
    }

    /// Promotes the shadow build: it serves from now on. Returns the previous build if its worker
    /// has not ended yet.
    pub(super) fn promote(&self, generation: u64) -> Option<u64> {
        self.change(|state| {
            let is_ours = |run: &mut BuildRun| run.build.generation == generation;
            let ours = state.building.take_if(is_ours)?;
            let mut before = state.serving.replace(ours)?;
            before.interrupt();
            let retired = before.build.generation;
            before.is_running.then(|| {
                state.retiring.push(before);
                retired
            })
        })
    }

    /// Waits until the worker of a replaced build has ended.
    pub(super) fn wait_for_end(&self, retired: Option<u64>) {
        self.wait(None, |state| {
            let is_ending = |run: &BuildRun| Some(run.build.generation) == retired;
            (!state.retiring.iter().any(is_ending)).then_some(())
        });
    }

    /// Records that the worker of a build has ended.
    pub(super) fn ended(&self, generation: u64, failure: Option<ProjectionFailure>) {
        self.change(|state| {
            state.retiring.retain(|run| run.build.generation != generation);
            let Some(run) = state.run(generation) else { return };
            run.is_running = false;
            run.interrupt = None;
            // Dropping the senders tells the callers that no answer will come.
            run.asked.clear();
            run.state = match &failure {
                None => ProjectionState::Stopped,
                Some(_) => ProjectionState::Failed,
            };
            run.failure = failure;
        });
    }
}
