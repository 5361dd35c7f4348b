//! `measure tasks`: the async API next to the blocking one: appends of many tasks and of many
//! threads, and live subscribers of both.
//!
//! Each case runs in a process of its own, so that its peak memory is not that of an earlier one.

mod append;
mod counted;
mod follow;

use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::value_parser;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::chart::{self, Bar};
use crate::place::Place;
use crate::report::{Report, grouped, table, time};
use crate::source::{PAYLOAD_LEN_MAX, PAYLOAD_LEN_MIN};
use crate::{Failure, Result, machine};

/// Threads of the executor that runs the tasks.
const EXECUTOR_THREADS: usize = 2;
const WORKERS_MAX: u64 = 100_000;
/// More threads than this are not compared.
const FOLLOWING_THREADS_MAX: u64 = 100;

const INTRODUCTION: &str = "\
Tasks run on a tokio runtime with 2 worker threads. Each task or thread appends one event at a \
time, and waits for the answer. Subscribers are live, while one thread appends at a fixed pace: \
the latency is from the acknowledgement of an event to its delivery, and 0 if it was delivered \
before; CPU is the processor time of one delivery without that of appending; disk reads are the \
pages that were not in memory. Peak memory and threads are those of the whole process.
";

/// Measure the async API next to the blocking one
///
/// Appends of many tasks and of many threads, to streams of their own and to one stream; and live
/// subscribers. Each case runs in a process of its own; the cases take turns.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of tasks that append
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,10,100,1000,10000")]
    #[arg(value_parser = value_parser!(u64).range(1..=WORKERS_MAX))]
    tasks: Vec<u64>,
    /// Numbers of threads that append
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,4,16,64")]
    #[arg(value_parser = value_parser!(u64).range(1..=1_024))]
    threads: Vec<u64>,
    /// Numbers of live subscribers
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,10,100,1000")]
    #[arg(value_parser = value_parser!(u64).range(1..=WORKERS_MAX))]
    subscribers: Vec<u64>,
    /// Number of events that the subscribers receive
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = value_parser!(u64).range(1..=1_000_000))]
    events: u64,
    /// Number of these events per second
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = value_parser!(u64).range(1..=100_000))]
    pace: u64,
    /// Length of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    #[arg(value_parser = value_parser!(u32).range(PAYLOAD_LEN_MIN..=PAYLOAD_LEN_MAX))]
    payload: u32,
    /// How long each case that appends is measured, after a quarter of this time to warm up
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Number of rounds; the median round counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = value_parser!(u64).range(1..=100))]
    rounds: u64,
}

/// A case, as its process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Case {
    path: std::path::PathBuf,
    work: Work,
    /// Whether tasks do the work; otherwise threads.
    by_tasks: bool,
    workers: u64,
    payload: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Work {
    Append { is_hot: bool, is_synced: bool, seconds: f64 },
    Follow { events: u64, pace: u64 },
}

/// The figures of a case.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Figures {
    /// Events appended or delivered per second.
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Processor time of one event or delivery.
    cpu_us: f64,
    disk_reads: u64,
    pages_in_memory: u64,
    peak_memory: u64,
    threads: u64,
}

/// The case that this process measures.
#[derive(Debug, clap::Args)]
pub struct CaseArgs {
    case: String,
}

/// Runs one case, and prints its figures.
pub fn run_case(args: &CaseArgs) -> Result<()> {
    let case: Case = serde_json::from_str(&args.case)?;
    let mut figures = match case.work {
        Work::Append { is_hot, is_synced, seconds } => {
            append::run(&case, is_hot, is_synced, Duration::from_secs_f64(seconds))?
        }
        Work::Follow { events, pace } => follow::run(&case, events, pace)?,
    };
    figures.peak_memory = machine::peak_memory();
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

impl Case {
    /// `1,000 tasks`.
    fn name(&self) -> String {
        let what = if self.by_tasks { "task" } else { "thread" };
        crate::report::count(self.workers, what)
    }

    fn measure(&self, place: &Place) -> Result<Figures> {
        place.within("tasks", |directory| {
            let case = Self { path: directory.join("store"), ..self.clone() };
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("task-case").arg(serde_json::to_string(&case)?);
            let output = command.stderr(Stdio::inherit()).output()?;
            if !output.status.success() {
                return Err(format!("{} failed: {}", self.name(), output.status).into());
            }
            Ok(serde_json::from_slice(&output.stdout)?)
        })
    }
}

/// A table: a title, and its cases with the figures of each round.
type Table = (String, Vec<(Case, Vec<Figures>)>);

fn tables(args: &Args) -> Vec<Table> {
    let cases = |work: Work, tasks: &[u64], threads: &[u64]| {
        let case = |by_tasks, workers: &u64| {
            let (path, payload) = (std::path::PathBuf::new(), args.payload);
            (Case { path, work, by_tasks, workers: *workers, payload }, Vec::new())
        };
        let threads = threads.iter().map(|workers| case(false, workers));
        tasks.iter().map(|workers| case(true, workers)).chain(threads).collect::<Vec<_>>()
    };
    let mut tables = Vec::new();
    for (is_synced, durability) in [(true, "synced"), (false, "buffered")] {
        for (is_hot, streams) in [(false, "each to its own stream"), (true, "all to one stream")] {
            let work = Work::Append { is_hot, is_synced, seconds: args.seconds };
            let title = format!("Appends, {durability}, {streams}");
            tables.push((title, cases(work, &args.tasks, &args.threads)));
        }
    }
    let mut threads = args.subscribers.clone();
    threads.retain(|subscribers| *subscribers <= FOLLOWING_THREADS_MAX);
    let work = Work::Follow { events: args.events, pace: args.pace };
    let title = format!("Live subscribers, {} events, {} a second", args.events, args.pace);
    tables.push((title, cases(work, &args.subscribers, &threads)));
    tables
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    if !(0.01..=3_600.0).contains(&args.seconds) {
        return Err("--seconds: from 0.01 to 3600".into());
    }
    let mut tables = tables(args);
    for round in 1..=args.rounds {
        for (title, cases) in &mut tables {
            eprintln!("{title}, round {round}");
            for (case, rounds) in cases {
                let figures = case.measure(place)?;
                eprintln!("  {}: {}", case.name(), grouped(figures.per_second));
                rounds.push(figures);
            }
        }
    }
    let mut text = INTRODUCTION.to_owned();
    for (title, cases) in &tables {
        let is_following = cases.iter().any(|(case, _)| matches!(case.work, Work::Follow { .. }));
        let heads: &[&str] = if is_following {
            &["", "p50", "p99", "CPU", "disk reads", "pages in memory", "peak memory", "threads"]
        } else {
            &["", "events/s", "p50", "p99", "CPU", "peak memory", "threads"]
        };
        let rows: Vec<_> = cases.iter().map(|(case, rounds)| row(case, &median(rounds))).collect();
        let _ = write!(text, "\n## {title}\n\n{}", table(heads, &rows));
    }
    let panels: Vec<_> = tables.iter().map(panel).collect();
    Ok(Report { text, json: figures_of(&tables), svg: chart::bars(&panels), failures: 0 })
}

/// The round with the median speed.
fn median(rounds: &[Figures]) -> Figures {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

fn row(case: &Case, figures: &Figures) -> Vec<String> {
    let micros = |micros: f64| time(micros / 1e6);
    let mut row = vec![case.name()];
    if matches!(case.work, Work::Append { .. }) {
        row.push(grouped(figures.per_second));
    }
    row.extend([figures.p50_us, figures.p99_us, figures.cpu_us].map(micros));
    if matches!(case.work, Work::Follow { .. }) {
        row.extend([figures.disk_reads, figures.pages_in_memory].map(crate::report::whole));
    }
    row.push(format!("{} MiB", figures.peak_memory >> 20));
    row.push(figures.threads.to_string());
    row
}

/// Bars of the speed of appends, and of the latency of deliveries.
fn panel((title, cases): &Table) -> (String, Vec<Bar>) {
    let bar = |(case, rounds): &(Case, Vec<Figures>)| {
        let figures = median(rounds);
        let (value, label) = match case.work {
            Work::Append { .. } => {
                (figures.per_second, format!("{} events/s", grouped(figures.per_second)))
            }
            Work::Follow { .. } => {
                (figures.p50_us, format!("{} until delivered", time(figures.p50_us / 1e6)))
            }
        };
        let color = if case.by_tasks { chart::OWN } else { chart::BASELINE };
        let name = format!("{} {}", case.workers, if case.by_tasks { "tasks" } else { "threads" });
        Bar { name, value: Some(value), range: None, label, color, is_pale: false }
    };
    (title.clone(), cases.iter().map(bar).collect())
}

fn figures_of(tables: &[Table]) -> serde_json::Value {
    let figures = tables.iter().flat_map(|(title, cases)| {
        cases.iter().map(move |(case, rounds)| {
            json!({
                "table": title,
                "by_tasks": case.by_tasks,
                "workers": case.workers,
                "median": median(rounds),
                "rounds": rounds,
            })
        })
    });
    json!({ "figures": figures.collect::<Vec<_>>() })
}

/// The number of threads of this process.
fn threads() -> u64 {
    fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count() as u64)
}

fn executor() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(EXECUTOR_THREADS).build()?)
}

/// A task or a thread panicked.
fn panicked<E>(_: E) -> Failure {
    "a worker panicked".into()
}
