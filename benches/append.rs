//! Appending: how long one append takes on one thread, by its size and durability.
//!
//! `cargo bench --bench append`

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use annals::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const STREAMS: u64 = 20_000;

fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|_| NewEvent::bytes("Happened", vec![7; 200]).unwrap()).collect()
}

fn append(criterion: &mut Criterion) {
    for durability in [Durability::Buffered, Durability::Sync] {
        let directory = tempfile::tempdir().unwrap();
        let store =
            Store::options().durability(durability).open(directory.path().join("bench")).unwrap();
        let mut group = criterion.benchmark_group(format!("append/{durability:?}"));
        group.sample_size(20);
        for count in [1, 10, 100] {
            group.throughput(Throughput::Elements(u64::try_from(count).unwrap()));
            let mut random: u64 = 1;
            group.bench_function(format!("{count} events of 200 B"), |bencher| {
                bencher.iter_batched(
                    || {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (format!("stream-{}", (random >> 33) % STREAMS), events(count))
                    },
                    |(stream, events)| store.append(stream, ExpectedVersion::Any, events).unwrap(),
                    criterion::BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
