//! `measure engine`: how fast a store is, with a baseline for each figure.

mod append;
mod follow;
mod model;
mod read;
mod whole;

use std::fmt::Write;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use annals::__internals::Database;
use annals::{Durability, Store, StoreOptions};
use clap::{ValueEnum, value_parser};
use serde_json::{Value, json};

use crate::Result;
use crate::chart::{self, Bar};
use crate::measure::{Latency, Measured, micros};
use crate::place::Place;
use crate::report::{Report, count, table, time, whole as grouped};
use crate::source::{PAYLOAD_LEN_MAX, PAYLOAD_LEN_MIN, Source};

/// A larger log would fill any available disk.
const EVENTS_MAX: u64 = 1_000_000_000;

/// Measure annals next to RocksDB alone
///
/// Each figure is measured in turn with its baseline: RocksDB alone, or a plain file, with the same
/// bytes. The ratio is the store's speed divided by the baseline's; ratios can be compared between
/// machines, figures cannot. With --input, the events are your own: they are imported, replayed,
/// loaded stream by stream and turned into a read model.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    measure engine --events 10000000 --streams 500000 --only replay\n  \
    measure engine --input history.jsonl.gz --json figures.json")]
pub struct Args {
    /// Number of events in the log that is read
    #[arg(long, value_name = "N", default_value_t = 300_000, conflicts_with = "input")]
    #[arg(value_parser = value_parser!(u64).range(1..=EVENTS_MAX))]
    events: u64,
    /// Number of streams that they are spread over
    #[arg(long, value_name = "N", default_value = "10000", conflicts_with = "input")]
    streams: NonZeroU64,
    /// Number of events in each append to that log
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "input")]
    #[arg(value_parser = value_parser!(u32).range(1..=1_000))]
    per_append: u32,
    /// Length of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    #[arg(value_parser = value_parser!(u32).range(PAYLOAD_LEN_MIN..=PAYLOAD_LEN_MAX))]
    payload: u32,
    /// Minimum time to measure each figure
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Your own events, in the form that import reads, plain or gzip
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only these groups of figures [default: all; with --input all but append and aggregate]
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    only: Vec<Group>,
    /// Memory for blocks read from disk, on both sides
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    cache: usize,
    /// Memory for events not yet in a table file, on both sides
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memtable: usize,
}

/// A group of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Appends of 1, 10 and 100 events, synced and buffered, on one thread and many
    Append,
    /// Importing the input
    Import,
    /// The whole log, as references and as values
    Replay,
    /// Stream after stream, warm and after opening
    Streams,
    /// Subscriptions: catching up, and live
    Follow,
    /// A read model, built from the log
    Project,
    /// An aggregate, with a snapshot and without
    Aggregate,
    /// Verifying the store
    Verify,
    /// Copying the store
    Backup,
    /// Opening after closing, and after a crash
    Open,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.001..=3_600.0).contains(&seconds) {
        return Err("from 0.001 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A row of the table.
struct Figure {
    group: Group,
    name: String,
    shown: Shown,
    store: Measured,
    baseline: Measured,
    /// The work of the baseline.
    baseline_is: &'static str,
}

/// The number that is shown.
#[derive(Clone, Copy)]
enum Shown {
    /// Number of these per second.
    Rate(&'static str),
    /// Duration of one.
    Time,
    /// Median duration of one, if a few that wait for a processor would distort the mean.
    Median,
}

impl Shown {
    fn seconds(self, measured: &Measured) -> f64 {
        match (self, measured.latency) {
            (Self::Median, Some(latency)) => latency.p50.as_secs_f64(),
            _ => measured.seconds_each(),
        }
    }

    /// `123,456 events/s`, or `1.25 ms`.
    fn speed(self, measured: &Measured) -> String {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
        match self {
            Self::Rate(unit) => {
                format!("{} {unit}s/s", grouped(measured.per_second().round() as u64))
            }
            Self::Time | Self::Median => time(self.seconds(measured)),
        }
    }
}

impl Figure {
    /// The store's speed divided by the baseline's: above 1 is faster than the baseline.
    fn ratio(&self) -> f64 {
        self.shown.seconds(&self.baseline) / self.shown.seconds(&self.store).max(f64::MIN_POSITIVE)
    }

    fn cells(&self) -> Vec<String> {
        let latency = self.store.latency.map(|latency| [latency.p50, latency.p99]);
        let latency = latency.map(|times| times.map(|each| time(each.as_secs_f64())));
        let [p50, p99] = latency.unwrap_or_default();
        let [store, baseline] = [&self.store, &self.baseline].map(|side| self.shown.speed(side));
        let [own_cpu, cpu] = [&self.store, &self.baseline].map(|side| match side.cpu {
            Duration::ZERO => String::new(),
            cpu => time(cpu.as_secs_f64() / (side.count as f64).max(1.0)),
        });
        let ratio = format!("{:.2}", self.ratio());
        vec![self.name.clone(), store, p50, p99, own_cpu, baseline, cpu, ratio]
    }

    fn json(&self) -> Value {
        let side = |side: &Measured| {
            let micros = |of: fn(Latency) -> Duration| side.latency.map(|all| micros(of(all)));
            json!({
                "count": side.count,
                "seconds": side.elapsed.as_secs_f64(),
                "cpu_seconds": side.cpu.as_secs_f64(),
                "per_second": 1.0 / self.shown.seconds(side).max(f64::MIN_POSITIVE),
                "p50_us": micros(|latency| latency.p50),
                "p99_us": micros(|latency| latency.p99),
                "max_us": micros(|latency| latency.max),
            })
        };
        json!({
            "group": format!("{:?}", self.group).to_lowercase(),
            "name": self.name,
            "store": side(&self.store),
            "baseline": side(&self.baseline),
            "baseline_is": self.baseline_is,
            "ratio": self.ratio(),
        })
    }

    /// The longer bar is the faster one.
    fn panel(&self) -> (String, Vec<Bar>) {
        let bar = |name: &str, measured: &Measured, color, ratio: String| Bar {
            name: name.to_owned(),
            value: Some(1.0 / self.shown.seconds(measured).max(f64::MIN_POSITIVE)),
            range: None,
            label: format!("{}{ratio}", self.shown.speed(measured)),
            color,
            is_pale: false,
        };
        let ratio = format!(" ({:.2}×)", self.ratio());
        let own = bar("annals", &self.store, chart::OWN, ratio);
        (
            self.name.clone(),
            vec![own, bar("baseline", &self.baseline, chart::BASELINE, String::new())],
        )
    }
}

/// A run.
struct Bench<'a> {
    args: &'a Args,
    options: StoreOptions,
    place: &'a Place,
    source: Source,
    figures: Vec<Figure>,
}

/// The log that most figures read, and the same rows in a database without annals.
struct Base {
    store: Store,
    database: Database,
}

impl Bench<'_> {
    fn wants(&self, group: Group) -> bool {
        if self.args.only.is_empty() {
            let is_of_no_input = matches!(group, Group::Append | Group::Aggregate);
            let is_of_input = group == Group::Import;
            return if self.args.input.is_none() { !is_of_input } else { !is_of_no_input };
        }
        self.args.only.contains(&group)
    }

    fn add(
        &mut self,
        group: Group,
        name: String,
        shown: Shown,
        [store, baseline]: [Measured; 2],
        baseline_is: &'static str,
    ) {
        let figure = Figure { group, name, shown, store, baseline, baseline_is };
        eprintln!("{}", figure.cells().join("  "));
        self.figures.push(figure);
    }

    /// A store, and a database with the same rows.
    fn pair(&self, name: &str, durability: Durability) -> Result<Base> {
        let options = self.options.clone().durability(durability);
        let store = options.clone().open(self.place.path(name))?;
        let database = Database::create(self.place.path(&format!("{name}-baseline")), &options)?;
        Ok(Base { store, database })
    }

    fn all(&mut self) -> Result<()> {
        if self.wants(Group::Append) {
            self.appends()?;
        }
        if self.wants(Group::Aggregate) {
            self.aggregate()?;
        }
        let is_of_base = |group: &&Group| !matches!(group, Group::Append | Group::Aggregate);
        if !Group::value_variants().iter().filter(is_of_base).any(|group| self.wants(*group)) {
            return Ok(());
        }
        let mut base = self.fill()?;
        if self.wants(Group::Replay) {
            self.replay(&base)?;
        }
        if self.wants(Group::Streams) {
            base = self.streams(base)?;
        }
        if self.wants(Group::Follow) {
            self.follow(&base)?;
        }
        if self.wants(Group::Verify) {
            self.verify(&base)?;
        }
        if self.wants(Group::Backup) {
            self.backup(&base)?;
        }
        if self.wants(Group::Open) {
            base = self.open(base)?;
        }
        if self.wants(Group::Project) {
            self.project(&base)?;
        }
        Ok(())
    }
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    if let Some(file) = &args.input {
        // Before any work starts: a wrong file name should be refused at once.
        append::open_input(file)?;
    }
    let options =
        Store::options().block_cache_bytes(args.cache << 20).memtable_bytes(args.memtable << 20);
    let source = Source::new(args.streams.get(), args.payload)?;
    let mut bench = Bench { args, options, place, source, figures: Vec::new() };
    bench.all()?;
    let figures = bench.figures;
    let log = match &args.input {
        Some(input) => format!("the events of {}", input.display()),
        None => format!(
            "{} in {}, {} an append, payloads of {}",
            count(args.events, "event"),
            count(args.streams.get(), "stream"),
            args.per_append,
            count(u64::from(args.payload), "byte"),
        ),
    };
    let heads = ["", "annals", "p50", "p99", "CPU", "baseline", "CPU", "ratio"];
    let rows: Vec<_> = figures.iter().map(Figure::cells).collect();
    let text = format!("The log: {log}.\n\n{}\n{}", table(&heads, &rows), baselines(&figures));
    let panels: Vec<_> = figures.iter().map(Figure::panel).collect();
    let json =
        json!({ "log": log, "figures": figures.iter().map(Figure::json).collect::<Vec<_>>() });
    Ok(Report { text, json, svg: chart::bars(&panels), failures: 0 })
}

/// The work of each baseline.
fn baselines(figures: &[Figure]) -> String {
    let mut out = "CPU: processor time of all threads for one of them. Ratio: the part of the \
                   baseline's speed that annals reaches; 1 is as fast. The baseline is, in the same run:\n\n"
        .to_owned();
    let mut listed: Vec<&str> = Vec::new();
    for Figure { baseline_is, .. } in figures {
        if !listed.contains(baseline_is) {
            listed.push(baseline_is);
            let of = figures.iter().filter(|figure| figure.baseline_is == *baseline_is);
            let of: Vec<_> = of.map(|figure| figure.name.as_str()).collect();
            let _ = writeln!(out, "- {baseline_is}: {}", of.join("; "));
        }
    }
    out
}
