//! Where the futures of handlers run, and `block_on` inside a handler: the facts that the
//! documentation of `AsyncProjection` states.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use annals::prelude::*;
use annals::{AsyncProjection, ProjectionState};
use tokio::runtime::{Builder, Handle, Runtime};

use super::async_handlers::{AsyncCustom, Stuck};
use super::{Custom, SOON, add_up, balances, pay, pay_all};

type Handling<'f> = Pin<&'f mut (dyn Future<Output = ()> + Send)>;

type Executor = Arc<dyn Fn(Handling<'_>) + Send + Sync>;

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn no_retries() -> ProjectionOptions {
    ProjectionOptions::new().retries(0)
}

/// Sleeps before each event, on the timer of tokio.
fn sleeping() -> AsyncCustom {
    AsyncCustom::new(|event, view| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            add_up(event, view)
        })
    })
}

/// Runs `block_on` inside an async handler, on a future that needs a wake-up.
fn nested(block_on: impl Fn(Handling<'_>) + Send + Sync + 'static) -> AsyncCustom {
    let block_on = Arc::new(block_on);
    AsyncCustom::new(move |event, view| {
        let block_on = block_on.clone();
        Box::pin(async move {
            futures_lite::future::yield_now().await;
            block_on(std::pin::pin!(futures_lite::future::yield_now()));
            futures_lite::future::yield_now().await;
            add_up(event, view)
        })
    })
}

/// Three events through this projection; the error if it fails.
fn run(
    executor: Option<impl Fn(Handling<'_>) + Send + Sync + 'static>,
    projection: impl AsyncProjection,
) -> Result<(), String> {
    let store = MemoryStore::new();
    let manager = ProjectionManager::new(&store);
    let mut manager = manager.register_async_with(projection, no_retries()).unwrap();
    if let Some(executor) = executor {
        // The order does not matter: it is set after the projection is registered.
        manager = manager.executor(executor);
    }
    manager.start().unwrap();
    pay_all(&store, "account-1", 1..=3);
    manager.wait_for_head(SOON).map_err(|error| error.to_string())?;
    assert_eq!(balances(&store)["account-1"], 6);
    Ok(())
}

fn on(handle: &Handle) -> impl Fn(Handling<'_>) + Send + Sync + 'static {
    let handle = handle.clone();
    move |handling| handle.block_on(handling)
}

const NO_EXECUTOR: Option<fn(Handling<'_>)> = None;

#[test]
fn handler_uses_timers_of_a_multi_thread_runtime() {
    let runtime = multi_thread();
    run(Some(on(runtime.handle())), sleeping()).unwrap();
}

/// Its own thread is in `block_on`, and waits without blocking.
#[test]
fn handler_uses_timers_of_a_current_thread_runtime() {
    let runtime = current_thread();
    let executor = on(runtime.handle());
    let ran = tokio::sync::oneshot::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || ran.0.send(run(Some(executor), sleeping())).unwrap());
        runtime.block_on(ran.1).unwrap().unwrap();
    });
}

#[test]
fn handler_uses_timers_of_smol() {
    let sleeping = AsyncCustom::new(|event, view| {
        Box::pin(async move {
            smol::Timer::after(Duration::from_millis(1)).await;
            add_up(event, view)
        })
    });
    run(Some(|handling: Handling<'_>| smol::block_on(handling)), sleeping).unwrap();
}

#[test]
fn handler_that_needs_a_missing_runtime_fails() {
    let failed = run(NO_EXECUTOR, sleeping()).unwrap_err();
    let text = "the projection panicked: there is no reactor running, must be called from the \
                context of a Tokio 1.x runtime";
    assert!(failed.contains(text), "{failed}");
}

/// Nothing drives its timer. The handler is pending until the projection is stopped.
#[test]
fn stop_works_while_the_current_thread_runtime_is_blocked() {
    let (store, runtime) = (MemoryStore::new(), current_thread());
    let manager = ProjectionManager::new(&store)
        .executor(on(runtime.handle()))
        .register_async(sleeping())
        .unwrap();
    manager.start().unwrap();
    runtime.block_on(async {
        let last = pay(&store, "account-1", 1);
        let wait = manager.wait_for("balances", last, Duration::from_millis(100));
        assert!(matches!(wait, Err(annals::ProjectionError::TimedOut { .. })));
        manager.stop();
    });
    assert_eq!(manager.status("balances").unwrap().state, ProjectionState::Stopped);
}

/// The future is dropped inside the runtime, as timers and sockets require.
#[test]
fn stop_cancels_a_handler_on_the_executor_of_the_application() {
    let runtime = multi_thread();
    let executors: [Executor; 2] = [
        Arc::new(on(runtime.handle())),
        Arc::new(|handling: Handling<'_>| smol::block_on(handling)),
    ];
    for executor in executors {
        let (store, stuck) = (MemoryStore::new(), Stuck::new());
        let manager = ProjectionManager::new(&store)
            .executor(move |handling| executor(handling))
            .register_async(stuck.at_thirteen())
            .unwrap();
        manager.start().unwrap();
        pay(&store, "account-1", 13);
        stuck.wait_for_pending(1);
        manager.stop();
        assert_eq!(stuck.dropped.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}

#[test]
fn executor_that_does_not_wait_is_a_failure() {
    let failed = run(Some(|_: Handling<'_>| ()), sleeping()).unwrap_err();
    assert!(failed.contains("returned before the handler was done"), "{failed}");
}

/// The thread of a projection does not belong to a runtime.
#[test]
fn block_on_works_in_a_blocking_handler() {
    let (multi, current) = (multi_thread(), current_thread());
    for handle in [multi.handle().clone(), current.handle().clone()] {
        let store = MemoryStore::new();
        let waiting = Custom::new(move |event, view| {
            handle.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            add_up(event, view)
        });
        let manager = ProjectionManager::new(&store).register(waiting).unwrap();
        manager.start().unwrap();
        let last = pay(&store, "account-1", 1);
        let manager = &manager;
        let done = tokio::sync::oneshot::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || done.0.send(manager.wait_for("balances", last, SOON)).unwrap());
            // The current-thread runtime is driven meanwhile.
            current.block_on(done.1).unwrap().unwrap();
        });
    }
}

#[test]
fn nested_block_on_works_without_an_executor() {
    for runtime in [multi_thread(), current_thread()] {
        run(NO_EXECUTOR, nested(on(runtime.handle()))).unwrap();
    }
    run(NO_EXECUTOR, nested(|handling| smol::block_on(handling))).unwrap();
    run(NO_EXECUTOR, nested(|handling| futures_lite::future::block_on(handling))).unwrap();
}

#[test]
fn nested_block_on_of_tokio_fails_inside_tokio() {
    for runtime in [multi_thread(), current_thread()] {
        let failed = run(Some(on(runtime.handle())), nested(on(runtime.handle()))).unwrap_err();
        let text = "the projection panicked: Cannot start a runtime from within a runtime";
        assert!(failed.contains(text), "{failed}");
        // Other executors work there.
        run(Some(on(runtime.handle())), nested(|handling| smol::block_on(handling))).unwrap();
        let lite = nested(|handling| futures_lite::future::block_on(handling));
        run(Some(on(runtime.handle())), lite).unwrap();
    }
}

#[test]
fn nested_block_on_works_inside_smol() {
    let smol = || Some(|handling: Handling<'_>| smol::block_on(handling));
    run(smol(), nested(|handling| smol::block_on(handling))).unwrap();
    let runtime = multi_thread();
    run(smol(), nested(on(runtime.handle()))).unwrap();
}

/// A failure with tokio's message, and no hang.
#[test]
fn runtime_that_was_shut_down_is_a_failure() {
    let runtime = multi_thread();
    let executor = on(runtime.handle());
    drop(runtime);
    let failed = run(Some(executor), sleeping()).unwrap_err();
    assert!(failed.contains("the projection panicked"), "{failed}");
}
