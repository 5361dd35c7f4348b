//! Reactors, and projections that start in the middle of the log: where they start, that a reactor
//! repeats nothing, that failures are reported, and that an event that can never be handled can be
//! discarded.

use std::sync::{Arc, Mutex};

use annals::FailureOutcome::{Parked, Retried, Stopped};
use annals::prelude::*;
use annals::{
    OnFailure, Position, ProjectionError, ProjectionNotice, StartFrom, Target, Upcasters,
};

use super::{AnyStore, Custom, Money, SOON, all_views, balances, fold, pay, pay_all, stores};

type Sent = Arc<Mutex<Vec<u64>>>;

/// Records the position of each event that it handles.
fn mailer(sent: &Sent, version: u32) -> Custom {
    let sent = sent.clone();
    let send = move |event: &TypedEvent<Money>, _: &mut ViewWriter| {
        sent.lock().unwrap().push(event.position().get());
        Ok(())
    };
    Custom { target: Target::Reactor, version, ..Custom::new(send) }
}

fn follow(
    store: &dyn AnyStore,
    projection: Custom,
    options: ProjectionOptions,
) -> ProjectionManager {
    let manager = ProjectionManager::new(store).register_with(projection, options).unwrap();
    manager.start().unwrap();
    manager
}

#[test]
fn projection_starts_at_its_position_and_skips_earlier_events() {
    for (store, _kept) in stores() {
        let from = |start: StartFrom| ProjectionOptions::new().start_from(start);
        let last = pay_all(&*store, "account-1", 1..=3);
        let ahead = StartFrom::After(Position::new(last.get() + 1).unwrap());
        let manager =
            ProjectionManager::new(&*store).register_with(Custom::balances(), from(ahead)).unwrap();
        let refused = manager.start().unwrap_err();
        assert!(matches!(refused, ProjectionError::StartAhead { .. }), "{refused}");
        assert!(all_views(&*store).is_empty(), "nothing was recorded");
        drop(manager);

        let manager = follow(&*store, Custom::balances(), from(StartFrom::Now));
        manager.wait_for("balances", last, SOON).unwrap();
        assert!(balances(&*store).is_empty());
        let last = pay(&*store, "account-1", 10);
        manager.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 10);
        drop(manager);

        // A rebuild, a new version and later options keep the start position.
        let manager = follow(&*store, Custom::balances(), from(StartFrom::Beginning));
        let projection = manager.projection("balances").unwrap();
        projection.rebuild().unwrap();
        projection.wait_for_rebuild(SOON, |_| {}).unwrap();
        assert_eq!(balances(&*store)["account-1"], 10);
        drop(manager);
        let second = Custom { version: 2, ..Custom::balances() };
        let manager = follow(&*store, second, from(StartFrom::Now));
        manager.projection("balances").unwrap().wait_for_rebuild(SOON, |_| {}).unwrap();
        manager.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 10);
    }
}

#[test]
fn projection_starts_after_a_given_position() {
    for (store, _kept) in stores() {
        let last = pay_all(&*store, "account-1", 1..=5);
        let after = StartFrom::After(Position::new(3).unwrap());
        let manager =
            follow(&*store, Custom::balances(), ProjectionOptions::new().start_from(after));
        manager.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 4 + 5);
    }
}

#[test]
fn reactor_is_not_repeated_by_rebuild_or_new_version() {
    for (store, _kept) in stores() {
        let sent = Sent::default();
        pay_all(&*store, "account-1", 1..=3);
        let first = follow(&*store, mailer(&sent, 1), ProjectionOptions::new());
        first.wait_for_head(SOON).unwrap();
        let before = all_views(&*store);
        let refused = first.projection("balances").unwrap().rebuild().unwrap_err();
        assert!(matches!(refused, ProjectionError::NotRebuildable { .. }), "{refused}");
        assert_eq!(all_views(&*store), before);
        drop(first);

        pay(&*store, "account-1", 4);
        let second = follow(&*store, mailer(&sent, 2), ProjectionOptions::new());
        assert_eq!(second.wait_for_head(SOON).unwrap().map(Position::get), Some(4));
        assert_eq!(*sent.lock().unwrap(), [1, 2, 3, 4]);
        assert_eq!(store.view("balances").status().unwrap().unwrap().version, 2);
        drop(second);

        // Started once more, the reactor has nothing to do.
        let second = follow(&*store, mailer(&sent, 2), ProjectionOptions::new());
        second.wait_for_head(SOON).unwrap();
        assert_eq!(sent.lock().unwrap().len(), 4);
    }
}

/// A reactor appends payments in response to payments while the caller waits for the head.
#[test]
fn wait_for_head_includes_events_of_reactors() {
    for (store, _kept) in stores() {
        let target = store.handle();
        let echo = Custom {
            name: "echo",
            target: Target::Reactor,
            ..Custom::new(move |event, _| {
                let amount = event.event.change();
                if amount > 1 {
                    pay(&*target, "account-1", amount - 1);
                }
                Ok(())
            })
        };
        let manager = ProjectionManager::new(&*store).register(echo).unwrap();
        let manager = manager.register(Custom::balances()).unwrap();
        manager.start().unwrap();
        pay(&*store, "account-1", 20);
        assert_eq!(manager.wait_for_head(SOON).unwrap().map(Position::get), Some(20));
        assert_eq!(balances(&*store), fold(&*store));
        assert_eq!(balances(&*store)["account-1"], 210);
    }
}

#[test]
fn every_failure_reaches_the_listener_even_if_it_panics() {
    for (store, _kept) in stores() {
        let heard: Arc<Mutex<Vec<ProjectionNotice>>> = Arc::default();
        let hear = heard.clone();
        let thirteen = Custom::new(|event, _| match event.event.change() {
            13 => Err("thirteen".into()),
            _ => Ok(()),
        });
        let options = ProjectionOptions::new().retries(1).backoff(SOON / 60_000, SOON);
        let manager = ProjectionManager::new(&*store)
            .register_with(thirteen, options.clone().on_failure(OnFailure::Park))
            .unwrap()
            .register_with(
                Custom { name: "strict", ..Custom::new(|_, _| Err("no".into())) },
                options,
            )
            .unwrap()
            .on_notice(move |notice| {
                hear.lock().unwrap().push(notice.clone());
                panic!("a listener that panics");
            });
        manager.start().unwrap();
        let last = pay(&*store, "account-1", 13);
        manager.wait_for("balances", last, SOON).unwrap();
        manager.wait_for("strict", last, SOON).unwrap_err();
        manager.stop();
        let heard = heard.lock().unwrap();
        let of = |name: &str| -> Vec<_> {
            let notices = heard.iter().filter(|notice| notice.projection == name);
            notices.map(|notice| (notice.outcome, notice.failure.tries)).collect()
        };
        assert_eq!(of("balances"), [(Retried, 1), (Parked, 2)]);
        assert_eq!(of("strict"), [(Retried, 1), (Stopped, 2)]);
        assert!(heard.iter().all(|notice| notice.failure.position == Some(last)));
    }
}

#[test]
fn discarded_event_no_longer_holds_back_its_stream() {
    for (store, _kept) in stores() {
        let thirteen = || {
            Custom::new(|event, view| match event.event.change() {
                13 => Err("thirteen".into()),
                _ => super::add_up(event, view),
            })
        };
        let options = || ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
        let manager = follow(&*store, thirteen(), options());
        let projection = manager.projection("balances").unwrap();
        let parked_at = pay(&*store, "account-1", 13);
        let last = pay(&*store, "account-1", 7);
        projection.wait_for(last, SOON).unwrap();
        let parked = projection.parked(10).unwrap();
        assert_eq!(parked.len(), 2);
        assert_eq!(projection.retry_parked().unwrap(), 2, "it fails again");
        let status = store.view("balances").status().unwrap().unwrap();
        assert_eq!((status.parked_events, status.parked_streams, status.skipped_events), (2, 1, 0));

        assert!(projection.discard_parked(&parked[0]).unwrap());
        assert!(!projection.discard_parked(&parked[0]).unwrap(), "it is parked no longer");
        assert_eq!(projection.retry_parked().unwrap(), 0);
        assert_eq!(balances(&*store)["account-1"], 7);
        let skipped = projection.skipped(10).unwrap();
        assert_eq!(
            (skipped[0].position, skipped[0].reason.as_deref()),
            (parked_at, Some("thirteen"))
        );
        let status = projection.status().unwrap();
        assert_eq!((status.parked_events, status.parked_streams, status.skipped_events), (0, 0, 1));
        let last = pay(&*store, "account-1", 5);
        projection.wait_for(last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 12);

        // The last parked event of its stream: nothing is left to retry.
        let last = pay(&*store, "account-1", 13);
        projection.wait_for(last, SOON).unwrap();
        let parked = projection.parked(10).unwrap();
        assert!(projection.discard_parked(&parked[0]).unwrap());
        let last = pay(&*store, "account-1", 1);
        projection.wait_for(last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 13);
        manager.stop();
        let refused = projection.discard_parked(&parked[0]).unwrap_err();
        assert!(matches!(refused, ProjectionError::NotRunning { .. }), "{refused}");
    }
}

#[test]
fn upcasters_apply_to_projections_registered_before() {
    let store = MemoryStore::new();
    let old = NewEvent::json("Paid", &serde_json::json!({ "amount": 5 })).unwrap();
    store.append("account-1", ExpectedVersion::Any, [old]).unwrap();
    let upcasters =
        Upcasters::builder().reads::<Money>().renamed("Paid", 1, ("Deposited", 1)).build().unwrap();
    let manager = ProjectionManager::new(&store).register(Custom::balances()).unwrap();
    let manager = manager.upcasters(upcasters);
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(balances(&store)["account-1"], 5);
}

/// Regression: a failure in one partition discarded the work of the others, which was then
/// repeated.
#[test]
fn failure_with_partitions_repeats_and_reorders_nothing() {
    for (store, _kept) in stores() {
        for round in 0..200 {
            pay(&*store, &format!("account-{}", round % 7), round + 1);
        }
        let done: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
        let fails = Arc::new(std::sync::atomic::AtomicU32::new(3));
        let note = done.clone();
        let shaky = Custom {
            target: Target::External,
            ..Custom::new(move |event, view| {
                use std::sync::atomic::Ordering::SeqCst;
                let one = |left: u32| left.checked_sub(1);
                if event.event.change() == 50 && fails.fetch_update(SeqCst, SeqCst, one).is_ok() {
                    Err("for now")?;
                }
                let place = (event.stream().to_string(), event.version().get());
                note.lock().unwrap().push(place);
                super::add_up(event, view)
            })
        };
        let options = ProjectionOptions::new().partitions(4).backoff(SOON / 60_000, SOON);
        let manager = follow(&*store, shaky, options);
        manager.wait_for_head(SOON).unwrap();
        let done = done.lock().unwrap();
        assert_eq!(done.len(), 200, "each event once");
        for account in 0..7 {
            let stream = format!("account-{account}");
            let versions: Vec<u64> =
                done.iter().filter(|(of, _)| *of == stream).map(|(_, version)| *version).collect();
            assert!(versions.is_sorted(), "{stream}: {versions:?}");
        }
        assert_eq!(balances(&*store), fold(&*store), "the view lost nothing");
    }
}

/// Regression: such a delete stopped the projection, even though it was set to park.
#[test]
fn delete_of_a_too_long_key_deletes_nothing() {
    for (store, _kept) in stores() {
        let deletes = Custom::new(|event, view| {
            view.delete("k".repeat(2_000));
            super::add_up(event, view)
        });
        let manager = follow(&*store, deletes, ProjectionOptions::new());
        let last = pay(&*store, "account-1", 1);
        manager.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 1);
    }
}
