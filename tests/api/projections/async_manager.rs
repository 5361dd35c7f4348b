//! The async form of the manager: the same results, without blocking the threads of a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    AsyncProjectionManager, HealthState, OnFailure, Position, ProjectionError, ProjectionState,
};
use tokio::time::timeout;

use super::async_handlers::{AsyncCustom, Stuck};
use super::{Custom, SOON, add_up, balances, fold, pay, pay_all, stores};

fn manager_of(store: &MemoryStore, projection: Custom) -> AsyncProjectionManager {
    AsyncProjectionManager::new(ProjectionManager::new(store).register(projection).unwrap())
}

/// Completes as soon as the receiver is dropped or sent to; blocks the thread of the worker.
fn blocked() -> (Custom, Arc<AtomicBool>, std::sync::mpsc::Sender<()>) {
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let is_running = Arc::new(AtomicBool::new(false));
    let running = is_running.clone();
    let custom = Custom::new(move |event, view| {
        running.store(true, Ordering::SeqCst);
        _ = released.lock().unwrap().recv();
        add_up(event, view)
    });
    (custom, is_running, release)
}

fn wait_for(is_true: &AtomicBool) {
    let until = Instant::now() + SOON;
    while !is_true.load(Ordering::SeqCst) {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn assert_send<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn async_manager_starts_waits_and_stops() {
    for (store, _kept) in stores() {
        let manager = ProjectionManager::new(&*store)
            .register(Custom { name: "other", ..Custom::balances() })
            .unwrap()
            .register_async(AsyncCustom::balances())
            .unwrap();
        let manager = AsyncProjectionManager::new(manager);
        let names: Vec<_> = manager.projections().map(|p| p.name().to_owned()).collect();
        assert_eq!(names, ["other", "balances"]);
        assert_send(manager.start()).await.unwrap();
        let last = pay_all(&*store, "account-1", 1..=9);
        timeout(SOON, assert_send(manager.wait_for("balances", last))).await.unwrap().unwrap();
        assert_eq!(balances(&*store), fold(&*store));
        timeout(SOON, assert_send(manager.wait_for_all(last))).await.unwrap().unwrap();
        assert_eq!(store.view("other").get("account-1").unwrap(), Some(45));
        let head = timeout(SOON, assert_send(manager.wait_for_head())).await.unwrap().unwrap();
        assert_eq!(head, Some(last));
        assert_eq!(assert_send(manager.status("other")).await.unwrap().position, Some(last));
        assert_eq!(assert_send(manager.health(SOON)).await.state, HealthState::Healthy);

        assert_send(manager.stop()).await;
        let stopped = manager.wait_for("other", last.next()).await.unwrap_err();
        assert!(matches!(stopped, ProjectionError::NotRunning { .. }), "{stopped}");
        assert_eq!(manager.blocking().status("other").unwrap().state, ProjectionState::Stopped);
        assert!(assert_send(manager.remove("other")).await.unwrap());
        let unknown = manager.projection("nothing").unwrap_err();
        assert!(matches!(unknown, ProjectionError::Unknown { .. }), "{unknown}");
    }
}

/// Also before the first start: the progress of an earlier run is loaded.
#[tokio::test]
async fn wait_sees_the_progress_of_an_earlier_run() {
    let store = MemoryStore::new();
    let last = pay(&store, "account-1", 1);
    let first = manager_of(&store, Custom::balances());
    first.start().await.unwrap();
    first.wait_for_head().await.unwrap();
    first.stop().await;
    let second = manager_of(&store, Custom::balances());
    second.wait_for("balances", last).await.unwrap();
    let error = second.wait_for("balances", last.next()).await.unwrap_err();
    assert!(matches!(error, ProjectionError::NotRunning { .. }), "{error}");
}

#[tokio::test]
async fn async_handle_rebuilds_retries_and_discards() {
    for (store, _kept) in stores() {
        let is_broken = Arc::new(AtomicBool::new(true));
        let broken = is_broken.clone();
        let shaky = Custom::new(move |event, view| {
            let fails = broken.load(Ordering::SeqCst) && event.stream().as_str() != "account-3";
            if fails { Err("broken".into()) } else { add_up(event, view) }
        });
        let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
        let manager = ProjectionManager::new(&*store).register_with(shaky, options).unwrap();
        let manager = AsyncProjectionManager::new(manager);
        let handle = manager.projection("balances").unwrap();
        assert_send(handle.start()).await.unwrap();
        for account in ["account-1", "account-2", "account-3"] {
            pay(&*store, account, 5);
        }
        manager.wait_for_head().await.unwrap();
        let parked = assert_send(handle.parked(9)).await.unwrap();
        assert_eq!(parked.len(), 2);
        assert_eq!(assert_send(handle.parked_after(&parked[0], 9)).await.unwrap(), parked[1..]);
        assert_eq!(handle.status().await.unwrap().parked_events, 2);

        assert!(assert_send(handle.discard_parked(&parked[0])).await.unwrap());
        let discarded = assert_send(handle.discarded(9)).await.unwrap();
        assert_eq!(discarded.len(), 1);
        assert_eq!(assert_send(handle.skipped(9)).await.unwrap().len(), 1);
        is_broken.store(false, Ordering::SeqCst);
        assert_eq!(assert_send(handle.retry_parked()).await.unwrap(), 0);
        assert_eq!(balances(&*store).len(), 2);
        assert!(manager.restore_discarded("balances", &discarded[0]).await.unwrap());
        assert_eq!(handle.retry_parked().await.unwrap(), 0);
        assert_eq!(balances(&*store), fold(&*store));

        assert_send(handle.rebuild()).await.unwrap();
        timeout(SOON, assert_send(handle.wait_for_rebuild(|_| ()))).await.unwrap().unwrap();
        assert_eq!(balances(&*store), fold(&*store));
        assert!(handle.status().await.unwrap().rebuild.is_none());
        assert_send(handle.stop()).await;
        let error = handle.wait_for_rebuild(|_| ()).await.unwrap_err();
        assert!(matches!(error, ProjectionError::NotRunning { .. }), "{error}");
        let error = handle.retry_parked().await.unwrap_err();
        assert!(matches!(error, ProjectionError::NotRunning { .. }), "{error}");
    }
}

/// The wait for a rebuild reports its progress, and its failure.
#[tokio::test]
async fn wait_for_a_failing_rebuild_is_an_error() {
    let store = MemoryStore::new();
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = is_slow.clone();
    let failing = Custom::new(move |event, view| {
        if slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
            if event.event == (super::Money::Deposited { amount: 200 }) {
                return Err("too late".into());
            }
        }
        add_up(event, view)
    });
    let options = ProjectionOptions::new().retries(0).batch_events(1);
    let manager = ProjectionManager::new(&store).register_with(failing, options).unwrap();
    let manager = AsyncProjectionManager::new(manager);
    pay_all(&store, "account-1", 1..=200);
    manager.start().await.unwrap();
    manager.wait_for_head().await.unwrap();
    is_slow.store(true, Ordering::SeqCst);
    let handle = manager.projection("balances").unwrap();
    handle.rebuild().await.unwrap();
    let mut positions = Vec::new();
    let wait = handle.wait_for_rebuild(|rebuild| positions.push(rebuild.position));
    let error = timeout(SOON, wait).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("too late"), "{error}");
    assert!(!positions.is_empty() && positions.is_sorted(), "{positions:?}");
}

/// The errors that end a wait wake the tasks that wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_tasks_see_that_the_projection_stopped_or_failed() {
    let store = MemoryStore::new();
    let failing = Custom::new(|event, view| match event.event {
        super::Money::Withdrawn { .. } => Err("no".into()),
        super::Money::Deposited { .. } => add_up(event, view),
    });
    let options = ProjectionOptions::new().retries(0);
    let manager = ProjectionManager::new(&store).register_with(failing, options).unwrap();
    let manager = AsyncProjectionManager::new(manager);
    manager.start().await.unwrap();
    let waiting = || {
        let manager = manager.clone();
        let far = Position::new(1_000).unwrap();
        tokio::spawn(async move { manager.wait_for("balances", far).await })
    };
    let task = waiting();
    tokio::time::sleep(Duration::from_millis(50)).await;
    pay(&store, "account-1", -1);
    let error = timeout(SOON, task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ProjectionError::Failed { .. }), "{error}");

    let manager = manager_of(&MemoryStore::new(), Custom::balances());
    manager.start().await.unwrap();
    let task = {
        let manager = manager.clone();
        tokio::spawn(async move { manager.wait_for("balances", Position::FIRST).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    manager.stop().await;
    let error = timeout(SOON, task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ProjectionError::NotRunning { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_tasks_use_no_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let (store, (custom, is_running, release)) = (MemoryStore::new(), blocked());
    let manager = manager_of(&store, custom);
    manager.start().await.unwrap();
    let last = pay(&store, "account-1", 1);
    wait_for(&is_running);
    let before = threads();
    let tasks: Vec<_> = (0..400)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move { manager.wait_for("balances", last).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let grown = threads().saturating_sub(before);
    // Other tests of this process start threads meanwhile.
    assert!(grown < 150, "400 waiting tasks started {grown} threads");
    release.send(()).unwrap();
    for task in tasks {
        timeout(SOON, task).await.unwrap().unwrap().unwrap();
    }
}

/// The task would wait forever, and with it every task of this thread.
#[tokio::test]
async fn drop_on_a_thread_of_a_runtime_does_not_wait_for_handlers() {
    let (store, (custom, is_running, release)) = (MemoryStore::new(), blocked());
    let manager = manager_of(&store, custom);
    manager.start().await.unwrap();
    pay(&store, "account-1", 1);
    wait_for(&is_running);
    let (handle, clone) = (manager.projection("balances").unwrap(), manager.clone());
    drop(manager);
    drop(clone);
    assert_ne!(handle.status().await.unwrap().state, ProjectionState::Stopped, "it keeps it alive");
    let (done, dropped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(handle);
        done.send(()).unwrap();
    });
    dropped.recv_timeout(SOON).unwrap();

    // The projection stops after this handler.
    release.send(()).unwrap();
    let until = Instant::now() + SOON;
    while !balances(&store).contains_key("account-1") {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    pay(&store, "account-2", 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!balances(&store).contains_key("account-2"));
}

/// The wait ends, the call does not.
#[tokio::test]
async fn dropped_future_completes_its_call() {
    let managers: Vec<_> = (0..30)
        .map(|_| {
            let store = MemoryStore::new();
            let last = pay(&store, "account-1", 1);
            (manager_of(&store, Custom::balances()), last, store)
        })
        .collect();
    for (manager, ..) in &managers {
        _ = futures_lite::future::poll_once(std::pin::pin!(manager.start())).await;
    }
    let until = Instant::now() + SOON;
    for (manager, last, _store) in &managers {
        while manager.wait_for("balances", *last).await.is_err() {
            assert!(Instant::now() < until, "it was not started");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    let (store, (custom, is_running, release)) = (MemoryStore::new(), blocked());
    let manager = manager_of(&store, custom);
    // A call that was never polled has not begun.
    drop(manager.start());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(manager.status("balances").await.unwrap().state, ProjectionState::Stopped);
    manager.start().await.unwrap();
    pay(&store, "account-1", 1);
    wait_for(&is_running);
    let stopped = timeout(Duration::from_millis(50), manager.stop()).await;
    assert!(stopped.is_err(), "the handler is still running");
    release.send(()).unwrap();
    while manager.status("balances").await.unwrap().state != ProjectionState::Stopped {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn stop_cancels_a_pending_handler_of_the_same_runtime() {
    let (store, stuck) = (MemoryStore::new(), Stuck::new());
    let handle = tokio::runtime::Handle::current();
    let manager = ProjectionManager::new(&store)
        .executor(move |handling| handle.block_on(handling))
        .register_async(stuck.at_thirteen())
        .unwrap();
    let manager = AsyncProjectionManager::new(manager);
    manager.start().await.unwrap();
    pay(&store, "account-1", 13);
    stuck.wait_for_pending(1);
    timeout(SOON, manager.stop()).await.unwrap();
    assert_eq!(stuck.dropped.load(Ordering::SeqCst), 1);
}

/// Its own handler does not wait for itself; what it did before counts.
#[tokio::test]
async fn async_handler_stops_its_own_projection() {
    let store = MemoryStore::new();
    let manager: Arc<std::sync::OnceLock<AsyncProjectionManager>> = Arc::default();
    let of_handler = Arc::downgrade(&manager);
    let stopping = AsyncCustom::new(move |event, view| {
        let manager = of_handler.upgrade().unwrap().get().unwrap().clone();
        Box::pin(async move {
            add_up(event, view)?;
            manager.projection("balances")?.stop().await;
            Ok(())
        })
    });
    let built = ProjectionManager::new(&store).register_async(stopping).unwrap();
    manager.set(AsyncProjectionManager::new(built)).unwrap();
    let manager = manager.get().unwrap();
    let last = pay_all(&store, "account-1", 1..=3);
    manager.start().await.unwrap();
    let error = timeout(SOON, manager.wait_for("balances", last)).await.unwrap().unwrap_err();
    assert!(matches!(error, ProjectionError::NotRunning { .. }), "{error}");
    assert_eq!(balances(&store)["account-1"], 1);
}

/// The call returns, and the projection stops when its handler ends.
#[test]
fn handler_may_block_on_the_stop_of_all() {
    let store = MemoryStore::new();
    let slot: Arc<std::sync::Mutex<Option<AsyncProjectionManager>>> = Arc::default();
    let stopping = slot.clone();
    let custom = Custom::new(move |event, view| {
        let manager = stopping.lock().unwrap().take();
        if let Some(manager) = manager {
            futures_lite::future::block_on(manager.stop());
        }
        add_up(event, view)
    });
    let manager = manager_of(&store, custom);
    *slot.lock().unwrap() = Some(manager.clone());
    pay(&store, "account-1", 1);
    futures_lite::future::block_on(manager.start()).unwrap();
    let until = Instant::now() + SOON;
    let state = || manager.blocking().status("balances").unwrap().state;
    while state() != ProjectionState::Stopped {
        assert!(Instant::now() < until, "the stop waits for its own handler");
        std::thread::sleep(Duration::from_millis(1));
    }
}
