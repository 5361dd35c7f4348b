//! Many threads append durably to random streams while subscribers follow. Every subscriber must
//! see every event once and in order. Prints the measured throughput and latency.
//!
//! `cargo run --release --example many_writers -- [SECONDS] [THREADS] [SUBSCRIBERS] [sync|buffered]`

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed check should stop the example"
)]

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{Durability, Error, Position};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (seconds, threads, subscribers) = (number(0, 2)?, number(1, 64)?, number(2, 8)?);
    let durability = match arguments.get(3).map(String::as_str) {
        Some("buffered") => Durability::Buffered,
        _ => Durability::Sync,
    };

    let directory = tempfile::tempdir()?;
    let store =
        Store::options().durability(durability).open(directory.path().join("stress.annals"))?;
    let stop = AtomicBool::new(false);
    let latencies = Mutex::new(Vec::new());
    let begun = Instant::now();
    thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
        let followers: Vec<_> =
            (0..subscribers).map(|_| scope.spawn(|| follow(&store, &stop))).collect();
        let writers: Vec<_> = (0..threads).map(|_| scope.spawn(|| write(&store, &stop))).collect();
        thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            let written = writer.join().expect("a writer panicked")?;
            latencies.lock().expect("no writer panicked").extend(written);
        }
        let head = store.head()?.map_or(0, Position::get);
        for follower in followers {
            let seen = follower.join().expect("a subscriber panicked")?;
            assert_eq!(seen, head, "a subscriber missed events");
        }
        Ok(())
    })?;
    let elapsed = begun.elapsed().as_secs_f64();

    let mut latencies = latencies.into_inner()?;
    latencies.sort_unstable();
    let percentile = |part: usize| latencies[(latencies.len() - 1) * part / 100];
    let appends = latencies.len();
    println!("{appends} appends by {threads} threads in {elapsed:.1} s, durability {durability:?}");
    println!("{:.0} appends/s", f64::from(u32::try_from(appends)?) / elapsed);
    println!(
        "latency p50 {:?}, p99 {:?}, max {:?}",
        percentile(50),
        percentile(99),
        percentile(100)
    );
    println!("{subscribers} subscribers each saw every event once and in order");
    let report = store.verify(|_| {})?;
    assert!(report.is_sound(), "{:?}", report.damage);
    println!("verified {} events in {} streams", report.events, report.streams);
    store.close()?;
    Ok(())
}

/// Appends to random streams until `stop` is set; returns how long each append took.
fn write(store: &Store, stop: &AtomicBool) -> Result<Vec<Duration>, Error> {
    let mut latencies = Vec::new();
    let mut random = RandomState::new().build_hasher().finish();
    while !stop.load(Ordering::SeqCst) {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let event = NewEvent::bytes("Happened", vec![7; 200])?;
        let begun = Instant::now();
        let appended = store.append(
            format!("stream-{}", (random >> 33) % 20_000),
            ExpectedVersion::Any,
            [event],
        )?;
        latencies.push(begun.elapsed());
        assert!(
            store.head()? >= Some(appended.last_position()),
            "an append is visible to its caller"
        );
    }
    Ok(latencies)
}

/// Follows until the writers have stopped and every event was seen; returns the number of events.
fn follow(store: &Store, stop: &AtomicBool) -> Result<u64, Error> {
    let mut following = store.subscribe().start()?;
    let mut seen = 0;
    loop {
        match following.recv_timeout(Duration::from_millis(300))? {
            Delivery::Event(event) => {
                seen += 1;
                assert_eq!(event.position().get(), seen, "every event once and in order");
            }
            Delivery::Idle if stop.load(Ordering::SeqCst) => return Ok(seen),
            _ => {}
        }
    }
}
