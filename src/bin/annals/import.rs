//! `annals import`: adds events in the line form, from a file or a pipe, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::time::Instant;

use annals::{ImportOptions, Imported};
use serde_json::json;

use super::input::decompressed;
use super::shell::{Failure, Shell, count, grouped, long, note, progress};

/// Add the events of a file; each line is added once, however often the file is imported
///
/// The file holds one JSON object per line. Required: "stream", "type", "time" (RFC 3339), and
/// "data" (any JSON) or "data_base64". Optional: "id" (a UUID), "schema_version", "content_type",
/// "metadata" (an object of strings), "tags" (a list of strings), "commit" (consecutive lines with
/// the same commit are one append, all or nothing). "position", "version" and "commit_last" are
/// ignored; any other field is rejected.
///
/// If an import stops early, at a bad line or because it is killed, importing the same file again
/// continues where it stopped. If the file has grown at its end, only the new lines are added.
/// Times are kept. Lines of the stream $deletions and of holes are skipped. The store is created if
/// it does not exist.
///
/// With --keep-positions, the file is one of `annals export --positions`, and DIR is a new store:
/// every event keeps its position and version, and deleted events stay deleted. The new store is
/// built and verified in DIR.partial, then renamed to DIR. If the import fails, it creates no store:
/// correct the cause and import the whole file again.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Examples:\n  \
    annals import bank.annals history.jsonl.gz\n  \
    zstdcat history.jsonl.zst | annals import bank.annals -\n  \
    annals export old.annals | annals import new.annals -\n  \
    annals export old.annals --positions | annals import new.annals - --keep-positions")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The file, plain or gzip (detected by its first bytes), or - for standard input
    file: PathBuf,
    /// Record an event whose time goes back at the previous time, instead of rejecting its line
    #[arg(long)]
    clamp_times: bool,
    /// Build a new store in which every event has the position and version that the file gives
    #[arg(long, conflicts_with = "clamp_times")]
    keep_positions: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let bar;
    // The file is opened before the store is created, so that a wrong name leaves no store behind.
    let raw: Box<dyn Read> = if args.file.as_os_str() == "-" {
        bar = progress(None, "{spinner} {decimal_bytes} {decimal_bytes_per_sec} {msg}");
        Box::new(bar.wrap_read(io::stdin()))
    } else {
        let doing = || format!("opening {}", args.file.display());
        let file = File::open(&args.file).map_err(|error| Failure::file(doing(), error))?;
        let about = file.metadata().map_err(|error| Failure::file(doing(), error))?;
        if about.is_dir() {
            return Err(Failure::Usage(format!("{} is a directory", args.file.display())));
        }
        let len = about.is_file().then_some(about.len());
        bar = progress(len, "{bar:30} {percent}% {msg} (about {eta} left)");
        Box::new(bar.wrap_read(file))
    };
    let shown = bar.clone();
    let on_trailing = move || {
        shown.suspend(|| {
            note(
                "the input has bytes after its gzip data, which are ignored: if they are not padding, the file is \
                 damaged",
            );
        });
    };
    let input = decompressed(raw, on_trailing)
        .map_err(|error| Failure::file("reading the input", error))?;
    let begun = Instant::now();
    let imported = add(args, shell, input, |so_far| {
        bar.set_message(format!(
            "{}, {} added",
            count(so_far.lines, "line"),
            grouped(so_far.added)
        ));
    })?;
    bar.finish_and_clear();
    report(&imported, begun.elapsed().as_secs_f64(), shell)
}

/// Adds the events of the input to a store that is there, or to a new one.
fn add(
    args: &Args,
    shell: &Shell,
    input: impl BufRead,
    progress: impl FnMut(Imported),
) -> Result<Imported, Failure> {
    if args.keep_positions {
        return Ok(shell.options().import_with_positions(&args.dir, input, progress)?);
    }
    let store = shell.open(&args.dir)?;
    let options = ImportOptions::default().clamp_times(args.clamp_times);
    let imported = store.import(input, options, progress)?;
    if let Some(behind) = store.info()?.clock_behind {
        note(&format!(
            "the time of the last event is {} ahead of this machine's clock; until the clock catches up, new events \
             are recorded at that time",
            long(behind)
        ));
    }
    store.close()?;
    Ok(imported)
}

/// Prints the result of an import.
fn report(imported: &Imported, seconds: f64, shell: &Shell) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if shell.json {
        let report = json!({
            "added": imported.added, "already_there": imported.already_there, "lines": imported.lines,
            "skipped": imported.skipped, "clamped": imported.clamped, "times_cut": imported.times_cut,
            "holes": imported.holes,
            "seconds": seconds,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    let rate =
        format!("{:.0}", f64::from(u32::try_from(imported.lines).unwrap_or(u32::MAX)) / seconds);
    writeln!(
        out,
        "added {} from {} in {seconds:.1} s ({} lines/s)",
        count(imported.added, "event"),
        count(imported.lines, "line"),
        rate.parse().map_or(rate, grouped),
    )?;
    for (number, what) in [
        (imported.already_there, "there already, from an earlier import of this input"),
        (imported.skipped, "of deletions, skipped: each store records its own"),
        (imported.holes, "holes, where events were deleted"),
        (imported.clamped, "with a time before that of the event before, recorded at that one"),
        (
            imported.times_cut,
            "with a time finer than a microsecond, or in a leap second, cut to the microsecond before",
        ),
    ] {
        if number > 0 {
            writeln!(out, "{} {what}", grouped(number))?;
        }
    }
    Ok(())
}
