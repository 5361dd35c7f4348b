//! `annals index`: shows, switches and rebuilds the index of a store.

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use annals::{IndexStatus, Position, Store};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::shell::{Failure, Shell, grouped, open_patiently, progress};

/// How often the progress of building is shown.
const PAUSE: Duration = Duration::from_millis(50);

/// Show the index of a store, switch parts of it on or off, or build it again
///
/// The index finds events by their tags and, if switched on, by their types and categories, without
/// reading the others. With an option, waits until the index is complete; if interrupted, building
/// continues whenever the store is open for writing. Without options, changes nothing. With --json:
/// one object with tags_from, types_from and categories_from (the position from which on the events
/// are indexed, or null if off) and complete.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Example:\n  annals index bank.annals --types on")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// Index the events by their types
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    types: Option<Switch>,
    /// Index the events by the categories of their streams
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    categories: Option<Switch>,
    /// Remove all entries and build them again from the events, if verify found damage in the index
    #[arg(long)]
    rebuild: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = if args.types.is_none() && args.categories.is_none() && !args.rebuild {
        shell.open_to_read(&args.dir)?
    } else {
        change(args, shell)?
    };
    let status = store.index_status()?;
    store.close()?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", object(&status))?;
    } else {
        for (name, from) in [
            ("tags", status.tags_from),
            ("types", status.types_from),
            ("categories", status.categories_from),
        ] {
            writeln!(out, "{name:11}  {}", for_people(from))?;
        }
    }
    Ok(())
}

/// Makes the changes, and waits until the index is complete.
fn change(args: &Args, shell: &Shell) -> Result<Store, Failure> {
    let mut options = shell.options().create(false);
    if let Some(types) = args.types {
        options = options.index_types(types == Switch::On);
    }
    if let Some(categories) = args.categories {
        options = options.index_categories(categories == Switch::On);
    }
    let store = open_patiently(&options, &args.dir)?;
    if args.rebuild {
        store.rebuild_index()?;
    }
    let bar = progress(
        Some(store.info()?.head.map_or(0, Position::get)),
        "{bar:30} {pos} of {len} events (about {eta} left)",
    );
    loop {
        let status = store.index_status()?;
        if let Some(failure) = status.failure {
            return Err(failure.into());
        }
        let left = [status.tags_from, status.types_from, status.categories_from];
        let left = left.into_iter().flatten().max().map_or(0, |from| from.get() - 1);
        bar.set_position(bar.length().unwrap_or_default().saturating_sub(left));
        if status.is_complete() {
            bar.finish_and_clear();
            return Ok(store);
        }
        thread::sleep(PAUSE);
    }
}

pub(crate) fn object(status: &IndexStatus) -> Value {
    json!({
        "tags_from": status.tags_from.map(Position::get),
        "types_from": status.types_from.map(Position::get),
        "categories_from": status.categories_from.map(Position::get),
        "complete": status.is_complete(),
    })
}

/// From which position on events are indexed.
pub(crate) fn for_people(from: Option<Position>) -> String {
    match from {
        None => "off".to_owned(),
        Some(Position::FIRST) => "all events".to_owned(),
        Some(from) => format!("events from position {} on", grouped(from.get())),
    }
}
