//! An ordering service over HTTP: customers, products and orders, with annals and axum. README.md
//! says what it shows and how to run it.

pub mod customer;
pub mod failure;
pub mod feed;
pub mod live;
pub mod order;
pub mod order_list;
pub mod product;
pub mod request;
pub mod returns;
pub mod routes;
pub mod service;
pub mod shop;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{interval, sleep};

use service::Service;

/// How long running requests may take after the signal to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How often failed projections are started again.
const RESTART: Duration = Duration::from_secs(1);

/// Serves requests until `stop` completes. Then it ends the feeds, finishes running requests, stops
/// the projections and closes the store.
///
/// # Errors
/// The listener failed, or the store could not be closed cleanly.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stopping = Arc::clone(&service);
    tokio::spawn(async move {
        stop.await;
        stopping.stop();
    });
    let tended = Arc::clone(&service);
    let tending = tokio::spawn(async move { tend(&tended).await });
    let server = axum::serve(listener, routes::router(Arc::clone(&service)))
        .with_graceful_shutdown(service.stopped());
    let served = async {
        server.await?;
        // WebSockets are no longer requests of the server.
        service.feeds_ended().await;
        std::io::Result::Ok(())
    };
    tokio::select! {
        served = served => served?,
        () = async { service.stopped().await; sleep(GRACE).await } => {}
    }
    tending.abort();
    service.close().await?;
    Ok(())
}

/// Starts failed projections again, from time to time.
async fn tend(service: &Arc<Service>) {
    let mut interval = interval(RESTART);
    loop {
        interval.tick().await;
        // A failure was logged. It begins a reopening if that is needed.
        _ = service.call(|shop| async move { shop.restart_failed().await }).await;
    }
}
