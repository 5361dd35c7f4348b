//! A read model equals the fold of the log (G12) for any batch size, number of threads and
//! interruptions, and a caller can wait until its append is visible.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annals::prelude::*;
use annals::{
    Error, OnUnreadable, Position, ProjectionError, ProjectionManager, ProjectionOptions,
    ProjectionState, Timestamp, Version, ViewKey,
};
use proptest::prelude::*;

use super::{Custom, SOON, add_up, balances, fold, pay, stores, wait_until};

#[derive(Debug, Clone)]
enum Step {
    Pay(u8, i64),
    /// An event that the projection does not know.
    Other(u8),
    Pause,
    Restart,
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..4_u8, -50..50_i64).prop_map(|(account, amount)| Step::Pay(account, amount)),
        5 => (0..4_u8).prop_map(Step::Other),
        1 => Just(Step::Pause),
        1 => Just(Step::Restart),
        1 => Just(Step::Rebuild),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// G12: events, stops, pauses and rebuilds in any order, with batches of any size on any number
    /// of threads.
    #[test]
    fn read_model_equals_the_fold_of_the_log(
        steps in steps(), batch in 1..60_usize, partitions in 1..4_usize
    ) {
        let options = ProjectionOptions::new().batch_events(batch).partitions(partitions);
        for (store, _kept) in stores() {
            let manager = || {
                let manager = ProjectionManager::new(&*store);
                let manager = manager.register_with(Custom::balances(), options.clone()).unwrap();
                manager.start().unwrap();
                manager
            };
            let mut projections = manager();
            let mut last = None;
            for step in &steps {
                let projection = projections.projection("balances").unwrap();
                match step {
                    Step::Pay(account, amount) => {
                        last = Some(pay(&*store, &format!("account-{account}"), *amount));
                    }
                    Step::Other(account) => {
                        let event = NewEvent::json("Other", account).unwrap();
                        let stream = format!("account-{account}");
                        let appended = store.append(stream, ExpectedVersion::Any, [event]).unwrap();
                        last = Some(appended.last_position());
                    }
                    Step::Pause => {
                        projection.pause();
                        projection.start().unwrap();
                    }
                    Step::Restart => {
                        drop(projections);
                        projections = manager();
                    }
                    Step::Rebuild => projection.rebuild().unwrap(),
                }
            }
            let projection = projections.projection("balances").unwrap();
            projection.wait_for_rebuild(SOON, |_| {}).unwrap();
            if let Some(last) = last {
                projection.wait_for(last, SOON).unwrap();
            }
            prop_assert_eq!(balances(&*store), fold(&*store));
            let status = projection.status().unwrap();
            prop_assert_eq!((status.position, status.lag_events), (last, 0));
        }
    }
}

#[test]
fn appended_event_is_visible_after_wait_for() {
    for (store, _kept) in stores() {
        let projections = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        projections.start().unwrap();
        for amount in 1..200 {
            let position = pay(&*store, "account-1", amount);
            projections.wait_for("balances", position, SOON).unwrap();
            let balance = store.view("balances").get::<i64>("account-1").unwrap();
            assert_eq!(balance, Some(amount * (amount + 1) / 2));
        }
        // A wait for an event that never comes times out.
        let beyond = Position::new(1_000).unwrap();
        let late = projections.wait_for("balances", beyond, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(late, ProjectionError::TimedOut { .. }), "{late}");
        let unknown = projections.wait_for("balance", beyond, SOON).unwrap_err();
        assert!(unknown.to_string().contains("projections: balances"), "{unknown}");
        projections.stop();
        let stopped = projections.wait_for("balances", beyond, SOON).unwrap_err();
        assert!(matches!(stopped, ProjectionError::NotRunning { .. }), "{stopped}");
    }
}

#[test]
fn paused_projection_reports_its_lag() {
    for (store, _kept) in stores() {
        let clock = Arc::new(AtomicU64::new(0));
        let projections = ProjectionManager::new(&*store);
        let hand = clock.clone();
        let projections = projections.clock(move || {
            let micros = i64::try_from(hand.load(Ordering::SeqCst)).unwrap();
            Timestamp::from_micros(micros)
        });
        let projections = projections.register(Custom::balances()).unwrap();
        projections.start().unwrap();
        let projection = projections.projection("balances").unwrap();
        let first = pay(&*store, "account-1", 1);
        projection.wait_for(first, SOON).unwrap();
        projection.pause();
        wait_until(projection, ProjectionState::Paused);

        pay(&*store, "account-1", 2);
        pay(&*store, "account-1", 3);
        let waiting = store.read_log().after(first).first().unwrap().unwrap();
        let later = waiting.recorded_at().as_micros() + 5_000_000;
        clock.store(u64::try_from(later).unwrap(), Ordering::SeqCst);
        let status = projection.status().unwrap();
        assert_eq!((status.position, status.lag_events), (Some(first), 2));
        assert_eq!(status.lag_time, Duration::from_secs(5));
        assert_eq!(status.to_string(), "balances v1: paused, 1 of 3, 2 events and 5.0s behind");
        assert_eq!(balances(&*store)["account-1"], 1);

        projection.start().unwrap();
        projection.wait_for(status.head.unwrap(), SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 6);
        assert_eq!(projection.status().unwrap().lag_time, Duration::ZERO);
    }
}

/// One handler writes a separate key for each stream. The other also counts all events in a single
/// key, so that its partitions conflict. Both give the same result as with one thread.
#[test]
fn partitions_do_not_change_the_read_model() {
    for (store, _kept) in stores() {
        let events = |account: usize| {
            let events = (1..=20).map(move |amount| super::Money::Deposited { amount });
            (format!("account-{account}"), events.map(|event| event.encode().unwrap()))
        };
        let mut last = None;
        for (account, events) in (0..20).map(events) {
            let appended = store.append(account, ExpectedVersion::Any, events).unwrap();
            last = Some(appended.last_position());
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let (seen, parallel) = (order.clone(), ProjectionOptions::new().partitions(4));
        let apart = Custom::new(move |event, view| {
            seen.lock().unwrap().push((event.stream().clone(), event.version()));
            add_up(event, view)
        });
        let together = Custom {
            name: "counted",
            ..Custom::new(|event, view| {
                view.update("all", |count: &mut u64| *count += 1)?;
                view.put(("last of", event.stream()), &event.version().get())?;
                // Its reads decide what it writes, so a wrong order would show.
                let seen = view.entries_under::<u64>("last of")?.len();
                Ok(view.update("seen", |sum: &mut usize| *sum += seen)?)
            })
        };
        let manager = ProjectionManager::new(&*store);
        let manager = manager.register_with(apart, parallel.clone()).unwrap();
        let manager = manager.register_with(together, parallel).unwrap();
        manager.start().unwrap();
        for name in ["balances", "counted"] {
            manager.wait_for(name, last.unwrap(), SOON).unwrap();
        }
        assert_eq!(balances(&*store), fold(&*store));
        assert_eq!(manager.status("balances").unwrap().conflicts, 0);
        let mut order = order.lock().unwrap().clone();
        assert_eq!(order.len(), 400, "no event was handled twice");
        order.sort_by_key(|(stream, _)| stream.clone());
        let rises = |pair: &[(StreamId, Version)]| pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1;
        assert!(order.windows(2).all(rises), "the events of a stream are in order");

        let counted = store.view("counted");
        assert!(manager.status("counted").unwrap().conflicts > 0, "the partitions conflict");
        assert_eq!(counted.get("all").unwrap(), Some(400));
        let seen: usize = (1..=20).map(|streams| streams * 20).sum();
        assert_eq!(counted.get("seen").unwrap(), Some(seen));
        assert_eq!(counted.get(("last of", "account-7")).unwrap(), Some(20));
    }
}

type Handle = fn(
    &annals::TypedEvent<super::Money>,
    &mut annals::ViewWriter,
) -> Result<(), annals::HandlerError>;

/// In these handlers each stream writes only its own keys, but reads those of other streams.
const NOSY: [(&str, Handle); 2] = [
    ("scanning", |event, view| {
        view.put(("at", event.stream()), &event.version().get())?;
        let seen: u64 = view.entries_under::<u64>("at")?.iter().map(|(_, at)| at).sum();
        Ok(view.put(("seen", event.stream()), &seen)?)
    }),
    ("peeking", |event, view| {
        view.put(("at", event.stream()), &event.version().get())?;
        let first = view.get::<u64>(("at", "account-0"))?;
        Ok(view.put(("seen", event.stream()), &first)?)
    }),
];

#[test]
fn conflicting_partitions_are_detected() {
    for (name, handle) in NOSY {
        for (store, _kept) in stores() {
            for amount in 1..=20 {
                for account in 0..8 {
                    pay(&*store, &format!("account-{account}"), amount);
                }
            }
            let entries = |threads: usize| {
                let options = ProjectionOptions::new().partitions(threads);
                let nosy = Custom {
                    name,
                    version: u32::try_from(threads).unwrap(),
                    ..Custom::new(handle)
                };
                let manager = ProjectionManager::new(&*store).register_with(nosy, options).unwrap();
                manager.start().unwrap();
                let projection = manager.projection(name).unwrap();
                projection.wait_for_rebuild(SOON, |_| {}).unwrap();
                projection.wait_for(store.head().unwrap().unwrap(), SOON).unwrap();
                let entries = store.view(name).entries().iter::<Option<u64>>();
                entries.collect::<Result<Vec<_>, _>>().unwrap()
            };
            assert_eq!(entries(1), entries(4), "{name}");
        }
    }
}

#[test]
fn keys_with_prefixes_are_read_in_pages_in_both_directions() {
    for (store, _kept) in stores() {
        let history = Custom {
            name: "history",
            ..Custom::new(|event, view| {
                let key = ViewKey::new((event.stream(), event.version()))?;
                Ok(view.put(key, &event.event)?)
            })
        };
        let projections = ProjectionManager::new(&*store).register(history).unwrap();
        projections.start().unwrap();
        for amount in 1..=300 {
            pay(&*store, "account-1", amount);
        }
        let last = pay(&*store, "account-10", 7);
        projections.wait_for("history", last, SOON).unwrap();

        let history = store.view("history");
        let amounts = |read: annals::ReadView| -> Vec<i64> {
            let entries = read.iter::<super::Money>();
            entries.map(|entry| entry.unwrap().1.change()).collect()
        };
        let of_one = || history.entries().under("account-1");
        assert_eq!(amounts(of_one()), (1..=300).collect::<Vec<_>>());
        assert_eq!(amounts(of_one().backward().limit(3)), [300, 299, 298]);
        let third = ViewKey::new(("account-1", 3_u64)).unwrap();
        assert_eq!(amounts(of_one().after(&third).limit(2)), [4, 5]);
        assert_eq!(amounts(of_one().after(&third).backward()), [2, 1]);
        assert_eq!(amounts(of_one().up_to(&third)), [1, 2, 3]);
        assert_eq!(amounts(of_one().backward().up_to(&third)).last(), Some(&3));
        assert_eq!(
            amounts(history.entries().up_to("account-1")).len(),
            300,
            "including the keys under it"
        );
        assert_eq!(amounts(history.entries().prefix("account-1")).len(), 301);
        assert_eq!(amounts(history.entries().under("account-10")), [7]);
        assert!(amounts(history.entries().limit(0)).is_empty());
        assert_eq!(history.position().unwrap(), Some(last));

        let wrong = history.get::<String>(("account-1", 1_u64)).unwrap_err();
        assert!(matches!(wrong, Error::ViewValue { .. }), "{wrong}");
        assert_eq!(store.view("nobody").get::<i64>("a").unwrap(), None);
        assert_eq!(store.view("nobody").entries().iter::<i64>().count(), 0);
    }
}

#[test]
fn unreadable_event_stops_the_projection_or_is_recorded() {
    for (store, _kept) in stores() {
        pay(&*store, "account-1", 1);
        let damaged = NewEvent::json("Deposited", &"much").unwrap();
        let id = damaged.id();
        store.append("account-1", ExpectedVersion::Any, [damaged]).unwrap();
        let last = pay(&*store, "account-1", 2);

        let strict = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        strict.start().unwrap();
        let failed = strict.wait_for("balances", last, SOON).unwrap_err();
        let ProjectionError::Failed { failure, .. } = &failed else { panic!("{failed}") };
        assert_eq!((failure.event_id, failure.tries), (Some(id), 1));
        assert!(matches!(failure.cause.downcast_ref(), Some(Error::Unreadable { .. })));
        assert_eq!(balances(&*store)["account-1"], 1, "the view holds the earlier event");
        drop(strict);

        let options = ProjectionOptions::new().on_unreadable(OnUnreadable::Skip);
        let lenient = ProjectionManager::new(&*store);
        let lenient = lenient.register_with(Custom::balances(), options).unwrap();
        lenient.start().unwrap();
        lenient.wait_for("balances", last, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 3);
        let skipped = lenient.projection("balances").unwrap().skipped(10).unwrap();
        assert_eq!(skipped.len(), 1);
        assert_eq!((skipped[0].id, skipped[0].position.get()), (id, 2));
        let reason = skipped[0].reason.as_deref().unwrap();
        assert!(reason.contains("does not decode"), "{reason}");
        assert_eq!(lenient.status("balances").unwrap().skipped_events, 1);
    }
}

#[test]
fn invalid_and_duplicate_names_are_refused() {
    let store = MemoryStore::new();
    for name in ["", "$mine", "two\nlines"] {
        let named = Custom { name, ..Custom::balances() };
        let refused = ProjectionManager::new(&store).register(named).unwrap_err();
        assert!(matches!(refused, ProjectionError::Store(Error::InvalidArgument(_))), "{refused}");
    }
    let one = ProjectionManager::new(&store).register(Custom::balances()).unwrap();
    let doubled = one.register(Custom::balances()).unwrap_err();
    assert!(matches!(doubled, ProjectionError::Duplicate { .. }));
}
