//! `annals log`: prints the events of all streams in commit order, and, with `--follow`, as they
//! arrive.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use annals::{Error, EventStore, EventStoreExt, Position, Query, ReadLog, Store, Timestamp};

use super::output::{Pace, reader_leaves_within, reader_left};
use super::print::{Leading, Printer};
use super::reading::{Reading, check_same};
use super::selection::Selection;
use super::shell::{Failure, Shell, note};

/// How often a follower checks whether files changed.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Print the events of all streams in commit order
///
/// Each line holds position, time, stream@version, type, data, then #tags and metadata. With
/// --json: the line form that import reads, preceded by position and version.
///
/// To select events, give types, tags, streams, categories or prefixes of stream ids. An event is
/// printed if it has one of the types and all of the tags, and if its stream is one of the streams,
/// in one of the categories, and begins with one of the prefixes.
///
/// With --follow, the command continues as events arrive, until it is stopped or the reader of its
/// output exits. Only one process at a time can hold a store for writing, so a follower holds it
/// only while it reads: every half second, it checks whether the store's files changed, reads new
/// events, and releases the store. While another process holds the store for writing, the follower
/// waits: the events appear when that process closes the store. To follow within the writing
/// program, use a subscription there.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals log bank.annals --after 262000 --json\n  \
    annals log bank.annals --category account --type MoneyDeposited --type MoneyWithdrawn\n  \
    annals log school.annals --tag course:c1 --tag student:s1 --follow\n  \
    annals log bank.annals --backward --limit 10\n  \
    annals log bank.annals --follow")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// Begin at this position, in the direction of reading
    #[arg(long, value_name = "POSITION", conflicts_with = "after")]
    from: Option<Position>,
    /// Begin after this position, in the direction of reading
    #[arg(long, value_name = "POSITION")]
    after: Option<Position>,
    /// Print from the newest to the oldest event
    #[arg(long, conflicts_with = "follow")]
    backward: bool,
    /// Print at most this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    selection: Selection,
    /// Print the log as it was when this position was its last
    #[arg(long, value_name = "POSITION", conflicts_with = "follow")]
    as_of_position: Option<Position>,
    /// Print the log as it was at this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    as_of_time: Option<Timestamp>,
    /// Print the ids of the events too; --json always includes them
    #[arg(long)]
    ids: bool,
    /// Continue as events arrive
    #[arg(long)]
    follow: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let query = args.selection.query()?;
    let mut printer = Printer::new(shell.json, Leading::Log)?.with_ids(args.ids);
    if args.follow {
        return follow(args, &query, shell, printer);
    }
    let mut reading = Reading::open(shell, &args.dir)?;
    reading.print(&mut printer, |store, printer| wanted(args, &query, store, printer))?;
    reading.let_go()?;
    let is_empty = printer.printed() == 0;
    printer.finish()?;
    match (reading.head(), args.as_of_position) {
        // An older state must not look like the requested one.
        (Some(head), Some(position)) if position > head => {
            note(&format!("the log has not reached position {position}: it is at {head}"));
        }
        (Some(_), _) if is_empty && !shell.json => note("the log has no such events"),
        (None, _) if !shell.json => note("the log has no events"),
        _ => {}
    }
    Ok(())
}

/// The requested events that are not printed yet.
fn wanted(args: &Args, query: &Query, store: &Store, printer: &Printer) -> ReadLog {
    let mut read = store.read_log().query(query.clone());
    if let Some(from) = args.from {
        read = read.from(from);
    }
    if let Some(after) = printer.last().map(|(position, _)| position).or(args.after) {
        read = read.after(after);
    }
    if args.backward {
        read = read.backward();
    }
    if let Some(limit) = args.limit {
        read = read.limit(limit.saturating_sub(printer.printed()));
    }
    if let Some(position) = args.as_of_position {
        read = read.as_of_position(position);
    }
    if let Some(time) = args.as_of_time {
        read = read.as_of_time(time);
    }
    read
}

fn follow(args: &Args, query: &Query, shell: &Shell, mut printer: Printer) -> Result<(), Failure> {
    let mut next = args.from.or(args.after.map(Position::next)).unwrap_or(Position::FIRST);
    let options = shell.options().read_only(true);
    let mut seen = None;
    let mut first = None;
    let mut has_said = false;
    loop {
        // Checked before the store is opened, so that later changes are seen next time.
        let files = files(&args.dir);
        if seen.as_ref() != Some(&files) {
            match options.clone().open(&args.dir) {
                Ok(store) => {
                    let info = store.info()?;
                    check_same(&args.dir, first.get_or_insert_with(|| info.clone()), &info)?;
                    let pace;
                    (next, pace) = look(args, query, &store, next, &mut printer)?;
                    store.close()?;
                    printer.wait()?;
                    if pace == Pace::Slow {
                        continue;
                    }
                    seen = Some(files);
                }
                Err(Error::AlreadyOpen { .. }) if has_said => {}
                Err(Error::AlreadyOpen { .. }) => {
                    has_said = true;
                    note("the store is open elsewhere; its events appear when it is closed there");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if args.limit.is_some_and(|limit| printer.printed() >= limit) {
            return Ok(());
        }
        if reader_leaves_within(LOOK_PAUSE) {
            return Err(reader_left().into());
        }
    }
}

/// Prints new events, and returns the position to continue from.
fn look(
    args: &Args,
    query: &Query,
    store: &Store,
    next: Position,
    printer: &mut Printer,
) -> Result<(Position, Pace), Failure> {
    let Some(head) = store.head()?.filter(|head| *head >= next) else {
        return Ok((next, Pace::Steady));
    };
    let mut read = store.read_log().query(query.clone()).from(next);
    if let Some(limit) = args.limit {
        read = read.limit(limit.saturating_sub(printer.printed()));
    }
    let pace = printer.print(read)?;
    let end = match (pace, printer.last()) {
        (Pace::Slow, Some((last, _))) => last,
        _ => head,
    };
    Ok((end.next(), pace))
}

/// Names, lengths and times of the store's files, which change when a process writes.
fn files(dir: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let inside = fs::read_dir(dir.join("db")).into_iter().flatten().flatten();
    let paths = inside.map(|entry| entry.path()).chain([dir.join("watermark")]);
    let mut files: Vec<_> = paths
        // If a file is removed meanwhile, the next check notices it.
        .filter_map(|path| {
            let about = fs::metadata(&path).ok()?;
            Some((path, about.len(), about.modified().ok()))
        })
        .collect();
    files.sort();
    files
}
