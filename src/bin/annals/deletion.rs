//! Code shared by the commands that delete: their options, and their output.

use std::io::{self, Write};
use std::path::Path;

use annals::audit::printable;
use annals::{Deleted, Deletion, Store, StreamId, Version};
use serde_json::{Value, json};

use super::shell::{Failure, Shell, count, grouped, open_patiently};

/// Why, by whose word, and whether really.
#[derive(clap::Args)]
pub(crate) struct Decision {
    /// The reason, which is recorded forever: do not repeat what is to be deleted
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of each command that deletes.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// By whose word; it is recorded forever
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print what would be deleted, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Decision {
    pub(crate) fn complete(&self, deletion: Deletion) -> Deletion {
        let reason = self.reason.clone().unwrap_or_default();
        self.common.complete(deletion, &reason)
    }
}

impl Common {
    /// Adds reason and author to a deletion.
    pub(crate) fn complete(&self, deletion: Deletion, reason: &str) -> Deletion {
        deletion.because(reason).by(self.by.clone().unwrap_or_default())
    }
}

/// Opens an existing store for writing or, for a dry run, for reading only.
pub(crate) fn open(shell: &Shell, dir: &Path, dry_run: bool) -> Result<Store, Failure> {
    if dry_run {
        return shell.open_to_read(dir);
    }
    open_patiently(&shell.options().create(false), dir)
}

/// Carries out a deletion, or finds out what it would do.
pub(crate) fn carry_out(
    store: &Store,
    deletion: &Deletion,
    dry_run: bool,
) -> Result<Deleted, Failure> {
    Ok(if dry_run { store.preview(deletion)? } else { store.delete(deletion)? })
}

/// Decides about one stream, and prints the result.
pub(crate) fn delete_from(
    (dir, stream): (&Path, &StreamId),
    deletion: Deletion,
    decision: &Decision,
    shell: &Shell,
) -> Result<(), Failure> {
    let dry_run = decision.common.dry_run;
    let store = open(shell, dir, dry_run)?;
    let deleted = carry_out(&store, &decision.complete(deletion), dry_run)?;
    store.close()?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", object(&deleted, dry_run))?;
    } else {
        let done = if dry_run { "would delete" } else { "deleted" };
        writeln!(out, "{}", for_people(&deleted, done, stream))?;
    }
    Ok(())
}

/// The result of a deletion.
pub(crate) fn object(deleted: &Deleted, dry_run: bool) -> Value {
    let snapshots = deleted.snapshots_with_it.iter();
    let snapshots = snapshots.map(|(kind, version)| json!({ "kind": kind, "version": version }));
    json!({
        "number": deleted.number.map(Version::get),
        "position": deleted.position.map(annals::Position::get),
        "events": deleted.events,
        "streams": deleted.streams,
        "bytes": deleted.bytes,
        "snapshots": deleted.snapshots,
        "snapshots_with_it": snapshots.collect::<Vec<_>>(),
        "views_with_it": deleted.views_with_it,
        "dry_run": dry_run,
    })
}

fn for_people(deleted: &Deleted, done: &str, stream: &StreamId) -> String {
    let stream = printable(stream.as_str());
    let Some(number) = deleted.number else {
        return format!("nothing to delete: no such events are left in stream {stream}");
    };
    let (events, bytes) = (count(deleted.events, "event"), grouped(deleted.bytes));
    let snapshots = match deleted.snapshots {
        0 => String::new(),
        snapshots => format!(", and {}", count(snapshots, "snapshot")),
    };
    format!("{done} {events} of {stream}, about {bytes} bytes{snapshots}: deletion {number}")
}
