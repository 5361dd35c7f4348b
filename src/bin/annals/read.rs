//! `annals read`: the events of one stream.

use std::path::PathBuf;

use annals::{EventStore, EventStoreExt, EventType, StreamId, Timestamp, Version};

use super::print::{Leading, Printer, clean};
use super::shell::{Failure, Shell, note};

/// Print the events of one stream
///
/// For people: version, position, time, type, data, then #tags and metadata. With --json: the line form that import
/// reads, led by position and version.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals read bank.annals account-123\n  \
    annals read bank.annals account-123 --as-of-time 2026-01-01T00:00:00Z\n  \
    annals read bank.annals account-123 --backward --limit 1 --json")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The stream
    stream: StreamId,
    /// Begin at this version, in the direction of reading
    #[arg(long, value_name = "VERSION", conflicts_with = "after")]
    from: Option<Version>,
    /// Begin behind this version, in the direction of reading
    #[arg(long, value_name = "VERSION")]
    after: Option<Version>,
    /// From the newest to the oldest
    #[arg(long)]
    backward: bool,
    /// At most this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// The stream as it was when this version was its last
    #[arg(long, value_name = "VERSION")]
    as_of_version: Option<Version>,
    /// The stream as it was when this position was the last of the log
    #[arg(long, value_name = "POSITION")]
    as_of_position: Option<annals::Position>,
    /// The stream as it was at this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    as_of_time: Option<Timestamp>,
    /// Show people the ids of the events too; programs (--json) always see them
    #[arg(long)]
    ids: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let mut read = store.read_stream(&args.stream).types(&args.types);
    if let Some(from) = args.from {
        read = read.from(from);
    }
    if let Some(after) = args.after {
        read = read.after(after);
    }
    if args.backward {
        read = read.backward();
    }
    if let Some(limit) = args.limit {
        read = read.limit(limit);
    }
    if let Some(version) = args.as_of_version {
        read = read.as_of_version(version);
    }
    if let Some(position) = args.as_of_position {
        read = read.as_of_position(position);
    }
    if let Some(time) = args.as_of_time {
        read = read.as_of_time(time);
    }
    let mut printer = Printer::new(shell.json, Leading::Stream).with_ids(args.ids);
    printer.print(read)?;
    let (tip, stream) = (store.tip(&args.stream)?, clean(args.stream.as_str()));
    match (tip, args.as_of_version) {
        // Who asks for what it was then must not take this for an answer.
        (Some(tip), Some(version)) if version > tip => {
            note(&format!("stream {stream} has not got to version {version}: it is at {tip}"));
        }
        (Some(_), _) if printer.printed() == 0 && !shell.json => {
            note(&format!("stream {stream} has no such events"));
        }
        (None, _) if !shell.json => note(&format!("stream {stream} has no events")),
        _ => {}
    }
    Ok(())
}
