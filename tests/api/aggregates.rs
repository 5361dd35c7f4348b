//! Aggregates through a repository: deciding, storing and loading.

use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::testing::{FixedClock, SequentialIds};
use annals::{
    Aggregate, EncodedEvent, Error, EventKind, Limits, OnUnreadable, Position, Repository,
    SnapshotPolicy, Timestamp, Undecodable, Version,
};

use crate::support::bank::{
    Account, AccountError, Command, block, create, created, deposit, deposited, withdraw, withdrawn,
};
use crate::support::stores::{Kept, Mishap, failing_store};
use crate::support::version;

fn accounts(store: &(impl EventStore + ?Sized)) -> Repository<Account> {
    Repository::new(store)
}

/// Regression: the decided events went into the cache and into snapshots, not the stored ones.
#[test]
fn repeated_save_leaves_the_state_as_stored() {
    for kept in Kept::both() {
        let accounts =
            accounts(&kept.events).snapshots(&kept.snapshots, SnapshotPolicy::every(1)).cache(10);
        accounts.execute("1", &create()).unwrap();
        let id = EventId::random();
        let [mut first, mut second] = [100, 101].map(|amount| {
            let mut root = accounts.load("1").unwrap();
            root.raise_with(deposited(amount), |event| event.with_id(id)).unwrap();
            root
        });
        assert!(!accounts.save(&mut first).unwrap().unwrap().is_retry());
        assert!(accounts.save(&mut second).unwrap().unwrap().is_retry());
        assert_eq!(second.state().balance, 100, "the state equals that of the history");
        assert_eq!((second.version(), second.uncommitted().len()), (first.version(), 0));
        for repository in [&accounts, &Repository::new(&kept.events)] {
            assert_eq!(repository.load("1").unwrap().state().balance, 100);
        }
        let from_snapshots = Repository::<Account>::new(&kept.events)
            .snapshots(&kept.snapshots, SnapshotPolicy::every(9));
        assert_eq!(from_snapshots.load("1").unwrap().state().balance, 100);

        // The same holds for a command that arrives twice at the same time.
        let again = |amount| {
            let with = |event: NewEvent| event.with_id(id);
            accounts.command("2").map_events(with).run(&deposit(amount))
        };
        accounts.execute("2", &create()).unwrap();
        let done = again(5).unwrap();
        assert_eq!((done.state().balance, done.events()), (5, &[deposited(5)][..]));
    }
}

#[test]
fn bank_commands_are_executed_and_loaded() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events);
        let mut account = accounts.load_or_new("123").unwrap();
        account.raise(created("ada")).unwrap();
        account.decide(&deposit(1000)).unwrap();
        account.decide(&withdraw(200)).unwrap();
        assert_eq!(account.uncommitted(), [created("ada"), deposited(1000), withdrawn(200)]);
        assert_eq!(account.version(), None, "raising does not change the stored version");
        let appended = accounts.save(&mut account).unwrap().unwrap();
        assert_eq!(account.version(), Some(appended.last_version()));
        assert_eq!(account.position(), Some(appended.last_position()));
        assert_eq!(account.uncommitted(), []);
        assert_eq!(accounts.save(&mut account).unwrap(), None, "no events, no append");

        let loaded = accounts.load("123").unwrap();
        assert_eq!((loaded.state().balance, loaded.version()), (800, Some(version(3))));
        assert_eq!(loaded.state(), account.state());
        assert_eq!(loaded.stream().as_str(), "account-123");

        let refused = accounts.execute("123", &withdraw(801)).unwrap_err();
        let why = AccountError::InsufficientFunds { balance: 800, asked: 801 };
        assert_eq!(refused.rejected(), Some(&why));
        assert_eq!(refused.to_string(), why.to_string());
        let done = accounts.execute("123", &block()).unwrap();
        assert_eq!((done.version(), done.events().len()), (Some(version(4)), 1));
        assert_eq!(done.appended().map(Appended::last_position), done.position());
        for command in [block(), deposit(1), withdraw(1)] {
            let refused = accounts.execute("123", &command).unwrap_err();
            assert_eq!(refused.rejected(), Some(&AccountError::Blocked));
        }
        let nothing = accounts.load("123").unwrap();
        assert_eq!(nothing.version(), Some(version(4)), "a rejected command appends nothing");
    }
}

#[test]
fn aggregate_id_is_recovered_from_its_stream_id() {
    let accounts = accounts(&MemoryStore::new());
    for id in ["123", "a-b", "-", "é"] {
        let stream = accounts.stream_id(id).unwrap();
        assert_eq!(accounts.id_of(&stream), Some(id));
    }
    for other in ["account", "account-", "accounts-1", "accoun-1", "order-1"] {
        assert_eq!(accounts.id_of(&StreamId::new(other).unwrap()), None, "{other}");
    }
}

#[test]
fn command_without_events_appends_nothing() {
    let store = MemoryStore::new();
    let accounts = accounts(&store);
    accounts.execute(7, &create()).unwrap();
    let done = accounts.execute(7, &Command::DepositOnes { count: 0 }).unwrap();
    assert!(done.appended().is_none() && done.events().is_empty());
    assert_eq!((done.version(), done.position()), (Some(version(1)), Some(Position::FIRST)));
    assert_eq!(store.head().unwrap(), Some(Position::FIRST));
}

/// A save expects the stored version, regardless of how many events were raised.
#[test]
fn save_of_stale_aggregate_conflicts_and_keeps_its_events() {
    for kept in Kept::both() {
        let accounts = accounts(&kept.events);
        accounts.execute("1", &create()).unwrap();
        let mut mine = accounts.load("1").unwrap();
        let mut theirs = accounts.load("1").unwrap();
        for _ in 0..3 {
            mine.raise(deposited(10)).unwrap();
        }
        theirs.raise(deposited(5)).unwrap();
        accounts.save(&mut theirs).unwrap();
        let refused = accounts.save(&mut mine).unwrap_err();
        assert!(
            matches!(
                refused,
                Error::WrongExpectedVersion { expected: ExpectedVersion::Exact(Version::FIRST), actual, .. }
                    if actual == Some(version(2))
            ),
            "{refused}"
        );
        assert_eq!((mine.uncommitted().len(), mine.version()), (3, Some(Version::FIRST)));
        let stored = accounts.load("1").unwrap();
        assert_eq!((stored.state().balance, stored.version()), (5, Some(version(2))));

        // Several saves of one aggregate, each with several events.
        for saved in 1..=3 {
            theirs.raise(deposited(1)).unwrap();
            theirs.raise(deposited(1)).unwrap();
            accounts.save(&mut theirs).unwrap();
            assert_eq!(theirs.version(), Some(version(2 + 2 * saved)));
        }
        assert_eq!(accounts.load("1").unwrap().state(), theirs.state());
    }
}

/// Uncommitted events keep their ids, so saving them again is the same append.
#[test]
fn save_after_indeterminate_save_stores_events_once() {
    for mishap in [Mishap::WrittenButUnacknowledged, Mishap::NotWritten] {
        let store = failing_store(&MemoryStore::new());
        let accounts = accounts(&store).cache(10);
        accounts.execute("1", &create()).unwrap();
        let mut account = accounts.load("1").unwrap();
        account.raise(deposited(10)).unwrap();
        account.raise(deposited(20)).unwrap();
        store.decorator().next(mishap);
        let unknown = accounts.save(&mut account).unwrap_err();
        assert!(matches!(unknown, Error::Indeterminate { .. }));
        assert_eq!((account.version(), account.uncommitted().len()), (Some(version(1)), 2));
        let shown = accounts.load("1").unwrap();
        let is_there = mishap == Mishap::WrittenButUnacknowledged;
        assert_eq!(shown.state().balance, if is_there { 30 } else { 0 }, "only what is stored");

        let appended = accounts.save(&mut account).unwrap().unwrap();
        assert_eq!(appended.is_retry(), is_there);
        assert_eq!((account.version(), account.uncommitted().len()), (Some(version(3)), 0));
        assert_eq!(accounts.load("1").unwrap().state(), account.state());
        accounts.execute("1", &withdraw(30)).unwrap();
        assert_eq!(store.head().unwrap(), Position::new(4));
    }
}

#[test]
fn no_update_is_lost_by_threads_on_one_aggregate() {
    for kept in Kept::both() {
        let plain = accounts(&kept.events).retries(u32::MAX);
        let cached = plain.clone().cache(4);
        let snapshots = SnapshotPolicy::every(7);
        let snapshotted = plain.clone().snapshots(&kept.snapshots, snapshots);
        plain.execute("1", &create()).unwrap();
        let (threads, rounds) = (8_u32, 25);
        thread::scope(|scope| {
            for thread in 0..threads {
                let own = [&plain, &cached, &snapshotted][usize::try_from(thread).unwrap() % 3];
                scope.spawn(move || {
                    for _ in 0..rounds {
                        own.execute("1", &deposit(1)).unwrap();
                    }
                });
            }
        });
        for accounts in [&plain, &cached, &snapshotted] {
            let account = accounts.load("1").unwrap();
            assert_eq!(account.state().balance, i64::from(threads * rounds));
            assert_eq!(account.version(), Some(version(u64::from(threads * rounds) + 1)));
        }
    }
}

/// This needs no setting: the other callers wait for one that met a conflict.
#[test]
fn many_threads_on_one_aggregate_succeed_with_default_retries() {
    for kept in Kept::both() {
        accounts(&kept.events).execute("1", &create()).unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                // Each thread has a separate repository: repositories need not know of each other.
                let own = accounts(&kept.events).cache(2);
                // Time to decide, during which other threads decide too.
                let slowly = |event| {
                    thread::sleep(Duration::from_micros(50));
                    event
                };
                scope.spawn(move || {
                    for _ in 0..200 {
                        own.command("1").map_events(slowly).run(&deposit(1)).unwrap();
                    }
                });
            }
        });
        assert_eq!(accounts(&kept.events).load("1").unwrap().state().balance, 1_600);
    }
}

/// Threads that wait for each other while they decide do not block each other forever.
#[test]
fn execute_proceeds_when_threads_wait_for_each_other() {
    let store = MemoryStore::new();
    let accounts = accounts(&store);
    accounts.execute("1", &create()).unwrap();
    let mut tries = 0;
    let command = accounts.command("1").map_events(|event| {
        tries += 1;
        if tries <= 2 {
            // This thread, which holds the turn on the second try, and another thread, which cannot
            // get it meanwhile.
            accounts.execute("1", &deposit(10)).unwrap();
            let other = || accounts.execute("1", &deposit(100)).unwrap();
            thread::scope(|scope| drop(scope.spawn(other).join().unwrap()));
        }
        event
    });
    let done = command.run(&deposit(1)).unwrap();
    assert_eq!((done.state().balance, tries), (221, 3));
}

#[test]
fn conflicts_are_retried_up_to_the_limit() {
    let store = MemoryStore::new();
    let accounts = accounts(&store).retries(3);
    accounts.execute("1", &create()).unwrap();
    let mut tries = 0;
    // On each try, another writer appends first.
    let error = accounts
        .command("1")
        .map_events(|event| {
            tries += 1;
            let faster = [deposited(100).encode().unwrap()];
            store.append("account-1", ExpectedVersion::Any, faster).unwrap();
            event
        })
        .run(&deposit(1))
        .unwrap_err();
    assert!(error.is_conflict() && !error.is_rejected());
    assert_eq!(tries, 4);
    let text = error.to_string();
    assert!(text.starts_with("stream account-1: another writer appended first"), "{text}");
    assert!(text.contains("each of 3 retries; raise the retries"), "{text}");
    let cause = std::error::Error::source(&error).unwrap();
    assert!(cause.to_string().contains("expected version 4, but it is at version 5"), "{cause}");
    assert_eq!(accounts.load("1").unwrap().state().balance, 400);

    // The next decision is based on the new state.
    let mut is_first = true;
    let command = accounts.command("1").map_events(|event| {
        if std::mem::take(&mut is_first) {
            accounts.execute("1", &withdraw(1)).unwrap();
        }
        event
    });
    let error = command.run(&withdraw(400));
    let why = AccountError::InsufficientFunds { balance: 399, asked: 400 };
    assert_eq!(error.unwrap_err().rejected(), Some(&why));
}

#[test]
fn metadata_is_stored_with_the_events() {
    let store = MemoryStore::new();
    let ids = SequentialIds::new();
    let accounts = accounts(&store);
    let tell =
        |event| ids.give(event).caused_by("command-7").with_metadata("user", "ada").with_tag("vip");
    let command = accounts.command("1").map_events(|event| ids.give(event));
    let command = command.caused_by("command-7").with_metadata("user", "ada").with_tag("vip");
    let mut account = command.run(&create()).unwrap().into_root();
    account.raise_with(deposited(5), tell).unwrap();
    account.raise_with(deposited(6), tell).unwrap();
    accounts.save(&mut account).unwrap();
    let events: Vec<_> = store.read_log().into_iter().collect::<Result<_, _>>().unwrap();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event.metadata().get("user"), Some("ada"));
        assert_eq!(event.metadata().get(annals::CAUSATION_ID), Some("command-7"));
        assert_eq!(event.tags(), ["vip"]);
        assert!(event.id().to_string().ends_with(&format!("{}", number + 1)));
    }
    assert_eq!(events.len(), 3);
}

#[test]
fn load_as_of_returns_past_state() {
    let clock = FixedClock::at(Timestamp::from_micros(1_000));
    let store = MemoryStore::with(Limits::default(), clock.clock());
    let policy = SnapshotPolicy::every(2).keep(3);
    for accounts in [accounts(&store).cache(9), accounts(&store).snapshots(&store, policy)] {
        let id = accounts.snapshot_stats().written + u64::from(store.head().unwrap().is_some());
        let begin = clock.now();
        for amount in 0..9 {
            clock.advance(Duration::from_micros(10));
            let command = if amount == 0 { create() } else { deposit(amount) };
            accounts.execute(id, &command).unwrap();
        }
        for number in 1..=9_u64 {
            let account = accounts.load_as_of_version(id, version(number)).unwrap();
            assert_eq!(
                (account.version(), account.state().events),
                (Some(version(number)), number)
            );
            let micros = i64::try_from(number * 10).unwrap();
            for later in [0, 9] {
                let time = Timestamp::from_micros(begin.as_micros() + micros + later);
                let then = accounts.load_as_of(id, time).unwrap();
                assert_eq!((then.version(), then.state()), (account.version(), account.state()));
            }
        }
        let beyond = accounts.load_as_of_version(id, version(12)).unwrap_err();
        assert!(matches!(
            &beyond,
            Error::VersionAhead { asked, actual: Some(actual), .. } if (asked.get(), actual.get()) == (12, 9)
        ));
        assert!(beyond.to_string().contains("version 12: it is at version 9"));
        let before = accounts.load_as_of(id, begin).unwrap_err();
        assert!(before.is_not_found() && before.to_string().contains("as of 1970"), "{before}");
        let later = Timestamp::from_micros(i64::MAX / 2);
        assert_eq!(accounts.load_as_of(id, later).unwrap().version(), Some(version(9)));

        // A past state can be read, but not saved.
        let mut then = accounts.load_as_of_version(id, version(4)).unwrap();
        then.raise(deposited(1)).unwrap();
        assert!(accounts.save(&mut then).unwrap_err().is_conflict());
    }
}

#[test]
fn load_of_missing_aggregate_reports_not_found() {
    let store = MemoryStore::new();
    let accounts = accounts(&store);
    let missing = accounts.load("1").unwrap_err();
    assert!(missing.is_not_found());
    assert_eq!(missing.to_string(), "there is no aggregate in stream account-1; create it first");
    assert!(accounts.load_as_of_version("1", Version::FIRST).unwrap_err().is_not_found());
    assert!(accounts.find("1").unwrap().is_none());
    assert!(accounts.load("").unwrap_err().to_string().contains("aggregate id is empty"));
    let refused = accounts.execute("1", &deposit(1)).unwrap_err();
    assert_eq!(refused.rejected(), Some(&AccountError::NotCreated));
    store.close();
    let closed = accounts.execute("1", &create()).unwrap_err();
    assert!(matches!(closed, annals::ExecuteError::Store(Error::Closed)));
}

/// Every load reports the events that it skips, and no cache or snapshot hides them.
#[test]
fn unreadable_event_fails_the_load_or_is_listed_as_skipped() {
    let store = MemoryStore::new();
    let plain = accounts(&store);
    plain.execute("1", &create()).unwrap();
    let strange = [NewEvent::json("AccountRenamed", &"x").unwrap()];
    store.append("account-1", ExpectedVersion::Any, strange).unwrap();
    let error = plain.load("1").unwrap_err();
    assert!(matches!(
        &error,
        Error::Unreadable { position, event_type, .. }
            if position.get() == 2 && event_type.as_str() == "AccountRenamed"
    ));

    let skipping = plain.clone().on_unreadable(OnUnreadable::Skip).cache(10);
    let skipping = skipping.snapshots(&store, SnapshotPolicy::always());
    for number in 0..3 {
        let account = skipping.load("1").unwrap();
        assert_eq!(account.skipped().len(), 1, "each load reports it");
        assert_eq!(account.skipped()[0].to_string(), error.to_string());
        assert_eq!(account.version(), Some(version(2 + number)), "the skipped event counts");
        skipping.execute("1", &deposit(1)).unwrap();
    }
    assert_eq!(skipping.snapshot_stats().written, 0);
}

/// An event that cannot be read back must not be stored.
#[test]
fn event_that_cannot_be_read_back_is_never_stored() {
    #[derive(Debug)]
    struct OneWay;
    impl DomainEvent for OneWay {
        const KINDS: &'static [EventKind] =
            &[EventKind { event_type: "OneWay", schema_version: 1 }];
        fn encode(&self) -> annals::Result<NewEvent> {
            NewEvent::bytes("OtherWay", [])
        }
        fn decode(_: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
            Ok(Self)
        }
    }
    #[derive(Default)]
    struct Street(u32);
    impl Aggregate for Street {
        const CATEGORY: &'static str = "street";
        type Event = OneWay;
        type Command = ();
        type Error = std::convert::Infallible;
        fn apply(&mut self, OneWay: OneWay) {
            self.0 += 1;
        }
        fn handle(&self, (): &()) -> Result<Vec<OneWay>, Self::Error> {
            Ok(vec![OneWay])
        }
    }
    let store = MemoryStore::new();
    let streets = Repository::<Street>::new(&store);
    let error = streets.execute("1", &()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("payload of OtherWay: it was encoded as"), "{text}");
    assert!(text.contains("the code knows no event of this type"), "{text}");
    let mut street = streets.load_or_new("1").unwrap();
    street.raise(OneWay).unwrap_err();
    assert_eq!((street.state().0, street.uncommitted().len()), (0, 0), "no event was raised");
    assert_eq!(store.head().unwrap(), None);
}

/// The cache saves reading known events; every load still looks for new ones.
#[test]
fn cached_state_is_updated_by_reading_new_events_only() {
    let store = failing_store(&MemoryStore::new());
    let (cached, other) = (accounts(&store).cache(2), accounts(&store));
    other.execute("1", &create()).unwrap();
    other.execute("1", &Command::DepositOnes { count: 50 }).unwrap();
    store.decorator().read();
    assert_eq!((cached.load("1").unwrap().state().balance, store.decorator().read()), (50, 51));
    assert_eq!((cached.load("1").unwrap().state().balance, store.decorator().read()), (50, 0));
    other.execute("1", &withdraw(20)).unwrap();
    store.decorator().read();
    let refused = cached.execute("1", &withdraw(31)).unwrap_err();
    assert_eq!(
        refused.rejected(),
        Some(&AccountError::InsufficientFunds { balance: 30, asked: 31 })
    );
    // The new event, and the one before it: the stream was not deleted and begun again.
    assert_eq!(store.decorator().read(), 2);
    cached.execute("1", &deposit(1)).unwrap();
    assert_eq!((cached.load("1").unwrap().state().balance, store.decorator().read()), (31, 0));

    // Events that are raised but not saved are visible only in their own aggregate.
    let mut mine = cached.load("1").unwrap();
    mine.raise(deposited(1_000)).unwrap();
    assert_eq!(cached.load("1").unwrap().state().balance, 31);
    store.decorator().next(Mishap::NotWritten);
    cached.save(&mut mine).unwrap_err();
    assert_eq!(cached.load("1").unwrap().state().balance, 31);

    // The cache is bounded: other aggregates evict this one.
    for id in 2..10 {
        cached.execute(id, &create()).unwrap();
    }
    store.decorator().read();
    assert_eq!((cached.load("1").unwrap().state().balance, store.decorator().read()), (31, 53));
}
