//! `annals backup` and `annals restore`: copy a store to a complete store.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::{CopyReport, Position, Store, VerifyReport};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::shell::{Failure, Shell, count, grouped, note, progress};
use super::verify::{print_damage, verdict, verify};

/// How often the size of the copy is measured for the progress bar.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Copy a store, with its snapshots and read models, to a directory that does not exist yet
///
/// The copy is a complete store. It is made as TO.partial, synced, and renamed, so it exists whole
/// or not at all. To continue with it, use `annals restore`. A program that has the store open for
/// writing makes its backups itself, with Store::backup. On the file system of the store, table
/// files are shared, not copied: such a copy is lost with the disk. With --json: one object with
/// head, files, bytes, shared_bytes, seconds, and, with --verify, sound.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Examples:\n  \
    annals backup bank.annals /mnt/backups/bank-$(date +%F) --verify")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    #[command(flatten)]
    copy: Copy,
}

/// Restore a backup, with its snapshots and read models, to a directory that does not exist yet
///
/// The restored store begins a new epoch, which `annals stat` shows. A subscriber that stored a
/// position with its epoch is refused if this log no longer has that position. The backup is
/// unchanged. Copies made by another tool are restored in the same way. Events that were deleted
/// after the backup was made are there again: `annals deletions` finds and repeats these deletions.
/// With --json: the same object as `annals backup`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  annals restore /mnt/backups/bank-2026-11-17 bank.annals --verify"
)]
pub(crate) struct RestoreArgs {
    /// The backup's directory
    backup: PathBuf,
    #[command(flatten)]
    copy: Copy,
}

#[derive(clap::Args)]
struct Copy {
    /// The directory of the copy: it must not exist, but its parent must
    to: PathBuf,
    /// Check the copy as `annals verify` does
    #[arg(long)]
    verify: bool,
}

/// `Store::backup` or `Store::restore_to`.
type Make = fn(&Store, &Path) -> annals::Result<CopyReport>;

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    copy_and_report(&args.dir, &args.copy, shell, |store, to| store.backup(to))
}

pub(crate) fn restore(args: &RestoreArgs, shell: &Shell) -> Result<(), Failure> {
    copy_and_report(&args.backup, &args.copy, shell, |store, to| store.restore_to(to))?;
    if !shell.json {
        let to = args.copy.to.display();
        note(&format!(
            "events that were deleted after this backup are there again; list the deletions of the \
             newer store with `annals deletions NEWER --json > FILE`, and see which of them are \
             missing with `annals deletions {to} --lacks FILE`"
        ));
    }
    Ok(())
}

fn copy_and_report(from: &Path, args: &Copy, shell: &Shell, make: Make) -> Result<(), Failure> {
    let begun = Instant::now();
    let store = shell.open_to_read(from)?;
    let bar = progress(Some(size(from)), "{bar:30} {bytes} of {total_bytes} (about {eta} left)");
    let copied = copy(&store, &args.to, &bar, make)?;
    drop(store);
    let seconds = begun.elapsed().as_secs_f64();
    let report = args.verify.then(|| verify(&args.to, shell)).transpose()?;
    let mut out = io::stdout().lock();
    let printed = if shell.json {
        writeln!(out, "{}", object(&copied, seconds, report.as_ref()))
    } else {
        for_people(&mut out, &args.to, &copied, seconds, report.as_ref())
    };
    report.as_ref().map_or(Ok(()), verdict)?;
    Ok(printed?)
}

/// Makes the copy, and shows its growing size meanwhile.
fn copy(store: &Store, to: &Path, bar: &ProgressBar, make: Make) -> Result<CopyReport, Failure> {
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let is_done = AtomicBool::new(false);
    let copied = thread::scope(|scope| {
        let watch = || {
            while !is_done.load(Ordering::SeqCst) {
                bar.set_position(size(&partial));
                thread::park_timeout(LOOK_AGAIN);
            }
        };
        let watcher = (!bar.is_hidden()).then(|| scope.spawn(watch));
        let copied = make(store, to);
        is_done.store(true, Ordering::SeqCst);
        if let Some(watcher) = watcher {
            watcher.thread().unpark();
        }
        copied
    });
    bar.finish_and_clear();
    Ok(copied?)
}

/// The total size of the files below a directory, for the progress bar. Skips files that cannot be
/// read.
fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let entries = entries.filter_map(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn object(copied: &CopyReport, seconds: f64, report: Option<&VerifyReport>) -> Value {
    let mut object = json!({
        "head": copied.head.map(Position::get),
        "files": copied.files,
        "bytes": copied.bytes,
        "shared_bytes": copied.shared_bytes,
        "seconds": seconds,
    });
    if let (Some(report), Some(object)) = (report, object.as_object_mut()) {
        object.insert("sound".to_owned(), json!(report.is_sound()));
    }
    object
}

fn for_people(
    out: &mut impl Write,
    to: &Path,
    copied: &CopyReport,
    seconds: f64,
    report: Option<&VerifyReport>,
) -> io::Result<()> {
    let events = count(copied.head.map_or(0, Position::get), "event");
    let (files, bytes) = (count(copied.files, "file"), grouped(copied.bytes));
    writeln!(out, "copied {events} to {}: {files}, {bytes} bytes, {seconds:.1} s", to.display())?;
    if copied.shared_bytes > 0 {
        let shared = grouped(copied.shared_bytes);
        writeln!(
            out,
            "{shared} of these bytes are shared with the original, on the same file system"
        )?;
    }
    if let Some(report) = report {
        print_damage(out, report)?;
        let verdict = if report.is_sound() { "sound" } else { "NOT sound" };
        writeln!(out, "the copy is {verdict}")?;
    }
    Ok(())
}
