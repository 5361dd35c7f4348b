//! Measures how long it takes to load an aggregate: a long history with and without a snapshot, and
//! a short one; and what a key, metadata and events of other streams add to a command.
//!
//! `cargo bench --all-features --bench aggregate`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use std::sync::atomic::{AtomicU64, Ordering};

use annals::prelude::*;
use annals::{
    Aggregate, Decision, Durability, IdempotencyKey, Repository, RequestDigest, SnapshotPolicy,
};
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

/// What an idempotency key, metadata and `also` add to a command, and what many threads on one
/// aggregate get done.
fn commands(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let options = Store::options().durability(Durability::Buffered);
    let store = options.open(directory.path().join("bench")).unwrap();
    let accounts = Repository::<Account>::new(&store).cache(10);
    let number = AtomicU64::new(0);
    let key = || {
        let number = number.fetch_add(1, Ordering::Relaxed).to_string();
        IdempotencyKey::new("bench", &number, RequestDigest::of(&number)).unwrap()
    };
    let also = |decision: &mut Decision<'_, Account>| {
        let booked = NewEvent::json("Booked", &decision.after().balance)?;
        decision.to("ledger", ExpectedVersion::Any, [booked]);
        Ok(())
    };

    let mut group = criterion.benchmark_group("command, buffered");
    group.bench_function("alone", |bencher| {
        bencher.iter(|| accounts.execute("1", &1).unwrap());
    });
    group.bench_function("with metadata", |bencher| {
        bencher.iter(|| accounts.command("1").with_metadata("user", "ada").run(&1).unwrap());
    });
    group.bench_function("with a key", |bencher| {
        bencher.iter(|| accounts.command("1").idempotency_key(key()).run(&1).unwrap());
    });
    group.bench_function("with also", |bencher| {
        bencher.iter(|| accounts.command("1").also(also).run(&1).unwrap());
    });
    let again = key();
    group.bench_function("again, by its key", |bencher| {
        bencher.iter(|| accounts.command("2").idempotency_key(again.clone()).run(&1).unwrap());
    });
    group.finish();

    let mut group = criterion.benchmark_group("64 threads on one aggregate, 50 commands each");
    group.sample_size(10);
    let threads = |run: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| (0..50).for_each(|_| run()));
            }
        });
    };
    group.bench_function("alone", |bencher| {
        bencher.iter(|| threads(&|| drop(accounts.execute("3", &1).unwrap())));
    });
    group.bench_function("with metadata, a key and also", |bencher| {
        bencher.iter(|| {
            threads(&|| {
                let command = accounts.command("4").idempotency_key(key()).also(also);
                command.with_metadata("user", "ada").run(&1).unwrap();
            });
        });
    });
    group.finish();
}

criterion_group!(benches, aggregate, commands);
criterion_main!(benches);
