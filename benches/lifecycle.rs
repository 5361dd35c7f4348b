//! Measures operations on the whole store as its history grows: opening after a close and after a
//! crash, verify, backup.
//!
//! `cargo bench --all-features --bench lifecycle`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use annals::__internals::baseline;
use annals::Position;
use annals::prelude::*;
use common::{Events, PAYLOAD, buffered, filled, stream};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const HISTORIES: [u64; 3] = [9_000, 90_000, 900_000];
/// Number of appends of 10 events that a crash leaves in the write-ahead log: about 4 MiB.
const UNFLUSHED: u64 = 2_000;

fn lifecycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    for events in HISTORIES {
        let (store, directory) = filled(events);
        let path = store.info().unwrap().path;
        let copy = directory.path().join("copy");
        store.close().unwrap();

        group.bench_function(BenchmarkId::new("open after closing", events), |bencher| {
            bencher.iter_custom(|rounds| {
                let once = || {
                    let began = Instant::now();
                    let store = buffered().open(&path).unwrap();
                    let took = began.elapsed();
                    store.close().unwrap();
                    took
                };
                (0..rounds).map(|_| once()).sum()
            });
        });

        let store = buffered().open(&path).unwrap();
        let mut source = Events::new(PAYLOAD);
        for number in 0..UNFLUSHED {
            store.append(stream(number), ExpectedVersion::Any, source.next(10)).unwrap();
        }
        // Like a crashed store, a backup contains the write-ahead log, and opening it reads that
        // log.
        group.bench_function(BenchmarkId::new("open after a crash", events), |bencher| {
            bencher.iter_custom(|rounds| {
                let once = || {
                    store.backup(&copy).unwrap();
                    let began = Instant::now();
                    let crashed = buffered().open(&copy).unwrap();
                    let took = began.elapsed();
                    crashed.close().unwrap();
                    fs::remove_dir_all(&copy).unwrap();
                    took
                };
                (0..rounds).map(|_| once()).sum()
            });
        });
        group.bench_function(BenchmarkId::new("backup", events), |bencher| {
            bencher.iter_custom(|rounds| {
                let once = || {
                    let began = Instant::now();
                    store.backup(&copy).unwrap();
                    let took = began.elapsed();
                    fs::remove_dir_all(&copy).unwrap();
                    took
                };
                (0..rounds).map(|_| once()).sum()
            });
        });
        let all = store.head().unwrap().map_or(0, Position::get);
        group.throughput(Throughput::Elements(all));
        group.bench_function(BenchmarkId::new("verify", events), |bencher| {
            bencher.iter(|| assert!(store.verify(|_| {}).unwrap().is_sound()));
        });
        let below = baseline(&store);
        group.bench_function(BenchmarkId::new("verify, RocksDB alone", events), |bencher| {
            bencher.iter(|| (below.scan_log().unwrap().rows, below.scan_streams().unwrap().rows));
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = quick(); targets = lifecycle }
criterion_main!(benches);
