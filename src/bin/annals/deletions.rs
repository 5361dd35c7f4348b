//! `annals deletions`: lists deletions, and repeats those that an older copy lacks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use annals::audit::printable;
use annals::{Deletion, DeletionTarget, RecordedDeletion};
use serde_json::{Value, json};

use super::deletion;
use super::shell::{Failure, Shell, count, note};

/// List the deletions of a store, or find and repeat those that an older copy lacks
///
/// After a backup is restored, events that were deleted since are there again. List the deletions of
/// the newer store in time, keep the list outside of the store, and compare it. With --lacks, prints
/// the lines of the list whose events are still in this store; with --replay, deletes them.
///
/// With --json: one object per deletion with number, position, time, kind (truncate, delete,
/// tombstone or redact), its streams or its event, reason and author. --lacks and --replay read this
/// form.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals deletions bank.annals --json > deletions.jsonl\n  \
    annals restore /mnt/backups/bank bank-again.annals\n  \
    annals deletions bank-again.annals --lacks deletions.jsonl\n  \
    annals deletions bank-again.annals --replay deletions.jsonl")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// List the deletions in this file that the store lacks; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    lacks: Option<PathBuf>,
    /// Carry out the deletions in this file that the store lacks; - is standard input
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// With --replay: print what would be carried out, and change nothing
    #[arg(long, requires = "replay")]
    dry_run: bool,
}

/// A line of the list.
struct Listed {
    object: Value,
    deletion: Deletion,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let file = args.replay.as_ref().or(args.lacks.as_ref());
    // The file is read before the store is opened, so that a bad line changes nothing.
    let given = file.map(|file| read(file)).transpose()?;
    let replays = args.replay.is_some() && !args.dry_run;
    let store = deletion::open(shell, &args.dir, !replays)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let Some(given) = given else {
        let recorded = store.deletions()?;
        store.close()?;
        if recorded.is_empty() && !shell.json {
            note("nothing was deleted from the store");
        }
        recorded.iter().try_for_each(|recorded| print(&mut out, &listed(recorded), shell))?;
        return Ok(out.flush()?);
    };
    let (mut lacking, mut events) = (0, 0);
    for listed in &given {
        if !store.lacks(&listed.deletion)? {
            continue;
        }
        lacking += 1;
        if replays {
            events += store.delete(&listed.deletion)?.events;
        }
        print(&mut out, listed, shell)?;
    }
    store.close()?;
    out.flush()?;
    if !shell.json {
        note(&summary(args, given.len() as u64, lacking, events));
    }
    Ok(())
}

fn summary(args: &Args, given: u64, lacking: u64, events: u64) -> String {
    let of = format!("{} of {}", count(lacking, "deletion"), given);
    match (&args.replay, args.dry_run) {
        (Some(_), false) => format!("repeated {of}: {} deleted", count(events, "event")),
        (Some(_), true) => format!("would repeat {of}"),
        (None, _) if lacking == 0 => "the store lacks none of these deletions".to_owned(),
        (None, _) => format!("the store lacks {of}: repeat them with --replay"),
    }
}

/// Reads a list in the form that `--json` prints.
fn read(path: &Path) -> Result<Vec<Listed>, Failure> {
    let failed = |doing: &str, error| Failure::file(format!("{doing} {}", path.display()), error);
    let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|error| failed("opening", error))?))
    };
    let mut found = Vec::new();
    for (number, line) in (1_u64..).zip(input.lines()) {
        let line = line.map_err(|error| failed("reading", error))?;
        if line.trim().is_empty() {
            continue;
        }
        let parsed = serde_json::from_str::<Value>(&line).and_then(|object| {
            let deletion = serde_json::from_value(object.clone())?;
            Ok(Listed { object, deletion })
        });
        found.push(parsed.map_err(|error| {
            Failure::Usage(format!(
                "line {number} of {} is not a deletion as `annals deletions --json` prints it: {error}",
                path.display()
            ))
        })?);
    }
    Ok(found)
}

fn listed(recorded: &RecordedDeletion) -> Listed {
    let mut object = json!({
        "number": recorded.number.get(),
        "position": recorded.position.get(),
        "time": recorded.recorded_at.to_string(),
    });
    let deletion = serde_json::to_value(&recorded.deletion).unwrap_or_default();
    if let (Some(object), Value::Object(deletion)) = (object.as_object_mut(), deletion) {
        object.extend(deletion);
    }
    Listed { object, deletion: recorded.deletion.clone() }
}

fn print(out: &mut impl Write, listed: &Listed, shell: &Shell) -> io::Result<()> {
    let Listed { object, deletion } = listed;
    if shell.json {
        return writeln!(out, "{object}");
    }
    let number = object.get("number").and_then(Value::as_u64).unwrap_or_default();
    let time = object.get("time").and_then(Value::as_str).unwrap_or_default();
    write!(out, "{number:>6}  {}  {}", printable(time), what(deletion))?;
    if !deletion.reason().is_empty() {
        write!(out, "  {:?}", deletion.reason())?;
    }
    if !deletion.author().is_empty() {
        write!(out, "  by {}", printable(deletion.author()))?;
    }
    writeln!(out)
}

/// What was deleted.
fn what(deletion: &Deletion) -> String {
    let named = |stream: &annals::StreamId| printable(stream.as_str());
    match deletion.target() {
        DeletionTarget::Truncate { streams } => match streams.as_slice() {
            [(stream, before)] => format!("{} before version {before}", named(stream)),
            streams => format!("the beginnings of {}", count(streams.len() as u64, "stream")),
        },
        DeletionTarget::Delete { stream, before: None } => format!("stream {}", named(stream)),
        DeletionTarget::Delete { stream, before: Some(before) } => {
            format!("stream {} before version {before}", named(stream))
        }
        DeletionTarget::Tombstone { stream } => format!("stream {}, for good", named(stream)),
        DeletionTarget::Redact { position, event_id, .. } => {
            format!("the content of position {position}, event {event_id}")
        }
        _ => "something that this version does not know".to_owned(),
    }
}
