//! `annals views`: which read models there are, how far they are, what they hold.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annals::{Error, EventStore, Position, Store, ViewStatus, ViewStore, ViewStoreExt};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::print::clean;
use super::shell::{Failure, Shell, count, note, open_patiently};

/// List the read models that projections keep in the store, print one of them, or remove one
///
/// For people: how far each is, how far behind the log, and which events are not in it; or the keys, their parts with /
/// between them, and values. With --json: one object a line, with view, version, position, behind, parked_events,
/// parked_streams, skipped_events, discarded_events, rebuild (version and position, or null); or with key, key_hex (its
/// bytes), value; or with position, stream, id, type, reason, at.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(after_help = "Examples:\n  \
    annals views bank.annals\n  \
    annals views bank.annals account_balances --limit 20\n  \
    annals views bank.annals transaction_history --under account-123 --backward --json\n  \
    annals views bank.annals account_balances --parked\n  \
    annals views bank.annals old_balances --remove")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The projection whose read model is to be printed
    name: Option<String>,
    /// Only entries whose keys begin with this text
    #[arg(long, value_name = "TEXT", requires = "name", conflicts_with = "under")]
    prefix: Option<String>,
    /// Only entries below this key
    #[arg(long, value_name = "KEY", requires = "name")]
    under: Option<String>,
    /// From the last key to the first
    #[arg(long, requires = "name")]
    backward: bool,
    /// At most this many
    #[arg(long, value_name = "N", requires = "name")]
    limit: Option<usize>,
    /// Instead of entries, the events that wait to be handled again, and why
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward", "skipped"])]
    parked: bool,
    /// Instead of entries, the events that were skipped, and why
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward"])]
    #[arg(conflicts_with = "discarded")]
    skipped: bool,
    /// Instead of entries, the events that are never to be handled, and the error they had
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward", "parked"])]
    discarded: bool,
    /// Remove all that the projection keeps: entries, checkpoint, parked, skipped, discarded events
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward", "limit"])]
    #[arg(conflicts_with_all = ["parked", "skipped", "discarded"])]
    remove: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    if let Some(name) = args.name.as_ref().filter(|_| args.remove) {
        return remove(name, args, shell);
    }
    let store = shell.open_to_read(&args.dir)?;
    let Some(name) = &args.name else { return list(&store, shell) };
    if ViewStore::checkpoint(&store, name)?.is_none() {
        return Err(missing(name));
    }
    match (args.parked, args.skipped, args.discarded) {
        (true, ..) => print_parked(&store, name, args, shell),
        (_, true, _) => print_skipped(&store, name, args, shell),
        (_, _, true) => print_discarded(&store, name, args, shell),
        _ => print(&store, name, args, shell),
    }
}

fn remove(name: &str, args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = open_patiently(&shell.options().create(false), &args.dir)?;
    if !store.remove_projection(name)? {
        return Err(missing(name));
    }
    store.close()?;
    note(&format!("read model {} is removed", clean(name)));
    Ok(())
}

fn missing(name: &str) -> Failure {
    let name = clean(name);
    Failure::Missing(format!("there is no read model {name}; `annals views` lists them"))
}

fn list(store: &Store, shell: &Shell) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let head = store.head()?;
    let mut damaged = None;
    // Those that begin with `$` are builds of the others.
    for name in store.list_views()?.into_iter().filter(|name| !name.starts_with('$')) {
        match store.view(&name).status() {
            Ok(Some(status)) if shell.json => writeln!(out, "{}", object(&name, &status, head))?,
            Ok(Some(status)) => {
                let at = place(status.position);
                writeln!(out, "{at:>8}  {}  {}", clean(&name), for_people(&status, head))?;
            }
            // It went meanwhile.
            Ok(None) => {}
            Err(error) => {
                let told = error.to_string();
                if shell.json {
                    writeln!(out, "{}", json!({ "view": name, "error": told }))?;
                } else {
                    writeln!(out, "{:>8}  {}  {}", "?", clean(&name), clean(&told))?;
                }
                // What others keep there is no damage.
                damaged = damaged.or(Some(error).filter(|error| !is_foreign(error)));
            }
        }
    }
    let printed = out.flush();
    damaged.map_or(Ok(()), |error| Err(Failure::from(error)))?;
    Ok(printed?)
}

fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::NotAProjection { .. })
}

fn place(position: Option<Position>) -> u64 {
    position.map_or(0, Position::get)
}

fn behind(status: &ViewStatus, head: Option<Position>) -> u64 {
    place(head).saturating_sub(place(status.position))
}

fn object(name: &str, status: &ViewStatus, head: Option<Position>) -> Value {
    let rebuild = status
        .rebuild
        .map(|(version, at)| json!({ "version": version, "position": at.map(Position::get) }));
    json!({
        "view": name,
        "version": status.version,
        "position": status.position.map(Position::get),
        "behind": behind(status, head),
        "parked_events": status.parked_events,
        "parked_streams": status.parked_streams,
        "skipped_events": status.skipped_events,
        "discarded_events": status.discarded_events,
        "rebuild": rebuild,
    })
}

fn for_people(status: &ViewStatus, head: Option<Position>) -> String {
    let mut text = format!("v{}", status.version);
    let mut tell = |what: String| {
        text.push_str(", ");
        text.push_str(&what);
    };
    match behind(status, head) {
        0 if status.parked_events + status.skipped_events == 0 => {
            tell("has every event".to_owned());
        }
        0 => {}
        events => tell(format!("{} behind", count(events, "event"))),
    }
    if status.parked_events > 0 {
        let (events, streams) =
            (count(status.parked_events, "event"), count(status.parked_streams, "stream"));
        tell(format!("{events} of {streams} parked"));
    }
    if status.skipped_events > 0 {
        tell(format!("{} skipped", count(status.skipped_events, "event")));
    }
    if status.discarded_events > 0 {
        tell(format!("{} discarded", count(status.discarded_events, "event")));
    }
    if let Some((version, at)) = status.rebuild {
        tell(format!("v{version} is made aside, at {}", place(at)));
    }
    text
}

fn print_parked(store: &Store, name: &str, args: &Args, shell: &Shell) -> Result<(), Failure> {
    let parked = store.view(name).parked(args.limit.unwrap_or(usize::MAX))?;
    let notes = parked.iter().map(|event| Aside {
        position: event.position,
        stream: event.stream.to_string(),
        id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        reason: event.reason.clone(),
        at: event.parked_at.to_string(),
    });
    print_aside(notes, shell)
}

fn print_skipped(store: &Store, name: &str, args: &Args, shell: &Shell) -> Result<(), Failure> {
    let skipped = store.view(name).skipped(args.limit.unwrap_or(usize::MAX))?;
    let notes = skipped.iter().map(|event| Aside {
        position: event.position,
        stream: event.stream.to_string(),
        id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        reason: Some(event.reason.clone()),
        at: event.skipped_at.to_string(),
    });
    print_aside(notes, shell)
}

fn print_discarded(store: &Store, name: &str, args: &Args, shell: &Shell) -> Result<(), Failure> {
    let discarded = store.view(name).discarded(args.limit.unwrap_or(usize::MAX))?;
    let notes = discarded.iter().map(|event| Aside {
        position: event.position,
        stream: event.stream.to_string(),
        id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        reason: event.reason.clone(),
        at: event.discarded_at.to_string(),
    });
    print_aside(notes, shell)
}

/// An event that is not in a read model.
struct Aside {
    position: Position,
    stream: String,
    id: String,
    event_type: String,
    /// `None`: it waits, or waited, for another of its stream.
    reason: Option<String>,
    at: String,
}

fn print_aside(events: impl Iterator<Item = Aside>, shell: &Shell) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for Aside { position, stream, id, event_type, reason, at } in events {
        if shell.json {
            let object = json!({
                "position": position.get(),
                "stream": stream,
                "id": id,
                "type": event_type,
                "reason": reason,
                "at": at,
            });
            writeln!(out, "{object}")?;
        } else {
            let reason = reason.unwrap_or_else(|| "waits behind another of its stream".to_owned());
            let [stream, event_type, reason] =
                [stream, event_type, reason].map(|text| clean(&text));
            writeln!(out, "{position:>8}  {at}  {stream}  {event_type}  {reason}")?;
        }
    }
    Ok(out.flush()?)
}

fn print(store: &Store, name: &str, args: &Args, shell: &Shell) -> Result<(), Failure> {
    let mut read = store.view(name).entries();
    if let Some(prefix) = &args.prefix {
        read = read.prefix(prefix);
    }
    if let Some(under) = &args.under {
        read = read.under(under);
    }
    if args.backward {
        read = read.backward();
    }
    if let Some(limit) = args.limit {
        read = read.limit(limit);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut is_empty = true;
    // Values as they are kept: a number of any size stays what it is.
    for entry in read.iter::<Box<RawValue>>() {
        let (key, value) = entry?;
        is_empty = false;
        if shell.json {
            // Keys of other parts may look the same: their bytes do not.
            write!(out, "{{\"key\":{},\"key_hex\":\"", json!(key.to_string()))?;
            for byte in key.as_bytes() {
                write!(out, "{byte:02x}")?;
            }
            writeln!(out, "\",\"value\":{value}}}")?;
        } else {
            writeln!(out, "{}  {}", clean(&key.to_string()), clean(value.get()))?;
        }
    }
    out.flush()?;
    if is_empty && !shell.json {
        note(&format!("read model {} holds no such entries", clean(name)));
    }
    Ok(())
}
