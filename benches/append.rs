//! Measures how long an append takes, by size, durability and number of threads. For comparison,
//! RocksDB alone writes the same rows.
//!
//! `cargo bench --all-features --bench append`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod common;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use annals::__internals::{Database, Packer, baseline};
use annals::Durability;
use annals::prelude::*;
use common::{Events, PAYLOAD, PAYLOADS, stream};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const STREAMS: u64 = 20_000;
/// The size of the rows that RocksDB alone writes repeatedly.
const ROWS_BYTES: usize = 16 << 20;

fn sizes(criterion: &mut Criterion) {
    for durability in [Durability::Buffered, Durability::Sync] {
        for payload in PAYLOADS {
            let mut group = criterion.benchmark_group(format!("append/{durability:?}/{payload} B"));
            for count in [1, 10, 100] {
                let directory = tempfile::tempdir().unwrap();
                let options = Store::options().durability(durability);
                let store = options.clone().open(directory.path().join("store")).unwrap();
                group.throughput(Throughput::Elements(u64::try_from(count).unwrap()));
                let mut source = Events::new(payload);
                group.bench_function(format!("{count} events"), |bencher| {
                    bencher.iter_batched(
                        || (stream(source.below(STREAMS)), source.next(count)),
                        |(stream, events)| {
                            store.append(stream, ExpectedVersion::Any, events).unwrap()
                        },
                        BatchSize::SmallInput,
                    );
                });
                let (rows, _) =
                    baseline(&store).appends(None, ROWS_BYTES, &mut Packer::default()).unwrap();
                store.close().unwrap();
                let database =
                    Database::create(directory.path().join("baseline"), &options).unwrap();
                let mut rows = rows.iter().cycle();
                group.bench_function(format!("{count} events, RocksDB alone"), |bencher| {
                    bencher.iter(|| database.write(rows.next().unwrap(), durability).unwrap());
                });
            }
            group.finish();
        }
    }
}

fn threads(criterion: &mut Criterion) {
    for durability in [Durability::Buffered, Durability::Sync] {
        let mut group = criterion.benchmark_group(format!("append/{durability:?}/threads"));
        group.throughput(Throughput::Elements(1));
        for threads in [1, 2, 8, 32, 64] {
            let directory = tempfile::tempdir().unwrap();
            let options = Store::options().durability(durability);
            let store = options.open(directory.path().join("store")).unwrap();
            group.bench_function(format!("{threads}"), |bencher| {
                bencher.iter_custom(|appends| at_once(&store, threads, appends));
            });
        }
        group.finish();
    }
}

/// How long this many appends of one event take, divided among threads. The first threads append
/// the remainder.
fn at_once(store: &Store, threads: u64, appends: u64) -> Duration {
    let start = Barrier::new(usize::try_from(threads).unwrap() + 1);
    thread::scope(|scope| {
        for thread in 0..threads {
            let share = appends / threads + u64::from(thread < appends % threads);
            let start = &start;
            scope.spawn(move || {
                let mut source = Events::new(PAYLOAD);
                let ready = |_| (stream(thread * STREAMS + source.below(STREAMS)), source.next(1));
                let ready: Vec<_> = (0..share).map(ready).collect();
                start.wait();
                for (stream, events) in ready {
                    store.append(stream, ExpectedVersion::Any, events).unwrap();
                }
                start.wait();
            });
        }
        start.wait();
        let began = Instant::now();
        start.wait();
        began.elapsed()
    })
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = quick(); targets = sizes, threads }
criterion_main!(benches);
