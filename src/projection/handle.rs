//! [`ProjectionHandle`]: starts, stops, rebuilds and queries one projection of a manager.

use std::fmt;
use std::time::{Duration, Instant};

use super::shared::{Ask, BuildRun, State, Wanted};
use super::status::{ProjectionError, ProjectionState, ProjectionStatus, RebuildStatus};
use super::supervisor::Supervisor;
use super::unhandled::UnhandledEvent;
use super::view::ViewStoreExt;
use super::worker::Job;
use crate::extension::EventStoreExt;
use crate::model::Position;
use crate::options::now;

/// How often the progress of a rebuild is reported.
pub(super) const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// One projection of a manager.
pub struct ProjectionHandle {
    pub(super) supervisor: Supervisor,
}

impl ProjectionHandle {
    pub(super) fn new(job: Job, version: u32) -> Self {
        Self { supervisor: Supervisor::new(job, version) }
    }

    /// Whether this thread drives the projection.
    #[cfg(feature = "async")]
    pub(super) fn is_driven_here(&self) -> bool {
        self.supervisor.job.shared.is_driven_here()
    }

    /// The name of the projection.
    pub fn name(&self) -> &str {
        self.supervisor.name()
    }

    /// Starts the projection where it stopped, or resumes it after [`ProjectionHandle::pause`].
    ///
    /// If the stored read model has another version, a shadow build creates the new one
    /// (blue/green). Until it is promoted, readers see the old read model, which no longer changes.
    ///
    /// # Errors
    /// [`ProjectionError::DefinitionChanged`], [`ProjectionError::Upcasters`],
    /// [`ProjectionError::StartAhead`]; [`ProjectionError::Failed`]: its query names an invalid
    /// type; [`ProjectionError::Store`]: the store failed, or no thread could be started. Nothing
    /// was changed, except that after an error to start a thread some of its builds may be running.
    pub fn start(&self) -> Result<(), ProjectionError> {
        self.supervisor.start()
    }

    /// Stops the projection and waits until it has stopped. Its progress is kept. Its own handler
    /// may call this too; the projection then stops when the handler returns.
    ///
    /// # Cost
    /// Waits for a running handler.
    pub fn stop(&self) {
        self.supervisor.stop();
    }

    /// Pauses the projection until [`ProjectionHandle::start`]. A batch in progress is finished
    /// first.
    pub fn pause(&self) {
        self.supervisor.job.shared.pause();
    }

    /// Rebuilds the read model from the first event, or from [`ProjectionOptions::start_from`].
    ///
    /// With [`Target::View`](crate::Target::View) a shadow build creates it, while the current
    /// build serves and continues. When the shadow build has caught up, it is promoted. If a
    /// rebuild is already running, it continues. With [`Target::External`](crate::Target::External)
    /// the projection stops, empties its target with [`Projection::reset`], and begins again. With
    /// [`Target::Reactor`](crate::Target::Reactor) a rebuild is refused.
    ///
    /// It returns at once; [`ProjectionHandle::wait_for_rebuild`] waits for the end. If the
    /// projection is not running, the rebuild begins at the next start.
    ///
    /// A rebuild also repairs damaged records of the read model (G8). If the record that names the
    /// serving build is damaged, the read model is empty until the new one is promoted. If the
    /// record of a discarded event is damaged, this event and all discarded events after it are no
    /// longer discarded.
    ///
    /// # Errors
    /// [`ProjectionError::NotRebuildable`], and those of [`ProjectionHandle::start`].
    ///
    /// [`Projection::reset`]: crate::Projection::reset
    /// [`ProjectionOptions::start_from`]: crate::ProjectionOptions::start_from
    pub fn rebuild(&self) -> Result<(), ProjectionError> {
        self.supervisor.rebuild()
    }

    /// Waits until the shadow build is promoted, and calls `progress` periodically with its status.
    /// Returns at once if there is no shadow build.
    ///
    /// # Errors
    /// [`ProjectionError::Failed`], [`ProjectionError::NotRunning`],
    /// [`ProjectionError::RebuildTimedOut`].
    pub fn wait_for_rebuild(
        &self,
        timeout: Duration,
        mut progress: impl FnMut(RebuildStatus),
    ) -> Result<(), ProjectionError> {
        let until = Instant::now().checked_add(timeout);
        self.check_started()?;
        loop {
            let soon = Instant::now().checked_add(PROGRESS_PAUSE);
            let is_over = |state: &State| Self::is_rebuild_over(state).then_some(());
            self.supervisor.job.shared.wait(soon, is_over);
            let Some(rebuild) = self.status()?.rebuild else { return Ok(()) };
            match self.rebuild_error(&rebuild) {
                Some(error) => return Err(error),
                None => progress(rebuild),
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                let name = self.name().to_owned();
                return Err(ProjectionError::RebuildTimedOut { name, timeout });
            }
        }
    }

    pub(super) fn check_started(&self) -> Result<(), ProjectionError> {
        if self.supervisor.job.shared.look(|state| state.wanted == Wanted::Stop) {
            return Err(ProjectionError::NotRunning { name: self.name().to_owned() });
        }
        Ok(())
    }

    /// Whether no shadow build is running.
    pub(super) fn is_rebuild_over(state: &State) -> bool {
        state.building.as_ref().is_none_or(|run| !run.is_running)
    }

    /// Why a shadow build does not continue, if it does not.
    pub(super) fn rebuild_error(&self, rebuild: &RebuildStatus) -> Option<ProjectionError> {
        let name = || self.name().to_owned();
        match (rebuild.state, rebuild.failure.clone()) {
            (ProjectionState::Failed, Some(failure)) => {
                Some(ProjectionError::Failed { name: name(), failure })
            }
            (ProjectionState::Stopped, _) => Some(ProjectionError::NotRunning { name: name() }),
            _ => None,
        }
    }

    /// Waits until the read model contains every event up to this position. With the position that
    /// an append returned, a caller then reads its own write. Parked events count as handled.
    ///
    /// # Errors
    /// [`ProjectionError::TimedOut`]; [`ProjectionError::Failed`] or
    /// [`ProjectionError::NotRunning`] as soon as the position can no longer be reached.
    pub fn wait_for(&self, position: Position, timeout: Duration) -> Result<(), ProjectionError> {
        self.supervisor.look_at_rest()?;
        let until = Instant::now().checked_add(timeout);
        let waited =
            self.supervisor.job.shared.wait(until, |state| self.has_reached(state, position));
        waited.unwrap_or_else(|| {
            let reached = self.supervisor.job.shared.serving_position();
            let name = self.name().to_owned();
            Err(ProjectionError::TimedOut { name, position, timeout, reached })
        })
    }

    pub(super) fn has_reached(
        &self,
        state: &State,
        position: Position,
    ) -> Option<Result<(), ProjectionError>> {
        if state.serving_position() >= Some(position) {
            return Some(Ok(()));
        }
        let name = self.name().to_owned();
        // The build that will serve at this position: the shadow build, if the serving one no
        // longer advances.
        let runs = || [&state.serving, &state.building].into_iter().flatten();
        let mut ours = runs().filter(|run| run.build.version == self.supervisor.version);
        let moving = runs().find(|run| run.is_running);
        match moving.or_else(|| ours.next()) {
            Some(run) if run.state == ProjectionState::Failed => {
                let failure = run.failure.clone()?;
                Some(Err(ProjectionError::Failed { name, failure }))
            }
            Some(run) if run.is_running => None,
            _ => Some(Err(ProjectionError::NotRunning { name })),
        }
    }

    /// The current status.
    ///
    /// # Errors
    /// [`ProjectionError::Store`]: the store is closed, or the event that determines the lag is
    /// damaged.
    ///
    /// # Cost
    /// Reads one event if the projection lags.
    pub fn status(&self) -> Result<ProjectionStatus, ProjectionError> {
        let head = self.supervisor.job.events.head()?;
        self.supervisor.look_at_rest()?;
        let mut status = self.supervisor.job.shared.look(|state| self.status_of(state, head));
        let next = Position::after(status.position);
        if head < Some(next) && status.state == ProjectionState::CatchingUp {
            // It has caught up, but has not reported it yet.
            status.state = ProjectionState::Live;
        }
        if head >= Some(next) {
            status.lag_events = head.map_or(0, |head| head.get() - next.get() + 1);
            let first = self.supervisor.job.events.read_log().from(next).first()?;
            let age =
                first.and_then(|event| now(&self.supervisor.job.clock).since(event.recorded_at()));
            status.lag_time = age.unwrap_or_default();
        }
        Ok(status)
    }

    fn status_of(&self, state: &State, head: Option<Position>) -> ProjectionStatus {
        let serving = state.serving.as_ref();
        let building = state.building.as_ref();
        let moving =
            serving.filter(|run| run.build.version == self.supervisor.version).or(building);
        let count = |of: fn(&BuildRun) -> u64| moving.map_or(0, of);
        ProjectionStatus {
            name: self.name().to_owned(),
            version: self.supervisor.version,
            serving_version: serving.map(|run| run.build.version),
            state: moving.map_or(ProjectionState::Stopped, |run| run.state),
            position: state.serving_position(),
            head,
            lag_events: 0,
            lag_time: Duration::ZERO,
            handled: count(|run| run.handled),
            failed_tries: count(|run| run.failed_tries),
            conflicts: count(|run| run.conflicts),
            parked_events: count(|run| run.parked_events),
            parked_streams: count(|run| run.parked_streams),
            skipped_events: count(|run| run.skipped_events),
            discarded_events: u64::try_from(state.discarded.len()).unwrap_or(u64::MAX),
            failure: moving.and_then(|run| run.failure.clone()),
            rebuild: building.map(|run| RebuildStatus {
                version: run.build.version,
                state: run.state,
                position: run.position,
                head,
                failure: run.failure.clone(),
            }),
        }
    }

    /// The parked events of the serving read model: at most `limit`, by stream, then by position.
    ///
    /// # Errors
    /// [`ProjectionError::Store`].
    ///
    /// # Cost
    /// Deleted records of events that are no longer parked slow down the scan. To process many
    /// events, continue with [`ProjectionHandle::parked_after`].
    pub fn parked(&self, limit: usize) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        Ok(self.supervisor.job.views.view(self.name()).parked(limit)?)
    }

    /// The parked events after this one, in the order of [`ProjectionHandle::parked`]: the next
    /// page. It works even if this event is no longer parked.
    ///
    /// # Errors
    /// [`ProjectionError::Store`].
    pub fn parked_after(
        &self,
        event: &UnhandledEvent,
        limit: usize,
    ) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        Ok(self.supervisor.job.views.view(self.name()).parked_after(event, limit)?)
    }

    /// The events that the read model does not contain although they match: at most `limit`, in
    /// order. They could not be read, are discarded, or no longer matched when they were retried.
    ///
    /// # Errors
    /// [`ProjectionError::Store`].
    pub fn skipped(&self, limit: usize) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        Ok(self.supervisor.job.views.view(self.name()).skipped(limit)?)
    }

    /// The discarded events: at most `limit`, in order.
    ///
    /// # Errors
    /// [`ProjectionError::Store`].
    pub fn discarded(&self, limit: usize) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        Ok(self.supervisor.job.views.view(self.name()).discarded(limit)?)
    }

    /// Retries all parked events: each stream in order, up to its first event that fails again. An
    /// event that the projection's query and event types no longer select is skipped and
    /// [recorded](ProjectionHandle::skipped). Returns how many events are still parked.
    ///
    /// # Errors
    /// [`ProjectionError::NotRunning`]: the projection is neither running nor paused, or it stopped
    /// or was replaced by a rebuild before the retry was done.
    ///
    /// # Cost
    /// Waits until the retry is done; other events wait meanwhile. Reads each parked event once.
    pub fn retry_parked(&self) -> Result<u64, ProjectionError> {
        self.supervisor.ask(Ask::Retry)
    }

    /// Discards a parked event: neither this read model nor any later build, of any version,
    /// handles it. Later events of its stream stay parked until [`ProjectionHandle::retry_parked`].
    /// Returns whether it was still parked.
    ///
    /// The decision is stored with the projection. [`ProjectionHandle::discarded`] lists it and
    /// [`ProjectionHandle::restore_discarded`] revokes it. A shadow build that has already handled
    /// the event keeps the result.
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::retry_parked`]. If the projection failed meanwhile, the
    /// decision may already be stored; it then takes effect at the next start.
    ///
    /// # Cost
    /// Waits until the worker has served the request.
    pub fn discard_parked(&self, parked: &UnhandledEvent) -> Result<bool, ProjectionError> {
        self.supervisor.ask(|reply| Ask::Discard { parked: parked.clone(), reply })
    }

    /// Restores a discarded event: it is parked again, with all later events of its stream, and the
    /// next [`ProjectionHandle::retry_parked`] handles it. Later builds handle it like any other
    /// event. Returns whether it was discarded.
    ///
    /// The retry handles it after events of its stream that were handled in the meantime. If their
    /// order matters, also [rebuild](ProjectionHandle::rebuild) the read model.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::OnFailure;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Placed {}
    /// # annals::domain_events! { Placed => "Placed" }
    /// # static IS_BROKEN: AtomicBool = AtomicBool::new(true);
    /// # struct Count;
    /// # impl Projection for Count {
    /// #     type Event = Placed;
    /// #     fn name(&self) -> &str { "count" }
    /// #     fn handle(&self, _: &TypedEvent<Placed>, view: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         if IS_BROKEN.load(Ordering::SeqCst) { return Err("broken".into()); }
    /// #         Ok(view.update("orders", |orders: &mut u64| *orders += 1)?)
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
    /// let projections = ProjectionManager::new(&store).register_with(Count, options)?;
    /// projections.start()?;
    /// store.append("order-1", ExpectedVersion::NoStream, [Placed {}.encode()?])?;
    /// projections.wait_for_head(Duration::from_secs(60))?;
    ///
    /// let count = projections.projection("count")?;
    /// assert!(count.discard_parked(&count.parked(1)?[0])?);
    /// // The handler was wrong, and is fixed now: revoke the decision.
    /// # IS_BROKEN.store(false, Ordering::SeqCst);
    /// let discarded = count.discarded(1)?;
    /// assert!(count.restore_discarded(&discarded[0])?);
    /// assert_eq!(count.retry_parked()?, 0);
    /// assert_eq!(store.view("count").get("orders")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::retry_parked`]. If the projection failed meanwhile, the event
    /// may still be discarded.
    ///
    /// # Cost
    /// Waits until the worker has served the request.
    pub fn restore_discarded(&self, event: &UnhandledEvent) -> Result<bool, ProjectionError> {
        self.supervisor.ask(|reply| Ask::Restore { discarded: event.clone(), reply })
    }
}

impl fmt::Debug for ProjectionHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ProjectionHandle").field("name", &self.name()).finish_non_exhaustive()
    }
}
