//! `annals bench`: how fast a store is on this machine and this disk, each figure next to the baseline below it.

mod appending;
mod following;
mod lifecycle;
mod measure;
mod modelling;
mod race;
mod reading;
mod report;
mod source;
mod table;
mod workplace;

use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use annals::baseline::Database;
use annals::{Durability, Store, StoreOptions};
use clap::value_parser;
use indicatif::ProgressBar;

use super::shell::{Failure, Shell, progress};
use measure::Figure;
use source::{PAYLOAD_LEN_MAX, PAYLOAD_LEN_MIN, Source};
use workplace::Workplace;

/// More would fill any disk that is at hand.
const EVENTS_MAX: u64 = 1_000_000_000;
/// How often a figure that takes its time shows that it is alive.
const TICK: Duration = Duration::from_millis(200);

/// Measure how fast a store is here: on this machine, on this disk, next to the baseline below it
///
/// Each figure comes with that of its baseline, measured in turn with it: what RocksDB alone, or a
/// plain file, needs for the same bytes. The ratio is the part of the baseline's speed that the
/// store reaches; it can be compared between machines, the figures cannot. docs/PERFORMANCE.md says
/// what each row means.
///
/// It works in a directory of its own, annals-bench-NUMBER, below --dir, and removes it at the end, also when it is
/// interrupted. No store of yours is touched. With --input the events are your own: they are imported, replayed, loaded
/// stream by stream and made into a read model.
///
/// With --json: one object with annals, machine, options, and figures (a list of group, name, unit, store, baseline,
/// baseline_is and ratio; store and baseline with count, seconds, per_second, and p50_us, p99_us and max_us where each
/// operation was timed).
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Examples:\n  \
    annals bench --report bench.html\n  \
    annals bench --dir /mnt/data --events 10000000 --streams 500000 --only fill,replay,streams\n  \
    annals bench --input history.jsonl.gz --json")]
pub(crate) struct Args {
    /// Directory to work in, on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How many events the log has that is read
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = value_parser!(u64).range(1..=EVENTS_MAX))]
    #[arg(conflicts_with = "input")]
    events: u64,
    /// Over how many streams they are spread
    #[arg(long, value_name = "N", default_value = "10000", conflicts_with = "input")]
    streams: NonZeroU64,
    /// How many events of that log each append has
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..=1_000))]
    #[arg(conflicts_with = "input")]
    per_append: u32,
    /// How long each payload is
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    #[arg(value_parser = value_parser!(u32).range(PAYLOAD_LEN_MIN..=PAYLOAD_LEN_MAX))]
    payload: u32,
    /// How long each figure is measured, at least
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Your own events, in the form that import reads, plain or gzip
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Also write a page with a picture of the figures
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Only these groups of figures [default: all; with --input all but append and aggregate]
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    only: Vec<Group>,
}

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Group {
    /// Appends of 1, 10 and 100 events, synced and buffered, on one thread and many
    Append,
    /// Filling the log that is read, or importing the input
    Fill,
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
    /// Proving the store
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

/// A run.
struct Bench<'a> {
    args: &'a Args,
    options: StoreOptions,
    workplace: &'a Workplace,
    source: Source,
    bar: ProgressBar,
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
            return self.args.input.is_none() || !is_of_no_input;
        }
        self.args.only.contains(&group)
    }

    fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
        self.bar.inc(1);
    }

    /// A store, and a database next to it.
    fn pair(&self, name: &str, durability: Durability) -> Result<Base, Failure> {
        let options = self.options.clone().durability(durability);
        let store = options.clone().open(self.workplace.place(name))?;
        let database =
            Database::create(self.workplace.place(&format!("{name}-baseline")), &options)?;
        Ok(Base { store, database })
    }

    fn all(&mut self) -> Result<(), Failure> {
        if self.wants(Group::Append) {
            self.appends()?;
        }
        if self.wants(Group::Aggregate) {
            self.aggregate()?;
        }
        let of_base = [
            Group::Fill,
            Group::Replay,
            Group::Streams,
            Group::Follow,
            Group::Project,
            Group::Verify,
            Group::Backup,
            Group::Open,
        ];
        if !of_base.iter().any(|group| self.wants(*group)) {
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

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    if let Some(file) = &args.report {
        report::check(file)?;
    }
    if let Some(file) = &args.input {
        // Before anything is made: a wrong file name should say so at once.
        appending::open_input(file)?;
    }
    let workplace = Workplace::below(&args.dir)?;
    let bar = progress(None, "{spinner} {elapsed} {msg}");
    bar.enable_steady_tick(TICK);
    let mut bench = Bench {
        args,
        options: shell.options(),
        workplace: &workplace,
        source: Source::new(args.streams.get(), args.payload)?,
        bar,
        figures: Vec::new(),
    };
    let measured = bench.all();
    bench.bar.finish_and_clear();
    measured?;
    let figures = bench.figures;
    let facts = table::Facts::of(args)?;
    if let Some(file) = &args.report {
        report::write(file, &facts, &figures)?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if shell.json {
        writeln!(out, "{}", table::object(&facts, &figures))?;
    } else {
        table::for_people(&mut out, &facts, &figures)?;
    }
    out.flush()?;
    Ok(())
}
