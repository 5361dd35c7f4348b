//! [`AsyncProjection`]: a projection whose handler is an `async fn`, driven by its worker.

use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_lite::future;

use super::handler::Cancelled;
use super::shared::Shared;
use super::writer::ViewWriter;
use super::{HandlerError, Projection, Target};
use crate::codec::{DomainEvent, TypedEvent};
use crate::event_store::Query;
use crate::sync::RwLock;

/// A [`Projection`] whose handler is async.
///
/// It is added with [`ProjectionManager::register_async`]. Order, batches, retries, parking,
/// partitions, rebuilds, panics and the guarantees are those of a [`Projection`]: its thread polls
/// the future of one event until it completes, then that of the next event.
///
/// A handler that needs a runtime, for its timers or sockets, needs
/// [`ProjectionManager::executor`]. Otherwise no runtime is needed, also not for calls of
/// [`AsyncStore`](crate::AsyncStore) and [`AsyncRepository`](crate::AsyncRepository).
///
/// **Cancellation.** A stop, including the one when the manager is dropped, drops the future of a
/// pending `handle` or `reset`. Its event counts as not handled: its changes are dropped, and the
/// next start delivers it again; with partitions, events of its batch that others have handled may
/// come again too. The same happens when a rebuild replaces the read model. A pending
/// `flush` is not dropped, because all events of its batch would be delivered again: a stop waits
/// for it, so give it a timeout.
///
/// **Blocking.** A handler may block: its thread does not belong to a runtime. A stop then waits
/// for it. `block_on` inside a handler works, with one exception: if
/// [`ProjectionManager::executor`] uses a tokio runtime, tokio's `block_on` panics, which counts as
/// a failure of the handler.
///
/// ```
/// use annals::prelude::*;
/// use annals::{AsyncProjection, Target};
/// # use std::sync::{Arc, Mutex};
/// # use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Placed { by: String }
/// # annals::domain_events! { Placed => "Placed" }
/// # #[derive(Clone, Default)]
/// # struct MailServer(Arc<Mutex<Vec<String>>>);
/// # impl MailServer {
/// #     async fn send(&self, to: &str) -> Result<(), HandlerError> {
/// #         futures_lite::future::yield_now().await;
/// #         self.0.lock().unwrap().push(to.to_owned());
/// #         Ok(())
/// #     }
/// # }
/// struct Confirmations {
///     server: MailServer,
/// }
///
/// impl AsyncProjection for Confirmations {
///     type Event = Placed;
///
///     fn name(&self) -> &str {
///         "confirmations"
///     }
///     fn target(&self) -> Target {
///         Target::Reactor
///     }
///     async fn handle(
///         &self,
///         event: &TypedEvent<Placed>,
///         _: &mut ViewWriter,
///     ) -> Result<(), HandlerError> {
///         self.server.send(&event.event.by).await
///     }
/// }
///
/// let (store, server) = (MemoryStore::new(), MailServer::default());
/// let confirmations = Confirmations { server: server.clone() };
/// let projections = ProjectionManager::new(&store).register_async(confirmations)?;
/// projections.start()?;
/// let placed = Placed { by: "ada@example.com".into() }.encode()?;
/// store.append("order-1", ExpectedVersion::Any, [placed])?;
/// projections.wait_for_head(Duration::from_secs(60))?;
/// assert_eq!(*server.0.lock().unwrap(), ["ada@example.com"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`ProjectionManager::executor`]: crate::ProjectionManager::executor
/// [`ProjectionManager::register_async`]: crate::ProjectionManager::register_async
pub trait AsyncProjection: Send + Sync + 'static {
    /// The events that it reads: see [`Projection::Event`].
    type Event: DomainEvent;

    /// Its name: see [`Projection::name`].
    fn name(&self) -> &str;

    /// The version of its read model: see [`Projection::version`].
    fn version(&self) -> u32 {
        1
    }

    /// Where it keeps its results: see [`Projection::target`].
    fn target(&self) -> Target {
        Target::View
    }

    /// The events that it receives: see [`Projection::query`].
    fn query(&self) -> Query {
        Query::Everything
    }

    /// Handles one event: see [`Projection::handle`].
    ///
    /// If it waits for its own projection, or rebuilds or retries it, it stays pending until the
    /// projection is stopped.
    ///
    /// # Errors
    /// Those of [`Projection::handle`].
    fn handle(
        &self,
        event: &TypedEvent<Self::Event>,
        view: &mut ViewWriter,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Flushes a target outside the store: see [`Projection::flush`]. A stop waits for it.
    ///
    /// # Errors
    /// Those of [`Projection::flush`].
    fn flush(&self) -> impl Future<Output = Result<(), HandlerError>> + Send {
        async { Ok(()) }
    }

    /// Empties the target of a [`Target::External`] projection: see [`Projection::reset`].
    ///
    /// # Errors
    /// Those of [`Projection::reset`].
    fn reset(&self) -> impl Future<Output = Result<(), HandlerError>> + Send {
        async { Ok(()) }
    }
}

type BlockOn = Arc<dyn Fn(Pin<&mut (dyn Future<Output = ()> + Send)>) + Send + Sync>;

/// Drives the futures of all async projections of a manager, each on the thread of its worker.
#[derive(Default)]
pub(super) struct Executor(RwLock<Option<BlockOn>>);

/// The executor of the application returned too early.
#[derive(Debug, thiserror::Error)]
#[error(
    "the executor of the projections returned before the handler was done; it must wait for it"
)]
struct NotDone;

impl Executor {
    /// Uses the application's function from the next call on.
    pub(super) fn set(&self, block_on: BlockOn) {
        *self.0.write() = Some(block_on);
    }

    fn run(
        &self,
        handling: impl Future<Output = Result<(), HandlerError>> + Send,
    ) -> Result<(), HandlerError> {
        let block_on = self.0.read().clone();
        let mut done = Err(NotDone.into());
        {
            let mut task = pin!(async { done = handling.await });
            match block_on {
                Some(block_on) => block_on(task.as_mut()),
                None => future::block_on(task.as_mut()),
            }
        }
        done
    }
}

/// An async projection as a blocking one, without a manager.
#[cfg(feature = "testing")]
pub(crate) fn driven<P: AsyncProjection>(projection: P) -> impl Projection<Event = P::Event> {
    Driven { projection, executor: Arc::default(), shared: Arc::new(Shared::new()) }
}

/// An async projection, as a worker calls it.
pub(super) struct Driven<P> {
    pub(super) projection: P,
    pub(super) executor: Arc<Executor>,
    pub(super) shared: Arc<Shared>,
}

impl<P: AsyncProjection> Driven<P> {
    /// Drives a future, unless the worker should halt. If it should halt later, drops the future
    /// when it is next pending.
    fn run_unless_halted<F>(&self, handling: impl FnOnce() -> F) -> Result<(), HandlerError>
    where
        F: Future<Output = Result<(), HandlerError>> + Send,
    {
        let Some(generation) = self.shared.generation_driven_here() else {
            return self.executor.run(handling());
        };
        if !self.shared.is_to_go_on(generation) {
            return Err(Cancelled.into());
        }
        let halted = async {
            self.shared.wait_for_halt(generation).await;
            Err(Cancelled.into())
        };
        // Polls the handler first: if it completes, it is not cancelled.
        self.executor.run(future::or(handling(), halted))
    }
}

impl<P: AsyncProjection> Projection for Driven<P> {
    type Event = P::Event;

    fn name(&self) -> &str {
        self.projection.name()
    }

    fn version(&self) -> u32 {
        self.projection.version()
    }

    fn target(&self) -> Target {
        self.projection.target()
    }

    fn query(&self) -> Query {
        self.projection.query()
    }

    fn handle(
        &self,
        event: &TypedEvent<Self::Event>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        self.run_unless_halted(|| self.projection.handle(event, view))
    }

    fn flush(&self) -> Result<(), HandlerError> {
        // Never cancelled: all events of the batch would be delivered again.
        self.executor.run(self.projection.flush())
    }

    fn reset(&self) -> Result<(), HandlerError> {
        self.run_unless_halted(|| self.projection.reset())
    }
}
