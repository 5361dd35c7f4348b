//! `annals read`: prints the events of one stream.

use std::path::PathBuf;

use annals::audit::printable;
use annals::{
    EventStore, EventStoreExt, EventType, ReadStream, Store, StreamId, Timestamp, Version,
};

use super::print::{Leading, Printer};
use super::reading::Reading;
use super::shell::{Failure, Shell, note, readable_stream};

/// Print the events of one stream
///
/// Each line holds version, position, time, type, data, then #tags and metadata. With --json: the
/// line form that import reads, preceded by position and version. If the beginning of the stream was
/// deleted, a message on standard error says up to which version.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals read bank.annals account-123\n  \
    annals read bank.annals account-123 --as-of-time 2026-01-01T00:00:00Z\n  \
    annals read bank.annals account-123 --backward --limit 1 --json")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The stream; $deletions is the stream in which deletions are recorded
    #[arg(value_parser = readable_stream)]
    stream: StreamId,
    /// Begin at this version, in the direction of reading
    #[arg(long, value_name = "VERSION", conflicts_with = "after")]
    from: Option<Version>,
    /// Begin after this version, in the direction of reading
    #[arg(long, value_name = "VERSION")]
    after: Option<Version>,
    /// Print from the newest to the oldest event
    #[arg(long)]
    backward: bool,
    /// Print at most this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// Print the stream as it was when this version was its last
    #[arg(long, value_name = "VERSION")]
    as_of_version: Option<Version>,
    /// Print the stream as it was when this position was the last of the log
    #[arg(long, value_name = "POSITION")]
    as_of_position: Option<annals::Position>,
    /// Print the stream as it was at this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    as_of_time: Option<Timestamp>,
    /// Print the ids of the events too; --json always includes them
    #[arg(long)]
    ids: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let mut printer = Printer::new(shell.json, Leading::Stream)?.with_ids(args.ids);
    let mut reading = Reading::open(shell, &args.dir)?;
    let tip = reading.store()?.stream_version(&args.stream)?;
    let deleted = deleted_up_to(reading.store()?, &args.stream)?;
    reading.print(&mut printer, |store, printer| wanted(args, store, printer))?;
    reading.let_go()?;
    let is_empty = printer.printed() == 0;
    printer.finish()?;
    let stream = printable(args.stream.as_str());
    if let Some(last) = deleted.filter(|_| !shell.json) {
        note(&format!("the events of stream {stream} up to version {last} were deleted"));
    }
    match (tip, args.as_of_version) {
        // An older state must not look like the requested one.
        (Some(tip), Some(version)) if version > tip => {
            note(&format!("stream {stream} has not reached version {version}: it is at {tip}"));
        }
        (Some(_), _) if is_empty && !shell.json => {
            note(&format!("stream {stream} has no such events"));
        }
        (None, _) if !shell.json => note(&format!("stream {stream} has no events")),
        _ => {}
    }
    Ok(())
}

/// The last version of the events that were deleted from the beginning of a stream.
fn deleted_up_to(store: &Store, stream: &StreamId) -> Result<Option<u64>, Failure> {
    let holes = store.read_stream(stream).limit(1).holes()?;
    Ok(holes.last().map(|hole| hole.last))
}

/// The requested events that are not printed yet.
fn wanted(args: &Args, store: &Store, printer: &Printer) -> ReadStream {
    let mut read = store.read_stream(&args.stream).types(&args.types);
    if let Some(from) = args.from {
        read = read.from(from);
    }
    if let Some(after) = printer.last().map(|(_, version)| version).or(args.after) {
        read = read.after(after);
    }
    if args.backward {
        read = read.backward();
    }
    if let Some(limit) = args.limit {
        read = read.limit(limit.saturating_sub(printer.printed()));
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
    read
}
