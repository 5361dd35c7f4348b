//! The figures as a table for people, and as an object for programs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::{Value, json};

use super::super::shell::{Failure, count, grouped};
use super::Args;
use super::measure::{Figure, Measured, Shown};

/// What a figure is worth nothing without.
pub(crate) struct Facts {
    pub(crate) cores: usize,
    /// What the system calls the processor; empty where it does not say.
    pub(crate) processor: String,
    pub(crate) directory: PathBuf,
    /// What the log is made of.
    pub(crate) log: String,
    pub(crate) payload: u32,
    pub(crate) seconds: Duration,
}

impl Facts {
    pub(crate) fn of(args: &Args) -> Result<Self, Failure> {
        let doing = || format!("finding {}", args.dir.display());
        let directory =
            fs::canonicalize(&args.dir).map_err(|error| Failure::file(doing(), error))?;
        let log = match &args.input {
            Some(input) => format!("the events of {}", input.display()),
            None => format!(
                "{} in {}, {} an append, payloads of {}",
                count(args.events, "event"),
                count(args.streams.get(), "stream"),
                grouped(u64::from(args.per_append)),
                count(u64::from(args.payload), "byte"),
            ),
        };
        Ok(Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            processor: processor(),
            directory,
            log,
            payload: args.payload,
            seconds: args.seconds,
        })
    }

    pub(crate) fn machine(&self) -> String {
        let processor = match self.processor.as_str() {
            "" => String::new(),
            name => format!(", {name}"),
        };
        let cores = count(u64::try_from(self.cores).unwrap_or(u64::MAX), "core");
        format!(
            "annals {} on {} {}{processor}, {cores}, in {}",
            env!("CARGO_PKG_VERSION"),
            env::consts::OS,
            env::consts::ARCH,
            self.directory.display()
        )
    }
}

/// As Linux says it; elsewhere nothing does without a system call.
fn processor() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = about.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_default()
}

pub(crate) fn object(facts: &Facts, figures: &[Figure]) -> Value {
    let side = |measured: &Measured, shown: Shown| {
        let mut side = json!({
            "count": measured.count,
            "seconds": measured.elapsed.as_secs_f64(),
            "per_second": 1.0 / measured.seconds(shown).max(f64::MIN_POSITIVE),
        });
        if let (Some(latency), Some(side)) = (measured.latency, side.as_object_mut()) {
            for (key, time) in
                [("p50_us", latency.p50), ("p99_us", latency.p99), ("max_us", latency.max)]
            {
                side.insert(key.to_owned(), json!(time.as_secs_f64() * 1e6));
            }
        }
        side
    };
    let figures = figures.iter().map(|figure| {
        json!({
            "group": format!("{:?}", figure.group).to_lowercase(),
            "name": figure.name,
            "unit": figure.unit,
            "store": side(&figure.store, figure.shown),
            "baseline": side(&figure.baseline, figure.shown),
            "baseline_is": figure.baseline_is,
            "ratio": figure.ratio(),
        })
    });
    json!({
        "annals": env!("CARGO_PKG_VERSION"),
        "machine": {
            "os": env::consts::OS, "arch": env::consts::ARCH, "cores": facts.cores,
            "processor": facts.processor, "directory": facts.directory.display().to_string(),
        },
        "options": {
            "log": facts.log, "payload": facts.payload, "seconds": facts.seconds.as_secs_f64(),
        },
        "figures": figures.collect::<Vec<_>>(),
    })
}

/// One side as people read it: `123,456 events/s`, or `1.25 ms`.
pub(crate) fn speed(figure: &Figure, measured: &Measured) -> String {
    match figure.shown {
        Shown::Rate => format!("{} {}s/s", rounded(measured.per_second()), figure.unit),
        Shown::Time | Shown::Median => time(measured.seconds(figure.shown)),
    }
}

fn rounded(number: f64) -> String {
    let digits = format!("{number:.0}");
    digits.parse().map_or(digits, grouped)
}

/// With three digits that count.
pub(crate) fn time(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let decimals = if number >= 100.0 { 0 } else { 1 + usize::from(number < 10.0) };
    format!("{number:.decimals$} {unit}")
}

/// The middle and the hundredth slowest of the single operations.
pub(crate) fn latency(measured: &Measured) -> [String; 2] {
    let times = measured.latency.map(|latency| [latency.p50, latency.p99]);
    times.map_or_else(Default::default, |times| times.map(|each| time(each.as_secs_f64())))
}

pub(crate) fn for_people(
    out: &mut impl Write,
    facts: &Facts,
    figures: &[Figure],
) -> io::Result<()> {
    writeln!(out, "{}", facts.machine())?;
    writeln!(out, "the log: {}\n", facts.log)?;
    let heads = ["", "annals", "p50", "p99", "baseline", "ratio"].map(str::to_owned);
    let rows = figures.iter().map(|figure| {
        let [p50, p99] = latency(&figure.store);
        let (store, baseline) = (speed(figure, &figure.store), speed(figure, &figure.baseline));
        [figure.name.clone(), store, p50, p99, baseline, format!("{:.2}", figure.ratio())]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    writeln!(
        out,
        "\nratio: the part of the baseline's speed that annals reaches; 1 is as fast. The baseline is, in the same run:"
    )?;
    let mut told: Vec<&str> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.baseline_is.len() > 1) {
        if !told.contains(&figure.baseline_is) {
            told.push(figure.baseline_is);
        }
    }
    for baseline in told {
        let of = figures.iter().filter(|figure| figure.baseline_is == baseline);
        let of: Vec<_> = of.map(|figure| figure.name.as_str()).collect();
        writeln!(out, "  {baseline}: {}", of.join("; "))?;
    }
    Ok(())
}
