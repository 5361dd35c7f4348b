//! Registers async projections with a [`ProjectionManager`].

use std::pin::Pin;
use std::sync::Arc;

use super::async_handler::{AsyncProjection, Driven};
use super::shared::Shared;
use super::{ProjectionError, ProjectionManager, ProjectionOptions};

impl ProjectionManager {
    /// Adds an async projection, with the default options.
    ///
    /// # Errors
    /// Those of [`ProjectionManager::register_with`].
    pub fn register_async(self, projection: impl AsyncProjection) -> Result<Self, ProjectionError> {
        self.register_async_with(projection, ProjectionOptions::new())
    }

    /// Adds an async projection.
    ///
    /// # Errors
    /// Those of [`ProjectionManager::register_with`].
    pub fn register_async_with(
        self,
        projection: impl AsyncProjection,
        options: ProjectionOptions,
    ) -> Result<Self, ProjectionError> {
        let shared = Arc::new(Shared::new());
        let driven = Driven { projection, executor: self.executor.clone(), shared: shared.clone() };
        self.add(driven, options, shared)
    }

    /// Sets the function that drives the futures of all [async projections](AsyncProjection), both
    /// those registered before and after, from their next event. It must poll the future until it
    /// completes. A handler can then use the timers and sockets of the application's runtime.
    ///
    /// Each projection calls it on its own thread, or on one for each of its partitions, for one
    /// event at a time. Without it, that thread polls the future alone.
    ///
    /// With tokio, pass `Handle::block_on`. The runtime must outlive the projections: stop them
    /// before it is shut down. A current-thread runtime runs timers and sockets only while a thread
    /// is in `Runtime::block_on`; if that thread blocks, as `ProjectionManager::wait_for` does, a
    /// handler that needs them stays pending. With smol, pass `smol::block_on`.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::AsyncProjection;
    /// use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Placed {}
    /// # annals::domain_events! { Placed => "Placed" }
    ///
    /// struct Orders;
    ///
    /// impl AsyncProjection for Orders {
    ///     type Event = Placed;
    ///
    ///     fn name(&self) -> &str {
    ///         "orders"
    ///     }
    ///     async fn handle(
    ///         &self,
    ///         _: &TypedEvent<Placed>,
    ///         view: &mut ViewWriter,
    ///     ) -> Result<(), HandlerError> {
    ///         tokio::time::sleep(Duration::from_millis(1)).await;
    ///         Ok(view.update("orders", |orders: &mut u64| *orders += 1)?)
    ///     }
    /// }
    ///
    /// let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    /// let handle = runtime.handle().clone();
    /// let store = MemoryStore::new();
    /// let projections = ProjectionManager::new(&store)
    ///     .executor(move |handling| handle.block_on(handling))
    ///     .register_async(Orders)?;
    /// projections.start()?;
    /// store.append("order-1", ExpectedVersion::NoStream, [Placed {}.encode()?])?;
    /// projections.wait_for_head(Duration::from_secs(60))?;
    /// assert_eq!(store.view("orders").get("orders")?, Some(1));
    /// # drop(projections);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn executor(
        self,
        block_on: impl Fn(Pin<&mut (dyn Future<Output = ()> + Send)>) + Send + Sync + 'static,
    ) -> Self {
        self.executor.set(Arc::new(block_on));
        self
    }
}
