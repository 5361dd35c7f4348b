//! The testing kit for reactors: effects, appended events, parked events and redelivery.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use annals::prelude::*;
use annals::testing::ProjectionScenario;
use annals::{Target, domain_events};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum OrderEvent {
    Placed { total: i64 },
    Paid {},
}
domain_events! { OrderEvent { Placed => "Placed", Paid => "Paid" } }
use OrderEvent::{Paid, Placed};

/// Charges a card for each order. It fails if the total is negative, or while the card is blocked.
#[derive(Clone, Default)]
struct Charges {
    calls: Arc<Mutex<Vec<String>>>,
    is_blocked: Arc<Mutex<bool>>,
    /// Appends the payment too.
    store: Option<MemoryStore>,
}

impl Charges {
    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Projection for Charges {
    type Event = OrderEvent;

    fn name(&self) -> &'static str {
        "charges"
    }
    fn target(&self) -> Target {
        Target::Reactor
    }
    fn handle(
        &self,
        event: &TypedEvent<OrderEvent>,
        _: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let Placed { total } = event.event else { return Ok(()) };
        if total < 0 || *self.is_blocked.lock().unwrap() {
            return Err(format!("cannot charge {total}").into());
        }
        self.calls.lock().unwrap().push(format!("charge {total} for {}", event.stream()));
        if let Some(store) = &self.store {
            let paid = Paid {}.encode()?.with_id(event.id().derived("paid"));
            store.append(format!("payment-{}", event.id()), ExpectedVersion::NoStream, [paid])?;
        }
        Ok(())
    }
}

fn failure(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

#[test]
fn reactor_is_checked_by_its_effects_and_parked_events() {
    let charges = Charges::default();
    ProjectionScenario::new(charges.clone())
        .given("order-1", [Placed { total: 5 }])
        .given("order-2", [Placed { total: -1 }, Placed { total: 7 }])
        .when_handled()
        .then_effects(|| charges.calls(), ["charge 5 for order-1".to_owned()])
        .then_parked([("order-2", "cannot charge -1"), ("order-2", "")]);
}

#[test]
fn redelivery_repeats_effects_that_are_not_idempotent() {
    let charges = Charges::default();
    let once = "charge 5 for order-1".to_owned();
    ProjectionScenario::new(charges.clone())
        .given("order-1", [Placed { total: 5 }])
        .when_handled()
        .then_effects(|| charges.calls(), [once.clone()])
        .when_redelivered()
        .then_effects(|| charges.calls(), [once.clone(), once]);
}

#[test]
fn parked_events_are_retried_in_order() {
    let charges = Charges::default();
    *charges.is_blocked.lock().unwrap() = true;
    let handled = ProjectionScenario::new(charges.clone())
        .given("order-1", [Placed { total: 5 }, Placed { total: 6 }])
        .when_handled()
        .then_effects(|| charges.calls(), [])
        .then_parked([("order-1", "cannot charge 5"), ("order-1", "")]);
    *charges.is_blocked.lock().unwrap() = false;
    let both = ["charge 5 for order-1", "charge 6 for order-1"].map(str::to_owned);
    handled.when_retried().then_none_parked().then_effects(|| charges.calls(), both);
}

#[test]
fn process_manager_appends_once_when_events_come_again() {
    let store = MemoryStore::new();
    let placed = Placed { total: 5 }.encode().unwrap();
    let stream = format!("payment-{}", placed.id());
    let charges = Charges { store: Some(store.clone()), ..Charges::default() };
    ProjectionScenario::over(&store, charges)
        .given_stored("order-1", [placed])
        .when_handled()
        .then_stream(&stream, [Paid {}])
        .when_redelivered()
        .then_stream(&stream, [Paid {}])
        .then_none_parked();
}

#[test]
fn failed_checks_of_a_reactor_show_the_difference() {
    let charges = Charges::default();
    let handled = || {
        ProjectionScenario::new(charges.clone())
            .given("order-1", [Placed { total: 5 }])
            .given("order-2", [Placed { total: -1 }])
            .when_handled()
    };
    let text = failure(|| drop(handled().then_effects(|| charges.calls(), [])));
    assert!(text.contains("the handler had other effects"), "{text}");
    assert!(text.contains("+ \"charge 5 for order-1\""), "{text}");
    for wrong in [vec![], vec![("order-2", "")], vec![("order-2", "lost")], vec![("order-1", "")]] {
        let text = failure(|| drop(handled().then_parked(wrong)));
        assert!(text.contains("cannot charge -1"), "{text}");
    }
    let text = failure(|| drop(handled().then_none_parked()));
    assert!(text.contains("other events are parked"), "{text}");
    let text = failure(|| drop(handled().then_stream("order-1", [Paid {}])));
    assert!(text.contains("+ Placed"), "{text}");
}
