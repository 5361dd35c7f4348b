//! Measures reads: replaying the log and loading streams. For comparison, RocksDB alone scans the
//! same rows.
//!
//! `cargo bench --all-features --bench read`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod common;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use annals::__internals::baseline;
use annals::Position;
use annals::prelude::*;
use common::{Events, Happened, PAYLOAD, PAYLOADS, buffered, filled_with, reopened, stream};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::ops::ControlFlow;

/// A log with larger payloads has fewer events.
const LOG_BYTES: usize = 48 << 20;
const EVENTS_MAX: usize = 210_000;
/// How many streams are loaded after each open, each for the first time.
const FIRST_LOADS: u64 = 50;

fn replay(criterion: &mut Criterion) {
    let mut logs: Vec<_> = PAYLOADS.map(|payload| (payload, 10)).to_vec();
    logs.push((PAYLOADS[0], 1));
    for (payload, append_len) in logs {
        let events = u64::try_from((LOG_BYTES / payload).min(EVENTS_MAX) / 30 * 30).unwrap();
        let (store, _directory) = filled_with(payload, events, append_len);
        let store = reopened(store);
        let name = format!("replay/{payload} B, appends of {append_len}");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(events));
        group.bench_function("borrowed", |bencher| {
            bencher.iter(|| assert_eq!(borrowed(&store, 1, events), events));
        });
        group.bench_function("borrowed, half each by 2 threads", |bencher| {
            let half = events / 2;
            bencher.iter(|| {
                thread::scope(|scope| {
                    let first = scope.spawn(|| borrowed(&store, 1, half));
                    let second = borrowed(&store, half + 1, events - half);
                    assert_eq!(first.join().unwrap() + second, events);
                });
            });
        });
        group.bench_function("owned", |bencher| {
            bencher
                .iter(|| assert_eq!(store.read_log().into_iter().flatten().count() as u64, events));
        });
        group.bench_function("typed JSON", |bencher| {
            bencher.iter(|| {
                let mut seen = 0;
                let read = store.read_log().for_each(|event| {
                    seen += u64::from(!event.json::<Happened>().unwrap().text.is_empty());
                    ControlFlow::Continue(())
                });
                read.unwrap();
                assert_eq!(seen, events);
            });
        });
        let below = baseline(&store);
        group.bench_function("RocksDB alone", |bencher| {
            bencher.iter(|| assert!(below.scan_log().unwrap().rows > 0));
        });
        group.finish();
    }
}

/// Reads this many events from a position on, and returns how many there were.
fn borrowed(store: &Store, from: u64, count: u64) -> u64 {
    let mut seen = 0;
    let read = store.read_log().from(Position::new(from).unwrap()).limit(count);
    let read = read.for_each(|event| {
        black_box(event.payload());
        seen += 1;
        ControlFlow::Continue(())
    });
    read.unwrap();
    seen
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load a stream");
    for (len, streams) in [(10, 2_000), (100, 500), (10_000, 20)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bench");
        let store = buffered().open(&path).unwrap();
        let mut source = Events::new(PAYLOAD);
        // Appends to the streams in turn, so that the events of each are far apart in the log.
        for _ in 0..len / 10 {
            for number in 0..streams {
                store.append(stream(number), ExpectedVersion::Any, source.next(10)).unwrap();
            }
        }
        let mut store = Some(reopened(store));
        group.throughput(Throughput::Elements(len));
        let warm = store.clone().unwrap();
        let mut number = 0;
        let mut next = || {
            number = (number + 7_919) % streams;
            stream(number)
        };
        group.bench_function(BenchmarkId::new("warm", len), |bencher| {
            bencher.iter(|| assert_eq!(load(&warm, &next()), len));
        });
        let below = baseline(&warm);
        group.bench_function(BenchmarkId::new("warm, RocksDB alone", len), |bencher| {
            bencher.iter(|| below.scan_stream(&StreamId::new(next()).unwrap()).unwrap().rows);
        });
        drop(warm);
        group.bench_function(BenchmarkId::new("first after opening", len), |bencher| {
            bencher.iter_custom(|loads| {
                let mut took = Duration::ZERO;
                for load_number in 0..loads {
                    if load_number.is_multiple_of(FIRST_LOADS.min(streams)) {
                        store = Some(reopened(store.take().unwrap()));
                    }
                    let (store, stream) = (store.as_ref().unwrap(), next());
                    let began = Instant::now();
                    assert_eq!(load(store, &stream), len);
                    took += began.elapsed();
                }
                took
            });
        });
    }
    group.finish();
}

fn load(store: &Store, stream: &str) -> u64 {
    let mut seen = 0;
    let read = store.read_stream(stream).for_each(|event| {
        black_box(event.payload());
        seen += 1;
        ControlFlow::Continue(())
    });
    read.unwrap();
    seen
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = quick(); targets = replay, streams }
criterion_main!(benches);
