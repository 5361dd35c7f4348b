//! Snapshots only make loading faster: a faulty snapshot is reported and changes no result.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annals::prelude::*;
use annals::testing::FixedClock;
use annals::{
    Aggregate, Bincode, Limits, Repository, Snapshot, SnapshotFault, SnapshotPolicy, SnapshotStore,
    Timestamp, Version,
};
use serde::{Deserialize, Serialize};

use crate::support::bank::{Account, AccountError, BankEvent, Command, create, deposit, withdraw};
use crate::support::stores::{FailingSnapshots, Kept, failing_store};
use crate::support::{place, quick, version};

fn accounts(kept: &Kept, policy: SnapshotPolicy<Account>) -> Repository<Account> {
    Repository::new(&kept.events).snapshots(&kept.snapshots, policy)
}

fn ones(count: usize) -> Command {
    Command::DepositOnes { count }
}

/// Returns the versions of all snapshots of account 1, oldest first.
fn versions(store: &(impl SnapshotStore + ?Sized)) -> Vec<u64> {
    let stream = StreamId::new("account-1").unwrap();
    let mut versions = Vec::new();
    let mut up_to = Some(Version::MAX);
    while let Some(at) = up_to {
        let Some(snapshot) = store.load_snapshot("account", &stream, at).unwrap() else { break };
        versions.insert(0, snapshot.version.get());
        up_to = snapshot.version.previous();
    }
    versions
}

fn newest(store: &(impl SnapshotStore + ?Sized)) -> Snapshot {
    let stream = StreamId::new("account-1").unwrap();
    store.load_snapshot("account", &stream, Version::MAX).unwrap().unwrap()
}

fn put(store: &(impl SnapshotStore + ?Sized), snapshot: &Snapshot) {
    store.save_snapshot(snapshot, NonZeroUsize::new(9).unwrap()).unwrap();
}

/// The textbook's condition `version % n == 0` misses snapshots if a save appends several events.
#[test]
fn every_n_counts_events_across_saves() {
    for kept in Kept::both() {
        for is_cached in [false, true] {
            kept.snapshots
                .delete_snapshots("account", &StreamId::new("account-1").unwrap())
                .unwrap();
            let mut accounts = accounts(&kept, SnapshotPolicy::every(5).keep(9));
            if is_cached {
                accounts = accounts.cache(9);
            }
            let begin = accounts.load_or_new("1").unwrap().version().map_or(0, Version::get);
            if begin == 0 {
                accounts.execute("1", &create()).unwrap();
            } else {
                accounts.execute("1", &ones(1)).unwrap();
            }
            let mut taken = if begin == 0 { vec![] } else { vec![begin + 1] };
            let (mut at, mut last) = (begin + 1, taken.last().copied().unwrap_or(0));
            for count in [3, 3, 2, 1, 1, 1, 1, 12, 4, 4, 1] {
                accounts.execute("1", &ones(count)).unwrap();
                at += count as u64;
                if at - last >= 5 {
                    taken.push(at);
                    last = at;
                }
                assert_eq!(versions(&kept.snapshots), taken);
            }
            assert_eq!(accounts.snapshot_stats().written, taken.len() as u64);
            assert!(accounts.check_snapshots("1").unwrap().is_sound());
        }
    }
}

#[test]
fn failed_snapshot_is_reported_and_retried_at_next_save() {
    for is_cached in [false, true] {
        let (store, snapshots) = (MemoryStore::new(), FailingSnapshots::default());
        let mut accounts =
            Repository::<Account>::new(&store).snapshots(&snapshots, SnapshotPolicy::every(10));
        if is_cached {
            accounts = accounts.cache(9);
        }
        accounts.execute("1", &create()).unwrap();
        snapshots.fails_to_save.store(true, Ordering::SeqCst);
        let done = accounts.execute("1", &ones(12)).unwrap();
        assert_eq!((done.version(), done.state().balance), (Some(version(13)), 12));
        accounts.execute("1", &ones(1)).unwrap();
        let stats = accounts.snapshot_stats();
        assert_eq!((stats.written, stats.failed), (0, 2));
        let failed = stats.last_failed.as_ref().unwrap();
        assert_eq!((failed.stream.as_str(), failed.version), ("account-1", version(14)));
        assert!(stats.to_string().contains("the disk is broken"), "{stats}");

        snapshots.fails_to_save.store(false, Ordering::SeqCst);
        accounts.execute("1", &ones(1)).unwrap();
        assert_eq!(versions(&snapshots), [15]);
        assert_eq!(accounts.snapshot_stats().written, 1);

        snapshots.fails_to_load.store(true, Ordering::SeqCst);
        let again = Repository::<Account>::new(&store);
        let again = again.snapshots(&snapshots, SnapshotPolicy::every(10));
        assert_eq!(again.load("1").unwrap().state().balance, 14);
        let stats = again.snapshot_stats();
        assert!(matches!(stats.last_ignored.unwrap().fault, SnapshotFault::Unloadable { .. }));
    }
}

#[test]
fn snapshot_time_is_that_of_the_event_store() {
    let clock = FixedClock::at(Timestamp::from_micros(7));
    let in_memory = MemoryStore::with(Limits::default(), clock.clock());
    let (_directory, path) = place();
    let on_disk = quick().clock(clock.clock()).open(path).unwrap();
    let stores: [&dyn EventStore; 2] = [&in_memory, &on_disk];
    for store in stores {
        let snapshots = MemoryStore::new();
        let accounts = Repository::<Account>::new(store)
            .snapshots(&snapshots, SnapshotPolicy::interval(Duration::from_micros(5)));
        accounts.execute("1", &create()).unwrap();
        assert_eq!(newest(&snapshots).taken_at, clock.now());
        clock.advance(Duration::from_micros(4));
        accounts.execute("1", &ones(1)).unwrap();
        clock.advance(Duration::from_micros(1));
        accounts.execute("1", &ones(1)).unwrap();
        assert_eq!(accounts.snapshot_stats().written, 2);
        assert_eq!(newest(&snapshots).taken_at, clock.now());
    }
}

#[test]
fn load_reads_the_snapshot_event_and_newer_ones() {
    let memory = MemoryStore::new();
    let store = failing_store(&memory);
    let policy = || SnapshotPolicy::every(100).keep(3);
    let accounts = Repository::<Account>::new(&store).snapshots(&memory, policy());
    accounts.execute("1", &create()).unwrap();
    for _ in 0..35 {
        accounts.execute("1", &ones(10)).unwrap();
    }
    assert_eq!(versions(&memory), [101, 201, 301]);
    store.decorator().read();
    assert_eq!((accounts.load("1").unwrap().state().balance, store.decorator().read()), (350, 51));
    for (asked, read) in [(350, 50), (301, 1), (300, 100), (202, 2), (201, 1), (101, 1), (100, 100)]
    {
        let then = accounts.load_as_of_version("1", version(asked)).unwrap();
        assert_eq!(
            (then.state().events, store.decorator().read()),
            (asked, usize::try_from(read).unwrap())
        );
    }
    assert_eq!(accounts.snapshot_stats().ignored, 0);
}

/// Each such snapshot is skipped, with a reason, for an older one that matches, and is deleted when
/// a newer snapshot is taken.
#[test]
fn snapshot_that_does_not_match_is_skipped_for_an_older_one() {
    type Spoil = fn(&mut Snapshot);
    type Expected = fn(&SnapshotFault) -> bool;
    let cases: [(Spoil, Expected); 7] = [
        (
            |snapshot| snapshot.schema_version = 2,
            |fault| matches!(fault, SnapshotFault::OtherVersion { found: 2, known: 1 }),
        ),
        (
            |snapshot| snapshot.state.truncate(30),
            |fault| matches!(fault, SnapshotFault::Undecodable { .. }),
        ),
        (
            |snapshot| snapshot.state.clear(),
            |fault| matches!(fault, SnapshotFault::OtherCodec { .. }),
        ),
        (
            |snapshot| snapshot.state = b"application/x-bincode\n\0\0\0\0".to_vec(),
            |fault| matches!(fault, SnapshotFault::OtherCodec { .. }),
        ),
        (
            |snapshot| snapshot.event_id = EventId::random(),
            |fault| matches!(fault, SnapshotFault::OtherHistory),
        ),
        (
            |snapshot| snapshot.version = version(1_000),
            |fault| matches!(fault, SnapshotFault::OtherHistory),
        ),
        (
            |snapshot| (snapshot.version, snapshot.schema_version) = (Version::MAX, 7),
            |fault| matches!(fault, SnapshotFault::OtherVersion { .. }),
        ),
    ];
    for (case, (spoil, is_expected)) in cases.into_iter().enumerate() {
        for kept in Kept::both() {
            let honest = accounts(&kept, SnapshotPolicy::every(4).keep(9));
            honest.execute("1", &create()).unwrap();
            for _ in 0..8 {
                honest.execute("1", &deposit(10)).unwrap();
            }
            assert_eq!(versions(&kept.snapshots), [4, 8]);
            let mut spoiled = newest(&kept.snapshots);
            spoil(&mut spoiled);
            put(&kept.snapshots, &spoiled);

            let accounts = accounts(&kept, SnapshotPolicy::every(4));
            let account = accounts.load("1").unwrap();
            assert_eq!((account.state().balance, account.version()), (80, Some(version(9))));
            let stats = accounts.snapshot_stats();
            assert_eq!((stats.ignored, stats.used), (1, 1), "case {case}");
            let ignored = stats.last_ignored.unwrap();
            assert_eq!(ignored.version, Some(spoiled.version));
            assert!(is_expected(&ignored.fault), "case {case}: {}", ignored.fault);
            let report = accounts.check_snapshots("1").unwrap();
            let faults = report.snapshots.iter().filter_map(|snapshot| snapshot.fault.as_ref());
            assert!(!report.is_sound() && faults.clone().count() == 1, "{report}");
            assert!(faults.clone().all(is_expected), "{report}");

            let done = accounts.execute("1", &ones(4)).unwrap();
            assert_eq!(versions(&kept.snapshots), [13], "case {case}");
            assert_eq!(accounts.load("1").unwrap().state(), done.state());
            assert!(accounts.check_snapshots("1").unwrap().is_sound());
            assert_eq!(
                accounts.snapshot_stats().ignored,
                2,
                "one for each load before the new snapshot"
            );
        }
    }
}

/// The same account after a code change: it counts deposits. `Counting<1>` forgets to raise the
/// snapshot version.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counting<const VERSION: u32> {
    #[serde(default)]
    deposits: u64,
}

impl<const VERSION: u32> Aggregate for Counting<VERSION> {
    const CATEGORY: &'static str = "account";
    const SNAPSHOT_VERSION: u32 = VERSION;
    type Event = BankEvent;
    type Command = Command;
    type Error = AccountError;

    fn apply(&mut self, event: BankEvent) {
        self.deposits += u64::from(matches!(event, BankEvent::MoneyDeposited { .. }));
    }

    fn handle(&self, _: &Command) -> Result<Vec<BankEvent>, AccountError> {
        Ok(Vec::new())
    }
}

#[test]
fn check_finds_a_state_change_without_new_version() {
    let kept = Kept::memory();
    let accounts = accounts(&kept, SnapshotPolicy::always());
    accounts.execute("1", &create()).unwrap();
    accounts.execute("1", &ones(5)).unwrap();

    let forgot = Repository::<Counting<1>>::new(&kept.events);
    let forgot = forgot.snapshots(&kept.snapshots, SnapshotPolicy::always());
    assert_eq!(
        forgot.load("1").unwrap().state().deposits,
        0,
        "wrong, and not detectable by a load"
    );
    let report = forgot.check_snapshots("1").unwrap();
    assert!(matches!(report.snapshots[0].fault, Some(SnapshotFault::Differs)));
    assert!(report.to_string().contains("version 6") && report.to_string().contains("raise"));

    let raised = Repository::<Counting<2>>::new(&kept.events);
    let raised = raised.snapshots(&kept.snapshots, SnapshotPolicy::always());
    assert_eq!(raised.load("1").unwrap().state().deposits, 5);
    assert!(
        raised.snapshot_stats().to_string().contains("schema version is 1, but the code has 2")
    );
}

#[test]
fn snapshot_policies_use_time_state_or_every_save() {
    let clock = FixedClock::at(Timestamp::from_micros(0));
    let kept = Kept::memory();
    let hourly = SnapshotPolicy::interval(Duration::from_secs(3600)).clock(clock.clock());
    let accounts_by_time = accounts(&kept, hourly);
    let mut taken = Vec::new();
    for (minutes, is_due) in
        [(0, true), (59, false), (1, true), (30, false), (29, false), (90, true)]
    {
        clock.advance(Duration::from_secs(minutes * 60));
        let command = if taken.is_empty() { create() } else { deposit(100) };
        let done = accounts_by_time.execute("1", &command).unwrap();
        taken.extend(done.version().filter(|_| is_due).map(Version::get));
        assert_eq!(versions(&kept.snapshots).last(), taken.last());
        assert_eq!(versions(&kept.snapshots).len(), 1, "one is kept by default");
    }
    assert_eq!(newest(&kept.snapshots).taken_at, clock.now());

    let poor = SnapshotPolicy::when(|account: &Account, context| {
        account.balance < 50 && context.events_since >= 2
    });
    let poor = accounts(&kept, poor.keep(2));
    poor.execute("1", &withdraw(400)).unwrap();
    poor.execute("1", &deposit(60)).unwrap();
    assert_eq!(versions(&kept.snapshots), [6]);
    poor.execute("1", &withdraw(170)).unwrap_err();
    poor.execute("1", &withdraw(120)).unwrap();
    assert_eq!(versions(&kept.snapshots), [6, 9]);

    let always = accounts(&kept, SnapshotPolicy::always());
    for at in 10..13 {
        always.execute("1", &deposit(1)).unwrap();
        assert_eq!(versions(&kept.snapshots), [at]);
    }
}

#[test]
fn codec_of_snapshots_can_change() {
    let kept = Kept::memory();
    let json = accounts(&kept, SnapshotPolicy::always());
    json.execute("1", &create()).unwrap();
    assert!(newest(&kept.snapshots).state.starts_with(b"application/json\n{\"owner_id\":\"ada\""));
    let bincode = Repository::<Account>::new(&kept.events)
        .snapshots_as::<Bincode>(&kept.snapshots, SnapshotPolicy::always());
    bincode.execute("1", &deposit(3)).unwrap();
    assert_eq!(bincode.snapshot_stats().ignored, 1);
    assert_eq!(bincode.load("1").unwrap().state().balance, 3);
    assert_eq!((bincode.snapshot_stats().ignored, bincode.snapshot_stats().used), (1, 1));
    assert_eq!(json.load("1").unwrap().state().balance, 3);
    assert_eq!(json.snapshot_stats().ignored, 1);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(16))]

    /// Both stores keep the newest snapshots, regardless of the order in which they are saved: a
    /// store remembers the version below which it has nothing to delete.
    #[test]
    fn both_stores_keep_the_same_snapshots(
        ops in proptest::collection::vec((1_u64..12, 0_usize..4), 1..60)
    ) {
        let (_directory, path) = place();
        let (disk, memory) = (quick().open(path).unwrap(), MemoryStore::new());
        let stream = StreamId::new("account-1").unwrap();
        for (at, keep) in ops {
            for store in [&disk as &dyn SnapshotStore, &memory] {
                let Some(keep) = NonZeroUsize::new(keep) else {
                    store.delete_snapshots("account", &stream).unwrap();
                    continue;
                };
                let snapshot = Snapshot {
                    kind: "account".into(),
                    stream: stream.clone(),
                    version: version(at),
                    event_id: EventId::from_bytes([1; 16]),
                    schema_version: 1,
                    taken_at: Timestamp::from_micros(0),
                    state: Vec::new(),
                };
                store.save_snapshot(&snapshot, keep).unwrap();
            }
            proptest::prop_assert_eq!(versions(&disk), versions(&memory));
        }
    }
}
