//! The bank of the textbook: its rules hold, and its read models survive kills, both at random
//! moments and at the points where a projection could count an event twice or not at all (G12).
//!
//! The account and its read models are those of the example `bank`. The child process is this test
//! binary; an environment variable makes it open the bank and execute commands until it dies.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::account::{Account, AccountCommand, AccountError, AccountEvent};
use crate::example_bank::check_read_models;
use crate::read_models::{AccountBalances, Transaction, TransactionHistory, statement};
use crate::support::SOON;
use crate::support::random::Random;
use annals::prelude::*;
use annals::testing::{ProjectionScenario, Scenario};
use annals::{
    Checkpoint, Durability, HandlerError, Position, Projection, ProjectionManager,
    ProjectionOptions, Query, Repository, SnapshotPolicy, TypedEvent, Version, ViewCommit,
    ViewPage, ViewScan, ViewStore, ViewWriter,
};

fn created() -> AccountEvent {
    AccountEvent::AccountCreated { owner_id: "owner-1".into(), name: "Ada".into() }
}

fn deposited(amount: i64) -> AccountEvent {
    AccountEvent::MoneyDeposited { amount, description: "in".into() }
}

fn withdrawn(amount: i64) -> AccountEvent {
    AccountEvent::MoneyWithdrawn { amount, description: "out".into() }
}

fn blocked() -> AccountEvent {
    AccountEvent::AccountBlocked { reason: "lost card".into() }
}

fn deposit(amount: i64) -> AccountCommand {
    AccountCommand::Deposit { amount, description: "in".into() }
}

fn withdraw(amount: i64) -> AccountCommand {
    AccountCommand::Withdraw { amount, description: "out".into() }
}

fn create() -> AccountCommand {
    AccountCommand::Create { owner_id: "owner-1".into(), name: "Ada".into() }
}

#[test]
fn account_follows_its_rules() {
    let given = |events: &[AccountEvent]| Scenario::<Account>::given(events.to_vec());
    given(&[]).when(create()).then([created()]);
    given(&[created()]).when(create()).then_error(AccountError::AlreadyCreated);
    given(&[]).when(deposit(1)).then_error(AccountError::NotCreated);
    given(&[created()]).when(deposit(5)).then([deposited(5)]);
    for amount in [0, -1] {
        given(&[created()]).when(deposit(amount)).then_error(AccountError::NotPositive { amount });
        given(&[created()]).when(withdraw(amount)).then_error(AccountError::NotPositive { amount });
    }
    let refused = AccountError::TooMuch { amount: i64::MAX };
    given(&[created(), deposited(5)]).when(deposit(i64::MAX)).then_error(refused);
    given(&[created(), deposited(5)]).when(withdraw(5)).then([withdrawn(5)]);
    let refused = AccountError::InsufficientFunds { balance: 5, asked: 6 };
    given(&[created(), deposited(5)]).when(withdraw(6)).then_error(refused.clone());
    assert_eq!(refused.to_string(), "the balance is 5, but 6 were asked for");
    let block = AccountCommand::Block { reason: "lost card".into() };
    given(&[created()]).when(block.clone()).then([blocked()]);
    let refused = AccountError::Blocked { reason: "lost card".into() };
    for command in [deposit(1), withdraw(1), block] {
        given(&[created(), deposited(5), blocked()]).when(command).then_error(refused.clone());
    }
}

#[test]
fn read_models_show_balances_and_statements() {
    let events = [created(), deposited(1000), withdrawn(200), blocked()];
    ProjectionScenario::new(AccountBalances)
        .given("account-1", events.clone())
        .given("account-2", [created()])
        .given("other-1", [deposited(7)])
        .then([("account-1", 800), ("account-2", 0)]);

    let store = MemoryStore::new();
    let events = events.map(|event| event.encode().unwrap());
    let account = StreamId::new("account-1").unwrap();
    let last = store.append(&account, ExpectedVersion::NoStream, events).unwrap().last_position();
    let projections = ProjectionManager::new(&store).register(TransactionHistory).unwrap();
    projections.start().unwrap();
    projections.wait_for("transaction_history", last, SOON).unwrap();
    let history = store.view("transaction_history");
    let (page, next) = statement(&history, &account, None, 1).unwrap();
    let lines = |page: &[Transaction]| -> Vec<(i64, String)> {
        page.iter().map(|line| (line.amount, line.description.clone())).collect()
    };
    assert_eq!(lines(&page), [(-200, "out".into())]);
    let (page, next) = statement(&history, &account, next.as_ref(), 1).unwrap();
    assert_eq!(lines(&page), [(1000, "in".into())]);
    assert_eq!(statement(&history, &account, next.as_ref(), 1).unwrap().0, []);
}

#[test]
fn balance_is_800_after_deposit_withdrawal_and_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("bank")).unwrap();
    let accounts = Repository::<Account>::new(&store);
    let mut account = accounts.load_or_new("123").unwrap();
    for command in [create(), deposit(1000), withdraw(200)] {
        account.decide(&command).unwrap();
    }
    accounts.save(&mut account).unwrap();
    store.close().unwrap();
    let store = Store::open(directory.path().join("bank")).unwrap();
    let account = Repository::<Account>::new(&store).load("123").unwrap();
    assert_eq!((account.state().balance(), account.version()), (800, Version::new(3)));
}

// Tests that kill a child process.

const DIRECTORY: &str = "ANNALS_TEST_BANK";
/// The point at which the child dies, and on which pass, for example `handler 7`. Without it, the
/// child runs until it is killed.
const DIE_AT: &str = "ANNALS_TEST_BANK_DIES";

/// Aborts the process on the n-th pass.
#[derive(Clone, Default)]
struct Trap {
    left: Option<Arc<AtomicUsize>>,
}

impl Trap {
    fn set(point: &str) -> Self {
        let set = std::env::var(DIE_AT).unwrap_or_default();
        let count = set.strip_prefix(point).and_then(|count| count.trim().parse().ok());
        Self { left: count.map(|count: usize| Arc::new(AtomicUsize::new(count))) }
    }

    fn pass(&self) {
        if let Some(left) = &self.left
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // No destructor runs, and nothing is flushed.
            std::process::abort();
        }
    }
}

/// A projection that dies right after a handler.
struct Mortal<P> {
    projection: P,
    after_handler: Trap,
}

impl<P: Projection> Projection for Mortal<P> {
    type Event = P::Event;

    fn name(&self) -> &str {
        self.projection.name()
    }

    fn query(&self) -> Query {
        self.projection.query()
    }

    fn handle(
        &self,
        event: &TypedEvent<P::Event>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        self.projection.handle(event, view)?;
        self.after_handler.pass();
        Ok(())
    }
}

/// A view store that dies right before or right after a write.
struct MortalViews {
    store: Arc<dyn ViewStore>,
    before_write: Trap,
    after_write: Trap,
}

impl ViewStore for MortalViews {
    fn commit_view(&self, commit: &ViewCommit) -> annals::Result<()> {
        self.before_write.pass();
        self.store.commit_view(commit)?;
        self.after_write.pass();
        Ok(())
    }

    fn checkpoint(&self, view: &str) -> annals::Result<Option<Checkpoint>> {
        self.store.checkpoint(view)
    }

    fn view_value(&self, view: &str, key: &[u8]) -> annals::Result<Option<Vec<u8>>> {
        self.store.view_value(view, key)
    }

    fn scan_view(&self, scan: &ViewScan) -> annals::Result<ViewPage> {
        self.store.scan_view(scan)
    }

    fn list_views(&self) -> annals::Result<Vec<String>> {
        self.store.list_views()
    }

    fn drop_view(&self, view: &str) -> annals::Result<()> {
        self.store.drop_view(view)
    }

    fn view_handle(&self) -> Arc<dyn ViewStore> {
        Arc::new(Self {
            store: self.store.clone(),
            before_write: self.before_write.clone(),
            after_write: self.after_write.clone(),
        })
    }
}

/// Runs in the child process; not a separate test.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let options = Store::options().durability(Durability::Buffered).memtable_bytes(1);
    let store = options.open(PathBuf::from(directory).join("bank")).unwrap();
    let views = MortalViews {
        store: store.view_handle(),
        before_write: Trap::set("before write"),
        after_write: Trap::set("after write"),
    };
    let after_handler = Trap::set("handler");
    let small = ProjectionOptions::new().batch_events(7);
    let balances = Mortal { projection: AccountBalances, after_handler: after_handler.clone() };
    let history = Mortal { projection: TransactionHistory, after_handler };
    let projections = ProjectionManager::over(&store, &views);
    let projections = projections.register_with(balances, small.clone()).unwrap();
    let projections = projections.register_with(history, small.partitions(2)).unwrap();
    projections.start().unwrap();
    let accounts =
        Repository::<Account>::new(&store).snapshots(&store, SnapshotPolicy::every(5).keep(2));
    thread::scope(|scope| {
        for writer in 0..2_i64 {
            let accounts = &accounts;
            scope.spawn(move || {
                for round in 0.. {
                    let id = (round + writer) % 5;
                    // Rejected commands are expected.
                    let _ = accounts.execute(id, &create());
                    let _ = accounts.execute(id, &deposit(1 + round % 90));
                    let _ = accounts.execute(id, &withdraw(1 + round % 70));
                }
            });
        }
        scope.spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(30));
                projections.projections().for_each(|projection| projection.rebuild().unwrap());
            }
        });
    });
}

fn start_child(directory: &Path, die_at: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bank::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(DIE_AT, die_at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn check(directory: &Path) -> u64 {
    let store = Store::open(directory.join("bank")).unwrap();
    assert!(store.verify(|_| {}).unwrap().is_sound());
    check_read_models(&store);
    let head = store.head().unwrap();
    store.close().unwrap();
    head.map_or(0, Position::get)
}

#[test]
fn read_models_equal_the_log_after_random_kills() {
    let kills: u64 = std::env::var("ANNALS_TEST_KILLS").map_or(12, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::from_entropy();
    let mut head = 0;
    for kill in 0..kills {
        let mut child = start_child(directory.path(), "");
        thread::sleep(Duration::from_millis(30 + random.below(260) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = check(directory.path());
        assert!(now >= head, "kill {kill}: the log went from {head} to {now}");
        head = now;
    }
    assert!(head > 100, "the child makes progress: {head} events");
}

#[test]
fn read_models_equal_the_log_after_death_at_each_step() {
    let directory = tempfile::tempdir().unwrap();
    for point in ["handler", "before write", "after write"] {
        for count in [1, 2, 3, 5, 8, 13, 40] {
            let mut child = start_child(directory.path(), &format!("{point} {count}"));
            let status = child.wait().unwrap();
            assert!(!status.success(), "the child dies at {point} {count}");
            check(directory.path());
        }
    }
}
