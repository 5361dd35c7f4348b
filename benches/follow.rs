//! Measures subscriptions: catching up with a long log, and the latency to a live subscriber. For
//! the latency, criterion reports the mean; percentiles are printed after it.
//!
//! `cargo bench --all-features --bench follow`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod common;

use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use annals::__internals::baseline;
use annals::Durability;
use annals::prelude::*;
use common::{Events, PAYLOAD, filled, reopened, stream};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;

const EVENTS: u64 = 210_000;
const STREAMS: u64 = 10_000;

fn catch_up(criterion: &mut Criterion) {
    let (store, _directory) = filled(EVENTS);
    let store = reopened(store);
    let mut group = criterion.benchmark_group("subscription");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("catch up", |bencher| {
        bencher.iter(|| {
            let mut following = store.subscribe().start().unwrap();
            let mut seen = 0;
            loop {
                match following.recv().unwrap() {
                    Delivery::Event(event) => {
                        seen += u64::from(!black_box(event).payload().is_empty());
                    }
                    Delivery::CaughtUp(_) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(seen, EVENTS);
        });
    });
    let below = baseline(&store);
    group.bench_function("catch up, RocksDB alone", |bencher| {
        bencher.iter(|| assert!(below.scan_log().unwrap().rows > 0));
    });
    group.finish();
}

fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("from the append to a live subscriber");
    for durability in [Durability::Buffered, Durability::Sync] {
        let directory = tempfile::tempdir().unwrap();
        let options = Store::options().durability(durability);
        let store = options.open(directory.path().join("store")).unwrap();
        let mut source = Events::new(PAYLOAD);
        let mut times = Histogram::<u64>::new(3).unwrap();
        group.bench_function(format!("{durability:?}"), |bencher| {
            bencher.iter_custom(|events| {
                let took = one_by_one(&store, &mut source, events);
                for took in &took {
                    times.record(u64::try_from(took.as_nanos()).unwrap()).unwrap();
                }
                took.iter().sum()
            });
        });
        if !times.is_empty() {
            let at = |quantile| Duration::from_nanos(times.value_at_quantile(quantile));
            println!(
                "from the append to a live subscriber/{durability:?}: p50 {:?}, p99 {:?}, p99.9 {:?}, of {} events",
                at(0.5),
                at(0.99),
                at(0.999),
                times.len()
            );
        }
    }
    group.finish();
}

/// The latency of each of this many events to a subscriber on another thread. Each event is
/// appended after the previous one has arrived.
fn one_by_one(store: &Store, source: &mut Events, events: u64) -> Vec<Duration> {
    let (arrived, arrivals) = sync_channel(1);
    let mut following = store.subscribe().from_now().start().unwrap();
    let cancel = following.cancel_handle();
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                match following.recv().unwrap() {
                    Delivery::Event(_) => arrived.send(Instant::now()).unwrap(),
                    Delivery::Ended => return,
                    _ => {}
                }
            }
        });
        let took = (0..events).map(|_| {
            let (stream, events) = (stream(source.below(STREAMS)), source.next(1));
            let began = Instant::now();
            store.append(stream, ExpectedVersion::Any, events).unwrap();
            arrivals.recv().unwrap() - began
        });
        let took = took.collect();
        cancel.cancel();
        took
    })
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = quick(); targets = catch_up, live }
criterion_main!(benches);
