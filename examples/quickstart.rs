//! First steps: append two events, and read them back after a restart. README.md contains the part
//! between the markers.
//!
//! Run it with `cargo run --release --example quickstart`.

// readme: begin
use annals::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Deposited {
    amount: u64,
}

fn run(path: &std::path::Path) -> annals::Result<u64> {
    let store = Store::open(path)?;
    let opened = NewEvent::json("AccountOpened", &"Ada")?;
    let deposited = NewEvent::json("MoneyDeposited", &Deposited { amount: 1_000 })?;
    store.append("account-123", ExpectedVersion::NoStream, [opened, deposited])?;
    store.close()?;

    let store = Store::open(path)?; // a restart
    let mut balance = 0;
    for event in store.read_stream("account-123").types(["MoneyDeposited"]) {
        balance += event?.json::<Deposited>()?.amount;
    }
    Ok(balance)
}
// readme: end

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let balance = run(&directory.path().join("bank.annals"))?;
    assert_eq!(balance, 1_000);
    println!("the balance of account-123 is {balance}");
    Ok(())
}
