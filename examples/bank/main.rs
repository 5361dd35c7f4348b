//! A bank, the usual textbook example, on disk and across a restart: accounts with rules, balances
//! and statements as read models, snapshots, an event that older code wrote, and a balance as of
//! last Tuesday.
//!
//! `cargo run --release --all-features --example bank -- bank.annals` keeps the bank in that
//! directory. Without an argument it uses a temporary directory. docs/GUIDE.md builds the bank step
//! by step.

#![expect(clippy::print_stdout, reason = "an example talks")]

mod account;
mod old_events;
mod read_models;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use account::{Account, AccountCommand, AccountError};
use annals::Version;
use annals::prelude::*;
use annals::testing::FixedClock;
use read_models::{AccountBalances, TransactionHistory, statement};

/// An open bank: the store, its repository and its projections.
struct Bank {
    store: Store,
    accounts: Repository<Account>,
    read_models: ProjectionManager,
}

impl Bank {
    fn open(path: &Path, clock: &FixedClock) -> Result<Self, Box<dyn Error>> {
        let store = Store::options().clock(clock.clock()).open(path)?;
        let upcasters = old_events::upcasters()?;
        let accounts = Repository::new(&store)
            .upcasters(upcasters.clone())
            .snapshots(&store, SnapshotPolicy::every(100));
        let read_models = ProjectionManager::new(&store)
            .upcasters(upcasters)
            .register(AccountBalances)?
            .register(TransactionHistory)?;
        read_models.start()?;
        Ok(Self { store, accounts, read_models })
    }

    /// Executes the command, and waits until the read models contain its events.
    fn execute(&self, id: &str, command: &AccountCommand) -> Result<(), Box<dyn Error>> {
        let done = self.accounts.execute(id, command)?;
        if let Some(position) = done.position() {
            for projection in self.read_models.projections() {
                projection.wait_for(position, Duration::from_secs(10))?;
            }
        }
        Ok(())
    }

    fn show(&self) -> Result<(), Box<dyn Error>> {
        println!("\nBalances");
        for entry in self.store.view("account_balances").entries().iter::<i64>() {
            let (account, balance) = entry?;
            println!("  {:<16} {:>12}", account.to_string(), euros(balance));
        }
        let (history, ada) =
            (self.store.view("transaction_history"), StreamId::new("account-ada")?);
        println!("\nStatement of {ada}, in pages of three");
        let mut after = None;
        loop {
            let (page, next) = statement(&history, &ada, after.as_ref(), 3)?;
            if page.is_empty() {
                break;
            }
            for line in page {
                println!("  {}  {:>12}  {}", day(&line.time), euros(line.amount), line.description);
            }
            println!("  --");
            after = next;
        }
        println!();
        for projection in self.read_models.projections() {
            println!("{}", projection.status()?);
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let kept = tempfile::tempdir()?;
    let path = std::env::args().nth(1).map_or(kept.path().join("bank.annals"), PathBuf::from);
    // The example runs on fixed dates.
    let clock = FixedClock::at("2026-11-16T09:00:00Z".parse()?);
    if path.exists() {
        println!("{} is there: this is what it holds.", path.display());
        return Bank::open(&path, &clock)?.show();
    }

    years_ago(&path, &clock)?;
    let bank = Bank::open(&path, &clock)?;
    a_week_at_the_bank(&bank, &clock)?;
    bank.show()?;
    let before = bank.accounts.load("ada")?.state().clone();
    drop(bank);

    println!("\nThe bank closes, and opens again.");
    let bank = Bank::open(&path, &clock)?;
    let ada = bank.accounts.load("ada")?;
    assert_eq!(*ada.state(), before, "a restart changes nothing");
    let balance = bank.store.view("account_balances").get::<i64>("account-ada")?;
    assert_eq!(balance, Some(ada.state().balance()), "the read model says the same");
    println!(
        "account-ada still has {}, at version {}",
        euros(ada.state().balance()),
        ada.version().map_or(0, Version::get)
    );

    let tuesday = "2026-11-17T23:59:59Z".parse()?;
    let then = bank.accounts.load_as_of("ada", tuesday)?;
    println!("As of last Tuesday it had {}.", euros(then.state().balance()));
    assert_eq!(then.state().balance(), 130_000);
    Ok(())
}

/// Writes events as older code did, with other names and units.
fn years_ago(path: &Path, clock: &FixedClock) -> Result<(), Box<dyn Error>> {
    let store = Store::options().clock(clock.clock()).open(path)?;
    let created = serde_json::json!({ "owner_id": "owner-1", "name": "Ada" });
    store.append(
        "account-ada",
        ExpectedVersion::NoStream,
        [
            NewEvent::json("AccountCreated", &created)?,
            NewEvent::json("Deposited", &serde_json::json!({ "euros": 500 }))?,
        ],
    )?;
    Ok(())
}

fn a_week_at_the_bank(bank: &Bank, clock: &FixedClock) -> Result<(), Box<dyn Error>> {
    clock.set("2026-11-17T10:00:00Z".parse()?);
    let deposit = |amount, description: &str| AccountCommand::Deposit {
        amount,
        description: description.into(),
    };
    let withdraw = |amount, description: &str| AccountCommand::Withdraw {
        amount,
        description: description.into(),
    };
    bank.execute("ada", &deposit(100_000, "salary"))?;
    bank.execute("ada", &withdraw(20_000, "rent"))?;

    clock.set("2026-11-18T12:00:00Z".parse()?);
    let create = AccountCommand::Create { owner_id: "owner-2".into(), name: "Bob".into() };
    bank.execute("bob", &create)?;
    bank.execute("bob", &deposit(1_000, "a gift"))?;
    bank.execute("ada", &withdraw(1_250, "books"))?;

    println!("What the rules refuse");
    for (id, command) in [
        ("bob", withdraw(5_000, "more than there is")),
        ("bob", deposit(-5, "less than nothing")),
        ("eve", deposit(5, "to nobody")),
    ] {
        match bank.accounts.execute(id, &command) {
            Err(ExecuteError::Rejected(refusal)) => println!("  {id:<4} {refusal}"),
            other => return Err(format!("not refused: {other:?}").into()),
        }
    }
    bank.execute("bob", &AccountCommand::Block { reason: "moved away".into() })?;
    let blocked = bank.accounts.execute("bob", &withdraw(1, "too late"));
    let refusal = AccountError::Blocked { reason: "moved away".into() };
    assert!(matches!(blocked, Err(ExecuteError::Rejected(why)) if why == refusal));
    println!("  bob  {refusal}");
    Ok(())
}

fn euros(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

fn day(time: &str) -> &str {
    time.split('T').next().unwrap_or(time)
}
