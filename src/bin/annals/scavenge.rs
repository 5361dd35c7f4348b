//! `annals scavenge`: deletes what the retentions say, and gives the space of deleted events back.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::{ScavengeOptions, Scavenged};
use serde_json::{Value, json};

use super::deletion;
use super::shell::{Failure, Shell, check_outside, count, grouped, note, progress};

/// Delete what the retentions say, and give the space of deleted events back
///
/// Also gives back the space of events that `annals truncate` and `annals delete-stream` have
/// deleted. If interrupted, the next scavenge continues. With --json: one object with streams (that
/// were looked at), truncated_streams, events, bytes (before compression), packs, freed_bytes,
/// is_incomplete (the disk was too full to rewrite some files) and dry_run.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Examples:\n  \
    annals scavenge bank.annals --dry-run\n  \
    annals scavenge bank.annals --archive /mnt/archive/bank-2026-11.jsonl")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// Write the events to this file before they are deleted, in the form that export writes; the
    /// file must not exist
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    archive: Option<PathBuf>,
    /// Also rewrite the files of read models and snapshots, without what they held before
    #[arg(long, conflicts_with = "dry_run")]
    views: bool,
    /// Do not rest between two batches
    #[arg(long)]
    unthrottled: bool,
    /// Print what would be deleted, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let mut options = ScavengeOptions::new();
    if let Some(file) = &args.archive {
        check_outside(file, &args.dir)?;
        options = options.archive(file);
    }
    if args.views {
        options = options.and_views();
    }
    if args.unthrottled {
        options = options.unthrottled();
    }
    let store = deletion::open(shell, &args.dir, args.dry_run)?;
    let done = if args.dry_run {
        store.preview_scavenge()?
    } else {
        let bar = progress(None, "{spinner} {msg}");
        let done = store.scavenge(&options, |so_far| {
            bar.set_message(format!(
                "{} deleted, {} rewritten",
                count(so_far.events, "event"),
                count(so_far.packs, "pack")
            ));
            bar.tick();
        });
        bar.finish_and_clear();
        done?
    };
    store.close()?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", object(&done, args.dry_run))?;
    } else {
        writeln!(out, "{}", for_people(&done, args.dry_run))?;
    }
    if done.is_incomplete {
        note("the disk is too full to rewrite some files: free some space, and scavenge again");
    }
    Ok(())
}

fn object(done: &Scavenged, dry_run: bool) -> Value {
    json!({
        "streams": done.streams,
        "truncated_streams": done.truncated_streams,
        "events": done.events,
        "bytes": done.bytes,
        "packs": done.packs,
        "freed_bytes": done.freed_bytes,
        "is_incomplete": done.is_incomplete,
        "dry_run": dry_run,
    })
}

fn for_people(done: &Scavenged, dry_run: bool) -> String {
    let would = if dry_run { "would delete" } else { "deleted" };
    let events = count(done.events, "event");
    let (cut, streams) = (grouped(done.truncated_streams), count(done.streams, "stream"));
    let bytes = grouped(done.bytes);
    let text = format!("{would} {events} of {cut} of {streams}, about {bytes} bytes");
    if dry_run {
        return text;
    }
    let (packs, freed) = (count(done.packs, "pack"), grouped(done.freed_bytes));
    format!("{text}; {packs} rewritten, {freed} bytes of table files freed")
}
