//! What becomes of the costs as a history grows: append, load, open and replay, memory and disk, from a million events
//! on, and from a thousand streams to millions. Costs that should stay flat are seen to stay flat, or not.
//!
//! `cargo bench --all-features --bench growth -- --events 30000000`
//!
//! Writes a table to standard output, and with `--svg FILE` a picture. Works in a directory below `--dir`, and removes
//! it. Without `--events` it stops at three million.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../common/mod.rs"]
mod common;
mod picture;
mod process;

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annals::prelude::*;
use common::{Events, PAYLOAD, buffered, stream};
use tempfile::TempDir;

/// With fewer events there is nothing to see.
const LEAST: u64 = 10_000;
/// Events of one append.
const APPEND: u64 = 10;
/// Events of a stream, where the number of streams grows with the log.
const STREAM: u64 = 10;
/// How many streams are loaded at each step.
const LOADS: u64 = 2_000;
/// The log of the series in which only the number of streams grows.
const LOG: u64 = 3_000_000;

/// What is measured at a step.
struct Step {
    events: u64,
    streams: u64,
    /// Events per second, since the step before.
    append: f64,
    /// Microseconds of one append.
    append_p50: f64,
    append_p99: f64,
    /// Seconds until compaction had nothing more to do.
    settle: f64,
    /// Microseconds to load one stream, for the first time after opening and again.
    load_first: f64,
    load_again: f64,
    /// Events of such a stream.
    load_events: f64,
    /// Events per second.
    replay: f64,
    /// Milliseconds.
    open: f64,
    open_after_crash: f64,
    /// Bytes on disk for one event.
    disk: f64,
    /// Bytes written to the disk for each byte of payload, since the store was made.
    written: f64,
    /// MiB of the process.
    memory: f64,
}

struct Options {
    events: u64,
    dir: PathBuf,
    svg: Option<PathBuf>,
}

fn main() {
    let Some(options) = Options::parse() else { return };
    let log_grows =
        series(&options.dir, &steps(1_000_000, options.events), |events| events / STREAM);
    let most = options.events.min(LOG);
    let streams_grow: Vec<Step> = [1_000, 30_000, 300_000, 3_000_000]
        .into_iter()
        .filter(|streams| *streams <= most)
        .flat_map(|streams| series(&options.dir, &[most], |_| streams))
        .collect();
    println!("## As the log grows, streams of {STREAM} events\n\n{}", table(&log_grows));
    println!("## As the number of streams grows, {most} events\n\n{}", table(&streams_grow));
    if let Some(path) = options.svg {
        std::fs::write(path, picture::svg(&log_grows)).unwrap();
    }
}

impl Options {
    /// `None` if this is a test of all targets. Ends the program if the arguments cannot be understood.
    fn parse() -> Option<Self> {
        let mut options = Self { events: LOG, dir: std::env::temp_dir(), svg: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = match name.as_str() {
                "--bench" => continue,
                "--test" => return None,
                _ => arguments.next(),
            };
            match (name.as_str(), value) {
                ("--events", Some(value)) => options.events = events(&value),
                ("--dir", Some(value)) => options.dir = value.into(),
                ("--svg", Some(value)) => options.svg = Some(value.into()),
                _ => refuse(&name),
            }
        }
        Some(options)
    }
}

fn events(value: &str) -> u64 {
    match value.parse() {
        Ok(events) if events >= LEAST => events,
        _ => refuse(&format!("--events {value}")),
    }
}

fn refuse(what: &str) -> ! {
    eprintln!("growth: it takes --events N (from {LEAST} on), --dir DIR, --svg FILE; not {what}");
    std::process::exit(2)
}

/// 1, 3, 10, 30… times `first`, up to `last`.
fn steps(first: u64, last: u64) -> Vec<u64> {
    let mut steps = Vec::new();
    let mut step = first;
    while step < last {
        steps.push(step);
        step = if steps.len() % 2 == 1 { step * 3 } else { step / 3 * 10 };
    }
    steps.push(last);
    steps
}

/// Lets a store grow, and measures at each step; how many streams there are then, `streams` says.
fn series(dir: &Path, steps: &[u64], streams: impl Fn(u64) -> u64) -> Vec<Step> {
    let directory = TempDir::new_in(dir).unwrap();
    let path = directory.path().join("store");
    let written_before = process::written();
    let mut events = 0;
    let mut source = Events::new(PAYLOAD);
    let measured = steps.iter().map(|step| {
        let streams = streams(*step);
        eprintln!("growth: {step} events in {streams} streams");
        let store = buffered().open(&path).unwrap();
        let added = step - events;
        let (taken, took) = append(&store, &mut source, added, streams);
        store.close().unwrap();
        // What is closed is compacted by whoever opens it next.
        let store = buffered().open(&path).unwrap();
        let settle = process::settle();
        let open_after_crash = open_after_crash(&store, directory.path());
        store.close().unwrap();
        events = *step;

        let began = Instant::now();
        let store = buffered().open(&path).unwrap();
        let open = began.elapsed();
        let (load_first, load_events) = load(&store, &mut Events::new(PAYLOAD), streams);
        let (load_again, _) = load(&store, &mut Events::new(PAYLOAD), streams);
        let replay = replay(&store);
        let measured = Step {
            events,
            streams,
            append: added as f64 / took.as_secs_f64(),
            append_p50: process::percentile(&taken, 50),
            append_p99: process::percentile(&taken, 99),
            settle: settle.as_secs_f64(),
            load_first,
            load_again,
            load_events,
            replay,
            open: open.as_secs_f64() * 1e3,
            open_after_crash: open_after_crash.as_secs_f64() * 1e3,
            disk: process::bytes_below(&path) as f64 / events as f64,
            written: (process::written() - written_before) as f64
                / (events * PAYLOAD as u64) as f64,
            memory: process::memory() as f64 / f64::from(1 << 20),
        };
        store.close().unwrap();
        measured
    });
    measured.collect()
}

/// Appends events to streams by chance. The events are made before the clock runs.
fn append(
    store: &Store,
    source: &mut Events,
    events: u64,
    streams: u64,
) -> (Vec<Duration>, Duration) {
    const MADE: u64 = 1_000;
    let mut taken = Vec::with_capacity(usize::try_from(events / APPEND).unwrap());
    let mut left = events / APPEND;
    while left > 0 {
        let made = left.min(MADE);
        let appends: Vec<_> = (0..made)
            .map(|_| {
                let id = StreamId::new(stream(source.below(streams))).unwrap();
                (id, source.next(usize::try_from(APPEND).unwrap()))
            })
            .collect();
        for (stream, events) in appends {
            let began = Instant::now();
            store.append(stream, ExpectedVersion::Any, events).unwrap();
            taken.push(began.elapsed());
        }
        left -= made;
    }
    let took = taken.iter().sum();
    (taken, took)
}

/// The middle of the time that loading a stream took, and how many events one has.
fn load(store: &Store, source: &mut Events, streams: u64) -> (f64, f64) {
    let mut events: u64 = 0;
    let mut taken = Vec::new();
    for _ in 0..LOADS {
        let stream = stream(source.below(streams));
        let began = Instant::now();
        let mut count = 0;
        let read = store.read_stream(stream).limit(100).for_each(|_| {
            count += 1;
            ControlFlow::Continue(())
        });
        read.unwrap();
        taken.push(began.elapsed());
        events += count;
    }
    (process::percentile(&taken, 50), events as f64 / LOADS as f64)
}

fn replay(store: &Store) -> f64 {
    let began = Instant::now();
    let mut events: u64 = 0;
    let read = store.read_log().for_each(|_| {
        events += 1;
        ControlFlow::Continue(())
    });
    read.unwrap();
    events as f64 / began.elapsed().as_secs_f64()
}

/// How long it takes to open what a crash leaves: a backup has the write-ahead log of its original. The store itself
/// stays as it is.
fn open_after_crash(store: &Store, beside: &Path) -> Duration {
    let [used, crashed] = ["used", "crashed"].map(|name| beside.join(name));
    store.backup(&used).unwrap();
    let copy = buffered().open(&used).unwrap();
    // About as much as memtables hold before they are flushed.
    append(&copy, &mut Events::new(PAYLOAD), 60_000, 1_000);
    copy.backup(&crashed).unwrap();
    drop(copy);
    let began = Instant::now();
    let opened = buffered().open(&crashed).unwrap();
    let took = began.elapsed();
    drop(opened);
    for copy in [used, crashed] {
        std::fs::remove_dir_all(copy).unwrap();
    }
    took
}

fn table(steps: &[Step]) -> String {
    let mut out = String::from(
        "| events | streams | append, events/s | of 10, p50 / p99 µs | then settled, s | load, first / again µs \
         | of events | replay, events/s | open, ms | after a crash, ms | disk, B/event | written / payload \
         | memory, MiB |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for step in steps {
        let Step { events, streams, append, append_p50, append_p99, settle, .. } = step;
        let Step { load_first, load_again, load_events, replay, open, .. } = step;
        let Step { open_after_crash, disk, written, memory, .. } = step;
        let _ = writeln!(
            out,
            "| {events} | {streams} | {append:.0} | {append_p50:.1} / {append_p99:.1} | {settle:.1} \
             | {load_first:.1} / {load_again:.1} | {load_events:.0} | {replay:.0} | {open:.0} \
             | {open_after_crash:.0} | {disk:.0} | {written:.1} | {memory:.0} |"
        );
    }
    out
}
