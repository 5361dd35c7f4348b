//! [`Supervisor`]: manages the builds of one projection, and the threads that drive them.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::builds::{Build, Directory, build_view, drop_others};
use super::discarded::{discarded_events, mend};
use super::remove::remove;
use super::shared::{Ask, BuildRun, State, Wanted};
use super::status::{ProjectionError, ProjectionState};
use super::unhandled::Noted;
use super::worker::{Job, Worker};
use super::{StartFrom, Target};
use crate::error::{Error, Result};
use crate::model::Position;
use crate::sync::{Mutex, MutexGuard};

/// Starts, stops and rebuilds one projection.
pub(super) struct Supervisor {
    pub(super) job: Job,
    pub(super) version: u32,
    /// Locked while the projection starts, stops or rebuilds.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Supervisor {
    pub(super) fn new(job: Job, version: u32) -> Self {
        Self { job, version, threads: Mutex::new(Vec::new()) }
    }

    pub(super) fn name(&self) -> &str {
        &self.job.name
    }

    /// See [`ProjectionHandle::start`](super::ProjectionHandle::start).
    pub(super) fn start(&self) -> Result<(), ProjectionError> {
        let mut threads = self.threads();
        if self.job.shared.look(|state| state.is_driven(self.version)) {
            // Only wakes it if it was paused.
            self.job.shared.want(Wanted::Run);
            return Ok(());
        }
        self.halt(&mut threads);
        let planned = self.redirect(|found| found.planned(self.version, self.job.target))?;
        self.launch(&planned, &mut threads)
    }

    /// See [`ProjectionHandle::stop`](super::ProjectionHandle::stop).
    pub(super) fn stop(&self) {
        self.job.shared.want(Wanted::Stop);
        if !self.job.shared.is_driven_here() {
            self.halt(&mut self.threads());
        }
    }

    /// Lets the running workers end by themselves: a stop does not wait for them.
    #[cfg(feature = "async")]
    pub(super) fn detach(&self) {
        self.threads().clear();
    }

    /// See [`ProjectionHandle::rebuild`](super::ProjectionHandle::rebuild).
    pub(super) fn rebuild(&self) -> Result<(), ProjectionError> {
        if self.job.target == Target::Reactor {
            return Err(ProjectionError::NotRebuildable { name: self.name().to_owned() });
        }
        let mut threads = self.threads();
        let has_none = self.mend()?;
        // Loads the serving build, so that the status shows it next to the shadow build. An error
        // is ignored, because the rebuild repairs any damage there.
        let is_readable = self.look_at_rest().is_ok();
        let is_started = self.job.shared.look(|state| state.wanted != Wanted::Stop);
        // Without its directory, a running build would have the generation of the new one.
        if self.job.target == Target::External || has_none {
            return self.replace_builds(is_started, &mut threads);
        }
        let has_failed = |run: &BuildRun| run.state == ProjectionState::Failed;
        let has_failed =
            self.job.shared.look(|state| state.building.as_ref().is_some_and(has_failed));
        let is_ours = |build: &Build| build.version == self.version;
        let mut begun = None;
        let planned = self.redirect(|found| {
            if is_readable && !has_failed && found.building.as_ref().is_some_and(is_ours) {
                return found.clone();
            }
            let build = found.next_build(self.version);
            begun = Some(build);
            Directory { building: Some(build), newest: build.generation, ..found.clone() }
        })?;
        let Some(build) = begun else { return Ok(()) };
        self.job
            .shared
            .change(|state| state.building = Some(BuildRun::new(build, None, is_started)));
        if is_started {
            threads.retain(|thread| !thread.is_finished());
            threads.push(self.spawn(build, planned.start())?);
        }
        Ok(())
    }

    /// Replaces all builds by a new one that serves at once.
    fn replace_builds(
        &self,
        is_started: bool,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), ProjectionError> {
        self.halt(threads);
        let planned = self.redirect(|found| {
            let build = found.next_build(self.version);
            let newest = build.generation;
            Directory { serving: Some(build), building: None, newest, ..found.clone() }
        });
        let planned = match planned {
            Ok(planned) => planned,
            Err(error) => {
                // Nothing was changed, so it goes on as before.
                if is_started && let Ok(found) = Directory::read(&*self.job.views, self.name()) {
                    let _ = self.launch(&found, threads);
                }
                return Err(error);
            }
        };
        if is_started {
            return self.launch(&planned, threads);
        }
        let serving = planned.serving.map(|build| BuildRun::new(build, None, false));
        self.job.shared.change(|state| (state.serving, state.building) = (serving, None));
        Ok(())
    }

    /// Removes everything that the projection keeps in the store, unless it is running.
    pub(super) fn remove(&self) -> Result<bool, ProjectionError> {
        let running = || ProjectionError::Running { name: self.name().to_owned() };
        // Its own handler must not wait for the lock: the thread that stops the projection holds it
        // while it waits for the handler.
        if self.job.shared.is_driven_here() {
            return Err(running());
        }
        let _threads = self.threads();
        if self.job.shared.look(State::is_running) {
            return Err(running());
        }
        let _alone = self.job.shared.directory();
        let removed = remove(&*self.job.views, self.name())?;
        self.job.shared.change(State::forget);
        Ok(removed)
    }

    /// Sends a request to the worker of the serving build, and waits for the answer.
    pub(super) fn ask<T>(
        &self,
        ask: impl FnOnce(mpsc::Sender<T>) -> Ask,
    ) -> Result<T, ProjectionError> {
        let (reply, answer) = mpsc::channel();
        let is_asked = self.job.shared.ask(ask(reply));
        let answer = if is_asked { answer.recv().ok() } else { None };
        answer.ok_or_else(|| ProjectionError::NotRunning { name: self.name().to_owned() })
    }

    /// Starts a worker for each build of our version. No worker may be running.
    fn launch(
        &self,
        directory: &Directory,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), ProjectionError> {
        let is_ours = |build: &Build| build.version == self.version;
        let serving = directory.serving.map(|build| self.run_of(build, is_ours(&build)));
        let serving = serving.transpose()?;
        let building = directory.building.map(|build| self.run_of(build, is_ours(&build)));
        let building = building.transpose()?;
        self.job.shared.change(|state| {
            (state.wanted, state.serving, state.building) = (Wanted::Run, serving, building);
        });
        // Start all of them, even if one fails to start: each reports its own state.
        let start = directory.start();
        let spawned = directory.builds().filter(is_ours).map(|build| self.spawn(build, start));
        let (started, failed): (Vec<_>, Vec<_>) = spawned.partition(Result::is_ok);
        threads.extend(started.into_iter().flatten());
        failed.into_iter().try_for_each(|failed| failed.map(drop).map_err(Into::into))
    }

    /// Replaces the directory, and drops the builds that it no longer names.
    fn redirect(
        &self,
        plan: impl FnOnce(&Directory) -> Directory,
    ) -> Result<Directory, ProjectionError> {
        let _alone = self.job.shared.directory();
        let views = &*self.job.views;
        let found = Directory::read(views, self.name())?;
        let mut planned = if found == Directory::default() {
            plan(&Directory { after: self.after()?, ..Directory::default() })
        } else {
            plan(&found)
        };
        self.define(&found, &mut planned)?;
        let discarded = discarded_events(views, self.name(), usize::MAX)?;
        if planned != found {
            // If a directory was lost, old builds may have the names of the new ones.
            for build in planned.builds().filter(|build| build.generation > found.newest) {
                views.drop_view(&build_view(self.name(), build.generation))?;
            }
            found.replace(views, self.name(), &planned)?;
        }
        drop_others(views, self.name(), &planned)?;
        self.job.shared.change(|state| state.discarded.refresh(discarded));
        Ok(planned)
    }

    /// Records the definition of each of our builds; fails if it changed for an existing build.
    fn define(&self, found: &Directory, planned: &mut Directory) -> Result<(), ProjectionError> {
        let name = || self.name().to_owned();
        let handler = &self.job.handler;
        handler.check().map_err(|cause| ProjectionError::Upcasters { name: name(), cause })?;
        let definition = handler.definition();
        let definition = definition
            .map_err(|cause| ProjectionError::Failed { name: name(), failure: cause.into() })?;
        for build in planned.builds().filter(|build| build.version == self.version) {
            let is_known = found.builds().any(|known| known == build);
            let recorded = found.definitions.get(&build.generation).filter(|_| is_known);
            let changes = recorded.map_or(Vec::new(), |before| before.changes(&definition));
            if !changes.is_empty() {
                let version = self.version;
                return Err(ProjectionError::DefinitionChanged { name: name(), version, changes });
            }
            planned.definitions.insert(build.generation, definition.clone());
        }
        *planned = std::mem::take(planned).with_definitions_of_builds();
        Ok(())
    }

    /// Makes the records under the projection's own name readable again, if they are damaged.
    fn mend(&self) -> Result<bool, ProjectionError> {
        let _alone = self.job.shared.directory();
        Ok(mend(&*self.job.views, self.name())?)
    }

    /// The position after which a projection begins if it has never run before.
    fn after(&self) -> Result<Option<u64>, ProjectionError> {
        let head = self.job.events.head()?;
        match self.job.options.start_from {
            StartFrom::Beginning => Ok(None),
            StartFrom::Now => Ok(head.map(Position::get)),
            StartFrom::After(after) if Some(after) <= head => Ok(Some(after.get())),
            StartFrom::After(after) => {
                Err(ProjectionError::StartAhead { name: self.name().to_owned(), after, head })
            }
        }
    }

    /// The state of a build, read from the store.
    fn run_of(&self, build: Build, is_running: bool) -> Result<BuildRun> {
        let head = self.job.events.head()?;
        let view = build_view(self.name(), build.generation);
        // Ignore a checkpoint that cannot be read or is after the head. The worker reports it
        // later, and a rebuild must not have to catch up with it.
        let checkpoint = self.job.views.checkpoint(&view).ok().flatten();
        let position = checkpoint.and_then(|checkpoint| checkpoint.position);
        let mut run =
            BuildRun::new(build, position.filter(|position| Some(*position) <= head), is_running);
        // Ignore damaged notes too if a worker starts, because it reports them itself.
        match self.count_notes(&mut run, &view) {
            Err(error) if !is_running => Err(error),
            _ => Ok(run),
        }
    }

    /// Counts the parked and skipped events of a build.
    fn count_notes(&self, run: &mut BuildRun, view: &str) -> Result<()> {
        let noted = Noted::read(&*self.job.views, view, |_| {})?;
        run.parked_events = noted.parked;
        run.parked_streams = u64::try_from(noted.streams.len()).unwrap_or(u64::MAX);
        run.skipped_events = noted.skipped;
        Ok(())
    }

    /// Loads the progress of an earlier run from the store, before the first start.
    pub(super) fn look_at_rest(&self) -> Result<()> {
        if !self.job.shared.look(State::is_unknown) {
            return Ok(());
        }
        let (views, _alone) = (&*self.job.views, self.job.shared.directory());
        let directory = Directory::read(views, self.name())?;
        let run_of = |build: Build| self.run_of(build, false);
        let serving = directory.serving.map(run_of).transpose()?;
        let building = directory.building.map(run_of).transpose()?;
        let discarded = discarded_events(views, self.name(), usize::MAX)?;
        self.job.shared.change(|state| {
            if state.is_unknown() {
                (state.serving, state.building) = (serving, building);
                state.discarded.refresh(discarded);
            }
        });
        Ok(())
    }

    fn spawn(&self, build: Build, start: Option<Position>) -> Result<JoinHandle<()>> {
        let worker = Worker::new(self.job.clone(), build, start);
        let named = thread::Builder::new().name(format!("annals-{}", self.name()));
        named.spawn(move || worker.run()).map_err(|error| {
            let error = Error::storage("starting a thread for a projection", error);
            self.job.shared.ended(build.generation, Some(error.clone().into()));
            error
        })
    }

    fn halt(&self, threads: &mut Vec<JoinHandle<()>>) {
        self.job.shared.want(Wanted::Stop);
        for thread in threads.drain(..) {
            // A worker catches panics, so the result holds nothing.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock()
    }
}
