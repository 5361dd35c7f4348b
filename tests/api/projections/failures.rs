//! If a handler fails, the event is retried; then the projection stops before it, or parks it with
//! all later events of its stream. No failed event is skipped silently (the textbook's manager
//! skips it forever).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    Error, OnFailure, Position, ProjectionError, ProjectionManager, ProjectionOptions,
    ProjectionState, Target,
};

use super::view_store::Watched;
use super::{
    Custom, Money, SOON, add_up, all_views, balances, fold, pay, pay_all, stores, wait_until,
};

/// Retries without a delay, so that no test waits.
fn options() -> ProjectionOptions {
    ProjectionOptions::new().retries(2).backoff(Duration::ZERO, Duration::ZERO)
}

/// Fails for deposits of 13 while `is_broken` is set, after it has changed the view.
fn superstitious(is_broken: &Arc<AtomicBool>, tries: &Arc<AtomicUsize>) -> Custom {
    let (is_broken, tries) = (is_broken.clone(), tries.clone());
    Custom::new(move |event, view| {
        add_up(event, view)?;
        if event.event == (Money::Deposited { amount: 13 }) && is_broken.load(Ordering::SeqCst) {
            tries.fetch_add(1, Ordering::SeqCst);
            view.put("trace", &1)?;
            return Err("thirteen".into());
        }
        Ok(())
    })
}

/// A full disk stops no projection, however few retries it has.
#[test]
fn projection_waits_while_the_disk_is_full() {
    let store = MemoryStore::new();
    let views = Watched::new(&store);
    let pause = Duration::from_millis(1);
    let options = ProjectionOptions::new().retries(0).backoff(pause, pause);
    let projections = ProjectionManager::over(&store, &views);
    let projections = projections.register_with(Custom::new(add_up), options).unwrap();
    projections.start().unwrap();
    projections.wait_for("balances", pay(&store, "account-1", 1), SOON).unwrap();
    views.is_full.store(true, Ordering::SeqCst);
    let last = pay(&store, "account-1", 7);
    let balances_of = projections.projection("balances").unwrap();
    wait_until(balances_of, ProjectionState::Retrying);
    let failure = balances_of.status().unwrap().failure.unwrap();
    assert!(failure.to_string().contains("1 bytes left"), "{failure}");
    views.is_full.store(false, Ordering::SeqCst);
    projections.wait_for("balances", last, SOON).unwrap();
    assert_eq!(balances(&store)["account-1"], 8);
    assert!(balances_of.status().unwrap().failure.is_none(), "it is over");

    // A request that comes meanwhile is no failure.
    views.is_full.store(true, Ordering::SeqCst);
    pay(&store, "account-1", 0);
    wait_until(balances_of, ProjectionState::Retrying);
    std::thread::scope(|scope| {
        scope.spawn(|| balances_of.retry_parked());
        std::thread::sleep(Duration::from_millis(100));
        views.is_full.store(false, Ordering::SeqCst);
    });
    projections.wait_for_head(SOON).unwrap();

    // It can be stopped meanwhile.
    views.is_full.store(true, Ordering::SeqCst);
    pay(&store, "account-1", 7);
    wait_until(balances_of, ProjectionState::Retrying);
    projections.stop();
    let status = balances_of.status().unwrap();
    assert_eq!((status.state, status.failure.is_none()), (ProjectionState::Stopped, true));
    views.is_full.store(false, Ordering::SeqCst);
    projections.start().unwrap();
    projections.wait_for_head(SOON).unwrap();
    assert_eq!(balances(&store)["account-1"], 15);
}

/// While the disk is full, only the write is retried: the handler is not called again.
#[test]
fn effects_are_not_repeated_while_the_disk_is_full() {
    for target in [Target::Reactor, Target::External] {
        let store = MemoryStore::new();
        let views = Watched::new(&store);
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let send = move |_: &TypedEvent<Money>, _: &mut ViewWriter| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let projections = ProjectionManager::over(&store, &views);
        let projections =
            projections.register_with(Custom { target, ..Custom::new(send) }, options()).unwrap();
        projections.start().unwrap();
        projections.wait_for("balances", pay(&store, "account-1", 1), SOON).unwrap();
        views.is_full.store(true, Ordering::SeqCst);
        let last = pay(&store, "account-1", 7);
        let until = Instant::now() + SOON;
        let tries = || projections.status("balances").unwrap().failure.map_or(0, |why| why.tries);
        while tries() < 3 {
            assert!(sent.load(Ordering::SeqCst) <= 2, "{target:?}: repeated");
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(1));
        }
        views.is_full.store(false, Ordering::SeqCst);
        projections.wait_for("balances", last, SOON).unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), 2, "{target:?}");
    }
}

/// A shadow build waits as well if the disk is full when it is to be promoted.
#[test]
fn promotion_waits_while_the_disk_is_full() {
    let store = MemoryStore::new();
    let views = Watched::new(&store);
    let (is_full, calls) = (views.is_full_for_directories.clone(), AtomicUsize::new(0));
    // The second call is that of the shadow build.
    let balances_of = Custom::new(move |event, view| {
        is_full.store(calls.fetch_add(1, Ordering::SeqCst) == 1, Ordering::SeqCst);
        add_up(event, view)
    });
    let projections = ProjectionManager::over(&store, &views);
    let projections = projections.register_with(balances_of, options()).unwrap();
    projections.start().unwrap();
    projections.wait_for("balances", pay(&store, "account-1", 7), SOON).unwrap();
    let projection = projections.projection("balances").unwrap();
    projection.rebuild().unwrap();
    let until = Instant::now() + SOON;
    loop {
        let rebuild = projection.status().unwrap().rebuild.expect("not promoted");
        assert_ne!(rebuild.state, ProjectionState::Failed, "{:?}", rebuild.failure);
        if rebuild.state == ProjectionState::Retrying {
            break;
        }
        assert!(Instant::now() < until, "it does not wait");
        std::thread::sleep(Duration::from_millis(1));
    }
    views.is_full_for_directories.store(false, Ordering::SeqCst);
    projection.wait_for_rebuild(SOON, |_| {}).unwrap();
    assert_eq!(balances(&store)["account-1"], 7);
}

#[test]
fn failed_projection_stops_and_resumes_at_the_event() {
    for (store, _kept) in stores() {
        let (is_broken, tries) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let projections = ProjectionManager::new(&*store);
        let projections =
            projections.register_with(superstitious(&is_broken, &tries), options()).unwrap();
        for amount in [1, 2, 13, 4] {
            pay(&*store, "account-1", amount);
        }
        let last = pay(&*store, "account-2", 5);
        projections.start().unwrap();
        let failed = projections.wait_for("balances", last, SOON).unwrap_err();
        let ProjectionError::Failed { failure, .. } = &failed else { panic!("{failed}") };
        assert_eq!((failure.position.map(Position::get), failure.tries), (Some(3), 3));
        assert_eq!(tries.load(Ordering::SeqCst), 3, "one try and two retries");
        let text = failed.to_string();
        assert_eq!(
            text,
            "projection balances stopped: failed at position 3 after 3 tries: thirteen; correct the \
             cause and start it again"
        );
        // The view holds the earlier events, and nothing of the failed event or of later ones.
        assert_eq!(balances(&*store).into_iter().collect::<Vec<_>>(), [("account-1".into(), 3)]);
        let status = projections.status("balances").unwrap();
        assert_eq!((status.state, status.lag_events), (ProjectionState::Failed, 3));

        is_broken.store(false, Ordering::SeqCst);
        projections.start().unwrap();
        projections.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store), fold(&*store));
        assert!(projections.status("balances").unwrap().failure.is_none());
    }
}

#[test]
fn transient_failure_is_retried_and_leaves_no_trace() {
    for (store, _kept) in stores() {
        let failures = Arc::new(AtomicUsize::new(2));
        let left = failures.clone();
        let shaky = Custom::new(move |event, view| {
            add_up(event, view)?;
            let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if fails.is_ok() { Err("not yet".into()) } else { Ok(()) }
        });
        let projections = ProjectionManager::new(&*store).register_with(shaky, options()).unwrap();
        let last = pay(&*store, "account-1", 10);
        projections.start().unwrap();
        projections.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store), fold(&*store), "failed tries change nothing");
        let status = projections.status("balances").unwrap();
        assert_eq!((status.handled, status.failed_tries), (1, 2));
    }
}

#[test]
fn panic_of_a_handler_is_a_failure() {
    let store = MemoryStore::new();
    let angry = Custom::new(|_, _| panic!("no more"));
    let projections = ProjectionManager::new(&store).register_with(angry, options()).unwrap();
    let last = pay(&store, "account-1", 10);
    projections.start().unwrap();
    let failed = projections.wait_for("balances", last, SOON).unwrap_err();
    assert!(failed.to_string().contains("the projection panicked: no more"), "{failed}");
}

#[test]
fn parked_event_holds_back_only_its_stream() {
    for (store, _kept) in stores() {
        let (is_broken, tries) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let manager = || {
            let manager = ProjectionManager::new(&*store);
            let options = options().on_failure(OnFailure::Park).batch_events(3);
            manager.register_with(superstitious(&is_broken, &tries), options).unwrap()
        };
        let projections = manager();
        for amount in [1, 13, 4] {
            pay(&*store, "account-1", amount);
        }
        let last = pay(&*store, "account-2", 5);
        projections.start().unwrap();
        projections.wait_for("balances", last, SOON).unwrap();
        let found: Vec<_> = balances(&*store).into_iter().collect();
        assert_eq!(found, [("account-1".into(), 1), ("account-2".into(), 5)]);
        drop(projections);

        // After a restart the stream is still held back.
        let projections = manager();
        projections.start().unwrap();
        let projection = projections.projection("balances").unwrap();
        let last = pay(&*store, "account-1", 6);
        projection.wait_for(last, SOON).unwrap();
        let parked = projection.parked(10).unwrap();
        let told: Vec<_> = parked.iter().map(|p| (p.position.get(), p.reason.as_deref())).collect();
        assert_eq!(told, [(2, Some("thirteen")), (3, None), (5, None)]);
        let status = projection.status().unwrap();
        assert_eq!((status.parked_events, status.parked_streams), (3, 1));
        assert!(status.to_string().contains("3 parked of 1 stream"), "{status}");
        assert!(!status.to_string().contains("streams"), "{status}");

        assert_eq!(projection.retry_parked().unwrap(), 3, "it still fails");
        assert_eq!(balances(&*store)["account-1"], 1);
        is_broken.store(false, Ordering::SeqCst);
        assert_eq!(projection.retry_parked().unwrap(), 0);
        assert_eq!(balances(&*store), fold(&*store));
        assert_eq!(projection.status().unwrap().parked_events, 0);
        let last = pay(&*store, "account-1", 7);
        projection.wait_for(last, SOON).unwrap();
        assert_eq!(balances(&*store), fold(&*store), "the stream is no longer held back");
    }
}

/// At least once: each event comes with its position and id, so that a target can detect a repeat.
#[test]
fn external_target_gets_events_after_its_last_flush_again() {
    for (store, _kept) in stores() {
        let kept: Arc<Mutex<Vec<(u64, EventId)>>> = Arc::default();
        let (fails, resets) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
        let elsewhere = || {
            let pending: Arc<Mutex<Vec<(u64, EventId)>>> = Arc::default();
            let (kept, fails, resets) = (kept.clone(), fails.clone(), resets.clone());
            let target = pending.clone();
            let emptied = kept.clone();
            Custom {
                target: Target::External,
                flush: Box::new(move || {
                    let mut pending = pending.lock().unwrap();
                    let events = std::mem::take(&mut *pending);
                    let one = |n: usize| n.checked_sub(1);
                    if fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one).is_ok() {
                        return Err("the database is away".into());
                    }
                    kept.lock().unwrap().extend(events);
                    Ok(())
                }),
                reset: Box::new(move || {
                    resets.fetch_add(1, Ordering::SeqCst);
                    emptied.lock().unwrap().clear();
                    Ok(())
                }),
                ..Custom::new(move |event, _| {
                    target.lock().unwrap().push((event.position().get(), event.id()));
                    Ok(())
                })
            }
        };
        let last = pay_all(&*store, "account-1", 1..=10);
        let projections = ProjectionManager::new(&*store);
        let projections = projections.register_with(elsewhere(), options()).unwrap();
        projections.start().unwrap();
        projections.wait_for("balances", last, SOON).unwrap();
        let all: Vec<_> = store.read_log().into_iter().map(|event| event.unwrap()).collect();
        let all: Vec<_> = all.iter().map(|event| (event.position().get(), event.id())).collect();
        assert_eq!(*kept.lock().unwrap(), all);
        assert_eq!(resets.load(Ordering::SeqCst), 1, "once, before the first event");
        drop(projections);

        // A restart continues after the checkpoint; a rebuild starts over with an empty target.
        let projections = ProjectionManager::new(&*store);
        let projections = projections.register_with(elsewhere(), options()).unwrap();
        projections.start().unwrap();
        let projection = projections.projection("balances").unwrap();
        projection.wait_for(last, SOON).unwrap();
        assert_eq!(kept.lock().unwrap().len(), 10);
        projection.rebuild().unwrap();
        projection.wait_for(last, SOON).unwrap();
        assert_eq!(*kept.lock().unwrap(), all);
        assert_eq!(resets.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn two_managers_cannot_count_an_event_twice() {
    for (store, _kept) in stores() {
        let one = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        let other = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        one.start().unwrap();
        other.start().unwrap();
        let last = pay_all(&*store, "account-1", 1..=199);
        let outcomes = [&one, &other].map(|manager| manager.wait_for("balances", last, SOON));
        assert!(outcomes.iter().any(Result::is_ok), "one of them continues");
        for refused in outcomes.into_iter().filter_map(Result::err) {
            let ProjectionError::Failed { failure, .. } = refused else { panic!("{refused}") };
            assert!(matches!(failure.cause.downcast_ref(), Some(Error::CheckpointMoved { .. })));
        }
        assert_eq!(balances(&*store), fold(&*store));
    }
}

/// This happens after the log is restored from an older copy: the next events would not be those
/// that follow the checkpoint.
#[test]
fn checkpoint_past_the_head_is_reported_at_once() {
    let (views, longer, shorter) = (MemoryStore::new(), MemoryStore::new(), MemoryStore::new());
    let last = pay_all(&longer, "account-1", 1..=3);
    let first = pay(&shorter, "account-1", 1);
    let follow = |log: &MemoryStore| {
        let manager = ProjectionManager::over(log, &views).register(Custom::balances()).unwrap();
        manager.start().unwrap();
        manager
    };
    let projections = follow(&longer);
    projections.wait_for("balances", last, SOON).unwrap();
    drop(projections);
    let before = all_views(&views);
    let projections = follow(&shorter);
    let projection = projections.projection("balances").unwrap();
    wait_until(projection, ProjectionState::Failed);
    let failure = projection.status().unwrap().failure.unwrap();
    assert!(failure.to_string().contains("position 3, but the log ends at 1"), "{failure}");
    assert_eq!(all_views(&views), before);
    // The remedy that the error names.
    projection.rebuild().unwrap();
    projection.wait_for_rebuild(SOON, |_| {}).unwrap();
    projection.wait_for(first, SOON).unwrap();
    assert_eq!(balances(&views)["account-1"], 1);
}

#[test]
fn closed_store_stops_its_projections() {
    let store = MemoryStore::new();
    let projections = ProjectionManager::new(&store).register(Custom::balances()).unwrap();
    projections.start().unwrap();
    projections.wait_for("balances", pay(&store, "account-1", 1), SOON).unwrap();
    store.close();
    let waited = projections.wait_for("balances", Position::new(2).unwrap(), SOON).unwrap_err();
    assert!(matches!(waited, ProjectionError::NotRunning { .. }), "{waited}");
    assert!(matches!(projections.status("balances"), Err(ProjectionError::Store(Error::Closed))));
}

/// A rebuild begins again if the one before has failed.
#[test]
fn rebuild_replaces_a_rebuild_that_has_failed() {
    let store = MemoryStore::new();
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = is_broken.clone();
    let fragile = Custom::new(move |event, view| {
        if broken.load(Ordering::SeqCst) { Err("broken".into()) } else { add_up(event, view) }
    });
    let options = ProjectionOptions::new().retries(0);
    let manager = ProjectionManager::new(&store).register_with(fragile, options).unwrap();
    pay(&store, "account-1", 1);
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    let projection = manager.projection("balances").unwrap();
    is_broken.store(true, Ordering::SeqCst);
    projection.rebuild().unwrap();
    assert!(projection.wait_for_rebuild(SOON, |_| {}).is_err());
    is_broken.store(false, Ordering::SeqCst);
    projection.rebuild().unwrap();
    projection.wait_for_rebuild(SOON, |_| {}).unwrap();
    assert_eq!(balances(&store), fold(&store));
}

/// Requests interrupt the wait for a retry. They do not begin to count the tries again.
#[test]
fn event_is_parked_although_requests_interrupt_its_retries() {
    let store = MemoryStore::new();
    let failing = Custom::new(|event, view| match event.event.change() {
        13 => Err("unlucky".into()),
        _ => add_up(event, view),
    });
    let waits = Duration::from_millis(50);
    let options = ProjectionOptions::new().on_failure(OnFailure::Park).retries(4);
    let options = options.backoff(waits, waits);
    let manager = ProjectionManager::new(&store).register_with(failing, options).unwrap();
    manager.start().unwrap();
    let projection = manager.projection("balances").unwrap();
    pay(&store, "account-1", 13);
    let last = pay(&store, "account-2", 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| projection.wait_for(last, SOON));
        while !waiting.is_finished() {
            projection.retry_parked().unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(projection.parked(9).unwrap().len(), 1);
}
