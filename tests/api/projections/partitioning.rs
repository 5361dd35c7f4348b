//! Projections whose partitions are those of a tag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use annals::prelude::*;
use annals::{Error, OnFailure, PartitionBy, Position, ProjectionError, Target};

use super::{Custom, Money, SOON, stores};

/// Deposits of 16 customers, each in changing accounts.
fn deposits(store: &(impl EventStore + ?Sized)) -> Position {
    let mut last = Position::FIRST;
    for round in 0..20 {
        let events = (0..16).map(|customer| {
            let event = Money::Deposited { amount: round }.encode().unwrap();
            event.with_tag("bank:1").with_tag(format!("customer:{customer}"))
        });
        let append = events.enumerate().fold(Append::new(), |append, (number, event)| {
            let account = format!("account-{}", (number + usize::try_from(round).unwrap()) % 5);
            append.to(account, ExpectedVersion::Any, [event])
        });
        last = store.submit(append).unwrap().last_position();
    }
    last
}

fn by_customer() -> ProjectionOptions {
    ProjectionOptions::new().partitions(4).partition_by(PartitionBy::tag("customer:"))
}

fn customer(event: &RecordedEvent) -> String {
    event.tags()[1].clone()
}

/// Outside the store, the order of a tag is kept across streams; in a view, the result is that of
/// one thread.
#[test]
fn partitions_by_tag_keep_each_tag_in_order() {
    for (store, _kept) in stores() {
        let last = deposits(&*store);
        let order: Arc<Mutex<Vec<(String, Position)>>> = Arc::default();
        let seen = order.clone();
        let outside = Custom {
            name: "outside",
            target: Target::External,
            ..Custom::new(move |event, _| {
                if event.position().get() % 7 == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(300));
                }
                seen.lock().unwrap().push((customer(event), event.position()));
                Ok(())
            })
        };
        let inside = Custom::new(|event, view| {
            let key = customer(event);
            Ok(view.update(&*key, |sum: &mut i64| *sum = *sum * 3 % 1_009 + event.event.change())?)
        });
        let manager = ProjectionManager::new(&*store);
        let manager = manager.register_with(outside, by_customer()).unwrap();
        let manager = manager.register_with(inside, by_customer()).unwrap();
        manager.start().unwrap();
        manager.wait_for("outside", last, SOON).unwrap();
        manager.wait_for("balances", last, SOON).unwrap();
        assert_eq!(manager.status("balances").unwrap().conflicts, 0, "keys are the partitions");

        let mut latest: BTreeMap<String, Position> = BTreeMap::new();
        let order = order.lock().unwrap();
        assert_eq!(order.len(), 320);
        for (customer, position) in &*order {
            let before = latest.insert(customer.clone(), *position);
            assert!(before < Some(*position), "{customer}: {position} after {before:?}");
        }
        let expected = (0..20).fold(0, |sum: i64, round| sum * 3 % 1_009 + round);
        let sums = super::balances(&*store);
        assert_eq!(sums.len(), 16);
        assert!(sums.values().all(|sum| *sum == expected), "{sums:?}");
    }
}

#[test]
fn partitions_by_tag_cannot_park_streams() {
    let store = MemoryStore::new();
    let register =
        |options| ProjectionManager::new(&store).register_with(Custom::balances(), options);
    let refused = register(by_customer().on_failure(OnFailure::Park)).unwrap_err();
    assert!(matches!(refused, ProjectionError::ParksByStream { .. }), "{refused}");
    let parking = ProjectionOptions::new().on_failure(OnFailure::Park);
    assert!(register(parking.partition_by(PartitionBy::Stream)).is_ok());
    for prefix in ["", "\n"] {
        let invalid = ProjectionOptions::new().partition_by(PartitionBy::tag(prefix));
        let refused = register(invalid).unwrap_err();
        assert!(matches!(refused, ProjectionError::Store(Error::InvalidArgument(_))), "{refused}");
    }
}
