//! `annals retain`: lists, sets and removes how long events are kept.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use annals::audit::printable;
use annals::{Retention, RetentionScope, StreamId};
use serde_json::{Value, json};

use super::deletion;
use super::shell::{Failure, Shell, note};

/// The units of an age, in seconds, from the longest on.
const UNITS: [(char, u64); 5] =
    [('w', 7 * 86_400), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// List how long events are kept, or set it for a category or a stream
///
/// Without --stream and --category, lists the retentions. A retention deletes nothing by itself:
/// `annals scavenge` does what it says, and `annals stat` says what that would free. The retention
/// of a stream replaces that of its category. With both --max-age and --max-count, an event is
/// deleted if one of the two says so. With --json: for each retention one object with stream or
/// category, max_age_us (or null), and max_count (or null).
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Examples:\n  \
    annals retain bank.annals --category session --max-age 30d\n  \
    annals retain bank.annals --stream session-7 --max-count 1000\n  \
    annals retain bank.annals --category session --unset\n  \
    annals retain bank.annals")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The stream
    #[arg(long, value_name = "STREAM", conflicts_with = "category")]
    stream: Option<StreamId>,
    /// The category (the part of the stream ids before the first -)
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,
    /// Keep events for this time, such as 30d, 12h or 90m (w, d, h, m, s)
    #[arg(long, value_name = "AGE", value_parser = age)]
    max_age: Option<Duration>,
    /// Keep at most this many events of each stream
    #[arg(long, value_name = "N")]
    max_count: Option<NonZeroU64>,
    /// Remove the retention: events are kept forever
    #[arg(long, conflicts_with_all = ["max_age", "max_count"])]
    unset: bool,
    /// Check the arguments, and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "give a whole number and a unit: 30d, 12h, 90m (w, d, h, m, s)".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 =
        text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    match number.checked_mul(seconds) {
        Some(0) => Err("an age of 0 keeps nothing: give at least 1s".to_owned()),
        // Ages are in microseconds.
        Some(seconds) if seconds < (1 << 43) => Ok(Duration::from_secs(seconds)),
        _ => Err("such an age is too long: leave it out to keep events forever".to_owned()),
    }
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let Some(scope) = scope(args) else { return list(args, shell) };
    scope.check().map_err(annals::Error::from)?;
    let retention = retention(args)?;
    let store = deletion::open(shell, &args.dir, args.dry_run)?;
    if !args.dry_run {
        store.set_retention(&scope, retention)?;
    }
    store.close()?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", object(&scope, retention.unwrap_or_default()))?;
    } else {
        let would = if args.dry_run { "would be " } else { "" };
        let at_next = if retention.is_some() { ", from the next scavenge on" } else { "" };
        let (scope, kept) = (named(&scope), for_people(retention.unwrap_or_default()));
        writeln!(out, "{scope}: {would}kept {kept}{at_next}")?;
    }
    Ok(())
}

fn scope(args: &Args) -> Option<RetentionScope> {
    let stream = args.stream.clone().map(RetentionScope::Stream);
    stream.or_else(|| args.category.clone().map(RetentionScope::Category))
}

/// The retention that is to be set; `None` to remove it.
fn retention(args: &Args) -> Result<Option<Retention>, Failure> {
    let retention = match (args.max_age, args.max_count) {
        (Some(age), Some(count)) => Retention::for_time(age).and_newest(count),
        (Some(age), None) => Retention::for_time(age),
        (None, Some(count)) => Retention::newest(count),
        (None, None) if args.unset => return Ok(None),
        (None, None) => {
            let text = "give --max-age, --max-count, or --unset to keep events forever";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    Ok(Some(retention))
}

fn list(args: &Args, shell: &Shell) -> Result<(), Failure> {
    if args.max_age.is_some() || args.max_count.is_some() || args.unset {
        return Err(Failure::Usage("give --stream or --category".to_owned()));
    }
    let store = shell.open_to_read(&args.dir)?;
    let retentions = store.retentions()?;
    store.close()?;
    let mut out = io::stdout().lock();
    for (scope, retention) in &retentions {
        if shell.json {
            writeln!(out, "{}", object(scope, *retention))?;
        } else {
            writeln!(out, "{}: kept {}", named(scope), for_people(*retention))?;
        }
    }
    if retentions.is_empty() && !shell.json {
        note("no retention is set: all events are kept");
    }
    Ok(())
}

/// A retention of this scope.
pub(crate) fn object(scope: &RetentionScope, retention: Retention) -> Value {
    let micros = retention.age().map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    let (kind, name) = match scope {
        RetentionScope::Stream(stream) => ("stream", stream.as_str()),
        RetentionScope::Category(category) => ("category", category.as_str()),
    };
    json!({ kind: name, "max_age_us": micros, "max_count": retention.count() })
}

pub(crate) fn named(scope: &RetentionScope) -> String {
    match scope {
        RetentionScope::Stream(stream) => format!("stream {}", printable(stream.as_str())),
        RetentionScope::Category(category) => format!("category {}", printable(category)),
    }
}

/// How long events are kept.
pub(crate) fn for_people(retention: Retention) -> String {
    let age = retention.age().map(short);
    let count = retention.count().map(|count| super::shell::count(count.get(), "event"));
    match (age, count) {
        (None, None) => "forever".to_owned(),
        (Some(age), None) => format!("for {age}"),
        (None, Some(count)) => format!("up to {count} of each stream"),
        (Some(age), Some(count)) => format!("for {age}, up to {count} of each stream"),
    }
}

/// An age as it is given on the command line.
fn short(age: Duration) -> String {
    let seconds = age.as_secs();
    // Weeks are better read as days.
    let fits = |(_, unit): &(char, u64)| seconds > 0 && seconds.is_multiple_of(*unit);
    match UNITS.into_iter().skip(1).find(fits) {
        Some((name, unit)) if age.subsec_nanos() == 0 => format!("{}{name}", seconds / unit),
        _ => format!("{age:?}"),
    }
}
