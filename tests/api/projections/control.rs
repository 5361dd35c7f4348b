//! A projection can be started, stopped, paused and queried from any thread, including the thread
//! of its own handler. Projections do not affect each other, and a projection recovers from any
//! damage to its data.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use annals::prelude::*;
use annals::{
    HandlerError, OnFailure, OnUnreadable, Position, ProjectionError, ProjectionManager,
    ProjectionOptions, ProjectionState,
};

use super::{Custom, SOON, add_up, all_views, balances, fold, pay, pay_all, stores, wait_until};
use crate::support::{edit, place, quick};

#[test]
fn rebuild_ignores_projections_with_its_name_as_prefix() {
    for (store, _kept) in stores() {
        let names = ["balances", "balances@eu", "balances@1"];
        let manager = names.iter().fold(ProjectionManager::new(&*store), |manager, name| {
            manager.register(Custom { name, ..Custom::balances() }).unwrap()
        });
        manager.start().unwrap();
        let last = pay(&*store, "account-1", 1);
        for name in names {
            manager.wait_for(name, last, SOON).unwrap();
        }
        for name in names {
            let projection = manager.projection(name).unwrap();
            projection.rebuild().unwrap();
            projection.wait_for_rebuild(SOON, |_| {}).unwrap();
            for name in names {
                let balance = store.view(name).get::<i64>("account-1").unwrap();
                assert_eq!(balance, Some(1), "{name}");
            }
        }
        manager.stop();
        assert_eq!(all_views(&*store).len(), 6, "three directories, one build each");
    }
}

#[test]
fn damaged_records_are_reported_and_rebuilt() {
    for record in ["balances", "$balances@1"] {
        let (_directory, path) = place();
        let follow =
            |store: &Store| ProjectionManager::new(store).register(Custom::balances()).unwrap();
        let store = quick().open(&path).unwrap();
        let last = pay_all(&store, "account-1", 1..=5);
        let manager = follow(&store);
        manager.start().unwrap();
        manager.wait_for("balances", last, SOON).unwrap();
        drop(manager);
        store.close().unwrap();
        edit(&path, "checkpoints", record.as_bytes(), |bytes| bytes[0] ^= 1);

        let store = quick().open(&path).unwrap();
        let manager = follow(&store);
        let started = manager.start();
        let told = started.and_then(|()| manager.wait_for("balances", last, SOON)).unwrap_err();
        assert!(told.to_string().contains(&format!("checkpoints, key {record}")), "{told}");
        assert!(told.to_string().contains("rebuild the projection"), "{told}");
        let projection = manager.projection("balances").unwrap();
        projection.rebuild().unwrap();
        manager.start().unwrap();
        if let Ok(()) = projection.wait_for_rebuild(SOON, |_| {}) {
            projection.wait_for(last, SOON).unwrap();
        }
        assert_eq!(balances(&store), fold(&store), "{record}");
        manager.stop();
        assert_eq!(all_views(&store).len(), 2, "nothing damaged is left");
    }
}

#[test]
fn last_of_concurrent_pauses_starts_and_stops_wins() {
    let store = MemoryStore::new();
    let manager = ProjectionManager::new(&store).register(Custom::balances()).unwrap();
    let projection = manager.projection("balances").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|_| projection.pause()));
        scope.spawn(|| (0..300).for_each(|_| projection.stop()));
        scope.spawn(|| (0..300).for_each(|_| projection.start().unwrap()));
        scope.spawn(|| (0..300).for_each(|amount| _ = pay(&store, "account-1", amount)));
    });
    manager.stop();
    assert_eq!(projection.status().unwrap().state, ProjectionState::Stopped);
    projection.start().unwrap();
    let last = pay(&store, "account-1", 1);
    projection.wait_for(last, SOON).unwrap();
    assert_eq!(balances(&store), fold(&store));
}

#[test]
fn status_before_start_shows_earlier_progress() {
    for (store, _kept) in stores() {
        let options = || ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
        let manager = || {
            let thirteen = Custom::new(|event, view| match event.event.change() {
                13 => Err("thirteen".into()),
                _ => add_up(event, view),
            });
            ProjectionManager::new(&*store).register_with(thirteen, options()).unwrap()
        };
        let fresh = manager();
        let status = fresh.status("balances").unwrap();
        assert_eq!((status.state, status.position), (ProjectionState::Stopped, None));
        pay(&*store, "account-1", 13);
        let last = pay(&*store, "account-2", 1);
        fresh.start().unwrap();
        fresh.wait_for("balances", last, SOON).unwrap();
        drop(fresh);

        let rested = manager();
        let status = rested.status("balances").unwrap();
        assert_eq!((status.state, status.position), (ProjectionState::Stopped, Some(last)));
        assert_eq!((status.parked_events, status.serving_version), (1, Some(1)));
        rested.wait_for("balances", last, SOON).unwrap();
        let next = pay(&*store, "account-2", 1);
        let waited = rested.wait_for("balances", next, SOON).unwrap_err();
        assert!(matches!(waited, ProjectionError::NotRunning { .. }), "{waited}");
        // A rebuild that is requested while the projection is stopped begins when it starts.
        let projection = rested.projection("balances").unwrap();
        projection.rebuild().unwrap();
        assert!(projection.status().unwrap().rebuild.is_some());
        rested.start().unwrap();
        projection.wait_for_rebuild(SOON, |_| {}).unwrap();
        projection.wait_for(next, SOON).unwrap();
        assert_eq!(balances(&*store)["account-2"], 2);
    }
}

#[test]
fn every_retry_request_gets_an_answer() {
    for (store, _kept) in stores() {
        let (is_broken, begun) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (breaks, begins) = (is_broken.clone(), begun.clone());
        let shaky = Custom::new(move |event, view| {
            begins.fetch_add(1, Ordering::SeqCst);
            if breaks.load(Ordering::SeqCst) { Err("away".into()) } else { add_up(event, view) }
        });
        let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
        let manager = ProjectionManager::new(&*store).register_with(shaky, options).unwrap();
        manager.start().unwrap();
        let last = pay_all(&*store, "account-1", 1..=20);
        manager.wait_for("balances", last, SOON).unwrap();
        let projection = manager.projection("balances").unwrap();
        is_broken.store(false, Ordering::SeqCst);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| projection.retry_parked())).collect();
            asked.into_iter().map(|asked| asked.join().unwrap().unwrap()).collect()
        });
        assert_eq!(answers, [0; 4]);
        assert_eq!(begun.load(Ordering::SeqCst), 21, "one failed try, then each event once");
        assert_eq!(balances(&*store), fold(&*store));
    }
}

#[test]
fn retry_skips_unreadable_events_if_options_allow() {
    for (store, _kept) in stores() {
        let damaged = NewEvent::json("Deposited", &"much").unwrap();
        store.append("account-1", ExpectedVersion::Any, [damaged]).unwrap();
        let last = pay(&*store, "account-1", 2);
        let manager = |options: ProjectionOptions| {
            let options = options.on_failure(OnFailure::Park);
            let manager = ProjectionManager::new(&*store);
            let manager = manager.register_with(Custom::balances(), options).unwrap();
            manager.start().unwrap();
            manager.wait_for("balances", last, SOON).unwrap();
            manager
        };
        let strict = manager(ProjectionOptions::new());
        assert_eq!(strict.status("balances").unwrap().parked_events, 2);
        assert_eq!(strict.projection("balances").unwrap().retry_parked().unwrap(), 2);
        drop(strict);
        let lenient = manager(ProjectionOptions::new().on_unreadable(OnUnreadable::Skip));
        assert_eq!(lenient.projection("balances").unwrap().retry_parked().unwrap(), 0);
        let status = lenient.status("balances").unwrap();
        assert_eq!((status.parked_events, status.skipped_events), (0, 1));
        assert_eq!(balances(&*store)["account-1"], 2);
    }
}

#[test]
fn handler_changes_are_split_over_commits_between_events() {
    let store = MemoryStore::new();
    let last = (0..40).fold(Position::FIRST, |_, n| pay(&store, &format!("account-{n}"), n + 1));
    let large = |len: usize| "x".repeat(len);
    let writes = move |event: &annals::TypedEvent<super::Money>, view: &mut annals::ViewWriter| {
        let key = event.stream();
        match event.event.change() {
            // Too large for one commit.
            7 => (0..6_u64).try_for_each(|part| view.put((key, part), &large(12 << 20)))?,
            _ => view.put(key, &large(3 << 20))?,
        }
        Ok::<_, HandlerError>(())
    };
    let options = ProjectionOptions::new().partitions(4).retries(0).on_failure(OnFailure::Park);
    let manager = ProjectionManager::new(&store);
    let manager = manager.register_with(Custom::new(writes), options).unwrap();
    manager.start().unwrap();
    manager.wait_for("balances", last, SOON).unwrap();
    assert_eq!(store.view("balances").entries().iter::<String>().count(), 39);
    let parked = manager.projection("balances").unwrap().parked(9).unwrap();
    assert_eq!(parked.len(), 1);
    let reason = parked[0].reason.as_deref().unwrap();
    assert!(reason.contains("event_changes_len_max"), "{reason}");
}

#[test]
fn handler_may_stop_and_drop_its_manager() {
    for drops in [false, true] {
        let store = MemoryStore::new();
        let own: Arc<OnceLock<Weak<ProjectionManager>>> = Arc::default();
        let only: Arc<Mutex<Option<Arc<ProjectionManager>>>> = Arc::default();
        let (mine, held) = (own.clone(), only.clone());
        let stops = Custom::new(move |event, view| {
            let manager = mine.get().and_then(Weak::upgrade);
            if drops {
                drop(held.lock().unwrap().take());
            } else if let Some(manager) = &manager {
                manager.stop();
            }
            drop(manager);
            add_up(event, view)
        });
        let manager = Arc::new(ProjectionManager::new(&store).register(stops).unwrap());
        own.set(Arc::downgrade(&manager)).unwrap();
        manager.start().unwrap();
        if drops {
            *only.lock().unwrap() = Some(manager);
            pay(&store, "account-1", 1);
            let until = std::time::Instant::now() + SOON;
            while own.get().unwrap().strong_count() > 0 {
                assert!(std::time::Instant::now() < until, "the manager is dropped");
                std::thread::yield_now();
            }
        } else {
            pay(&store, "account-1", 1);
            wait_until(manager.projection("balances").unwrap(), ProjectionState::Stopped);
            manager.stop();
        }
    }
}

#[test]
fn handler_on_a_closed_store_is_not_a_failure() {
    let store = MemoryStore::new();
    let log = store.handle();
    let closing = store.clone();
    let writes = Custom::new(move |_, _| {
        closing.close();
        let event = NewEvent::json("Noted", &())?;
        Ok(log.append("notes", ExpectedVersion::Any, [event]).map(drop)?)
    });
    let manager = ProjectionManager::new(&store).register(writes).unwrap();
    let last = pay(&store, "account-1", 1);
    manager.start().unwrap();
    let waited = manager.wait_for("balances", last, SOON).unwrap_err();
    assert!(matches!(waited, ProjectionError::NotRunning { .. }), "{waited}");
}

/// Regression: the build being replaced handled its parked events forever, and the new build waited
/// for it.
#[test]
fn retry_of_parked_events_ends_at_promotion() {
    for (store, _kept) in stores() {
        let is_broken = Arc::new(AtomicBool::new(true));
        let (handled, broken) = (Arc::new(AtomicUsize::new(0)), is_broken.clone());
        let count = handled.clone();
        let shaky = Custom::new(move |event, view| {
            count.fetch_add(1, Ordering::SeqCst);
            if broken.load(Ordering::SeqCst) {
                Err("away")?;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            add_up(event, view)
        });
        let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
        let manager = ProjectionManager::new(&*store).register_with(shaky, options).unwrap();
        manager.start().unwrap();
        let last = pay_all(&*store, "account-1", 1..=20);
        manager.wait_for("balances", last, SOON).unwrap();
        let projection = manager.projection("balances").unwrap();
        is_broken.store(false, Ordering::SeqCst);
        handled.store(0, Ordering::SeqCst);
        projection.rebuild().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| projection.retry_parked());
            projection.wait_for_rebuild(SOON, |_| {}).unwrap();
        });
        let last = pay(&*store, "account-1", 1);
        projection.wait_for(last, SOON).unwrap();
        manager.stop();
        assert!(
            handled.load(Ordering::SeqCst) <= 20 + 20 + 1,
            "each build handles each event once"
        );
        assert_eq!(balances(&*store), fold(&*store));
    }
}

#[test]
fn rebuild_requested_before_start_keeps_the_serving_build() {
    for (store, _kept) in stores() {
        let manager = || ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        let before = manager();
        before.start().unwrap();
        let last = pay(&*store, "account-1", 1);
        before.wait_for("balances", last, SOON).unwrap();
        drop(before);
        let manager = manager();
        let projection = manager.projection("balances").unwrap();
        projection.rebuild().unwrap();
        let status = projection.status().unwrap();
        assert_eq!((status.position, status.serving_version), (Some(last), Some(1)));
        projection.wait_for(last, SOON).unwrap();
    }
}
