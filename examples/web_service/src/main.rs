//! `SHOP_SECRET=… web_service DIRECTORY [ADDRESS]` serves the shop in that directory. See
//! README.md.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use ordering::failure::log;
use ordering::service::Service;
use ordering::shop::Config;
use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: SHOP_SECRET=… web_service DIRECTORY [ADDRESS]";
/// Free space that appends leave on the disk.
const DISK_RESERVE: u64 = 64 * 1024 * 1024;
/// Proxies close connections that send nothing for 30 or 60 seconds.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or(USAGE)?);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let secret = std::env::var("SHOP_SECRET").map_err(|_| USAGE)?.into_bytes();
    // Before the listener, so that a client that is connected is answered.
    let config =
        Config { directory, secret, disk_reserve_bytes: DISK_RESERVE, heartbeat: HEARTBEAT };
    let service = Service::open(config).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    ordering::serve(listener, service, stop).await?;
    log("closed");
    Ok(())
}
