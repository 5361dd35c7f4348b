//! Reading: replaying the log, borrowed and owned, and loading one stream.
//!
//! `cargo bench --bench read`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use annals::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: u64 = 300_000;
const STREAM_LEN: u64 = 30;

/// A log of appends of `append_len` events each, spread over streams of 30 events.
fn filled(store: &Store, append_len: u64) {
    let streams = EVENTS / STREAM_LEN;
    for append in 0..EVENTS / append_len {
        // A stride that visits every stream in turn, far from the one before.
        let stream = (append * 7_919) % streams;
        let events = (0..append_len).map(|_| NewEvent::bytes("Happened", vec![7; 200]).unwrap());
        store.append(format!("stream-{stream}"), ExpectedVersion::Any, events).unwrap();
    }
}

fn read(criterion: &mut Criterion) {
    for append_len in [1, 10] {
        let directory = tempfile::tempdir().unwrap();
        let options =
            Store::options().durability(Durability::Buffered).block_cache_bytes(256 << 20);
        let path = directory.path().join("bench");
        let store = options.clone().open(&path).unwrap();
        filled(&store, append_len);
        store.close().unwrap();
        let store = options.open(&path).unwrap();

        let mut group = criterion.benchmark_group(format!("appends of {append_len}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(EVENTS));
        group.bench_function("replay the log, borrowed", |bencher| {
            bencher.iter(|| {
                let mut bytes = 0;
                let counted = store.read_log().for_each(|event| {
                    bytes += event.payload().len();
                    ControlFlow::Continue(())
                });
                counted.unwrap();
                assert_eq!(bytes as u64, EVENTS * 200);
            });
        });
        group.bench_function("replay the log, owned", |bencher| {
            bencher.iter(|| assert_eq!(store.read_log().iter().flatten().count() as u64, EVENTS));
        });
        group.throughput(Throughput::Elements(STREAM_LEN));
        group.sample_size(50);
        let mut stream = 0;
        group.bench_function("load a stream of 30, borrowed, warm", |bencher| {
            bencher.iter(|| {
                stream = (stream + 7_919) % (EVENTS / STREAM_LEN);
                let mut count = 0;
                let read = store.read_stream(format!("stream-{stream}")).for_each(|_| {
                    count += 1;
                    ControlFlow::Continue(())
                });
                read.unwrap();
                assert_eq!(count, STREAM_LEN);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, read);
criterion_main!(benches);
