//! [`AsyncProjectionHandle`]: one projection of an [`AsyncProjectionManager`].
//!
//! [`AsyncProjectionManager`]: super::AsyncProjectionManager

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::handle::{PROGRESS_PAUSE, ProjectionHandle};
use super::manager::ProjectionManager;
use super::shared::State;
use super::status::{ProjectionError, ProjectionStatus, RebuildStatus};
use super::unhandled::UnhandledEvent;
use crate::model::Position;
use crate::pool::unblock;

/// A manager that tasks share. Stops the projections when it is dropped, without waiting for them.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) manager: ProjectionManager,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.manager.detach();
    }
}

/// One projection of an [`AsyncProjectionManager`]: a [`ProjectionHandle`] for tasks.
///
/// It keeps the manager alive. Its calls begin, wait and are cancelled as those of the manager.
///
/// [`AsyncProjectionManager`]: crate::AsyncProjectionManager
#[derive(Clone)]
pub struct AsyncProjectionHandle {
    inner: Arc<Inner>,
    name: String,
}

impl AsyncProjectionHandle {
    pub(super) fn new(inner: Arc<Inner>, name: &str) -> Self {
        Self { inner, name: name.to_owned() }
    }

    /// The name of the projection.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts or resumes the projection: see [`ProjectionHandle::start`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::start`].
    pub async fn start(&self) -> Result<(), ProjectionError> {
        self.call(ProjectionHandle::start).await
    }

    /// Stops the projection and waits until it has stopped: see [`ProjectionHandle::stop`].
    ///
    /// If its own async handler calls this, the projection stops when the handler returns, or when
    /// it is next pending. In the second case the handler is cancelled.
    pub async fn stop(&self) {
        let Ok(handle) = self.handle() else { return };
        if handle.is_driven_here() {
            // Does not wait.
            handle.stop();
        } else {
            let stop = |handle: &ProjectionHandle| {
                handle.stop();
                Ok(())
            };
            // The projection is registered, so there is no error.
            let _ = self.call(stop).await;
        }
    }

    /// Pauses the projection: see [`ProjectionHandle::pause`]. It does not wait.
    pub fn pause(&self) {
        if let Ok(handle) = self.handle() {
            handle.pause();
        }
    }

    /// Rebuilds the read model: see [`ProjectionHandle::rebuild`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::rebuild`].
    pub async fn rebuild(&self) -> Result<(), ProjectionError> {
        self.call(ProjectionHandle::rebuild).await
    }

    /// Waits until the shadow build is promoted, and calls `progress` with its status: after it has
    /// advanced, and at most every 100 ms. Returns at once if there is no shadow build.
    ///
    /// # Errors
    /// [`ProjectionError::Failed`], [`ProjectionError::NotRunning`]; [`ProjectionError::Store`].
    pub async fn wait_for_rebuild(
        &self,
        mut progress: impl FnMut(RebuildStatus) + Send,
    ) -> Result<(), ProjectionError> {
        let handle = self.handle()?;
        handle.check_started()?;
        loop {
            let soon = Instant::now().checked_add(PROGRESS_PAUSE);
            let is_next = |state: &State| {
                let is_soon = soon.is_none_or(|soon| Instant::now() >= soon);
                is_soon || ProjectionHandle::is_rebuild_over(state)
            };
            let shared = &handle.supervisor.job.shared;
            shared.wait_async(|state| is_next(state).then_some(())).await;
            let Some(rebuild) = self.status().await?.rebuild else { return Ok(()) };
            match handle.rebuild_error(&rebuild) {
                Some(error) => return Err(error),
                None => progress(rebuild),
            }
        }
    }

    /// Waits until the read model contains every event up to this position: see
    /// [`ProjectionHandle::wait_for`].
    ///
    /// # Errors
    /// [`ProjectionError::Failed`] or [`ProjectionError::NotRunning`] as soon as the position can
    /// no longer be reached; [`ProjectionError::Store`].
    ///
    /// # Cost
    /// Each waiting task is woken for each batch of the projection.
    pub async fn wait_for(&self, position: Position) -> Result<(), ProjectionError> {
        let handle = self.handle()?;
        let shared = &handle.supervisor.job.shared;
        if shared.look(State::is_unknown) {
            self.call(|handle| Ok(handle.supervisor.look_at_rest()?)).await?;
        }
        shared.wait_async(|state| handle.has_reached(state, position)).await
    }

    /// The current status: see [`ProjectionHandle::status`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::status`].
    pub async fn status(&self) -> Result<ProjectionStatus, ProjectionError> {
        self.call(ProjectionHandle::status).await
    }

    /// The parked events of the serving read model: see [`ProjectionHandle::parked`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::parked`].
    pub async fn parked(&self, limit: usize) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        self.call(move |handle| handle.parked(limit)).await
    }

    /// The parked events after this one: see [`ProjectionHandle::parked_after`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::parked_after`].
    pub async fn parked_after(
        &self,
        event: &UnhandledEvent,
        limit: usize,
    ) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        let event = event.clone();
        self.call(move |handle| handle.parked_after(&event, limit)).await
    }

    /// The events that the read model does not contain although they match: see
    /// [`ProjectionHandle::skipped`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::skipped`].
    pub async fn skipped(&self, limit: usize) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        self.call(move |handle| handle.skipped(limit)).await
    }

    /// The discarded events: see [`ProjectionHandle::discarded`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::discarded`].
    pub async fn discarded(&self, limit: usize) -> Result<Vec<UnhandledEvent>, ProjectionError> {
        self.call(move |handle| handle.discarded(limit)).await
    }

    /// Retries all parked events: see [`ProjectionHandle::retry_parked`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::retry_parked`].
    pub async fn retry_parked(&self) -> Result<u64, ProjectionError> {
        self.call(ProjectionHandle::retry_parked).await
    }

    /// Discards a parked event: see [`ProjectionHandle::discard_parked`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::discard_parked`].
    pub async fn discard_parked(&self, parked: &UnhandledEvent) -> Result<bool, ProjectionError> {
        let parked = parked.clone();
        self.call(move |handle| handle.discard_parked(&parked)).await
    }

    /// Revokes a discard: see [`ProjectionHandle::restore_discarded`].
    ///
    /// # Errors
    /// Those of [`ProjectionHandle::restore_discarded`].
    pub async fn restore_discarded(&self, event: &UnhandledEvent) -> Result<bool, ProjectionError> {
        let event = event.clone();
        self.call(move |handle| handle.restore_discarded(&event)).await
    }

    fn handle(&self) -> Result<&ProjectionHandle, ProjectionError> {
        self.inner.manager.projection(&self.name)
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ProjectionHandle) -> Result<T, ProjectionError> + Send + 'static,
    ) -> Result<T, ProjectionError> {
        let handle = self.clone();
        unblock(move || call(handle.handle()?)).await
    }
}

impl fmt::Debug for AsyncProjectionHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AsyncProjectionHandle").field("name", &self.name).finish_non_exhaustive()
    }
}
