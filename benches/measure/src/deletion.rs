//! `measure deletion`: what a scavenge takes, and what it costs appends and reads.

use std::fmt::Write;
use std::fs;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    Append, Durability, Retention, RetentionScope, ScavengeOptions, Scavenged, Store, Timestamp,
};
use clap::value_parser;
use serde::Serialize;
use serde_json::json;

use crate::Result;
use crate::chart::{self, Bar};
use crate::place::Place;
use crate::report::{Report, grouped, table};

const INTRODUCTION: &str = "\
Each event has a payload of 100 bytes. They are in 10 categories with 1,000 streams each, one event \
of each category after the other. Two threads append single events with `Sync` to other streams, \
first alone, then during the scavenge. Reads are a replay of the whole log, and loads of streams.
";
const CATEGORIES: u64 = 10;
const STREAMS: u64 = 1_000;
const BATCH: u64 = 1_000;
const PAYLOAD: usize = 100;
/// The time between two events of the history.
const STEP: Duration = Duration::from_millis(50);

/// Measure scavenging
///
/// Deletes the oldest third of all events, and then, in another store, one category of ten: how long
/// it takes, what it writes, what it frees, and how long concurrent appends and later reads take.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of events in the store
    #[arg(long, value_name = "N", default_value_t = 3_000_000)]
    #[arg(value_parser = value_parser!(u64).range(10_000..=100_000_000))]
    events: u64,
    /// How long appends and loads are measured alone
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
}

/// The figures of one case.
#[derive(Debug, Serialize)]
struct Case {
    title: String,
    events: u64,
    deleted: u64,
    seconds: f64,
    written_bytes: u64,
    tables_before: u64,
    tables_most: u64,
    tables_after: u64,
    append_p99_micros: [f64; 2],
    replay_per_second: [f64; 2],
    load_micros: [f64; 2],
}

impl Case {
    fn row(&self) -> Vec<String> {
        let mib = |bytes: u64| grouped(bytes as f64 / f64::from(1 << 20));
        let both = |[before, after]: [f64; 2]| {
            format!("{}, {} ({:.2} ×)", grouped(before), grouped(after), after / before)
        };
        vec![
            self.title.clone(),
            grouped(self.deleted as f64),
            grouped(self.seconds),
            mib(self.written_bytes),
            format!(
                "{}, {}, {}",
                mib(self.tables_before),
                mib(self.tables_most),
                mib(self.tables_after)
            ),
            both(self.append_p99_micros),
            both(self.replay_per_second),
            both(self.load_micros),
        ]
    }
}

fn stream(category: u64, number: u64) -> StreamId {
    StreamId::new(format!("c{category}-{number}")).unwrap_or_else(|_| unreachable!("a valid name"))
}

/// Appends a history that ends about now.
fn fill(store: &Store, events: u64) -> Result<()> {
    let begin = store.now() - STEP * u32::try_from(events)?;
    let mut next = 0;
    while next < events {
        let mut append = Append::new().with_durability(Durability::Buffered);
        for number in next..(next + BATCH).min(events) {
            let at: Timestamp = begin + STEP * u32::try_from(number)?;
            let event = NewEvent::bytes("Happened", vec![b'x'; PAYLOAD])?.with_recorded_at(at);
            let of = (number / CATEGORIES * 7_919) % STREAMS;
            append = append.to(stream(number % CATEGORIES, of), ExpectedVersion::Any, [event]);
        }
        store.submit(append)?;
        next += BATCH;
        if next.is_multiple_of(1_000_000) {
            eprintln!("  {} events", grouped(next as f64));
        }
    }
    Ok(())
}

/// Appends on two threads until `work` is over; returns its result and the p99 in microseconds.
fn beside<T>(store: &Store, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let (is_over, micros) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let done = thread::scope(|scope| {
        for writer in 0..2_u64 {
            let (is_over, micros) = (&is_over, &micros);
            scope.spawn(move || {
                let mut own = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let event = NewEvent::bytes("Happened", vec![b'y'; PAYLOAD]);
                    let Ok(event) = event else { break };
                    let began = Instant::now();
                    let to = stream(CATEGORIES, writer);
                    if store.append(&to, ExpectedVersion::Any, [event]).is_err() {
                        break;
                    }
                    own.push(began.elapsed().as_secs_f64() * 1e6);
                }
                if let Ok(mut micros) = micros.lock() {
                    micros.extend(own);
                }
            });
        }
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })?;
    let mut micros = micros.into_inner().unwrap_or_default();
    micros.sort_by(f64::total_cmp);
    let p99 = micros.get(micros.len() * 99 / 100).copied().unwrap_or_default();
    Ok((done, p99))
}

/// Events per second of a replay, and microseconds of a load.
fn reads(store: &Store, seconds: f64) -> Result<[f64; 2]> {
    let mut events = 0_u64;
    let began = Instant::now();
    store.read_log().for_each(|_| {
        events += 1;
        ControlFlow::Continue(())
    })?;
    let replay = events as f64 / began.elapsed().as_secs_f64();
    let (began, mut loads) = (Instant::now(), 0_u64);
    while began.elapsed().as_secs_f64() < seconds {
        let of = stream(loads % CATEGORIES, loads * 31 % STREAMS);
        store.read_stream(&of).backward().limit(20).for_each(|_| ControlFlow::Continue(()))?;
        loads += 1;
    }
    Ok([replay, began.elapsed().as_secs_f64() * 1e6 / loads as f64])
}

/// The bytes that this process has caused to be written.
fn written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.unwrap_or("0").trim().parse()?)
}

fn scavenge(store: &Store) -> Result<(Scavenged, u64)> {
    let (is_over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let bytes = store.info().map(|info| info.table_bytes).unwrap_or_default();
                most.fetch_max(bytes, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(200));
            }
        });
        let done = store.scavenge(&ScavengeOptions::new(), |_| {});
        is_over.store(true, Ordering::Relaxed);
        done
    })?;
    Ok((done, most.into_inner()))
}

fn measure(
    title: &str,
    path: &Path,
    args: &Args,
    retain: impl FnOnce(&Store) -> Result<()>,
) -> Result<Case> {
    eprintln!("{title}");
    let store = Store::open(path)?;
    fill(&store, args.events)?;
    store.close()?;
    let store = Store::open(path)?;
    retain(&store)?;
    let before = reads(&store, args.seconds)?;
    let rest = Duration::from_secs_f64(args.seconds);
    let ((), alone) = beside(&store, || {
        thread::sleep(rest);
        Ok(())
    })?;
    let tables_before = store.info()?.table_bytes;
    let (began, written_before) = (Instant::now(), written()?);
    let ((done, most), during) = beside(&store, || scavenge(&store))?;
    let seconds = began.elapsed().as_secs_f64();
    let written_bytes = written()? - written_before;
    let tables_after = store.info()?.table_bytes;
    let after = reads(&store, args.seconds)?;
    store.close()?;
    Ok(Case {
        title: title.to_owned(),
        events: args.events,
        deleted: done.events,
        seconds,
        written_bytes,
        tables_before,
        tables_most: most.max(tables_before),
        tables_after,
        append_p99_micros: [alone, during],
        replay_per_second: [before[0], after[0]],
        load_micros: [before[1], after[1]],
    })
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    if !(0.01..=3_600.0).contains(&args.seconds) {
        return Err("--seconds: from 0.01 to 3600".into());
    }
    let third = STEP * u32::try_from(args.events / 3)?;
    let oldest = place.within("oldest", |directory| {
        measure("the oldest third", &directory.join("store"), args, |store| {
            let span = STEP * u32::try_from(args.events)?;
            for category in 0..CATEGORIES {
                let scope = RetentionScope::Category(format!("c{category}"));
                // The filling has taken some time, too.
                store.set_retention(&scope, Some(Retention::for_time(span - third)))?;
            }
            Ok(())
        })
    })?;
    let category = place.within("category", |directory| {
        measure("one category of ten", &directory.join("store"), args, |store| {
            let newest = Retention::newest(NonZeroU64::MIN);
            store.set_retention(&RetentionScope::Category("c3".to_owned()), Some(newest))?;
            Ok(())
        })
    })?;
    let cases = [oldest, category];
    let heads = [
        "deleted",
        "events",
        "seconds",
        "MiB written",
        "MiB of tables before, at most, after",
        "p99 of appends alone, during (µs)",
        "replay before, after (events/s)",
        "20 newest events before, after (µs)",
    ];
    let mut text = INTRODUCTION.to_owned();
    let rows: Vec<_> = cases.iter().map(Case::row).collect();
    let title = format!("Scavenging a store of {} events", grouped(args.events as f64));
    let _ = write!(text, "\n## {title}\n\n{}", table(&heads, &rows));
    let bar = |case: &Case| Bar {
        name: case.title.clone(),
        value: Some(case.seconds),
        range: None,
        label: format!("{} s", grouped(case.seconds)),
        color: chart::OWN,
        is_pale: false,
    };
    let svg = chart::bars(&[(title, cases.iter().map(bar).collect())]);
    Ok(Report { text, json: json!({ "cases": cases }), svg, failures: 0 })
}
