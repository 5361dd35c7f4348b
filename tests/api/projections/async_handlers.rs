//! Async handlers behave as blocking ones do, except that a stop cancels one that is pending.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{AsyncProjection, OnFailure, Position, ProjectionState, Query, Target};
use futures_lite::future::{pending, yield_now};

use super::{Custom, Money, SOON, add_up, balances, fold, pay, pay_all, stores, wait_until};
use crate::support::random::Random;

pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'a>>;

type Handle =
    Box<dyn for<'a> Fn(&'a TypedEvent<Money>, &'a mut ViewWriter) -> Handling<'a> + Send + Sync>;

type Call = Box<dyn Fn() -> Handling<'static> + Send + Sync>;

/// An async projection with parts that a test can replace.
pub(crate) struct AsyncCustom {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) handle: Handle,
    pub(crate) flush: Call,
    pub(crate) reset: Call,
}

impl AsyncCustom {
    pub(crate) fn new(
        handle: impl for<'a> Fn(&'a TypedEvent<Money>, &'a mut ViewWriter) -> Handling<'a>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            name: "balances",
            version: 1,
            target: Target::View,
            query: Query::Everything,
            handle: Box::new(handle),
            flush: Box::new(|| Box::pin(async { Ok(()) })),
            reset: Box::new(|| Box::pin(async { Ok(()) })),
        }
    }

    /// Keeps the balance of each account, and is pending once for each event.
    pub(crate) fn balances() -> Self {
        Self::new(|event, view| {
            Box::pin(async move {
                yield_now().await;
                add_up(event, view)
            })
        })
    }
}

impl AsyncProjection for AsyncCustom {
    type Event = Money;

    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn target(&self) -> Target {
        self.target
    }

    fn query(&self) -> Query {
        self.query.clone()
    }

    async fn handle(
        &self,
        event: &TypedEvent<Money>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        (self.handle)(event, view).await
    }

    async fn flush(&self) -> Result<(), HandlerError> {
        (self.flush)().await
    }

    async fn reset(&self) -> Result<(), HandlerError> {
        (self.reset)().await
    }
}

fn options() -> ProjectionOptions {
    ProjectionOptions::new().retries(2).backoff(Duration::ZERO, Duration::ZERO)
}

/// No retries, and a failed event is parked: a cancelled handler must not count as a failure.
fn strict() -> ProjectionOptions {
    ProjectionOptions::new().retries(0).on_failure(OnFailure::Park)
}

/// Counts how many handlers are pending, and how many futures were dropped while they were.
#[derive(Clone, Default)]
pub(crate) struct Stuck {
    pub(crate) is_on: Arc<AtomicBool>,
    pub(crate) pending: Arc<AtomicUsize>,
    pub(crate) dropped: Arc<AtomicUsize>,
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Stuck {
    pub(crate) fn new() -> Self {
        let stuck = Self::default();
        stuck.is_on.store(true, Ordering::SeqCst);
        stuck
    }

    /// Never completes if it is stuck.
    pub(crate) async fn here(&self) {
        if self.is_on.load(Ordering::SeqCst) {
            let _dropped = Dropped(self.dropped.clone());
            self.pending.fetch_add(1, Ordering::SeqCst);
            pending::<()>().await;
        }
    }

    pub(crate) fn wait_for_pending(&self, count: usize) {
        let until = Instant::now() + SOON;
        while self.pending.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < until, "no handler is pending");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Keeps the balances; a deposit of 13 is stuck after it has changed the view.
    pub(crate) fn at_thirteen(&self) -> AsyncCustom {
        let stuck = self.clone();
        AsyncCustom::new(move |event, view| {
            let stuck = stuck.clone();
            Box::pin(async move {
                add_up(event, view)?;
                if event.event == (Money::Deposited { amount: 13 }) {
                    stuck.here().await;
                }
                Ok(())
            })
        })
    }
}

/// The same events in the same order, so the same views, byte for byte.
#[test]
fn async_and_blocking_handlers_build_the_same_view() {
    let mut random = Random::from_entropy();
    let seed = random.0;
    for (store, _kept) in stores() {
        for _ in 0..300 {
            let account = format!("account-{}", random.below(9));
            pay(&*store, &account, i64::try_from(random.below(99)).unwrap() - 49);
        }
        for (partitions, batch_events) in [(1, 1), (1, 7), (1, 1_000), (4, 1_000)] {
            let options = options().partitions(partitions).batch_events(batch_events);
            let last_of = |account: &str, event: &TypedEvent<Money>, view: &mut ViewWriter| {
                // Depends on the order.
                view.update(account, |all: &mut Vec<i64>| all.push(event.event.change()))
            };
            let blocking =
                Custom::new(move |event, view| Ok(last_of(event.stream().as_str(), event, view)?));
            let asynchronous = AsyncCustom::new(move |event, view| {
                Box::pin(async move {
                    yield_now().await;
                    Ok(last_of(event.stream().as_str(), event, view)?)
                })
            });
            let manager = ProjectionManager::new(&*store)
                .register_with(Custom { name: "blocking", ..blocking }, options.clone())
                .unwrap()
                .register_async_with(AsyncCustom { name: "async", ..asynchronous }, options)
                .unwrap();
            manager.start().unwrap();
            manager.wait_for_head(SOON).unwrap();
            let entries = |name: &str| -> Vec<_> {
                let entries = store.view(name).entries().iter::<Vec<i64>>();
                entries.map(Result::unwrap).collect()
            };
            assert!(!entries("async").is_empty());
            assert_eq!(entries("async"), entries("blocking"), "seed {seed}");
            for name in ["async", "blocking"] {
                manager.projection(name).unwrap().stop();
                assert!(manager.remove(name).unwrap());
            }
        }
    }
}

#[test]
fn async_projection_has_its_version_and_filter() {
    let store = MemoryStore::new();
    let filter = Query::stream_prefix("account-1");
    let filtered = AsyncCustom { version: 3, query: filter, ..AsyncCustom::balances() };
    let manager = ProjectionManager::new(&store).register_async(filtered).unwrap();
    pay(&store, "account-1", 1);
    pay(&store, "account-2", 1);
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(balances(&store).into_keys().collect::<Vec<_>>(), ["account-1"]);
    assert_eq!(manager.status("balances").unwrap().serving_version, Some(3));
}

#[test]
fn failed_async_handler_is_retried_and_leaves_no_trace() {
    let store = MemoryStore::new();
    let left = Arc::new(AtomicUsize::new(2));
    let shaky = AsyncCustom::new(move |event, view| {
        let left = left.clone();
        Box::pin(async move {
            add_up(event, view)?;
            yield_now().await;
            let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if fails.is_ok() { Err("not yet".into()) } else { Ok(()) }
        })
    });
    let manager = ProjectionManager::new(&store).register_async_with(shaky, options()).unwrap();
    let last = pay(&store, "account-1", 10);
    manager.start().unwrap();
    manager.wait_for("balances", last, SOON).unwrap();
    assert_eq!(balances(&store), fold(&store));
    let status = manager.status("balances").unwrap();
    assert_eq!((status.handled, status.failed_tries), (1, 2));
}

#[test]
fn panic_of_an_async_handler_is_a_failure() {
    let store = MemoryStore::new();
    let angry = AsyncCustom::new(|_, _| {
        Box::pin(async {
            yield_now().await;
            panic!("no more")
        })
    });
    let manager = ProjectionManager::new(&store).register_async_with(angry, options()).unwrap();
    let last = pay(&store, "account-1", 10);
    manager.start().unwrap();
    let failed = manager.wait_for("balances", last, SOON).unwrap_err();
    let text = "failed at position 1 after 3 tries: the projection panicked: no more";
    assert!(failed.to_string().contains(text), "{failed}");
}

#[test]
fn failed_event_of_an_async_handler_is_parked_and_retried() {
    for (store, _kept) in stores() {
        let is_broken = Arc::new(AtomicBool::new(true));
        let broken = is_broken.clone();
        let superstitious = AsyncCustom::new(move |event, view| {
            let broken = broken.clone();
            Box::pin(async move {
                add_up(event, view)?;
                yield_now().await;
                let is_unlucky = event.event == Money::Deposited { amount: 13 };
                let fails = is_unlucky && broken.load(Ordering::SeqCst);
                if fails { Err("thirteen".into()) } else { Ok(()) }
            })
        });
        let manager = ProjectionManager::new(&*store);
        let manager = manager.register_async_with(superstitious, strict()).unwrap();
        manager.start().unwrap();
        pay(&*store, "account-1", 1);
        pay(&*store, "account-1", 13);
        pay(&*store, "account-1", 2);
        pay(&*store, "account-2", 5);
        manager.wait_for_head(SOON).unwrap();
        let projection = manager.projection("balances").unwrap();
        let reasons: Vec<_> =
            projection.parked(9).unwrap().into_iter().map(|event| event.reason).collect();
        assert_eq!(reasons, [Some("thirteen".to_owned()), None]);
        assert_eq!(balances(&*store)["account-1"], 1);
        is_broken.store(false, Ordering::SeqCst);
        assert_eq!(projection.retry_parked().unwrap(), 0);
        assert_eq!(balances(&*store), fold(&*store));
    }
}

#[test]
fn rebuild_runs_the_async_handler_again() {
    for (store, _kept) in stores() {
        let resets = Arc::new(AtomicUsize::new(0));
        let reset = resets.clone();
        let external = AsyncCustom {
            name: "external",
            target: Target::External,
            reset: Box::new(move || {
                let reset = reset.clone();
                Box::pin(async move {
                    yield_now().await;
                    reset.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            }),
            ..AsyncCustom::balances()
        };
        let manager = ProjectionManager::new(&*store)
            .register_async(AsyncCustom::balances())
            .unwrap()
            .register_async(external)
            .unwrap();
        pay_all(&*store, "account-1", 1..=9);
        manager.start().unwrap();
        manager.wait_for_head(SOON).unwrap();
        assert_eq!(resets.load(Ordering::SeqCst), 1);
        for projection in manager.projections() {
            projection.rebuild().unwrap();
            projection.wait_for_rebuild(SOON, |_| ()).unwrap();
        }
        manager.wait_for_head(SOON).unwrap();
        assert_eq!(resets.load(Ordering::SeqCst), 2);
        assert_eq!(balances(&*store), fold(&*store));
        assert_eq!(store.view("external").get("account-1").unwrap(), Some(45));
    }
}

/// The events before it are recorded; it is neither a failure nor parked, and is delivered again.
#[test]
fn stop_cancels_a_pending_handler() {
    for (store, _kept) in stores() {
        let stuck = Stuck::new();
        let flushed = Arc::new(AtomicUsize::new(0));
        let flushing = flushed.clone();
        let at_thirteen = AsyncCustom {
            // Pending, although the projection is being stopped.
            flush: Box::new(move || {
                let flushing = flushing.clone();
                Box::pin(async move {
                    yield_now().await;
                    flushing.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            }),
            ..stuck.at_thirteen()
        };
        let manager = ProjectionManager::new(&*store);
        let manager = manager.register_async_with(at_thirteen, strict()).unwrap();
        for amount in [1, 2, 13, 4] {
            pay(&*store, "account-1", amount);
        }
        manager.start().unwrap();
        stuck.wait_for_pending(1);
        manager.stop();
        assert_eq!(stuck.dropped.load(Ordering::SeqCst), 1);
        let status = manager.status("balances").unwrap();
        assert_eq!((status.state, status.failure.is_none()), (ProjectionState::Stopped, true));
        assert_eq!((status.position, status.handled), (Position::new(2), 2));
        assert_eq!((status.parked_events, status.failed_tries), (0, 0));
        assert_eq!((balances(&*store)["account-1"], flushed.load(Ordering::SeqCst)), (3, 1));

        stuck.is_on.store(false, Ordering::SeqCst);
        manager.start().unwrap();
        manager.wait_for_head(SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 20);
    }
}

/// After a stop was requested, no further event of the batch is begun.
#[test]
fn handler_that_stops_its_projection_is_the_last() {
    let store = MemoryStore::new();
    let manager: Arc<std::sync::OnceLock<ProjectionManager>> = Arc::default();
    let of_handler = Arc::downgrade(&manager);
    let stopping = AsyncCustom::new(move |event, view| {
        let manager = of_handler.upgrade().unwrap();
        Box::pin(async move {
            if event.event == (Money::Deposited { amount: 2 }) {
                manager.get().unwrap().stop();
            }
            add_up(event, view)
        })
    });
    pay_all(&store, "account-1", 1..=5);
    let built = ProjectionManager::new(&store).register_async_with(stopping, strict()).unwrap();
    assert!(manager.set(built).is_ok());
    let manager = manager.get().unwrap();
    manager.start().unwrap();
    wait_until(manager.projection("balances").unwrap(), ProjectionState::Stopped);
    assert_eq!(balances(&store)["account-1"], 3, "it has handled that event");
}

/// It completes at the same time as the projection is stopped, so its event counts.
#[test]
fn handler_that_completes_is_not_cancelled() {
    let store = MemoryStore::new();
    let is_done = Arc::new(AtomicBool::new(false));
    let done = is_done.clone();
    let waiting = AsyncCustom::new(move |event, view| {
        let done = done.clone();
        Box::pin(async move {
            poll_fn(|_| if done.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending })
                .await;
            add_up(event, view)
        })
    });
    let ((pended, is_pending), (poll, may_poll)) = (mpsc::channel(), mpsc::channel());
    let may_poll = Mutex::new(may_poll);
    let manager = ProjectionManager::new(&store)
        .executor(move |mut handling| {
            let mut context = Context::from_waker(Waker::noop());
            while handling.as_mut().poll(&mut context).is_pending() {
                pended.send(()).unwrap();
                may_poll.lock().unwrap().recv().unwrap();
            }
        })
        .register_async(waiting)
        .unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 7);
    is_pending.recv_timeout(SOON).unwrap();
    is_done.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| manager.stop());
        let projection = manager.projection("balances").unwrap();
        // Until the stop is requested.
        while projection.wait_for_rebuild(SOON, |_| ()).is_ok() {
            std::thread::yield_now();
        }
        poll.send(()).unwrap();
    });
    assert_eq!(balances(&store)["account-1"], 7);
}

#[test]
fn drop_of_the_manager_cancels_a_pending_handler() {
    let (store, stuck) = (MemoryStore::new(), Stuck::new());
    let manager = ProjectionManager::new(&store).register_async(stuck.at_thirteen()).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 13);
    stuck.wait_for_pending(1);
    drop(manager);
    assert_eq!(stuck.dropped.load(Ordering::SeqCst), 1);
}

/// Each thread has a pending handler, and all of them end.
#[test]
fn stop_cancels_the_pending_handlers_of_all_partitions() {
    for target in [Target::View, Target::Reactor] {
        let (store, stuck) = (MemoryStore::new(), Stuck::new());
        let handled: Arc<Mutex<Vec<String>>> = Arc::default();
        let (of_handler, here) = (handled.clone(), stuck.clone());
        let all_stuck = AsyncCustom {
            target,
            ..AsyncCustom::new(move |event, _| {
                let (handled, stuck) = (of_handler.clone(), here.clone());
                Box::pin(async move {
                    stuck.here().await;
                    handled.lock().unwrap().push(event.stream().to_string());
                    Ok(())
                })
            })
        };
        for account in 0..40 {
            pay(&store, &format!("account-{account:02}"), 1);
        }
        let manager = ProjectionManager::new(&store);
        let manager = manager.register_async_with(all_stuck, strict().partitions(3)).unwrap();
        manager.start().unwrap();
        stuck.wait_for_pending(3);
        manager.stop();
        assert_eq!(
            (stuck.pending.load(Ordering::SeqCst), stuck.dropped.load(Ordering::SeqCst)),
            (3, 3)
        );
        let status = manager.status("balances").unwrap();
        assert_eq!((status.state, status.parked_events), (ProjectionState::Stopped, 0));
        stuck.is_on.store(false, Ordering::SeqCst);
        manager.start().unwrap();
        manager.wait_for_head(SOON).unwrap();
        assert_eq!(handled.lock().unwrap().len(), 40);
    }
}

#[test]
fn stop_during_a_retry_leaves_the_event_parked() {
    let store = MemoryStore::new();
    let (stuck, is_broken) = (Stuck::new(), Arc::new(AtomicBool::new(true)));
    let (here, broken) = (stuck.clone(), is_broken.clone());
    let parking = AsyncCustom::new(move |_, _| {
        let (stuck, is_broken) = (here.clone(), broken.load(Ordering::SeqCst));
        Box::pin(async move {
            if is_broken {
                return Err("broken".into());
            }
            stuck.here().await;
            Ok(())
        })
    });
    let manager = ProjectionManager::new(&store).register_async_with(parking, strict()).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 1);
    manager.wait_for_head(SOON).unwrap();
    is_broken.store(false, Ordering::SeqCst);
    let projection = manager.projection("balances").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| _ = projection.retry_parked());
        stuck.wait_for_pending(1);
        manager.stop();
    });
    let parked = projection.parked(9).unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].reason.as_deref(), Some("broken"), "the reason stays");
}

#[test]
fn stop_cancels_a_pending_reset() {
    let (store, stuck) = (MemoryStore::new(), Stuck::new());
    let here = stuck.clone();
    let external = AsyncCustom {
        target: Target::External,
        reset: Box::new(move || {
            let stuck = here.clone();
            Box::pin(async move {
                stuck.here().await;
                Ok(())
            })
        }),
        ..AsyncCustom::balances()
    };
    let manager = ProjectionManager::new(&store).register_async(external).unwrap();
    pay(&store, "account-1", 1);
    manager.start().unwrap();
    stuck.wait_for_pending(1);
    manager.stop();
    let status = manager.status("balances").unwrap();
    assert_eq!((status.state, status.failure.is_none()), (ProjectionState::Stopped, true));
    stuck.is_on.store(false, Ordering::SeqCst);
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(balances(&store)["account-1"], 1);
}

/// The serving build is stuck; the rebuild must not wait for it when it replaces it.
#[test]
fn promotion_cancels_the_pending_handler_of_the_replaced_build() {
    let (store, stuck) = (MemoryStore::new(), Stuck::new());
    let manager = ProjectionManager::new(&store).register_async(stuck.at_thirteen()).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 1);
    pay(&store, "account-1", 13);
    stuck.wait_for_pending(1);
    stuck.is_on.store(false, Ordering::SeqCst);
    let projection = manager.projection("balances").unwrap();
    projection.rebuild().unwrap();
    projection.wait_for_rebuild(SOON, |_| ()).unwrap();
    assert_eq!(balances(&store)["account-1"], 14);
    manager.stop();
    assert_eq!(stuck.dropped.load(Ordering::SeqCst), 1);
}

/// A pause finishes the batch, as with a blocking handler.
#[test]
fn pause_does_not_cancel_a_pending_handler() {
    let store = MemoryStore::new();
    let gate = Gate::default();
    let of_handler = gate.clone();
    let waiting = AsyncCustom::new(move |event, view| {
        let gate = of_handler.clone();
        Box::pin(async move {
            gate.wait().await;
            add_up(event, view)
        })
    });
    let manager = ProjectionManager::new(&store).register_async(waiting).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 7);
    let projection = manager.projection("balances").unwrap();
    gate.wait_for_pending();
    projection.pause();
    std::thread::sleep(Duration::from_millis(50));
    gate.open();
    wait_until(projection, ProjectionState::Paused);
    assert_eq!(balances(&store)["account-1"], 7);
}

/// A gate that a test opens.
#[derive(Clone, Default)]
struct Gate(Arc<(tokio::sync::Notify, AtomicBool)>);

impl Gate {
    async fn wait(&self) {
        self.0.1.store(true, Ordering::SeqCst);
        self.0.0.notified().await;
    }

    fn wait_for_pending(&self) {
        let until = Instant::now() + SOON;
        while !self.0.1.load(Ordering::SeqCst) {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
    }

    fn open(&self) {
        self.0.0.notify_one();
    }
}
