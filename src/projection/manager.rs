//! [`ProjectionManager`]: runs projections, each with its own checkpoint.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builds;
use super::handle::ProjectionHandle;
use super::handler::{Handler, Typed};
use super::progress::Progress;
use super::shared::{Shared, Wanted};
use super::status::{ProjectionError, ProjectionNotice, ProjectionStatus};
use super::unhandled::UnhandledEvent;
use super::view::ViewStoreExt;
use super::worker::{Job, Listener};
use super::{OnFailure, Projection, ProjectionOptions};
use crate::event_store::EventStore;
use crate::model::{Position, Timestamp};
use crate::options::Clock;
use crate::subscription::PartitionBy;
use crate::upcast::Upcasters;
use crate::view_store::ViewStore;

/// Runs projections, each with its own thread and checkpoint. See [`Projection`] for an example.
///
/// Dropping it stops all projections and waits for running handlers. It does not keep the store
/// open: when the store is closed, the projections stop.
pub struct ProjectionManager {
    events: Arc<dyn EventStore>,
    views: Arc<dyn ViewStore>,
    /// Whether events and views are in two stores.
    follows_other_log: bool,
    upcasters: Upcasters,
    clock: Clock,
    listener: Option<Listener>,
    projections: Vec<ProjectionHandle>,
    pub(super) progress: Progress,
    #[cfg(feature = "async")]
    pub(super) executor: Arc<super::async_handler::Executor>,
}

impl ProjectionManager {
    /// Creates a manager of projections that follow this store and keep their read models in it.
    pub fn new<S: EventStore + ViewStore + ?Sized>(store: &S) -> Self {
        let mut manager = Self::over(store, store);
        manager.follows_other_log = false;
        manager
    }

    /// Creates a manager of projections that follow one store and keep their read models in
    /// another. A power loss of one of the two may then leave a view ahead of its log; such a
    /// projection fails with an error when it is started.
    pub fn over(events: &(impl EventStore + ?Sized), views: &(impl ViewStore + ?Sized)) -> Self {
        let events = events.handle();
        let clock_of = events.clone();
        Self {
            events,
            views: views.view_handle(),
            follows_other_log: true,
            upcasters: Upcasters::none(),
            clock: Arc::new(move || clock_of.now()),
            listener: None,
            projections: Vec::new(),
            progress: Progress::default(),
            #[cfg(feature = "async")]
            executor: Arc::default(),
        }
    }

    /// Sets the upcasters through which all projections read old events, from their next start.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        for projection in &mut self.projections {
            projection.supervisor.job.handler =
                projection.supervisor.job.handler.with(upcasters.clone());
        }
        self.upcasters = upcasters;
        self
    }

    /// Sets the clock for lags and for the times of unhandled events, in all projections, from
    /// their next start. By default the event store's clock is used.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        for projection in &mut self.projections {
            projection.supervisor.job.clock = self.clock.clone();
        }
        self
    }

    /// Sets a listener that is called for every failure in a projection, from its next start: a
    /// handler is retried, an event is parked, or the projection stops by itself. Without a
    /// listener, failures show only in [`ProjectionHandle::status`] and in the methods that wait.
    ///
    /// The projection's thread calls the listener and waits for it. A panic in the listener is
    /// ignored.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::Target;
    /// # use annals::FailureOutcome;
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Placed {}
    /// # annals::domain_events! { Placed => "Placed" }
    /// # struct Mail;
    /// # impl Projection for Mail {
    /// #     type Event = Placed;
    /// #     fn name(&self) -> &str { "mail" }
    /// #     fn target(&self) -> Target { Target::Reactor }
    /// #     fn handle(&self, _: &TypedEvent<Placed>, _: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         Err("no route to host".into())
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let projections = ProjectionManager::new(&store)
    ///     .register_with(Mail, ProjectionOptions::new().retries(0))?
    ///     .on_notice(move |notice| _ = tell.send(notice.clone()));
    /// projections.start()?;
    /// store.append("order-1", ExpectedVersion::Any, [Placed {}.encode()?])?;
    ///
    /// let notice = told.recv_timeout(Duration::from_secs(60))?;
    /// assert_eq!(notice.outcome, FailureOutcome::Stopped);
    /// assert_eq!(notice.to_string(), "projection mail stopped: failed at position 1 after 1 try: no route to host");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_notice(
        mut self,
        listener: impl Fn(&ProjectionNotice) + Send + Sync + 'static,
    ) -> Self {
        let listener: Listener = Arc::new(listener);
        for projection in &mut self.projections {
            projection.supervisor.job.listener = Some(listener.clone());
        }
        self.listener = Some(listener);
        self
    }

    /// Adds a projection, with the default options.
    ///
    /// # Errors
    /// Those of [`ProjectionManager::register_with`].
    pub fn register(self, projection: impl Projection) -> Result<Self, ProjectionError> {
        self.register_with(projection, ProjectionOptions::new())
    }

    /// Adds a projection.
    ///
    /// # Errors
    /// [`ProjectionError::Duplicate`]; an invalid name; [`ProjectionError::Upcasters`]: the
    /// upcasters set so far do not lead to its events. Upcasters that are set later are checked by
    /// [`ProjectionManager::start`]. [`ProjectionError::ParksByStream`]; an invalid prefix of
    /// [`ProjectionOptions::partition_by`].
    pub fn register_with(
        self,
        projection: impl Projection,
        options: ProjectionOptions,
    ) -> Result<Self, ProjectionError> {
        self.add(projection, options, Arc::new(Shared::new()))
    }

    pub(super) fn add(
        mut self,
        projection: impl Projection,
        options: ProjectionOptions,
        shared: Arc<Shared>,
    ) -> Result<Self, ProjectionError> {
        let name = projection.name().to_owned();
        builds::check(&name)?;
        if self.projections.iter().any(|registered| registered.supervisor.job.name == name) {
            return Err(ProjectionError::Duplicate { name });
        }
        options.partition_by.check()?;
        if options.on_failure == OnFailure::Park && options.partition_by != PartitionBy::Stream {
            return Err(ProjectionError::ParksByStream { name });
        }
        let (version, target) = (projection.version(), projection.target());
        let handler = Typed::new(Arc::new(projection), self.upcasters.clone());
        if let Err(cause) = handler.check() {
            return Err(ProjectionError::Upcasters { name, cause });
        }
        let job = Job {
            name,
            target,
            handler: Arc::new(handler),
            options,
            events: self.events.clone(),
            views: self.views.clone(),
            follows_other_log: self.follows_other_log,
            clock: self.clock.clone(),
            listener: self.listener.clone(),
            shared,
        };
        self.projections.push(ProjectionHandle::new(job, version));
        Ok(self)
    }

    /// Starts all projections, including those that are paused or have failed.
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::start`], for the first projection that does not start. Later
    /// ones are not started.
    pub fn start(&self) -> Result<(), ProjectionError> {
        self.projections.iter().try_for_each(ProjectionHandle::start)
    }

    /// Stops all projections and waits until they have stopped.
    pub fn stop(&self) {
        self.want_stop();
        self.projections.iter().for_each(ProjectionHandle::stop);
    }

    /// Signals all projections to stop, before something waits for the first.
    pub(super) fn want_stop(&self) {
        self.projections
            .iter()
            .for_each(|projection| projection.supervisor.job.shared.want(Wanted::Stop));
    }

    /// Removes everything that a projection keeps in the store: its read model, its checkpoint, and
    /// its parked, skipped and discarded events. It need not be registered. Returns whether
    /// anything was stored.
    ///
    /// A registered projection stays registered: if it is started again, it begins as if it had
    /// never run. What a projection keeps outside the store is not touched.
    ///
    /// # Errors
    /// [`ProjectionError::Running`]; [`ProjectionError::Store`]: an invalid name, or a view that no
    /// projection created. Nothing was changed. After an I/O error, any remaining data is no longer
    /// used, and a second call removes it.
    ///
    /// # Cost
    /// Reads the names of all views, and deletes each view of the projection with one write.
    pub fn remove(&self, name: &str) -> Result<bool, ProjectionError> {
        match self.projection(name) {
            Ok(projection) => projection.supervisor.remove(),
            Err(_) => Ok(self.views.remove_projection(name)?),
        }
    }

    /// Calls [`ProjectionHandle::restore_discarded`] on the projection with this name.
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::restore_discarded`]; [`ProjectionError::Unknown`].
    pub fn restore_discarded(
        &self,
        name: &str,
        event: &UnhandledEvent,
    ) -> Result<bool, ProjectionError> {
        self.projection(name)?.restore_discarded(event)
    }

    /// The projection with this name.
    ///
    /// # Errors
    /// [`ProjectionError::Unknown`].
    pub fn projection(&self, name: &str) -> Result<&ProjectionHandle, ProjectionError> {
        let mut projections = self.projections.iter();
        projections.find(|projection| projection.supervisor.job.name == name).ok_or_else(|| {
            let registered =
                self.projections.iter().map(|p| p.supervisor.job.name.clone()).collect();
            ProjectionError::Unknown { name: name.to_owned(), registered }
        })
    }

    /// All projections, in the order of registration.
    pub fn projections(&self) -> impl Iterator<Item = &ProjectionHandle> {
        self.projections.iter()
    }

    /// Calls [`ProjectionHandle::wait_for`] on the projection with this name.
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::wait_for`]; [`ProjectionError::Unknown`].
    pub fn wait_for(
        &self,
        name: &str,
        position: Position,
        timeout: Duration,
    ) -> Result<(), ProjectionError> {
        self.projection(name)?.wait_for(position, timeout)
    }

    /// Waits until all projections have every event up to this position, as
    /// [`ProjectionHandle::wait_for`] does for one. The timeout covers all of them together.
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::wait_for`], for the first projection that fails.
    pub fn wait_for_all(
        &self,
        position: Position,
        timeout: Duration,
    ) -> Result<(), ProjectionError> {
        let begun = Instant::now();
        self.projections.iter().try_for_each(|projection| {
            projection.wait_for(position, timeout.saturating_sub(begun.elapsed()))
        })
    }

    /// Waits until all serving read models have handled the whole log, including events that the
    /// projections append meanwhile. Meant mainly for tests. A shadow build may still be catching
    /// up: see [`ProjectionHandle::wait_for_rebuild`]. Returns the head of the log at that time;
    /// `None` if the log is empty.
    ///
    /// # Errors
    /// Those of [`ProjectionManager::wait_for_all`]; [`ProjectionError::Store`].
    pub fn wait_for_head(&self, timeout: Duration) -> Result<Option<Position>, ProjectionError> {
        let begun = Instant::now();
        let mut reached = None;
        loop {
            let head = self.head()?;
            let Some(next) = head.filter(|_| head > reached) else { return Ok(head) };
            self.wait_for_all(next, timeout.saturating_sub(begun.elapsed()))?;
            reached = head;
        }
    }

    /// The head of the log.
    pub(super) fn head(&self) -> Result<Option<Position>, ProjectionError> {
        Ok(self.events.head()?)
    }

    /// Lets the running workers end by themselves: a stop or a drop does not wait for them.
    #[cfg(feature = "async")]
    pub(super) fn detach(&self) {
        self.projections.iter().for_each(|projection| projection.supervisor.detach());
    }

    /// Calls [`ProjectionHandle::status`] on the projection with this name.
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::status`]; [`ProjectionError::Unknown`].
    pub fn status(&self, name: &str) -> Result<ProjectionStatus, ProjectionError> {
        self.projection(name)?.status()
    }
}

impl Drop for ProjectionManager {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for ProjectionManager {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(&self.projections).finish()
    }
}
