//! `measure growth`: the costs as a history grows: append, load, open and replay, memory and disk,
//! from a million events up, and from a thousand streams to millions. It shows whether costs that
//! should stay flat do.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use annals::{Durability, EventStoreExt, ExpectedVersion, Store, StoreOptions};
use clap::value_parser;
use serde::Serialize;
use serde_json::json;

use crate::chart::{self, Curve};
use crate::measure::{Measured, Recorder, rest, timed};
use crate::place::{Place, file_bytes, remove};
use crate::report::{Report, table};
use crate::source::{Ready, Source};
use crate::{Result, machine};

/// With fewer events there is nothing to see.
const LEAST: u64 = 10_000;
/// Events of one append.
const APPEND: u32 = 10;
/// Events of a stream, if the number of streams grows with the log.
const STREAM: u64 = 10;
/// Bytes of a payload.
const PAYLOAD: u32 = 200;
/// How many streams are loaded at each step.
const LOADS: u64 = 2_000;
/// The log of the series in which only the number of streams grows.
const LOG: u64 = 3_000_000;
/// Longer than any compaction should take.
const REST_MAX: Duration = Duration::from_secs(600);

/// Measure every cost as the history grows
///
/// One store grows, and is measured at each step. Then the number of streams grows, in logs of the
/// same length.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of events at which the log stops growing
    #[arg(long, value_name = "N", default_value_t = LOG)]
    #[arg(value_parser = value_parser!(u64).range(LEAST..))]
    events: u64,
}

/// The measurements of a step.
#[derive(Debug, Serialize)]
struct Step {
    events: u64,
    streams: u64,
    /// Events per second, since the previous step.
    append: f64,
    /// Microseconds of one append.
    append_p50: f64,
    append_p99: f64,
    /// Seconds until compaction finished.
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
    /// Memory of the process in MiB.
    memory: f64,
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    let log_grows = series(place, &steps(1_000_000, args.events), |events| events / STREAM)?;
    let most = args.events.min(LOG);
    let mut streams_grow = Vec::new();
    for streams in [1_000, 30_000, 300_000, 3_000_000] {
        if streams <= most {
            streams_grow.extend(series(place, &[most], |_| streams)?);
        }
    }
    let text = format!(
        "## As the log grows, streams of {STREAM} events\n\n{}\n\
         ## As the number of streams grows, {most} events\n\n{}",
        rows(&log_grows),
        rows(&streams_grow)
    );
    let json = json!({ "log_grows": log_grows, "streams_grow": streams_grow });
    Ok(Report { text, json, svg: picture(&log_grows), failures: 0 })
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

fn buffered() -> StoreOptions {
    Store::options().durability(Durability::Buffered)
}

/// Grows a store, and measures at each step; `streams` returns the number of streams at a step.
fn series(place: &Place, steps: &[u64], streams: impl Fn(u64) -> u64) -> Result<Vec<Step>> {
    place.within("growth", |directory| {
        let written_before = machine::written();
        let mut source = Source::new(1, PAYLOAD)?;
        let (mut events, mut measured) = (0, Vec::new());
        for step in steps {
            source.streams = streams(*step);
            eprintln!("growth: {step} events in {} streams", source.streams);
            let mut step = measure(directory, &mut source, events, *step)?;
            events = step.events;
            let payload = (events * u64::from(PAYLOAD)) as f64;
            step.written = (machine::written() - written_before) as f64 / payload;
            measured.push(step);
        }
        Ok(measured)
    })
}

/// Grows the store from one number of events to another, and measures it then.
fn measure(directory: &Path, source: &mut Source, before: u64, events: u64) -> Result<Step> {
    let path = directory.join("store");
    let store = buffered().open(&path)?;
    let appended = append(&store, source, events - before)?;
    store.close()?;
    // The next open compacts a closed store.
    let store = buffered().open(&path)?;
    let (settle, _) = rest(REST_MAX)?;
    let open_after_crash = open_after_crash(&store, directory)?;
    store.close()?;
    let (open, store) = timed(|| Ok(buffered().open(&path)?))?;
    let (load_first, load_events) = load(&store, source.streams)?;
    let (load_again, _) = load(&store, source.streams)?;
    let (replay, seen) = timed(|| {
        let mut seen: u64 = 0;
        store.read_log().for_each(|_| {
            seen += 1;
            ControlFlow::Continue(())
        })?;
        Ok(seen)
    })?;
    let (append_p50, append_p99) = appended.micros();
    let step = Step {
        events,
        streams: source.streams,
        append: appended.per_second(),
        append_p50,
        append_p99,
        settle: settle.as_secs_f64(),
        load_first,
        load_again,
        load_events,
        replay: seen as f64 / replay.as_secs_f64(),
        open: open.as_secs_f64() * 1e3,
        open_after_crash: open_after_crash.as_secs_f64() * 1e3,
        disk: file_bytes(&path)? as f64 / events as f64,
        written: 0.0,
        memory: machine::memory() as f64 / f64::from(1 << 20),
    };
    store.close()?;
    Ok(step)
}

/// Appends events to random streams. The events are made before the clock starts.
fn append(store: &Store, source: &mut Source, events: u64) -> Result<Measured> {
    const MADE: u64 = 1_000;
    let mut recorder = Recorder::new();
    let mut left = events / u64::from(APPEND);
    while left > 0 {
        let made = left.min(MADE);
        for Ready { stream, events } in source.appends(usize::try_from(made)?, APPEND)? {
            let append = || Ok(store.append(stream, ExpectedVersion::Any, events)?);
            recorder.run(|| append().map(|_| u64::from(APPEND)))?;
        }
        left -= made;
    }
    Ok(recorder.measured())
}

/// The median microseconds to load a stream, and the number of its events.
fn load(store: &Store, streams: u64) -> Result<(f64, f64)> {
    let (mut source, mut recorder) = (Source::new(streams, PAYLOAD)?, Recorder::new());
    for _ in 0..LOADS {
        let stream = source.stream()?;
        recorder.run(|| {
            let mut count = 0;
            store.read_stream(stream).limit(100).for_each(|_| {
                count += 1;
                ControlFlow::Continue(())
            })?;
            Ok(count)
        })?;
    }
    let loads = recorder.measured();
    Ok((loads.micros().0, loads.count as f64 / LOADS as f64))
}

/// How long it takes to open a store after a crash: a backup has the write-ahead log of its
/// original. The store itself is unchanged.
fn open_after_crash(store: &Store, next_to: &Path) -> Result<Duration> {
    let [used, crashed] = ["used", "crashed"].map(|name| next_to.join(name));
    store.backup(&used)?;
    let copy = buffered().open(&used)?;
    // About as much as memtables hold before they are flushed.
    append(&copy, &mut Source::new(1_000, PAYLOAD)?, 60_000)?;
    copy.backup(&crashed)?;
    drop(copy);
    let (took, opened) = timed(|| Ok(buffered().open(&crashed)?))?;
    drop(opened);
    remove(&used)?;
    remove(&crashed)?;
    Ok(took)
}

/// A step in a table: head and cell of each column.
fn cells(step: &Step) -> [(&'static str, String); 13] {
    let whole = |value: f64| format!("{value:.0}");
    let tenth = |value: f64| format!("{value:.1}");
    let pair = |one: f64, other: f64| format!("{one:.1} / {other:.1}");
    [
        ("events", step.events.to_string()),
        ("streams", step.streams.to_string()),
        ("append, events/s", whole(step.append)),
        ("of 10, p50 / p99 µs", pair(step.append_p50, step.append_p99)),
        ("then settled, s", tenth(step.settle)),
        ("load, first / again µs", pair(step.load_first, step.load_again)),
        ("of events", whole(step.load_events)),
        ("replay, events/s", whole(step.replay)),
        ("open, ms", whole(step.open)),
        ("after a crash, ms", whole(step.open_after_crash)),
        ("disk, B/event", whole(step.disk)),
        ("written / payload", tenth(step.written)),
        ("memory, MiB", whole(step.memory)),
    ]
}

fn rows(steps: &[Step]) -> String {
    let heads: Vec<_> = steps.first().into_iter().flat_map(cells).map(|(head, _)| head).collect();
    let row = |step| cells(step).map(|(_, cell)| cell).to_vec();
    table(&heads, &steps.iter().map(row).collect::<Vec<_>>())
}

fn picture(steps: &[Step]) -> String {
    let curve =
        |name, value: fn(&Step) -> f64| -> Curve { (name, steps.iter().map(value).collect()) };
    let axis: Vec<f64> = steps.iter().map(|step| step.events as f64).collect();
    let panels = [
        ("append, events/s", vec![curve("appends of 10", |step| step.append)]),
        (
            "append of 10 events, µs",
            vec![curve("p50", |step| step.append_p50), curve("p99", |step| step.append_p99)],
        ),
        (
            "load a stream of 10, µs",
            vec![curve("again", |step| step.load_again), curve("first", |step| step.load_first)],
        ),
        ("replay, events/s", vec![curve("borrowed", |step| step.replay)]),
        (
            "open, ms",
            vec![
                curve("after closing", |step| step.open),
                curve("after a crash", |step| step.open_after_crash),
            ],
        ),
        ("memory, MiB", vec![curve("resident", |step| step.memory)]),
        ("disk, bytes an event", vec![curve("after closing", |step| step.disk)]),
        ("written / payload", vec![curve("bytes", |step| step.written)]),
        ("until compaction rests, s", vec![curve("after appending", |step| step.settle)]),
    ];
    chart::curves(&axis, &panels)
}
