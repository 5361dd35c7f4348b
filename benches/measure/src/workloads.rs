//! `measure workloads`: the workloads of a public benchmark of event stores, in one process.
//!
//! The definitions are those of <https://github.com/pyeventsourcing/event-store-benchmark> at
//! commit 35b6c2fd, in `configs/scaling-streams.yaml` and
//! `rust/bench-core/src/workloads/performance.rs`. The names of its parameters are in brackets.
//!
//! - Each writer appends one event of [`EVENT_BYTES`] zeros (`event_size_bytes`) at a time, and
//!   waits for the answer. After [`STREAM_EVENTS`] events (`stream_len`) it begins another stream.
//!   No two writers share a stream. `write-stream-conditional` expects the stream's position, or
//!   for a store without versions, no event of the stream after the writer's last append
//!   (`concurrency_control`); `write-stream-unconditional` expects nothing.
//! - `read-stream` first writes [`READ_STREAMS`] streams (`prepopulate_streams`) of
//!   [`STREAM_EVENTS`] events each (50,000 `prepopulate_events`), one append for each stream. Each
//!   reader then reads one whole stream at a time (`limit` 10), chosen uniformly at random.
//! - There are 1 to 1,024 `writers` or `readers`, in powers of two. Each run begins with an empty
//!   store, warms up for 1 s (`warmup_seconds`), and is measured for 60 s (`duration_seconds`).
//! - It reports events per second, and percentiles of the latency of each append or read. It leaves
//!   durability to each store's defaults; here, every append is synced.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::value_parser;

use crate::Result;
use crate::measure::{Measured, Recorder, at_once};
use crate::peers::ask::Figure;
use crate::peers::contender::{Append, Contender, Durability, Event, Part};
use crate::peers::contenders::{Entry, Role};
use crate::peers::report::{self, Asked, Question, SUMMARY};
use crate::peers::workload::{Random, SEED, Tally};
use crate::peers::{self, Memory};
use crate::place::Place;
use crate::report::{Report, table};

const EVENT_BYTES: usize = 256;
const STREAM_EVENTS: u64 = 10;
const READ_STREAMS: u64 = 5_000;
const WORKERS_MAX: u64 = 1_024;
static PAYLOAD: [u8; EVENT_BYTES] = [0; EVENT_BYTES];

const INTRODUCTION: &str = "\
The stream workloads of https://github.com/pyeventsourcing/event-store-benchmark, run in one \
process with a thread for each writer or reader. Every append is synced before it is acknowledged. \
CPU is that of one event.

These of its adapters need a server and are not run: axonserver, eventsourcingdb, fact, kurrentdb, \
postgres-dcb-marten, postgres-dcb-ttcte. umadb is a server there, and embedded here. These of its \
workloads are not run, because a contender has neither asynchronous appends nor queries by event \
type: scaling-writeflood, write-one-tag-one-type, read-one-tag-one-type.
";

/// Measure annals with the workloads of event-store-benchmark
///
/// These are the stream workloads of <https://github.com/pyeventsourcing/event-store-benchmark>, on
/// annals and the contenders of `peers`. Every append is synced.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of writers, or of readers
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,4,16,64,256")]
    #[arg(value_parser = value_parser!(u64).range(1..=WORKERS_MAX))]
    workers: Vec<u64>,
    /// Number of streams that are written before they are read
    #[arg(long, value_name = "N", default_value_t = READ_STREAMS)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    streams: u64,
    /// Number of rounds; the contenders take turns
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// How long each run is measured
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// How long each run warms up
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// Only these contenders
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = peers::contender)]
    only: Vec<&'static str>,
    #[command(flatten)]
    memory: Memory,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.0..=3_600.0).contains(&seconds) {
        return Err("from 0 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    WriteUnconditional,
    WriteConditional,
    Read,
}

impl Workload {
    const ALL: [Self; 3] = [Self::WriteUnconditional, Self::WriteConditional, Self::Read];

    /// Its name in event-store-benchmark.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteUnconditional => "write-stream-unconditional",
            Self::WriteConditional => "write-stream-conditional",
            Self::Read => "read-stream",
        }
    }

    pub fn worker(self) -> &'static str {
        if self == Self::Read { "reader" } else { "writer" }
    }

    fn can_run(self, entry: &Entry, workers: usize) -> bool {
        (workers == 1 || entry.concurrent) && (self != Self::Read || entry.readable)
    }
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    let (mut asked, mut text) = (Vec::new(), INTRODUCTION.to_owned());
    for workload in Workload::ALL {
        let mut rows = Vec::new();
        for workers in &args.workers {
            let one = compare(args, place, workload, usize::try_from(*workers)?);
            rows.extend(report::rows(&one).into_iter().map(|mut row| {
                row.insert(1, workers.to_string());
                row
            }));
            asked.push(one);
        }
        let workers = format!("{}s", workload.worker());
        let heads = [&["events/s", workers.as_str()], SUMMARY].concat();
        let _ = write!(text, "\n## {}\n\n{}", workload.name(), table(&heads, &rows));
    }
    Ok(report::complete(text, &asked))
}

/// Runs a workload on each contender in turn.
fn compare(args: &Args, place: &Place, workload: Workload, workers: usize) -> Asked {
    let mut entries = peers::entries(&args.only);
    entries.retain(|entry| workload.can_run(entry, workers));
    let question = Question::Workload { workload, workers };
    eprintln!("{}", question.title());
    let mut asked = Asked::new(question, &entries);
    for round in 1..=args.rounds {
        for (entry, answer) in entries.iter().zip(&mut asked.answers) {
            let figure = place
                .within("workload", |directory| measure(args, workload, workers, entry, directory));
            peers::note(answer, figure, round, question.unit());
        }
    }
    asked
}

/// Runs a workload once, on a new store.
fn measure(
    args: &Args,
    workload: Workload,
    workers: usize,
    entry: &Entry,
    directory: &Path,
) -> Result<Figure> {
    let settings = args.memory.budget().settings(directory, Durability::Sync);
    let contender = (entry.open)(&settings)?;
    let store = &*contender;
    let randoms = (0..workers as u64).map(|number| Random::new(SEED ^ (number + 1) << 32));
    let measured = if workload == Workload::Read {
        let names = prepopulate(store, args.streams)?;
        let read = |random: &mut Random, recorder: &mut Recorder| {
            read(store, entry.role, &names[random.below(names.len())], recorder)
        };
        repeat(args, randoms.collect(), read)?
    } else {
        let is_conditional = workload == Workload::WriteConditional;
        let writers = randoms.map(|random| Writer::new(random, is_conditional)).collect();
        repeat(args, writers, |writer, recorder| writer.append(store, recorder))?
    };
    contender.close()?;
    Ok(Figure::rate(&measured))
}

/// Lets each worker repeat an operation on its own thread, first to warm up, then measured.
fn repeat<W: Send>(
    args: &Args,
    mut workers: Vec<W>,
    operation: impl Fn(&mut W, &mut Recorder) -> Result<()> + Sync,
) -> Result<Measured> {
    let mut run_for = |time: Duration| {
        at_once(workers.iter_mut().collect(), |worker: &mut W, recorder| {
            let end = Instant::now() + time;
            loop {
                operation(worker, recorder)?;
                if Instant::now() >= end {
                    return Ok(());
                }
            }
        })
    };
    run_for(args.warmup)?;
    Ok(run_for(args.seconds)?.measured())
}

/// The name of a new stream: 44 bytes, with a random part in the form of a UUID.
fn new_stream(random: &mut Random) -> String {
    let mut id = format!("{:032x}", u128::from_be_bytes(random.id()));
    for dash in [8, 13, 18, 23] {
        id.insert(dash, '-');
    }
    format!("stream-{id}-")
}

/// A writer of one stream after the other.
struct Writer {
    random: Random,
    is_conditional: bool,
    stream: String,
    /// The number of events in the stream.
    version: u64,
    /// The position of its last event in the log.
    as_of: u64,
}

impl Writer {
    fn new(mut random: Random, is_conditional: bool) -> Self {
        let stream = new_stream(&mut random);
        Self { random, is_conditional, stream, version: 0, as_of: 0 }
    }

    fn append(&mut self, store: &dyn Contender, recorder: &mut Recorder) -> Result<()> {
        let event = Event { id: self.random.id(), payload: &PAYLOAD };
        let part = Part { stream: &self.stream, expected: self.version, events: vec![event] };
        let Self { as_of, is_conditional, .. } = *self;
        let append = Append { parts: vec![part], as_of, is_conditional };
        recorder.run(|| {
            self.as_of = store.append(&append)?;
            Ok(1)
        })?;
        self.version += 1;
        if self.version == STREAM_EVENTS {
            (self.stream, self.version) = (new_stream(&mut self.random), 0);
        }
        Ok(())
    }
}

/// Writes the streams to read, and returns their names.
fn prepopulate(store: &dyn Contender, streams: u64) -> Result<Vec<String>> {
    let mut random = Random::new(SEED);
    let prefix = new_stream(&mut random);
    let names: Vec<_> = (0..streams).map(|number| format!("{prefix}{number}")).collect();
    for stream in &names {
        let event = |_| Event { id: random.id(), payload: &PAYLOAD };
        let events = (0..STREAM_EVENTS).map(event).collect();
        let parts = vec![Part { stream, expected: 0, events }];
        store.append(&Append { parts, as_of: 0, is_conditional: false })?;
    }
    Ok(names)
}

/// Reads a whole stream. Fails if anything is missing.
fn read(store: &dyn Contender, role: Role, stream: &str, recorder: &mut Recorder) -> Result<()> {
    let mut tally = Tally::default();
    recorder.run(|| {
        store.read_stream(stream, &mut |seen| tally.see(&seen))?;
        Ok(STREAM_EVENTS)
    })?;
    let Tally { events, bytes, .. } = tally;
    let expected = STREAM_EVENTS * EVENT_BYTES as u64;
    // A baseline decodes nothing, so it returns whole frames, each with the events of one append.
    let holds_all = match role {
        Role::Baseline => bytes >= expected,
        Role::Annals | Role::Peer => (events, bytes) == (STREAM_EVENTS, expected),
    };
    if holds_all { Ok(()) } else { Err(format!("{stream}: read {tally:?}").into()) }
}
