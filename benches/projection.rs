//! Measures how fast a read model is built, in events per second, from disk into a view on disk: by
//! a new projection that catches up, and by a shadow build.
//!
//! `cargo bench --all-features --bench projection`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use std::hint::black_box;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    Durability, HandlerError, Projection, ProjectionManager, ProjectionOptions, TypedEvent,
    ViewWriter,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const STREAMS: u64 = 1_000;
const EVENTS_PER_STREAM: u64 = 100;

#[derive(Serialize, Deserialize)]
enum Money {
    Deposited { amount: i64, description: String },
}

annals::domain_events! { Money { Deposited => "Deposited" } }

/// A balance for each stream: reads and writes one key per event.
struct Balances {
    name: String,
}

impl Balances {
    fn new() -> Self {
        Self { name: "balances".to_owned() }
    }
}

impl Projection for Balances {
    type Event = Money;

    fn name(&self) -> &str {
        &self.name
    }

    fn handle(&self, event: &TypedEvent<Money>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        let Money::Deposited { amount, .. } = &event.event;
        Ok(view.update(event.stream(), |balance: &mut i64| *balance += amount)?)
    }
}

/// A line for each event: writes one key per event and reads none.
struct History;

impl Projection for History {
    type Event = Money;

    fn name(&self) -> &'static str {
        "history"
    }

    fn handle(&self, event: &TypedEvent<Money>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        Ok(view.put((event.stream(), event.version()), &event.event)?)
    }
}

fn filled() -> (Store, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = Store::options().durability(Durability::Buffered);
    let store = options.open(directory.path().join("bench")).unwrap();
    for round in 0..EVENTS_PER_STREAM / 10 {
        for stream in 0..STREAMS {
            let amount = i64::try_from(round).unwrap();
            let event = || Money::Deposited { amount, description: "x".repeat(100) }.encode();
            let events = (0..10).map(|_| event().unwrap());
            store.append(format!("account-{stream}"), ExpectedVersion::Any, events).unwrap();
        }
    }
    (store, directory)
}

/// How long a new projection takes from the first event to the last.
fn catch_up(store: &Store, threads: usize) -> Duration {
    // A new name, so that nothing is stored under it.
    let name = format!("balances-{}", EventId::random());
    let options = ProjectionOptions::new().partitions(threads);
    let balances = Balances { name: name.clone() };
    let manager = ProjectionManager::new(store).register_with(balances, options).unwrap();
    let head = store.head().unwrap().unwrap();
    let began = std::time::Instant::now();
    manager.start().unwrap();
    manager.wait_for(&name, head, Duration::from_secs(600)).unwrap();
    began.elapsed()
}

fn rebuild(
    store: &Store,
    register: impl Fn(ProjectionManager) -> Result<ProjectionManager, annals::ProjectionError>,
) -> Duration {
    let manager = register(ProjectionManager::new(store)).unwrap();
    let projection = manager.projections().next().unwrap();
    // Builds the read model from the first event, in a separate build.
    manager.start().unwrap();
    projection.wait_for(store.head().unwrap().unwrap(), Duration::from_secs(600)).unwrap();
    let began = std::time::Instant::now();
    projection.rebuild().unwrap();
    projection
        .wait_for_rebuild(Duration::from_secs(600), |progress| {
            black_box(progress);
        })
        .unwrap();
    began.elapsed()
}

fn projections(criterion: &mut Criterion) {
    let (store, _directory) = filled();
    let mut group = criterion.benchmark_group("projection_catch_up");
    group.throughput(Throughput::Elements(STREAMS * EVENTS_PER_STREAM)).sample_size(10);
    for threads in [1, 2] {
        group.bench_function(format!("balances, {threads} threads"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| catch_up(&store, threads)).sum());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("projection_rebuild");
    group.throughput(Throughput::Elements(STREAMS * EVENTS_PER_STREAM)).sample_size(10);
    for threads in [1, 2] {
        let options = ProjectionOptions::new().partitions(threads);
        group.bench_function(format!("balances, {threads} threads"), |bencher| {
            bencher.iter_custom(|rounds| {
                let once =
                    || rebuild(&store, |m| m.register_with(Balances::new(), options.clone()));
                (0..rounds).map(|_| once()).sum()
            });
        });
        group.bench_function(format!("history, {threads} threads"), |bencher| {
            bencher.iter_custom(|rounds| {
                let once = || rebuild(&store, |m| m.register_with(History, options.clone()));
                (0..rounds).map(|_| once()).sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, projections);
criterion_main!(benches);
