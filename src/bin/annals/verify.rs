//! `annals verify`: checks a store on disk.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use annals::audit::printable;
use annals::{Location, Position, VerifyReport};
use serde_json::{Value, json};

use super::shell::{Failure, Shell, count, grouped, progress};

/// Check a store on disk: checksums, gapless positions and versions, whole commits, times, both copies
/// of each event, and the index
///
/// Reads all events twice and changes nothing. If the store is not sound, prints one line for each
/// damaged place and ends with exit code 1. Deleted events are no damage. With --json: one object
/// with sound, head, events, deleted_events, frames, streams, snapshots, view_entries,
/// idempotency_keys, index_entries, damage_count, and damage (a list of location, position, found,
/// expected; at most 1,000).
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Example:\n  annals verify bank.annals && echo sound")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let report = verify(&args.dir, shell)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = if shell.json {
        writeln!(out, "{}", object(&report))
    } else {
        for_people(&mut out, &report)
    };
    let printed = printed.and_then(|()| out.flush());
    verdict(&report)?;
    Ok(printed?)
}

/// The result of the command, even if its output could not be written.
pub(crate) fn verdict(report: &VerifyReport) -> Result<(), Failure> {
    if report.is_sound() { Ok(()) } else { Err(Failure::Damaged(report.damage_count)) }
}

/// Verifies the store in a directory, and shows the progress.
pub(crate) fn verify(dir: &Path, shell: &Shell) -> Result<VerifyReport, Failure> {
    let store = shell.open_to_read(dir)?;
    let bar = progress(Some(0), "{bar:30} {percent}% (about {eta} left)");
    let report = store.verify(|so_far| {
        bar.set_length(so_far.total);
        bar.set_position(so_far.done);
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn object(report: &VerifyReport) -> Value {
    let damage = report.damage.iter().map(|damage| {
        json!({
            "location": damage.location.to_string(),
            "position": damage.position.map(Position::get),
            "found": damage.found,
            "expected": damage.expected,
        })
    });
    json!({
        "sound": report.is_sound(),
        "head": report.head.map(Position::get),
        "events": report.events,
        "deleted_events": report.deleted_events,
        "frames": report.frames,
        "streams": report.streams,
        "snapshots": report.snapshots,
        "view_entries": report.view_entries,
        "idempotency_keys": report.idempotency_keys,
        "index_entries": report.index_entries,
        "damage_count": report.damage_count,
        "damage": damage.collect::<Vec<_>>(),
    })
}

/// Prints one line for each damaged place.
pub(crate) fn print_damage(out: &mut impl Write, report: &VerifyReport) -> io::Result<()> {
    for damage in &report.damage {
        let position = damage.position.map(|position| format!("position {position}"));
        // The location of a frame in the log already contains its position.
        let position = position.filter(|_| !matches!(damage.location, Location::Log { .. }));
        let at = position.map_or(String::new(), |position| format!(" ({position})"));
        let (found, expected) = (printable(&damage.found), printable(&damage.expected));
        writeln!(
            out,
            "{}{at}: found {found}, expected {expected}",
            printable(&damage.location.to_string())
        )?;
    }
    let untold = report.damage_count.saturating_sub(report.damage.len() as u64);
    if untold > 0 {
        writeln!(out, "and {} more", grouped(untold))?;
    }
    Ok(())
}

fn for_people(out: &mut impl Write, report: &VerifyReport) -> io::Result<()> {
    print_damage(out, report)?;
    let verdict = if report.is_sound() { "sound" } else { "NOT sound" };
    let (events, streams) = (count(report.events, "event"), count(report.streams, "stream"));
    write!(out, "{verdict}: {events} in {streams} read and compared")?;
    if report.snapshots + report.view_entries > 0 {
        let snapshots = count(report.snapshots, "snapshot");
        let entries = match report.view_entries {
            1 => "1 entry".to_owned(),
            entries => format!("{} entries", grouped(entries)),
        };
        write!(out, "; {snapshots} and {entries} of read models read")?;
    }
    if report.idempotency_keys > 0 {
        write!(out, "; {} read", count(report.idempotency_keys, "idempotency key"))?;
    }
    if report.index_entries > 0 {
        let entries = if report.index_entries == 1 { "entry" } else { "entries" };
        write!(out, "; {} {entries} of the index compared", grouped(report.index_entries))?;
    }
    if report.deleted_events > 0 {
        write!(out, "; {} deleted", count(report.deleted_events, "event"))?;
    }
    writeln!(out)
}
