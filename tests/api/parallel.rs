//! Subscriptions that are handled on several threads, or by several futures: each key in order, each
//! event once, one checkpoint (G7).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    AsyncStore, AsyncSubscription, CancelHandle, Error, ParallelError, PartitionBy, Position,
    Query, Subscription,
};

use crate::support::stores::Kept;
use crate::support::{SOON, position};

type BoxError = Box<dyn StdError + Send + Sync>;

/// A pending handler is called again.
type Handled = Poll<Result<(), BoxError>>;

const DONE: Handled = Poll::Ready(Ok(()));

/// How often a pending handler is called.
const PAUSE: Duration = Duration::from_millis(1);

/// Who handles the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Threads,
    Tasks,
}

impl Api {
    const BOTH: [Self; 2] = [Self::Threads, Self::Tasks];

    fn start(
        self,
        store: &Arc<dyn EventStore>,
        query: Query,
        after: impl Into<Option<Position>>,
    ) -> Following {
        let after = after.into();
        match self {
            Self::Threads => {
                let subscribe = store.subscribe().query(query).after(after);
                Following::Threads(subscribe.start().unwrap())
            }
            Self::Tasks => {
                let subscribe = AsyncStore::new(store.clone()).subscribe();
                let started = smol::block_on(subscribe.query(query).after(after).start());
                Following::Tasks(started.unwrap())
            }
        }
    }
}

/// A subscription in one of the APIs.
enum Following {
    Threads(Subscription),
    Tasks(AsyncSubscription),
}

impl Following {
    fn cancel_handle(&self) -> CancelHandle {
        match self {
            Self::Threads(subscription) => subscription.cancel_handle(),
            Self::Tasks(subscription) => subscription.cancel_handle(),
        }
    }

    /// Handles events until the end, up to four at a time.
    fn handle(
        self,
        partition_by: PartitionBy,
        in_flight_events: usize,
        mut save: impl FnMut(Position) -> Result<(), BoxError> + Send,
        handler: impl Fn(&RecordedEvent) -> Handled + Sync,
    ) -> Result<Option<Position>, ParallelError> {
        match self {
            Self::Threads(subscription) => {
                let parallel = subscription.parallel(4).partition_by(partition_by);
                let parallel = parallel.in_flight_events(in_flight_events).on_checkpoint(save);
                parallel.for_each(|event| {
                    loop {
                        match handler(&event) {
                            Poll::Ready(handled) => return handled,
                            Poll::Pending => thread::sleep(PAUSE),
                        }
                    }
                })
            }
            Self::Tasks(subscription) => {
                let parallel = subscription.parallel(4).partition_by(partition_by);
                let parallel = parallel.in_flight_events(in_flight_events);
                let parallel = parallel.on_checkpoint(|position| {
                    let saved = save(position);
                    async {
                        smol::future::yield_now().await;
                        saved
                    }
                });
                let handler = &handler;
                smol::block_on(parallel.for_each(async |event| {
                    loop {
                        match handler(&event) {
                            Poll::Ready(handled) => return handled,
                            Poll::Pending => drop(smol::Timer::after(PAUSE).await),
                        }
                    }
                }))
            }
        }
    }
}

/// Enrolments in courses, in any of a few streams, and some events without a course.
fn history(store: &Arc<dyn EventStore>, events: u64) {
    for number in 0..events {
        let event = NewEvent::json("Enrolled", &number).unwrap().with_tag("year:1");
        let event = match number * 5 % 7 {
            0 => event,
            course => event.with_tag(format!("course:{course}")).with_tag("course:last"),
        };
        let stream = format!("s-{}", number * 3 % 4);
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
}

/// The key of an event, found independently.
fn key(event: &RecordedEvent, by_tag: bool) -> String {
    match event.tags().iter().find(|tag| by_tag && tag.starts_with("course:")) {
        Some(tag) => tag.clone(),
        None => event.stream().to_string(),
    }
}

fn partition_by(by_tag: bool) -> PartitionBy {
    if by_tag { PartitionBy::tag("course:") } else { PartitionBy::Stream }
}

/// Handles everything up to the head, then ends.
fn handle_all(
    following: Following,
    head: Position,
    by_tag: bool,
    handler: impl Fn(&RecordedEvent) -> Handled + Sync,
) {
    let (cancel, mut last) = (following.cancel_handle(), None);
    let save = |position| {
        assert!(Some(position) > last, "the checkpoint goes forward");
        last = Some(position);
        if position == head {
            cancel.cancel();
        }
        Ok(())
    };
    let handled = following.handle(partition_by(by_tag), 100, save, handler);
    assert_eq!(handled.unwrap(), Some(head));
}

#[test]
fn each_event_is_handled_once_and_each_key_in_order() {
    for kept in Kept::both() {
        let store = &kept.events;
        history(store, 1_000);
        let head = store.head().unwrap().unwrap();
        for (api, by_tag, query) in [
            (Api::Threads, true, Query::Everything),
            (Api::Threads, false, Query::Everything),
            (Api::Threads, true, Query::stream("s-1").or(Query::tag("course:3"))),
            (Api::Tasks, true, Query::Everything),
            (Api::Tasks, false, Query::Everything),
            (Api::Tasks, true, Query::stream("s-1").or(Query::tag("course:3"))),
        ] {
            let handled: Mutex<Vec<RecordedEvent>> = Mutex::default();
            let running: Mutex<BTreeSet<Position>> = Mutex::default();
            let most = AtomicUsize::new(0);
            handle_all(api.start(store, query.clone(), None), head, by_tag, |event| {
                let mut running = running.lock().unwrap();
                let is_new = running.insert(event.position());
                most.fetch_max(running.len(), Ordering::SeqCst);
                if is_new && event.position().get() % 3 > 0 {
                    return Poll::Pending;
                }
                running.remove(&event.position());
                handled.lock().unwrap().push(event.clone());
                DONE
            });
            let mut handled = handled.into_inner().unwrap();
            let mut last: BTreeMap<String, Position> = BTreeMap::new();
            for event in &handled {
                let before = last.insert(key(event, by_tag), event.position());
                assert!(before < Some(event.position()), "{event:?} after {before:?}");
            }
            handled.sort_by_key(RecordedEvent::position);
            let expected = store.read_log().query(query).into_iter().map(Result::unwrap);
            assert!(expected.eq(handled), "an event was lost or handled twice");
            let most = most.into_inner();
            assert!((2..=4).contains(&most), "{api:?}: {most} handlers ran at a time");
        }
    }
}

/// Runs this at its end, also after a failed assertion, so that no thread waits forever.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// A slow key holds back neither the others nor, beyond the bound, the memory. The checkpoint stays
/// below its event.
#[test]
fn slow_key_holds_back_only_itself() {
    for api in Api::BOTH {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        for number in 0..200 {
            let stream = if number % 20 == 5 { "slow".to_owned() } else { format!("s-{number}") };
            let event = NewEvent::json("Happened", &number).unwrap();
            store.append(stream, ExpectedVersion::Any, [event]).unwrap();
        }
        let (is_open, handled) = (AtomicBool::new(false), AtomicUsize::new(0));
        let following = api.start(&store, Query::Everything, None);
        let (cancel, saved) = (following.cancel_handle(), Mutex::new(Vec::new()));
        let save = |position: Position| {
            saved.lock().unwrap().push(position.get());
            if position.get() == 200 {
                cancel.cancel();
            }
            Ok(())
        };
        thread::scope(|scope| {
            let (is_open, handled, saved) = (&is_open, &handled, &saved);
            scope.spawn(move || {
                let _end = AtEnd(|| is_open.store(true, Ordering::SeqCst));
                // The events from 6 to 65 are in flight; all but the slow ones, 6, 26 and 46, are
                // done.
                let all_but_slow = 5 + 60 - 3;
                let until = Instant::now() + SOON;
                while handled.load(Ordering::SeqCst) < all_but_slow {
                    assert!(Instant::now() < until, "{handled:?} events are handled");
                    thread::sleep(PAUSE);
                }
                thread::sleep(Duration::from_millis(250));
                assert_eq!(handled.load(Ordering::SeqCst), all_but_slow, "the bound is exceeded");
                assert_eq!(saved.lock().unwrap().last(), Some(&5), "the slow event is not handled");
            });
            let ended = following.handle(PartitionBy::Stream, 60, save, |event| {
                if event.stream().as_str() == "slow" && !is_open.load(Ordering::SeqCst) {
                    return Poll::Pending;
                }
                handled.fetch_add(1, Ordering::SeqCst);
                DONE
            });
            assert_eq!(ended.unwrap(), Some(position(200)));
        });
        assert_eq!(handled.into_inner(), 200);
    }
}

/// A handler that fails or panics ends it, with the checkpoint below its event. After a restart from
/// there, nothing is missing, and at most what was in flight is repeated.
#[test]
fn failed_handler_ends_it_below_its_event() {
    for kept in Kept::both() {
        let store = &kept.events;
        history(store, 600);
        for (api, panics) in Api::BOTH.into_iter().flat_map(|api| [(api, false), (api, true)]) {
            let handled: Mutex<Vec<Position>> = Mutex::default();
            let mut saved = None;
            let save = |position| {
                saved = Some(position);
                Ok(())
            };
            let following = api.start(store, Query::Everything, None);
            let failed = following.handle(PartitionBy::Stream, 50, save, |event| {
                if event.position() == position(333) {
                    assert!(!panics, "boom");
                    return Poll::Ready(Err("no".into()));
                }
                handled.lock().unwrap().push(event.position());
                DONE
            });
            let failed = failed.unwrap_err();
            assert_eq!(failed.position, Some(position(333)));
            let reason = failed.to_string();
            let expected = if panics { "the handler panicked: boom" } else { "no" };
            assert!(reason.contains(expected) && reason.contains("333"), "{reason}");
            let checkpoint = failed.checkpoint.unwrap();
            assert!(checkpoint < position(333) && checkpoint.get() >= 333 - 50, "{checkpoint}");
            assert_eq!(saved, Some(checkpoint));
            assert!(handled.lock().unwrap().len() < 600, "it went on after the failure");
            assert_restart_completes(api, store, handled.into_inner().unwrap(), saved);
        }
    }
}

/// After a restart from a saved checkpoint, all 600 events are handled, and at most those of 50 in
/// flight twice.
fn assert_restart_completes(
    api: Api,
    store: &Arc<dyn EventStore>,
    mut handled: Vec<Position>,
    saved: Option<Position>,
) {
    let above = handled.iter().filter(|position| Some(**position) > saved).count();
    assert!(above < 50, "{above} events are repeated");
    handled.retain(|position| Some(*position) <= saved);
    let rest: Mutex<Vec<Position>> = Mutex::new(handled);
    let following = api.start(store, Query::Everything, saved);
    handle_all(following, position(600), false, |event| {
        rest.lock().unwrap().push(event.position());
        DONE
    });
    let mut all = rest.into_inner().unwrap();
    all.sort_unstable();
    assert!(all.into_iter().map(u64::from).eq(1..=600));
}

/// A future that is dropped drops those of its handlers, and saves nothing more. What was saved is
/// true.
#[test]
fn dropped_future_loses_nothing() {
    let kept = Kept::disk();
    history(&kept.events, 600);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    for drops_at in [0, 20, 200] {
        let handled: Arc<Mutex<Vec<Position>>> = Arc::default();
        let saved: Arc<Mutex<Option<Position>>> = Arc::default();
        let running = Arc::new(());
        let Following::Tasks(subscription) =
            Api::Tasks.start(&kept.events, Query::Everything, None)
        else {
            unreachable!("a subscription for tasks")
        };
        let task = {
            let (handled, saved, running) = (handled.clone(), saved.clone(), running.clone());
            let parallel = subscription.parallel(4).in_flight_events(50);
            let parallel = parallel.on_checkpoint(move |position| {
                let saved = saved.clone();
                async move {
                    tokio::time::sleep(PAUSE).await;
                    *saved.lock().unwrap() = Some(position);
                    Ok(())
                }
            });
            runtime.spawn(parallel.for_each(move |event| {
                let (handled, running) = (handled.clone(), running.clone());
                async move {
                    tokio::time::sleep(PAUSE).await;
                    handled.lock().unwrap().push(event.position());
                    drop(running);
                    Ok(())
                }
            }))
        };
        while handled.lock().unwrap().len() < drops_at {
            thread::sleep(PAUSE);
        }
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&running), 1, "a handler is left");
        let (handled, saved) = (handled.lock().unwrap().clone(), *saved.lock().unwrap());
        assert!(handled.len() < 600, "it was dropped too late");
        assert_restart_completes(Api::Tasks, &kept.events, handled, saved);
    }
}

/// The error of the function that saves the checkpoint ends it too, and an invalid key is refused.
#[test]
fn unsaved_checkpoint_and_invalid_key_end_it() {
    for api in Api::BOTH {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        history(&store, 20);
        let start = || api.start(&store, Query::Everything, position(5));
        let calls = AtomicUsize::new(0);
        let full = |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            Err("the disk is full".into())
        };
        let failed = start().handle(PartitionBy::Stream, 100, full, |_| DONE).unwrap_err();
        assert!(failed.position.is_none() && failed.checkpoint > Some(position(5)), "{failed:?}");
        assert!(failed.to_string().starts_with("the disk is full; every event up to position "));
        assert_eq!(calls.into_inner(), 1, "it was called again after its error");
        for prefix in ["", "a\nb"] {
            let by = PartitionBy::tag(prefix);
            let failed = start().handle(by, 100, |_| Ok(()), |_| panic!("not handled"));
            let failed = failed.unwrap_err();
            assert!(matches!(failed.cause.downcast_ref(), Some(Error::InvalidArgument(_))));
            assert_eq!(failed.checkpoint, Some(position(5)));
        }
    }
}

/// It follows live, passes events that do not match, and ends when it is cancelled or its store is
/// closed, though handlers are running or nothing comes.
#[test]
fn it_follows_live_until_cancelled_or_closed() {
    for (api, closes, while_busy) in Api::BOTH.into_iter().flat_map(|api| {
        [(api, false, false), (api, false, true), (api, true, false), (api, true, true)]
    }) {
        let memory = MemoryStore::new();
        let store: Arc<dyn EventStore> = Arc::new(memory.clone());
        history(&store, 10);
        let following = api.start(&store, Query::tag("wanted"), None);
        let cancel = following.cancel_handle();
        let (checkpoints, saved) = mpsc::channel();
        let (is_open, is_busy) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let handling = scope.spawn(|| {
                let save = move |position: Position| Ok(checkpoints.send(position.get())?);
                // It is cancelled although no further event may be received.
                let in_flight_events = if closes { 100 } else { 2 };
                following.handle(PartitionBy::Stream, in_flight_events, save, |event| {
                    if event.event_type() == "Slow" && !is_open.load(Ordering::SeqCst) {
                        is_busy.store(true, Ordering::SeqCst);
                        return Poll::Pending;
                    }
                    DONE
                })
            });
            let _end = AtEnd(|| {
                is_open.store(true, Ordering::SeqCst);
                cancel.cancel();
            });
            assert_eq!(saved.recv_timeout(SOON), Ok(10), "events that do not match are passed");
            let wanted = |event_type| {
                let event = NewEvent::json(event_type, &()).unwrap().with_tag("wanted");
                store.append("live", ExpectedVersion::Any, [event]).unwrap();
            };
            wanted("Quick");
            assert_eq!(saved.recv_timeout(SOON), Ok(11));
            if while_busy {
                wanted("Slow");
                wanted("Quick");
                while !is_busy.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
            }
            if closes {
                memory.close();
            } else {
                cancel.cancel();
            }
            thread::sleep(Duration::from_millis(50));
            assert_eq!(handling.is_finished(), !while_busy, "running handlers are waited for");
            is_open.store(true, Ordering::SeqCst);
            // The event that was being handled counts; the one of the same stream after it was not
            // begun.
            let expected = if while_busy { 12 } else { 11 };
            assert_eq!(handling.join().unwrap().unwrap(), Some(position(expected)));
        });
    }
}
