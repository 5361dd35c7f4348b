//! `annals redact`: removes the content of one event.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::audit::printable;
use annals::{Deleted, Deletion, RecordedEvent};
use serde_json::{Value, json};

use super::deletion::{self, Common};
use super::named::Named;
use super::shell::{Failure, Shell, count};

/// Remove the payload and the metadata of one event, such as a password that should not be there
///
/// Id, type, time and place of the event stay. When the command ends, the removed bytes are gone
/// from all files of the store. They are not gone from backups and exports, and from what
/// subscribers keep. Snapshots and read models that may hold them are listed: rebuild the read
/// models. With --json: the same object as `annals truncate`, with event (its position, stream,
/// version, type and id), snapshots_with_it and views_with_it.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Examples:\n  \
    annals redact bank.annals 262000 --reason 'a password in the payload' --dry-run\n  \
    annals redact bank.annals account-123@7 --reason 'asked to' --remove-tag email:ada@example.org")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The event: its position, its stream and version as STREAM@VERSION, or its id, which is
    /// searched in the whole log
    event: Named,
    /// The reason, which is recorded forever: do not repeat what is to be removed
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Remove this tag of the event too; may be given several times. The decision in $deletions does
    /// not repeat it
    #[arg(long = "remove-tag", value_name = "TAG")]
    remove_tags: Vec<String>,
    /// Delete the snapshots of the stream that may hold what is removed
    #[arg(long)]
    clear_snapshots: bool,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let dry_run = args.common.dry_run;
    let store = deletion::open(shell, &args.dir, dry_run)?;
    let event = args.event.event(&store)?;
    let redaction = Deletion::redact(event.position(), event.id()).removing_tags(&args.remove_tags);
    let redaction = if args.clear_snapshots { redaction.clearing_snapshots() } else { redaction };
    let redaction = args.common.complete(redaction, &args.reason);
    let deleted = deletion::carry_out(&store, &redaction, dry_run)?;
    store.close()?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", object(&event, &deleted, dry_run))?;
    } else {
        for_people(&mut out, &event, &deleted, dry_run)?;
    }
    Ok(())
}

fn object(event: &RecordedEvent, deleted: &Deleted, dry_run: bool) -> Value {
    let mut object = deletion::object(deleted, dry_run);
    if let Some(object) = object.as_object_mut() {
        let event = json!({
            "position": event.position().get(),
            "stream": event.stream().as_str(),
            "version": event.version().get(),
            "type": event.event_type().as_str(),
            "id": event.id().to_string(),
        });
        object.insert("event".to_owned(), event);
    }
    object
}

fn for_people(
    out: &mut impl Write,
    event: &RecordedEvent,
    deleted: &Deleted,
    dry_run: bool,
) -> io::Result<()> {
    let done = if dry_run { "would redact" } else { "redacted" };
    let number = deleted.number.map_or(String::new(), |number| format!(": deletion {number}"));
    writeln!(
        out,
        "{done} position {}, {}@{} {} {}{number}",
        event.position(),
        printable(event.stream().as_str()),
        event.version(),
        printable(event.event_type().as_str()),
        event.id()
    )?;
    if deleted.snapshots > 0 {
        let verb = if dry_run { "would delete" } else { "deleted" };
        writeln!(out, "{verb} {} that may hold its content", count(deleted.snapshots, "snapshot"))?;
    }
    for (kind, version) in &deleted.snapshots_with_it {
        let kind = printable(kind);
        writeln!(
            out,
            "snapshot {kind} at version {version} may hold its content: --clear-snapshots"
        )?;
    }
    for view in &deleted.views_with_it {
        writeln!(out, "read model {} may hold its content: rebuild it", printable(view))?;
    }
    writeln!(out, "not reached: backups, exports, and what subscribers keep")
}
