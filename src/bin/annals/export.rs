//! `annals export`: writes the log, or the selected events, in the line form.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use annals::{DELETIONS_STREAM, EventStoreExt, JsonLine, Position, Query, ReadLog, Store};
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use super::output::{Output, Pace};
use super::reading::Reading;
use super::selection::Selection;
use super::shell::{Failure, Shell, check_outside, count, progress};

/// The number of events between two updates of the progress bar.
const PROGRESS_EVENTS: u64 = 1_000;

/// Write the log, one JSON object per line, in the form that import reads
///
/// Importing an export of the whole log gives the same log, regardless of what the events hold;
/// only the store id differs. If events were deleted, those that are left get new positions and
/// versions. The stream $deletions is left out: use `annals deletions`.
///
/// With --positions, each line begins with its position and version, and deletions are written too,
/// so that `annals import --keep-positions` builds a store with every event at the same place. The
/// store stays open until all is written.
///
/// With --type, --tag, --stream, --category or --stream-prefix, only the events that `annals log`
/// would print with these options are written. Such an export is for people and other programs. It
/// can be imported too, but the events then have other positions and versions, because those left
/// out are missing; and the `commit` of a line, which is the position where its commit began, only
/// groups lines: the selected events of one commit are one commit again, without the others.
///
/// FILE is written as FILE.partial and renamed when it is complete. An existing FILE is
/// replaced, or kept if the export fails.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals export bank.annals bank.jsonl.gz\n  \
    annals export bank.annals | jq -r .type | sort | uniq -c\n  \
    annals export school.annals course-c1.jsonl --tag course:c1\n  \
    annals export bank.annals bank.jsonl.gz --positions")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The file to write; compressed if its name ends in .gz; - is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Write positions, versions and deletions too, for `annals import --keep-positions`
    #[arg(long)]
    positions: bool,
    #[command(flatten)]
    selection: Selection,
}

/// What is exported.
enum What {
    Matching(Query),
    WithPositions,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let what = match args.selection.query()? {
        Query::Everything if args.positions => What::WithPositions,
        _ if args.positions => {
            return Err(Failure::Usage("--positions is for the whole log".to_owned()));
        }
        query => What::Matching(query),
    };
    let reading = Reading::open(shell, &args.dir)?;
    let total = reading.head().map_or(0, Position::get);
    let bar = progress(Some(total), "{bar:30} {pos} of {len} events (about {eta} left)");
    if args.file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            // The events themselves are the progress.
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        export(reading, &what, io::stdout(), &bar)?;
        return Ok(());
    }
    check_outside(&args.file, &args.dir)?;
    let exported = to_file(reading, &what, &args.file, &bar)?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", json!({ "events": exported.events, "bytes": exported.bytes }))?;
    } else {
        writeln!(out, "wrote {} to {}", count(exported.events, "event"), args.file.display())?;
    }
    Ok(())
}

/// The size of an export.
struct Exported {
    events: u64,
    /// Uncompressed.
    bytes: u64,
}

/// Writes the events up to the head at the first open, and returns the writer and the size.
fn export<W: Write + Send + 'static>(
    mut reading: Reading<'_>,
    what: &What,
    out: W,
    bar: &ProgressBar,
) -> Result<(W, Exported), Failure> {
    let query = match what {
        What::Matching(query) => query,
        What::WithPositions => return export_with_positions(reading, out, bar),
    };
    let mut out = Output::new(out)?;
    let mut done = Done::default();
    let mut pace = Pace::Slow;
    while pace == Pace::Slow {
        let head = reading.head();
        let print = |store: &Store| {
            let read = store.read_log().query(query.clone()).after(done.last);
            let read = head.into_iter().fold(read, ReadLog::as_of_position);
            print(read, &mut out, &mut done, bar)
        };
        let printed = reading.store().and_then(print);
        // The store is released before the output waits for its reader, even after an error.
        reading.let_go()?;
        pace = printed?;
        if pace == Pace::Slow {
            out.wait()?;
        }
    }
    let bytes = out.len();
    let out = out.finish()?;
    bar.finish_and_clear();
    Ok((out, Exported { events: done.events, bytes }))
}

/// Writes the whole log with positions and holes.
fn export_with_positions<W: Write>(
    mut reading: Reading<'_>,
    out: W,
    bar: &ProgressBar,
) -> Result<(W, Exported), Failure> {
    let mut out = BufWriter::new(out);
    let shown = |so_far: annals::Exported| bar.set_position(so_far.events);
    let done = reading.store()?.export_with_positions(&mut out, shown)?;
    let out = out.into_inner().map_err(|error| Failure::Output(error.into_error()))?;
    bar.finish_and_clear();
    Ok((out, Exported { events: done.events, bytes: done.bytes }))
}

/// How far an export has come.
#[derive(Default)]
struct Done {
    events: u64,
    /// The position of the last event that was written.
    last: Option<Position>,
}

/// Writes these events, until there are no more or the reader of the output is slow.
fn print<W: Write + Send + 'static>(
    read: ReadLog,
    out: &mut Output<W>,
    done: &mut Done,
    bar: &ProgressBar,
) -> Result<Pace, Failure> {
    let mut pace = Ok(Pace::Steady);
    read.for_each(|event| {
        done.last = Some(event.position());
        if event.stream() == DELETIONS_STREAM {
            return ControlFlow::Continue(());
        }
        done.events += 1;
        let written = JsonLine::new(event).write_to(out).and_then(|()| out.write_all(b"\n"));
        pace = written.and_then(|()| out.offer());
        if done.events.is_multiple_of(PROGRESS_EVENTS) {
            bar.set_position(event.position().get());
        }
        match pace {
            Ok(Pace::Steady) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    Ok(pace?)
}

fn to_file(
    reading: Reading<'_>,
    what: &What,
    path: &Path,
    bar: &ProgressBar,
) -> Result<Exported, Failure> {
    let failed = |doing: &str| {
        let doing = format!("{doing} {}", path.display());
        move |error| Failure::file(doing, error)
    };
    // A device or a pipe is written to directly, not replaced.
    let is_special = fs::metadata(path).is_ok_and(|about| !about.is_file());
    let reading = reading.for_file(is_special);
    let target = if is_special { path.to_owned() } else { partial(path) };
    let file = File::create(&target).map_err(failed("creating"))?;
    let written = to_stream(reading, what, path, file, bar).map_err(|failure| match failure {
        Failure::Output(error) if error.kind() != ErrorKind::BrokenPipe => failed("writing")(error),
        failure => failure,
    });
    if is_special {
        return written.map(|(_, exported)| exported);
    }
    let placed = written.and_then(|(file, exported)| {
        file.sync_all().map_err(failed("syncing"))?;
        fs::rename(&target, path).map_err(failed("renaming"))?;
        Ok(exported)
    });
    if placed.is_err() {
        // The partial file is useless. An error here is ignored, because the failure of the export
        // is reported.
        let _ = fs::remove_file(&target);
    }
    placed
}

fn to_stream(
    reading: Reading<'_>,
    what: &What,
    path: &Path,
    file: File,
    bar: &ProgressBar,
) -> Result<(File, Exported), Failure> {
    if path.extension().is_none_or(|extension| extension != "gz") {
        return export(reading, what, file, bar);
    }
    let (out, exported) = export(reading, what, GzEncoder::new(file, Compression::default()), bar)?;
    Ok((out.finish()?, exported))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}
