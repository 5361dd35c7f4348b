//! The testing kit: what it accepts, and how it reports failures.

use std::panic::{AssertUnwindSafe, catch_unwind};

use annals::testing::Scenario;
use annals::{Aggregate, DomainEvent, NewEvent, Upcasters, domain_events};
use serde::{Deserialize, Serialize};

use crate::support::bank::{
    Account, AccountBlocked, AccountError, Command, block, create, created, deposit, deposited,
    withdraw, withdrawn,
};
use AccountError::{Blocked, InsufficientFunds, NotCreated, NotPositive};

fn given(amount: i64) -> Scenario<Account> {
    Scenario::given([created("ada"), deposited(amount)])
}

#[test]
fn bank_follows_its_rules() {
    Scenario::<Account>::given([]).when(create()).then([created("ada")]);
    Scenario::<Account>::given([]).when(deposit(1)).then_error(NotCreated);
    given(1000)
        .when(withdraw(200))
        .then([withdrawn(200)])
        .then_state(|account| account.balance == 800)
        .and_when(withdraw(801))
        .then_error(InsufficientFunds { balance: 800, asked: 801 })
        .then_state(|account| account.balance == 800)
        .and_when(nothing())
        .then_nothing()
        .and_when(block())
        .then([AccountBlocked { reason: "lost card".into() }])
        .and_when(block())
        .then_error(Blocked)
        .then_state_is(Account {
            owner_id: Some("ada".into()),
            balance: 800,
            blocked: Some("lost card".into()),
            events: 4,
        });
    for amount in [0, -5] {
        let refused = |error: &AccountError| *error == NotPositive { amount };
        given(10).when(deposit(amount)).then_error_is(refused);
    }
}

/// Returns the failure message of a wrong scenario.
fn failure(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

#[test]
fn failed_scenario_shows_its_steps_and_the_difference() {
    let text = failure(|| {
        let expected = [withdrawn(200), deposited(1)];
        given(1000).when(deposit(5)).then([deposited(5)]).and_when(withdraw(250)).then(expected);
    });
    let expected = r#"given
    AccountCreated {
        owner_id: "ada",
        name: "Savings",
    }
    MoneyDeposited {
        amount: 1000,
        description: "salary",
    }
when
    Deposit {
        amount: 5,
    }
then
    MoneyDeposited {
        amount: 5,
        description: "salary",
    }
when
    Withdraw {
        amount: 250,
    }
then other events happened (- expected, + actual):
      MoneyWithdrawn {
    -     amount: 200,
    +     amount: 250,
          description: "rent",
      }
    - MoneyDeposited {
    -     amount: 1,
    -     description: "salary",
    - }"#;
    assert_eq!(text, expected);
}

fn nothing() -> Command {
    Command::DepositOnes { count: 0 }
}

#[test]
fn each_scenario_step_detects_a_wrong_expectation() {
    let wrong: [(&str, fn()); 9] = [
        ("- no events", || drop(given(1).when(deposit(1)).then_nothing())),
        ("+ no events", || drop(given(1).when(nothing()).then([deposited(1)]))),
        ("rejected: the balance is 1, but 2", || {
            drop(given(1).when(withdraw(2)).then([created("")]));
        }),
        ("rejected: the balance is 1, but 2", || drop(given(1).when(withdraw(2)).then_nothing())),
        ("+ InsufficientFunds {", || drop(given(1).when(withdraw(2)).then_error(Blocked))),
        ("was not rejected", || drop(given(2).when(withdraw(2)).then_error(Blocked))),
        ("for another reason", || drop(given(1).when(withdraw(2)).then_error_is(|_| false))),
        ("the state is not as", || drop(given(1).when(deposit(1)).then_state(|_| false))),
        ("-     balance: 0,", || drop(given(1).when(deposit(1)).then_state_is(Account::default()))),
    ];
    for (expected, test) in wrong {
        let text = failure(test);
        assert!(text.contains(expected) && text.starts_with("given\n"), "{expected}: {text}");
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum NoteEvent {
    Noted {
        text: String,
        #[serde(skip)]
        forgotten: u32,
    },
    Weighed {
        kilos: f64,
    },
}
domain_events! { NoteEvent { Noted => "Noted", Weighed => "Weighed" } }

#[derive(Debug, Default)]
struct Notes;

impl Aggregate for Notes {
    const CATEGORY: &'static str = "notes";
    type Event = NoteEvent;
    type Command = NoteEvent;
    type Error = std::convert::Infallible;

    fn apply(&mut self, _: NoteEvent) {}

    fn handle(&self, event: &NoteEvent) -> Result<Vec<NoteEvent>, Self::Error> {
        Ok(vec![event.clone()])
    }
}

/// A scenario needs no store, so it has to check the effect of serialization itself.
#[test]
fn scenario_fails_on_events_its_codec_changes() {
    let lossy = NoteEvent::Noted { text: "x".into(), forgotten: 7 };
    let refused = NoteEvent::Weighed { kilos: f64::NAN };
    let whole = NoteEvent::Noted { text: "x".into(), forgotten: 0 };
    for (event, why) in [(lossy, "-     forgotten: 7,"), (refused, "does not survive its codec")] {
        let came_out = failure(|| drop(Scenario::<Notes>::given([]).when(event.clone())));
        assert!(came_out.contains(why), "{came_out}");
        let was_given = failure(|| drop(Scenario::<Notes>::given([event.clone()])));
        assert!(was_given.contains(why), "{was_given}");
    }
    Scenario::<Notes>::given([whole.clone()]).when(whole.clone()).then([whole]);
}

/// A counter whose first events counted in dozens.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Added {
    count: i64,
}
domain_events! { Added => "Added" version 2 }

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OldAdded {
    dozens: i64,
}
domain_events! { OldAdded => "Added" }

#[derive(Debug, Default)]
struct Counter {
    count: i64,
}

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Event = Added;
    type Command = ();
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: Added) {
        self.count += event.count;
    }
    fn handle(&self, (): &()) -> Result<Vec<Added>, Self::Error> {
        Ok(vec![Added { count: self.count }])
    }
}

fn dozens() -> Upcasters {
    let step = |old: serde_json::Value| {
        let dozens = old.get("dozens").and_then(serde_json::Value::as_i64).ok_or("no dozens")?;
        Ok(serde_json::json!({ "count": 12 * dozens }))
    };
    let upcasters = Upcasters::builder().reads::<Added>().json("Added", 1, step);
    upcasters.dropped("Ping", 1).build().unwrap()
}

fn old(field: &str) -> NewEvent {
    NewEvent::json("Added", &serde_json::json!({ field: 2 })).unwrap()
}

#[test]
fn stored_events_pass_the_upcasters_before_the_aggregate() {
    let ping = NewEvent::json("Ping", &()).unwrap();
    let today = Added { count: 1 }.encode().unwrap();
    Scenario::<Counter>::given_stored(&dozens(), [old("dozens"), ping, today])
        .when(())
        .then([Added { count: 25 }])
        .then_state(|counter| counter.count == 50);
    Scenario::<Counter>::given_stored(&dozens(), []).when(()).then([Added { count: 0 }]);
}

#[test]
fn stored_event_that_cannot_be_read_fails_the_scenario() {
    let text = failure(|| drop(Scenario::<Counter>::given_stored(&dozens(), [old("scores")])));
    assert!(text.starts_with("given stored\n    Added version 1: {\"scores\":2}"), "{text}");
    assert!(text.contains("a stored event cannot be read"), "{text}");
    assert!(text.contains("no dozens"), "{text}");
    let none = Upcasters::none();
    let text = failure(|| drop(Scenario::<Counter>::given_stored(&none, [old("dozens")])));
    assert!(text.contains("a stored event cannot be read"), "{text}");
    // Upcasters that lead to an older version than the aggregate reads.
    let other = Upcasters::builder().reads::<OldAdded>().renamed("Plus", 1, ("Added", 1));
    let other = other.build().unwrap();
    let text = failure(|| drop(Scenario::<Counter>::given_stored(&other, [])));
    assert!(text.contains("Added"), "{text}");
}
