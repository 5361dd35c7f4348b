//! The async API, on three runtimes. It appends, reads, follows and commands as the blocking API
//! does. It blocks no threads of a runtime, and loses nothing if futures are dropped or the store is
//! closed.

mod appending;
mod closing;
mod commands;
mod conformance;
mod following;

use std::future::Future;
use std::path::PathBuf;

use annals::AsyncStore;
use annals::prelude::*;

use crate::support::{place, quick};

/// An executor of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runtime {
    /// Several threads.
    Tokio,
    /// One thread, which also runs the test.
    CurrentThread,
    Smol,
}

impl Runtime {
    const ALL: [Self; 3] = [Self::Tokio, Self::CurrentThread, Self::Smol];

    fn block_on<T>(self, future: impl Future<Output = T>) -> T {
        let builder = match self {
            Self::Smol => return smol::block_on(future),
            Self::Tokio => tokio::runtime::Builder::new_multi_thread(),
            Self::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        };
        { builder }.worker_threads(2).enable_all().build().unwrap().block_on(future)
    }

    /// Starts a task. The future waits for its result; dropping it does not end the task.
    fn spawn<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let (sender, receiver) = smol::channel::bounded(1);
        let run = async move {
            let _ = sender.send(future.await).await;
        };
        match self {
            Self::Smol => smol::spawn(run).detach(),
            Self::Tokio | Self::CurrentThread => drop(tokio::spawn(run)),
        }
        async move { receiver.recv().await.unwrap() }
    }
}

/// Runs a test on each runtime, with a new store on disk.
fn on_each_runtime<F: Future<Output = ()>>(test: impl Fn(Runtime, AsyncStore, PathBuf) -> F) {
    for runtime in Runtime::ALL {
        let (_directory, path) = place();
        let store = quick().open(&path).unwrap();
        runtime.block_on(test(runtime, AsyncStore::new(store), path));
    }
}

fn event(text: &str) -> NewEvent {
    NewEvent::json("Happened", &text).unwrap()
}

/// The number of threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
