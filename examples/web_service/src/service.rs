//! [`Service`]: holds the open [`Shop`], serves requests with it, and reopens it.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::failure::{Failure, log};
use crate::shop::{Config, Shop};

/// How long to wait after a failed attempt to reopen the store.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// The shop, if it is open.
#[derive(Debug)]
enum State {
    Open(Arc<Shop>),
    Reopening,
    Closed,
}

/// The shop that serves requests. It is replaced when the store must be reopened.
#[derive(Debug)]
pub struct Service {
    config: Config,
    state: RwLock<State>,
    /// Each feed has a receiver until it ends.
    stopping: watch::Sender<bool>,
}

impl Service {
    /// Opens the shop.
    ///
    /// # Errors
    /// Those of [`Shop::open`].
    pub async fn open(
        config: Config,
    ) -> Result<Arc<Self>, Box<dyn std::error::Error + Send + Sync>> {
        let shop = Arc::new(Shop::open(&config).await?);
        let (state, stopping) = (RwLock::new(State::Open(shop)), watch::Sender::new(false));
        Ok(Arc::new(Self { config, state, stopping }))
    }

    /// Does `work` with the open shop. If the store must be reopened, this begins it.
    ///
    /// A task of its own does the work: it is completed even if the client leaves, and a panic
    /// becomes an answer.
    ///
    /// # Errors
    /// The [`Failure`] of `work`; 503 while the store is reopened or closed.
    pub async fn call<T, F>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Shop>) -> F + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let service = Arc::clone(self);
        let done = tokio::spawn(async move {
            let shop = service.current()?;
            let done = work(Arc::clone(&shop)).await;
            if done.as_ref().is_err_and(|failure| failure.needs_reopen) {
                service.reopen(&shop);
            }
            done
        });
        done.await.unwrap_or_else(|panic| {
            log(panic);
            Err(Failure::internal())
        })
    }

    /// The open shop. A request keeps it until it ends.
    ///
    /// # Errors
    /// 503 while the store is reopened or closed.
    pub fn current(&self) -> Result<Arc<Shop>, Failure> {
        match &*self.read() {
            State::Open(shop) => Ok(Arc::clone(shop)),
            State::Reopening => {
                let text = "the store is reopened; send the request again";
                Err(Failure::unavailable("reopening", text))
            }
            State::Closed => {
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "closed", "the service ends"))
            }
        }
    }

    /// Replaces a shop whose store takes no more appends. Does nothing if it was replaced already.
    fn reopen(self: &Arc<Self>, failed: &Arc<Shop>) {
        {
            let mut state = self.write();
            match &*state {
                State::Open(shop) if Arc::ptr_eq(shop, failed) => *state = State::Reopening,
                _ => return,
            }
        }
        let (service, failed) = (Arc::clone(self), Arc::clone(failed));
        tokio::spawn(async move {
            if let Err(error) = failed.close().await {
                log(error);
            }
            drop(failed);
            while matches!(*service.read(), State::Reopening) {
                match Shop::open(&service.config).await {
                    Ok(shop) => service.replace(shop),
                    Err(error) => {
                        log(error);
                        sleep(REOPEN_PAUSE).await;
                    }
                }
            }
        });
    }

    fn replace(&self, shop: Shop) {
        let mut state = self.write();
        if matches!(*state, State::Reopening) {
            *state = State::Open(Arc::new(shop));
        }
    }

    /// Ends the feeds, and completes [`Service::stopped`].
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Completes when the service stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move { _ = stopping.wait_for(|stop| *stop).await }
    }

    /// Whether the service stops. A feed holds this until it has ended.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Waits until all feeds have ended.
    pub async fn feeds_ended(&self) {
        self.stopping.closed().await;
    }

    pub fn heartbeat(&self) -> Duration {
        self.config.heartbeat
    }

    /// Stops the projections, and closes the store. Requests get 503 from now on.
    ///
    /// # Errors
    /// Those of [`Shop::close`].
    pub async fn close(&self) -> annals::Result<()> {
        let state = std::mem::replace(&mut *self.write(), State::Closed);
        match state {
            State::Open(shop) => shop.close().await,
            State::Reopening | State::Closed => Ok(()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
