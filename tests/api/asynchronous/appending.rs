//! Appends of tasks: whole or not at all, also if their futures are dropped (G1), in one queue with
//! those of threads.

use std::panic;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use annals::prelude::*;
use annals::{
    AsyncStore, Durability, Error, HealthState, IdempotencyKey, KeyedResult, RequestDigest,
};
use futures_lite::future::{self, FutureExt};

use super::{Runtime, event, on_each_runtime};
use crate::support::place;

/// Polls a future this often, then drops it.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Some(done) = future::poll_once(&mut future).await {
            return Some(done);
        }
        future::yield_now().await;
    }
    None
}

#[test]
fn tasks_append_each_their_own_event() {
    on_each_runtime(|runtime, store, _| async move {
        let tasks: Vec<_> = (0..500_u32)
            .map(|task| {
                let store = store.clone();
                runtime.spawn(async move {
                    let stream = format!("task-{}", task % 50);
                    let appended = store.append(stream, ExpectedVersion::Any, [event("x")]).await;
                    appended.unwrap().first_position()
                })
            })
            .collect();
        let mut positions = Vec::new();
        for task in tasks {
            positions.push(task.await.get());
        }
        positions.sort_unstable();
        assert!(positions.iter().copied().eq(1..=500), "each once, and no gap (G2)");
        let report = store.spawn_blocking(|store| store.verify(|_| {})).await.unwrap();
        assert!(report.is_sound() && report.events == 500);
    });
}

/// Threads and tasks wait in one queue.
#[test]
fn threads_and_tasks_share_the_commits() {
    on_each_runtime(|runtime, store, _| async move {
        let threads: Vec<_> = (0..4_u32)
            .map(|thread| {
                let store = store.blocking().clone();
                std::thread::spawn(move || {
                    for _ in 0..200 {
                        let stream = format!("thread-{thread}");
                        store.append(stream, ExpectedVersion::Any, [event("x")]).unwrap();
                    }
                })
            })
            .collect();
        let tasks: Vec<_> = (0..20_u32)
            .map(|task| {
                let store = store.clone();
                runtime.spawn(async move {
                    for _ in 0..50 {
                        let durability =
                            if task % 4 == 0 { Durability::Sync } else { Durability::Buffered };
                        let append = Append::new()
                            .to(format!("task-{task}"), ExpectedVersion::Any, [event("x")])
                            .with_durability(durability);
                        store.submit(append).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        for thread in threads {
            store.spawn_blocking(move |_| thread.join().unwrap()).await;
        }
        assert_eq!(store.head().unwrap().unwrap().get(), 4 * 200 + 20 * 50);
        for task in 0..20 {
            let last = store.read_stream(format!("task-{task}")).last().await.unwrap().unwrap();
            assert_eq!(last.version().get(), 50);
        }
    });
}

/// Appends and commands with keys are dropped at any poll, and sent again: each is stored once.
#[test]
fn dropped_append_is_stored_whole_or_not_at_all() {
    on_each_runtime(|runtime, store, _| async move {
        let mut stored_after_drop = 0;
        for round in 0..40_usize {
            let tasks: Vec<_> = (0..25_usize)
                .map(|task| {
                    let (store, name) = (store.clone(), format!("{round}-{task}"));
                    runtime.spawn(async move {
                        let events = [event(&name), event(&name)];
                        let stream = format!("task-{name}");
                        let append =
                            || store.append(&*stream, ExpectedVersion::NoStream, events.clone());
                        let done = dropped_after((round + task) % 5, append()).await;
                        let again = append().await.unwrap();
                        assert!(again.is_retry() || done.is_none());

                        let digest = RequestDigest::of(&name);
                        let key = IdempotencyKey::new("requests", &name, digest).unwrap();
                        let submit = || {
                            let append =
                                Append::new().to("log", ExpectedVersion::Any, [event(&name)]);
                            store.submit_once(&key, append.into())
                        };
                        let _ = dropped_after((round * task) % 7, submit()).await;
                        let keyed = submit().await.unwrap();
                        assert!(matches!(keyed.result, KeyedResult::Appended(_)));
                        usize::from(done.is_none() && again.is_retry())
                    })
                })
                .collect();
            for task in tasks {
                stored_after_drop += task.await;
            }
        }
        assert!(stored_after_drop > 0, "some were in the queue when they were dropped");
        assert_eq!(store.head().unwrap().unwrap().get(), 40 * 25 * 3, "each once");
        let log = store.read_stream("log").last().await.unwrap().unwrap();
        assert_eq!(log.version().get(), 40 * 25);
    });
}

/// Counts how often it is woken, and panics each time.
struct Panicking(AtomicUsize);

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic::resume_unwind(Box::new("a waker panicked"));
    }
}

/// A waker is code of an executor, which runs on threads of the store.
#[test]
fn panic_of_a_waker_harms_nothing_but_its_task() {
    let (_directory, path) = place();
    let store = AsyncStore::new(Store::open(&path).unwrap());
    let panicking = Arc::new(Panicking(AtomicUsize::new(0)));
    let waker = Waker::from(panicking.clone());
    let mut context = Context::from_waker(&waker);
    let mut append = Box::pin(store.append("a", ExpectedVersion::Any, [event("1")]));
    let mut wait = Box::pin(store.wait_past(None));
    // Both may be done at once, but then the rounds below are woken.
    let mut later: Vec<_> = (0..20).map(|_| Box::pin(store.wait_past(None))).collect();
    for wait in &mut later {
        let _: Poll<_> = Pin::new(wait).poll(&mut context);
    }
    let _: Poll<_> = wait.as_mut().poll(&mut context);
    let _: Poll<_> = append.as_mut().poll(&mut context);
    for _ in 0..20 {
        let mut append = Box::pin(store.append("b", ExpectedVersion::Any, [event("2")]));
        let _: Poll<_> = append.as_mut().poll(&mut context);
        future::block_on(store.append("c", ExpectedVersion::Any, [event("3")])).unwrap();
    }
    future::block_on(wait).unwrap();
    assert!(panicking.0.load(Ordering::SeqCst) > 0, "the panicking waker was used");
    let last = future::block_on(store.append("a", ExpectedVersion::Any, [event("4")])).unwrap();
    assert_eq!(last.last_version().get(), 2);
    assert_eq!(store.head().unwrap().unwrap().get(), 42);
    assert_eq!(future::block_on(store.health()).state, HealthState::Healthy);
}

#[test]
fn bytes_that_wait_are_counted() {
    let (_directory, path) = place();
    let store = AsyncStore::new(Store::open(&path).unwrap());
    let large = "x".repeat(100_000);
    smol::block_on(async {
        let mut seen = 0;
        while seen < 100_000 {
            let mut append = store.append("a", ExpectedVersion::Any, [event(&large)]);
            // It is committed while the metrics are read, or before.
            let _ = future::poll_once(&mut append).await;
            seen = store.metrics().await.unwrap().async_waiting_bytes;
            append.await.unwrap();
        }
        // The room is free soon after the answer.
        while store.metrics().await.unwrap().async_waiting_bytes > 0 {}
        assert_eq!(store.health().await.state, HealthState::Healthy);
    });
}

/// Appends are bounded before they are submitted, in order, and a large one is not starved.
#[test]
fn appends_wait_for_room_before_they_are_submitted() {
    for runtime in Runtime::ALL {
        let (_directory, path) = place();
        let store = Store::options().async_waiting_bytes(1_000).open(&path).unwrap();
        let store = AsyncStore::new(store);
        runtime.block_on(async {
            let tasks: Vec<_> = (0..200_usize)
                .map(|task| {
                    let store = store.clone();
                    let len = if task % 50 == 7 { 5_000 } else { 300 };
                    runtime.spawn(async move {
                        let events = [event(&"x".repeat(len))];
                        let append = store.append("a", ExpectedVersion::Any, events);
                        // Some of those that wait in line are dropped.
                        match task % 10 {
                            3 => dropped_after(2, append).await.is_some(),
                            _ => append.await.is_ok(),
                        }
                    })
                })
                .collect();
            let mut done = 0;
            for task in tasks {
                done += usize::from(task.await);
            }
            assert!((180..=200).contains(&done), "{done}");
            // All room is free again.
            store.append("b", ExpectedVersion::NoStream, [event(&"x".repeat(900))]).await.unwrap();
            store.close().await.unwrap();
        });
    }
}

#[test]
fn refused_appends_say_why_and_change_nothing() {
    on_each_runtime(|_, store, _| async move {
        store.append("a", ExpectedVersion::NoStream, [event("1")]).await.unwrap();
        let conflict = store.append("a", ExpectedVersion::NoStream, [event("2")]).await;
        assert!(conflict.unwrap_err().is_conflict());
        let labelled = Append::new()
            .to("b", ExpectedVersion::Any, [event("2")])
            .check("a", ExpectedVersion::NoStream)
            .label("fresh");
        assert_eq!(store.submit(labelled).await.unwrap_err().label(), Some("fresh"));
        let empty = store.append("", ExpectedVersion::Any, [event("2")]).await;
        assert!(matches!(empty, Err(Error::InvalidArgument(_))));
        let none = store.append("a", ExpectedVersion::Any, []).await;
        assert!(matches!(none, Err(Error::InvalidArgument(_))));
        assert_eq!(store.head().unwrap().unwrap().get(), 1);
        let metrics = store.blocking().metrics().unwrap();
        assert_eq!((metrics.appends, metrics.conflicts), (1, 2));
    });
}

/// A read-only store and a closed one refuse at once.
#[test]
fn read_only_store_can_be_read_by_tasks() {
    let (_directory, path) = place();
    let store = Store::open(&path).unwrap();
    store.append("a", ExpectedVersion::NoStream, [event("1")]).unwrap();
    store.close().unwrap();
    let store = AsyncStore::new(Store::options().read_only(true).open(&path).unwrap());
    smol::block_on(async {
        let refused = store.append("a", ExpectedVersion::Any, [event("2")]).await;
        assert!(matches!(refused, Err(Error::ReadOnly)));
        let key = IdempotencyKey::new("a", "b", RequestDigest::of("c")).unwrap();
        let refused = store.submit_once(&key, annals::KeyedSubmission::nothing());
        assert!(matches!(refused.await, Err(Error::ReadOnly)));
        assert_eq!(store.read_log().events().next().await.unwrap().unwrap().version().get(), 1);
        let late = store.wait_past(store.head().unwrap());
        let timeout = async {
            smol::Timer::after(Duration::from_millis(20)).await;
            Ok(None)
        };
        assert_eq!(late.or(timeout).await.unwrap(), None);
    });
}
