use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{AsyncStore, Error};
use futures_lite::future;

use super::{event, on_each_runtime};
use crate::support::{SOON, place, quick};

/// Appends under way get `Closed` or are stored, subscriptions end, and waiting calls return.
#[test]
fn closing_ends_everything_and_frees_the_directory() {
    on_each_runtime(|runtime, store, path| async move {
        let feeds: Vec<_> = (0..20)
            .map(|_| {
                let store = store.clone();
                runtime.spawn(async move {
                    let mut feed = store.subscribe().start().await.unwrap();
                    let mut events = 0_u64;
                    while let Some(delivery) = feed.next().await {
                        events += u64::from(matches!(delivery.unwrap(), Delivery::Event(_)));
                    }
                    assert!(feed.next().await.is_none(), "the end stays the end");
                    events
                })
            })
            .collect();
        let waiting = {
            let store = store.clone();
            runtime.spawn(async move { store.wait_past(annals::Position::new(1_000_000)).await })
        };
        let writers: Vec<_> = (0..100)
            .map(|task| {
                let store = store.clone();
                runtime.spawn(async move {
                    let mut acknowledged = 0_u64;
                    loop {
                        let stream = format!("task-{task}");
                        match store.append(stream, ExpectedVersion::Any, [event("x")]).await {
                            Ok(_) => acknowledged += 1,
                            Err(Error::Closed) => return acknowledged,
                            Err(other) => panic!("{other}"),
                        }
                        future::yield_now().await;
                    }
                })
            })
            .collect();
        store.wait_past(annals::Position::new(2_000)).await.unwrap();
        store.close().await.unwrap();
        store.close().await.unwrap();
        let mut acknowledged = 0;
        for writer in writers {
            acknowledged += writer.await;
        }
        assert!(matches!(waiting.await, Err(Error::Closed)));
        for feed in feeds {
            assert!(feed.await >= 1);
        }
        let refused = store.append("late", ExpectedVersion::Any, [event("x")]).await;
        assert!(matches!(refused, Err(Error::Closed)));
        assert!(matches!(store.read_log().first().await, Err(Error::Closed)));
        assert!(matches!(store.subscribe().start().await, Err(Error::Closed)));

        let store = AsyncStore::open(&path).await.unwrap();
        assert_eq!(store.head().unwrap().unwrap().get(), acknowledged, "all, and nothing else");
        let report = store.spawn_blocking(|store| store.verify(|_| {})).await.unwrap();
        assert!(report.is_sound());
    });
}

/// Work that blocks is done even if its future is dropped before a thread begins it.
#[test]
fn dropped_blocking_work_is_completed() {
    const WORKS: usize = 2_000;
    let store = AsyncStore::new(MemoryStore::new());
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..WORKS {
        let done = done.clone();
        let work = move |_: &MemoryStore| done.fetch_add(1, Ordering::SeqCst);
        let work = pin!(store.spawn_blocking(work));
        let _ = future::block_on(future::poll_once(work));
    }
    let began = Instant::now();
    while done.load(Ordering::SeqCst) < WORKS {
        assert!(began.elapsed() < SOON, "only {done:?} works were done");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Dropping the last `AsyncStore` closes the store, but not on a thread of the executor.
#[test]
fn last_handle_closes_the_store_on_another_thread() {
    on_each_runtime(|_, store, path| async move {
        store.append("a", ExpectedVersion::NoStream, [event("1")]).await.unwrap();
        let mut feed = store.subscribe().start().await.unwrap();
        drop(store.clone());
        assert!(store.head().is_ok(), "another handle is open");
        drop(store);
        while let Some(delivery) = feed.next().await {
            delivery.unwrap();
        }
        let reopened = quick().open_within(&path, SOON).unwrap();
        assert_eq!(reopened.head().unwrap().unwrap().get(), 1);
    });
}

/// A task that closes the store when it is woken may run on the thread that commits.
#[test]
fn store_may_be_closed_from_a_waker() {
    struct Closing(Mutex<Option<Store>>, AtomicBool);
    impl Wake for Closing {
        fn wake(self: Arc<Self>) {
            if let Some(store) = self.0.lock().unwrap().take() {
                store.close().unwrap();
                self.1.store(true, Ordering::SeqCst);
            }
        }
    }
    for _ in 0..8 {
        let (_directory, path) = place();
        let store = AsyncStore::new(quick().open(&path).unwrap());
        let own = Mutex::new(Some(store.blocking().clone()));
        let closing = Arc::new(Closing(own, AtomicBool::new(false)));
        let waker = Waker::from(closing.clone());
        let mut append = Box::pin(store.append("a", ExpectedVersion::Any, [event("1")]));
        if append.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            // The thread that commits wakes the task, and so closes the store.
            let began = Instant::now();
            while !closing.1.load(Ordering::SeqCst) {
                assert!(began.elapsed() < SOON, "closing did not return");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(append);
        // If the append was done at once, the waker still has the store.
        drop((store, waker, closing));
        assert!(quick().open_within(&path, SOON).unwrap().head().unwrap().is_some());
    }
}
