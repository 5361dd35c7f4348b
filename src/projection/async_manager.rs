//! [`AsyncProjectionManager`]: a [`ProjectionManager`] for tasks.

use std::sync::Arc;

use super::async_handle::{AsyncProjectionHandle, Inner};
use super::handle::ProjectionHandle;
use super::manager::ProjectionManager;
use super::status::{ProjectionError, ProjectionStatus};
use super::unhandled::UnhandledEvent;
use crate::health::Health;
use crate::model::Position;
use crate::pool::unblock;

/// A [`ProjectionManager`] for tasks of any runtime: the same calls, without blocking a thread of
/// the runtime.
///
/// Clones share the manager. Configure and register with [`ProjectionManager`], then create this
/// from it. Blocking and [async](crate::AsyncProjection) projections both work.
///
/// Calls that may read or write run on the thread pool of the crate `blocking`. Calls that wait for
/// a position use no thread, so thousands of tasks can wait. They have no timeout: use that of the
/// runtime, such as `tokio::time::timeout`.
///
/// **Cancellation.** A call begins when its future is first polled. Dropping the future later
/// cancels only the wait, not the call.
///
/// **Drop.** Dropping the last clone, and the last [`AsyncProjectionHandle`], stops all projections
/// but does not wait for them: a blocking handler that is running completes first. To wait, as
/// before another manager starts the same projections, use [`AsyncProjectionManager::stop`].
///
/// ```
/// use annals::prelude::*;
/// use annals::AsyncProjectionManager;
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Placed {}
/// # annals::domain_events! { Placed => "Placed" }
/// # struct Orders;
/// # impl Projection for Orders {
/// #     type Event = Placed;
/// #     fn name(&self) -> &str { "orders" }
/// #     fn handle(
/// #         &self,
/// #         _: &TypedEvent<Placed>,
/// #         view: &mut ViewWriter,
/// #     ) -> Result<(), HandlerError> {
/// #         Ok(view.update("orders", |orders: &mut u64| *orders += 1)?)
/// #     }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let store = MemoryStore::new();
/// let projections = ProjectionManager::new(&store).register(Orders)?;
/// let projections = AsyncProjectionManager::new(projections);
/// projections.start().await?;
/// let placed = store.append("order-1", ExpectedVersion::Any, [Placed {}.encode()?])?;
///
/// let reached = projections.wait_for("orders", placed.last_position());
/// tokio::time::timeout(Duration::from_secs(60), reached).await??;
/// assert_eq!(store.view("orders").get("orders")?, Some(1));
/// projections.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AsyncProjectionManager {
    inner: Arc<Inner>,
}

impl AsyncProjectionManager {
    /// Creates the async form of a manager.
    pub fn new(manager: ProjectionManager) -> Self {
        Self { inner: Arc::new(Inner { manager }) }
    }

    /// The blocking manager.
    pub fn blocking(&self) -> &ProjectionManager {
        &self.inner.manager
    }

    /// Starts all projections: see [`ProjectionManager::start`].
    ///
    /// # Errors
    /// Those of [`ProjectionManager::start`].
    pub async fn start(&self) -> Result<(), ProjectionError> {
        self.call(ProjectionManager::start).await
    }

    /// Stops all projections and waits until they have stopped: see [`ProjectionManager::stop`].
    ///
    /// An async handler of a projection that awaits this is cancelled.
    pub async fn stop(&self) {
        self.blocking().want_stop();
        // Waiting for a projection that this thread drives would deadlock: it stops when its handler
        // ends, or is next pending.
        let others = self.blocking().projections().filter(|one| !one.is_driven_here());
        let others: Vec<_> = others.map(|one| one.name().to_owned()).collect();
        let stop = move |manager: &ProjectionManager| {
            others
                .iter()
                .filter_map(|name| manager.projection(name).ok())
                .for_each(ProjectionHandle::stop);
        };
        self.call(stop).await;
    }

    /// Removes everything that a projection keeps in the store: see [`ProjectionManager::remove`].
    ///
    /// # Errors
    /// Those of [`ProjectionManager::remove`].
    pub async fn remove(&self, name: &str) -> Result<bool, ProjectionError> {
        let name = name.to_owned();
        self.call(move |manager| manager.remove(&name)).await
    }

    /// Calls [`AsyncProjectionHandle::restore_discarded`] on the projection with this name.
    ///
    /// # Errors
    /// Those of [`ProjectionManager::restore_discarded`].
    pub async fn restore_discarded(
        &self,
        name: &str,
        event: &UnhandledEvent,
    ) -> Result<bool, ProjectionError> {
        self.projection(name)?.restore_discarded(event).await
    }

    /// The projection with this name.
    ///
    /// # Errors
    /// [`ProjectionError::Unknown`].
    pub fn projection(&self, name: &str) -> Result<AsyncProjectionHandle, ProjectionError> {
        self.inner.manager.projection(name)?;
        Ok(AsyncProjectionHandle::new(self.inner.clone(), name))
    }

    /// All projections, in the order of registration.
    pub fn projections(&self) -> impl Iterator<Item = AsyncProjectionHandle> {
        let names = self.inner.manager.projections().map(ProjectionHandle::name);
        names.map(|name| AsyncProjectionHandle::new(self.inner.clone(), name))
    }

    /// Calls [`AsyncProjectionHandle::wait_for`] on the projection with this name.
    ///
    /// # Errors
    /// Those of [`AsyncProjectionHandle::wait_for`]; [`ProjectionError::Unknown`].
    pub async fn wait_for(&self, name: &str, position: Position) -> Result<(), ProjectionError> {
        self.projection(name)?.wait_for(position).await
    }

    /// Waits until all projections have every event up to this position, as
    /// [`AsyncProjectionHandle::wait_for`] does for one.
    ///
    /// # Errors
    /// Those of [`AsyncProjectionHandle::wait_for`], for the first projection that fails.
    pub async fn wait_for_all(&self, position: Position) -> Result<(), ProjectionError> {
        for projection in self.projections() {
            projection.wait_for(position).await?;
        }
        Ok(())
    }

    /// Waits until all serving read models have handled the whole log: see
    /// [`ProjectionManager::wait_for_head`].
    ///
    /// # Errors
    /// Those of [`AsyncProjectionManager::wait_for_all`]; [`ProjectionError::Store`].
    pub async fn wait_for_head(&self) -> Result<Option<Position>, ProjectionError> {
        let mut reached = None;
        loop {
            let head = self.call(ProjectionManager::head).await?;
            let Some(next) = head.filter(|_| head > reached) else { return Ok(head) };
            self.wait_for_all(next).await?;
            reached = head;
        }
    }

    /// Calls [`AsyncProjectionHandle::status`] on the projection with this name.
    ///
    /// # Errors
    /// Those of [`ProjectionManager::status`].
    pub async fn status(&self, name: &str) -> Result<ProjectionStatus, ProjectionError> {
        self.projection(name)?.status().await
    }

    /// Whether the projections work: see [`ProjectionManager::health`].
    pub async fn health(&self, stuck_after: std::time::Duration) -> Health {
        self.call(move |manager| manager.health(stuck_after)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ProjectionManager) -> T + Send + 'static,
    ) -> T {
        let inner = self.inner.clone();
        unblock(move || call(&inner.manager)).await
    }
}
