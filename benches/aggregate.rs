//! Measures how long it takes to load an aggregate: a long history with and without a snapshot, and
//! a short one.
//!
//! `cargo bench --all-features --bench aggregate`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use annals::prelude::*;
use annals::{Aggregate, Durability, Repository, SnapshotPolicy};
use criterion::{Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct MoneyDeposited {
    amount: i64,
    description: String,
}
annals::domain_events! { MoneyDeposited => "MoneyDeposited" }

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
    last_description: String,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = MoneyDeposited;
    /// The number of deposits of 1 to make.
    type Command = usize;
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: MoneyDeposited) {
        self.balance += event.amount;
        self.last_description = event.description;
    }

    fn handle(&self, count: &usize) -> Result<Vec<MoneyDeposited>, Self::Error> {
        let deposit = |_| MoneyDeposited { amount: 1, description: "one of many deposits".into() };
        Ok((0..*count).map(deposit).collect())
    }
}

fn aggregate(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let options = Store::options().durability(Durability::Buffered);
    let store = options.open(directory.path().join("bench")).unwrap();
    let plain = Repository::<Account>::new(&store);
    let snapshotted = plain.clone().snapshots(&store, SnapshotPolicy::every(100));
    let cached = plain.clone().cache(10);
    let appends = |count: usize| {
        for _ in 0..count / 10 {
            snapshotted.execute(count, &10).unwrap();
        }
    };
    appends(100);
    appends(10_000);

    let mut group = criterion.benchmark_group("load, warm");
    let mut load = |name: &str, accounts: &Repository<Account>, events: i64| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(accounts.load(events).unwrap().state().balance, events));
        });
    };
    load("100 events", &plain, 100);
    load("10,000 events", &plain, 10_000);
    load("10,000 events, snapshot", &snapshotted, 10_000);
    load("10,000 events, cached", &cached, 10_000);
    group.finish();

    let mut group = criterion.benchmark_group("execute, 10,000 events before it");
    for (name, accounts) in [("snapshots", &snapshotted), ("cached", &cached)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| accounts.execute(10_000, &1).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, aggregate);
criterion_main!(benches);
