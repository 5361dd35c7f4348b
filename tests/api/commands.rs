//! The command door: expected versions, idempotency keys, other streams, metadata, in any
//! combination (G1, G4, G15).

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::testing::{Decorated, Decorator};
use annals::{Decision, Error, IdempotencyKey, Position, RequestDigest, UniqueValues};

use crate::support::bank::*;
use crate::support::stores::Kept;
use crate::support::version;

const NO_STREAM: ExpectedVersion = ExpectedVersion::NoStream;

fn accounts(store: &impl EventStore) -> Repository<Account> {
    Repository::new(store)
}

fn key(name: &str, request: &str) -> IdempotencyKey {
    IdempotencyKey::new("commands", name, RequestDigest::of(request)).unwrap()
}

fn claimed() -> [NewEvent; 1] {
    [NewEvent::json("Claimed", &()).unwrap()]
}

/// An account and the claim of its number are stored together or not at all.
#[test]
fn also_is_stored_with_the_command_or_not_at_all() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events).cache(10);
        let create_as = |id: &str, number: &str| {
            let command = accounts.command(id).also(|decision| {
                assert_eq!(decision.before().balance, 0);
                assert!(
                    decision.before().owner_id.is_none() && decision.after().owner_id.is_some()
                );
                assert_eq!((decision.events().len(), decision.version()), (1, None));
                decision.to(format!("number-{number}"), NO_STREAM, claimed()).label("number");
                Ok(())
            });
            command.run(&create())
        };
        let done = create_as("1", "7").unwrap();
        let last = done.appended().unwrap().last_position();
        assert_eq!(done.version(), Some(version(1)));
        assert_eq!(done.position(), last.previous(), "the last event of the aggregate itself");
        assert_eq!(kept.events.head().unwrap(), Some(last));

        match create_as("2", "7").unwrap_err() {
            ExecuteError::Store(error) => {
                assert_eq!(error.label(), Some("number"));
                assert!(error.is_conflict() && error.to_string().contains("number-7"), "{error}");
            }
            other => panic!("{other}"),
        }
        assert!(accounts.find("2").unwrap().is_none());
        assert_eq!(kept.events.head().unwrap(), Some(last));
    }
}

#[test]
fn also_may_reject_the_command() {
    let store = MemoryStore::new();
    let accounts = accounts(&store);
    accounts.execute("1", &create()).unwrap();
    let limit = |amount| {
        let command = accounts.command("1").also(|decision| {
            let (asked, balance) = (decision.after().balance, decision.before().balance);
            if asked > 100 {
                let error = AccountError::InsufficientFunds { balance, asked };
                return Err(ExecuteError::Rejected(error));
            }
            decision.check("rate-eur", NO_STREAM);
            Ok(())
        });
        command.run(&deposit(amount))
    };
    limit(100).unwrap();
    let why = AccountError::InsufficientFunds { balance: 100, asked: 101 };
    assert_eq!(limit(1).unwrap_err().rejected(), Some(&why));
    assert_eq!(accounts.load("1").unwrap().state().balance, 100);
    // An error of annals converts with `?`.
    let invalid = accounts.command("1").also(|_| Err(StreamId::new("").unwrap_err())?);
    assert!(
        matches!(invalid.run(&deposit(1)), Err(ExecuteError::Store(error)) if error.is_invalid())
    );
}

/// `also` reads another stream, and expects the version that it read. If that moves, `also` runs
/// again; so does the decision if the aggregate moves.
#[test]
fn also_is_called_again_after_a_conflict() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events).cache(10);
        accounts.execute("1", &create()).unwrap();
        let mut tries = 0;
        let command = accounts.command("1").also(|decision| {
            let last = kept.events.read_stream("ledger").last()?;
            let seen = ExpectedVersion::from(last.map(|event| event.version()));
            decision.to("ledger", seen, claimed());
            tries += 1;
            match tries {
                1 => drop(kept.events.append("ledger", ExpectedVersion::Any, claimed())?),
                2 => drop(accounts.execute("1", &deposit(1))?),
                _ => {}
            }
            Ok(())
        });
        let done = command.run(&deposit(7)).unwrap();
        assert_eq!((done.state().balance, done.events(), tries), (8, &[deposited(7)][..], 3));
        assert_eq!(kept.events.read_stream("ledger").into_iter().count(), 2);
    }
}

/// Many threads write one other stream at the version that they read. They take turns over it too.
#[test]
fn default_retries_suffice_for_a_busy_other_stream() {
    const THREADS: usize = 16;
    for kept in Kept::both() {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let kept = &kept;
                scope.spawn(move || {
                    let accounts = accounts(&kept.events);
                    for number in 0..50 {
                        let command = accounts.command(format!("{thread}-{number}"));
                        let command = command.also(|decision| {
                            let last = kept.events.read_stream("busy-ledger").last()?;
                            let seen = ExpectedVersion::from(last.map(|event| event.version()));
                            // Meanwhile other threads read the same version.
                            thread::sleep(Duration::from_micros(50));
                            decision.to("busy-ledger", seen, claimed());
                            Ok(())
                        });
                        command.run(&create()).unwrap();
                    }
                });
            }
        });
        let booked = kept.events.read_stream("busy-ledger").into_iter().count();
        assert_eq!(booked, THREADS * 50);
    }
}

/// A caller that met a conflict over another stream has the turn there. Others wait for it: those
/// that met a conflict too, and those that have not appended yet.
#[test]
fn callers_wait_for_the_turn_at_another_stream() {
    // Streams of this name in other stores share the queue.
    const STREAM: &str = "ledger-with-turns";
    let cases = [true, false].into_iter().flat_map(|case| Kept::both().map(|kept| (case, kept)));
    for (has_conflict, kept) in cases {
        let accounts = accounts(&kept.events);
        let move_on = || drop(kept.events.append(STREAM, ExpectedVersion::Any, claimed()));
        let book = |decision: &mut Decision<'_, Account>| {
            let last = kept.events.read_stream(STREAM).last()?;
            let seen = ExpectedVersion::from(last.map(|event| event.version()));
            decision.to(STREAM, seen, claimed());
            Ok::<_, Error>(())
        };
        let ((read, is_read), (end, has_ended)) =
            (crossbeam_channel::unbounded(), crossbeam_channel::unbounded());
        let other = || {
            let mut is_first = true;
            let command = accounts.command("second").also(|decision| {
                book(decision)?;
                if std::mem::take(&mut is_first) {
                    has_conflict.then(move_on);
                    read.send(()).unwrap();
                }
                Ok(())
            });
            command.run(&create()).unwrap();
            end.send(()).unwrap();
        };
        thread::scope(|scope| {
            let mut tries = 0;
            let command = accounts.command("first").also(|decision| {
                tries += 1;
                if tries == 1 {
                    book(decision)?;
                    move_on();
                    return Ok(());
                }
                scope.spawn(other);
                is_read.recv().unwrap();
                book(decision)?;
                let early = has_ended.recv_timeout(Duration::from_millis(100));
                assert!(early.is_err(), "the other caller did not wait");
                Ok(())
            });
            command.run(&create()).unwrap();
            assert_eq!(tries, 2);
        });
    }
}

/// `also` may append by itself, and meet a conflict there.
#[test]
fn conflict_within_also_is_retried() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events);
        let mut tries = 0;
        let command = accounts.command("1").also(|_| {
            tries += 1;
            let expected = if tries == 1 { ExpectedVersion::StreamExists } else { NO_STREAM };
            kept.events.append("number-1", expected, claimed())?;
            Ok(())
        });
        command.run(&create()).unwrap();
        assert_eq!(tries, 2);
    }
}

#[test]
fn expected_version_is_checked_at_once_and_at_the_commit() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events).cache(10);
        let deposit_at =
            |seen: ExpectedVersion| accounts.command("1").expecting(seen).run(&deposit(1));
        let mismatch = accounts.command("1").expecting(version(3)).run(&create()).unwrap_err();
        assert!(
            matches!(&mismatch, ExecuteError::VersionMismatch { actual: None, .. }),
            "{mismatch}"
        );
        accounts.command("1").expecting(NO_STREAM).run(&create()).unwrap();
        deposit_at(ExpectedVersion::Exact(version(1))).unwrap();
        deposit_at(ExpectedVersion::StreamExists).unwrap();
        let stale = deposit_at(ExpectedVersion::Exact(version(1))).unwrap_err();
        assert!(stale.is_version_mismatch() && !stale.is_conflict());
        let text = stale.to_string();
        assert!(text.contains("expected version 1, but it is at version 3"), "{text}");

        // The aggregate moves after it was loaded.
        let mut is_first = true;
        let command = accounts.command("1").expecting(version(3)).map_events(|event| {
            if std::mem::take(&mut is_first) {
                accounts.execute("1", &deposit(10)).unwrap();
            }
            event
        });
        assert!(command.run(&deposit(1)).unwrap_err().is_version_mismatch());
        assert_eq!(accounts.load("1").unwrap().state().balance, 12);
    }
}

#[test]
fn command_with_a_key_is_done_once() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events).cache(10);
        accounts.execute("1", &create()).unwrap();
        let deposit_as = |name: &str, amount: i64| {
            let request = format!("account 1: {amount}");
            accounts.command("1").idempotency_key(key(name, &request)).run(&deposit(amount))
        };
        let first = deposit_as("a", 5).unwrap();
        assert!(!first.is_retry());
        deposit_as("b", 100).unwrap();
        let head = kept.events.head().unwrap();
        let again = deposit_as("a", 5).unwrap();
        assert!(again.is_retry());
        assert_eq!((again.state().balance, again.events()), (5, &[deposited(5)][..]));
        assert_eq!(again.version(), first.version());
        assert_eq!(again.position(), first.position());
        let reused = deposit_as("a", 6).unwrap_err();
        assert!(
            matches!(&reused, ExecuteError::Store(Error::IdempotencyKeyReused { .. })),
            "{reused}"
        );
        assert_eq!(kept.events.head().unwrap(), head);

        // The key counts, not the version that the client saw.
        let seen =
            accounts.command("1").expecting(version(1)).idempotency_key(key("a", "account 1: 5"));
        assert!(seen.run(&deposit(5)).unwrap().is_retry());
    }
}

/// Both calls look their key up before either has done the request. The second then finds an
/// aggregate that the first has changed, where it would be rejected, or at another version than
/// expected; it still gets the result of the request.
#[test]
fn request_that_is_sent_twice_at_once_is_answered_twice() {
    for kept in Kept::both() {
        for (id, expected) in [("1", ExpectedVersion::Any), ("2", NO_STREAM)] {
            let create_once = move |accounts: &Repository<Account>| {
                let command = accounts.command(id).expecting(expected);
                command.idempotency_key(key(id, "")).run(&create()).unwrap()
            };
            let plain = accounts(&kept.events);
            let twin: Box<dyn FnOnce() + Send> =
                Box::new(move || assert!(!create_once(&plain).is_retry()));
            let before_load = BeforeLoad(Mutex::new(Some(twin)));
            let store = Decorated::new(&kept.events, before_load);
            let done = create_once(&accounts(&store));
            assert!(done.is_retry());
            assert_eq!((done.version(), done.events().len()), (Some(version(1)), 1));
        }
    }
}

/// Runs something when the store is read for the first time.
struct BeforeLoad(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Decorator for BeforeLoad {
    fn head(&self, store: &dyn EventStore) -> Result<Option<Position>, Error> {
        let first = self.0.lock().unwrap().take();
        if let Some(first) = first {
            first();
        }
        store.head()
    }
}

#[test]
fn key_of_another_aggregate_is_refused() {
    let store = MemoryStore::new();
    let accounts = accounts(&store);
    let create_as = |id: &str| accounts.command(id).idempotency_key(key("k", "")).run(&create());
    create_as("1").unwrap();
    let reused = create_as("2").unwrap_err();
    assert!(matches!(&reused, ExecuteError::Store(Error::IdempotencyKeyReused { .. })), "{reused}");
}

#[test]
fn key_is_recorded_for_commands_without_events() {
    let store = MemoryStore::new();
    let accounts = accounts(&store);
    accounts.execute("1", &create()).unwrap();
    let withdraw_as = |name: &str, records: bool| {
        let command = accounts.command("1").idempotency_key(key(name, "withdraw 5"));
        if records { command.recording_rejections() } else { command }.run(&withdraw(5))
    };
    // A refusal that is not recorded may succeed later; a recorded one stays.
    assert!(withdraw_as("free", false).unwrap_err().is_rejected());
    let refused = withdraw_as("kept", true).unwrap_err();
    accounts.execute("1", &deposit(50)).unwrap();
    assert!(!withdraw_as("free", false).unwrap().is_retry());
    let again = withdraw_as("kept", true).unwrap_err();
    assert_eq!(again.rejected(), refused.rejected());
    assert!(again.rejected().is_some());
    let unread = withdraw_as("kept", false).unwrap_err();
    assert!(matches!(unread, ExecuteError::RejectedBefore { .. }), "{unread}");

    let users = Repository::<User>::new(&store);
    let set_name = |id: &str, name: &str| {
        let command = users.command("1").idempotency_key(key(id, name));
        command.run(&Some(name.to_owned())).unwrap()
    };
    assert!(set_name("first", "Ada").appended().is_some());
    let nothing = set_name("second", "Ada");
    assert!(nothing.appended().is_none() && !nothing.is_retry());
    set_name("third", "Bob");
    let head = store.head().unwrap();
    let nothing = set_name("second", "Ada");
    assert!(nothing.appended().is_none() && nothing.is_retry());
    assert_eq!(store.head().unwrap(), head);
}

/// 64 threads give 50 commands each to one aggregate, with metadata, a claim, and a key that each
/// command uses twice.
#[test]
fn many_threads_with_everything_lose_and_double_nothing() {
    const THREADS: usize = 64;
    const COMMANDS: usize = 50;
    for kept in Kept::both() {
        accounts(&kept.events).execute("1", &create()).unwrap();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let own = accounts(&kept.events).cache(2);
                scope.spawn(move || {
                    for number in 0..COMMANDS {
                        let name = format!("{thread}-{number}");
                        let run = || {
                            let command = own.command("1").idempotency_key(key(&name, &name));
                            let command = command.with_metadata("user", "ada").also(|decision| {
                                decision.to(format!("claim-{name}"), NO_STREAM, claimed());
                                Ok(())
                            });
                            command.run(&deposit(1)).unwrap().is_retry()
                        };
                        assert_eq!([run(), run()], [false, true]);
                    }
                });
            }
        });
        let total = THREADS * COMMANDS;
        let balance = accounts(&kept.events).load("1").unwrap().state().balance;
        assert_eq!(usize::try_from(balance).unwrap(), total);
        assert_eq!(kept.events.read_log().category("claim").into_iter().count(), total);
    }
}

/// Six threads change one of two values back and forth. The naive recipe leaked a value in each of
/// 40 runs: it was claimed, and nobody had it.
#[test]
fn unique_values_hold_under_concurrent_changes() {
    const VALUES: [&str; 3] = ["a", "b", "c"];
    for kept in Kept::both() {
        let names = UniqueValues::new(&kept.events, "name", [7; 32]).unwrap();
        let users = Repository::<User>::new(&kept.events);
        let set_name = |id: usize, name: Option<&str>| {
            let command = users.command(id).also(|decision| {
                let (old, new) = (&decision.before().name, &decision.after().name);
                Ok(names.change(decision, old.as_deref(), new.as_deref())?)
            });
            command.run(&name.map(str::to_owned))
        };
        thread::scope(|scope| {
            for thread in 0..6 {
                let set_name = &set_name;
                scope.spawn(move || {
                    for round in 0..40 {
                        let name = VALUES.get((thread + round) % 4).copied();
                        match set_name(thread % 2, name) {
                            Ok(_) | Err(ExecuteError::Store(Error::ValueTaken { .. })) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
        });
        for value in VALUES {
            let owner = names.owner(value).unwrap();
            let having: Vec<_> = (0..2)
                .filter_map(|id| users.find(id).unwrap())
                .filter(|user| user.state().name.as_deref() == Some(value))
                .map(|user| user.stream().clone())
                .collect();
            assert_eq!(
                having.iter().collect::<Vec<_>>(),
                owner.iter().collect::<Vec<_>>(),
                "{value}"
            );
        }
        let text = names.stream_of("ada@example.org").to_string();
        assert!(
            text.starts_with("name-") && !text.contains("ada") && text.len() == 5 + 32,
            "{text}"
        );
    }
    let store = MemoryStore::new();
    for (set, secret) in [("a-b", "x"), ("", "x"), ("$a", "x"), ("a", ""), ("a\n", "x")] {
        assert!(UniqueValues::new(&store, set, secret).is_err(), "{set:?}");
    }
}

/// After a value was refused, the rest of the decision can still be stored.
#[test]
fn refused_value_leaves_the_decision_as_it_was() {
    for kept in Kept::both() {
        let names = UniqueValues::new(&kept.events, "name", [7; 32]).unwrap();
        let users = Repository::<User>::new(&kept.events);
        for (id, name) in [(1, "ada"), (2, "ada")] {
            let command =
                users.command(id).also(|decision| match names.change(decision, None, [name]) {
                    Err(Error::ValueTaken { .. }) => {
                        decision.to("conflicts", ExpectedVersion::Any, claimed());
                        Ok(())
                    }
                    changed => Ok(changed?),
                });
            let executed = command.run(&Some(name.to_owned())).unwrap();
            assert_eq!((executed.version(), executed.events().len()), (Some(version(1)), 1));
            assert_eq!(users.load(id).unwrap().version(), Some(version(1)));
        }
        assert_eq!(
            kept.events.stream_version(&StreamId::new("conflicts").unwrap()).unwrap(),
            Some(version(1))
        );
    }
}

/// One owner has several values of a set, and moves them around.
#[test]
fn unique_values_of_one_owner_change_together() {
    let store = MemoryStore::new();
    let names = UniqueValues::new(&store, "name", [7; 32]).unwrap();
    let (ada, bob) = (StreamId::new("user-ada").unwrap(), StreamId::new("user-bob").unwrap());
    let change = |owner: &StreamId, old: &[&'static str], new: &[&'static str]| {
        let (old, new) = (old.iter().copied(), new.iter().copied());
        let append = Append::new().to(owner, ExpectedVersion::Any, claimed());
        store.submit(names.change_in(append, owner, old, new)?)
    };
    let owner_of = |value: &str| names.owner(value).unwrap();
    change(&ada, &[], &["a", "b"]).unwrap();
    change(&ada, &["a", "b"], &["b", "a"]).unwrap();
    assert_eq!((owner_of("a"), owner_of("b")), (Some(ada.clone()), Some(ada.clone())));
    let taken = change(&bob, &[], &["c", "b"]).unwrap_err();
    assert!(matches!(&taken, Error::ValueTaken { owner, .. } if *owner == ada), "{taken}");
    assert_eq!(owner_of("c"), None);
    change(&ada, &["a", "b"], &["b", "c"]).unwrap();
    assert_eq!((owner_of("a"), owner_of("c")), (None, Some(ada.clone())));
    change(&bob, &["a"], &["a"]).unwrap();
    assert_eq!(owner_of("a"), None, "what stays is not claimed again");

    // Two calls for one append would not see each other.
    let once = names.change_in(Append::new(), &ada, ["b"], ["d"]).unwrap();
    let twice = names.change_in(once, &ada, ["c"], ["b"]).unwrap_err();
    assert!(twice.is_invalid() && twice.to_string().contains("in one call"), "{twice}");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct NameSet(Option<String>);
annals::domain_events! { NameSet => "NameSet" }

#[derive(Default, Clone)]
struct User {
    name: Option<String>,
}

impl Aggregate for User {
    const CATEGORY: &'static str = "user";
    type Event = NameSet;
    type Command = Option<String>;
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: NameSet) {
        self.name = event.0;
    }

    fn handle(&self, name: &Option<String>) -> Result<Vec<NameSet>, Self::Error> {
        Ok(if *name == self.name { Vec::new() } else { vec![NameSet(name.clone())] })
    }
}
