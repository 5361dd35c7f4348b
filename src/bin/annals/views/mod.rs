//! `annals views`: lists, prints and removes read models.

mod entries;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annals::audit::printable;
use annals::{
    Error, EventStore, Position, Store, UnhandledEvent, ViewStatus, ViewStore, ViewStoreExt,
};
use serde_json::{Value, json};

use super::reading::Reading;
use super::shell::{Failure, Shell, count, note, open_patiently};

/// List the read models that projections keep in the store, print one of them, or remove one
///
/// Without a name, lists for each read model its position, how far it is behind the log, and how
/// many events are not in it. With a name, prints keys, with / between their parts, and values.
///
/// With --json: one object per line. A read model has view, version, position, behind,
/// parked_events, parked_streams, skipped_events, discarded_events, and rebuild (version and
/// position, or null). An entry has key, key_hex (its bytes) and value. A parked, skipped or
/// discarded event has position, stream, id, type, reason and at.
///
/// A view that a program keeps without a projection is listed with its position and, with --json,
/// is_projection = false. Its keys and values are printed as they are stored: a key that is not
/// text has only key_hex, and a value that is not JSON is in value_base64.
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
    /// The projection whose read model is printed or removed
    name: Option<String>,
    /// Print only entries whose keys begin with this text
    #[arg(long, value_name = "TEXT", requires = "name", conflicts_with = "under")]
    prefix: Option<String>,
    /// Print only entries below this key
    #[arg(long, value_name = "KEY", requires = "name")]
    under: Option<String>,
    /// Print from the last key to the first
    #[arg(long, requires = "name")]
    backward: bool,
    /// Print at most this many entries or events
    #[arg(long, value_name = "N", requires = "name")]
    limit: Option<usize>,
    /// Print the parked events, which wait to be handled again, and why, instead of entries
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward", "skipped"])]
    parked: bool,
    /// Print the skipped events, and why, instead of entries
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward"])]
    #[arg(conflicts_with = "discarded")]
    skipped: bool,
    /// Print the discarded events, which are never handled, and their errors, instead of entries
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward", "parked"])]
    discarded: bool,
    /// Remove all data of the projection: entries, checkpoint, parked, skipped and discarded events
    #[arg(long, requires = "name", conflicts_with_all = ["prefix", "under", "backward", "limit"])]
    #[arg(conflicts_with_all = ["parked", "skipped", "discarded"])]
    remove: bool,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let Some(name) = &args.name else { return list(shell.open_to_read(&args.dir)?, shell) };
    if args.remove {
        return remove(name, args, shell);
    }
    let mut reading = Reading::open(shell, &args.dir)?;
    let store = reading.store()?;
    if ViewStore::checkpoint(store, name)?.is_none() {
        return Err(missing(name));
    }
    let limit = args.limit.unwrap_or(usize::MAX);
    let unhandled = if args.parked {
        Some(store.view(name).parked(limit)?)
    } else if args.skipped {
        Some(store.view(name).skipped(limit)?)
    } else if args.discarded {
        Some(store.view(name).discarded(limit)?)
    } else {
        None
    };
    if let Some(unhandled) = unhandled {
        reading.let_go()?;
        return print_unhandled(&unhandled, shell);
    }
    entries::print(reading, name, args, shell)
}

fn remove(name: &str, args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = open_patiently(&shell.options().create(false), &args.dir)?;
    if !store.remove_projection(name)? {
        return Err(missing(name));
    }
    store.close()?;
    note(&format!("read model {} is removed", printable(name)));
    Ok(())
}

fn missing(name: &str) -> Failure {
    let name = printable(name);
    Failure::Missing(format!("there is no read model {name}; `annals views` lists them"))
}

fn list(store: Store, shell: &Shell) -> Result<(), Failure> {
    let views = summarize(&store)?;
    // Closed before printing, so that a pager does not keep it open.
    store.close()?;
    let mut out = BufWriter::new(io::stdout().lock());
    for view in &views {
        if shell.json {
            writeln!(out, "{}", view.object)?;
        } else {
            let at = view.position.map_or("?".to_owned(), |at| at.to_string());
            writeln!(out, "{at:>8}  {}  {}", view.name, view.text)?;
        }
    }
    out.flush()?;
    views.into_iter().find_map(|view| view.damage).map_or(Ok(()), |error| Err(error.into()))
}

/// A view, as the commands show it.
pub(crate) struct Summary {
    /// As JSON.
    pub(crate) object: Value,
    /// Its name, without control characters.
    pub(crate) name: String,
    /// Its progress and what is missing, or the damage.
    pub(crate) text: String,
    /// Its position, 0 before the first event; `None` if it is damaged.
    position: Option<u64>,
    damage: Option<Error>,
}

/// All views. The cost grows with the number of views and their parked events.
pub(crate) fn summarize(store: &Store) -> Result<Vec<Summary>, Failure> {
    let head = store.head()?;
    let mut views = Vec::new();
    // Views whose names begin with `$` are builds of other views.
    for name in store.list_views()?.into_iter().filter(|name| !name.starts_with('$')) {
        let (object, text, position, damage) = match store.view(&name).status() {
            Ok(Some(status)) => {
                let text = for_people(&status, head);
                (object(&name, &status, head), text, Some(place(status.position)), None)
            }
            // It was removed meanwhile.
            Ok(None) => continue,
            // A program keeps it without a projection, in its own format.
            Err(Error::NotAProjection { .. }) => {
                let checkpoint = ViewStore::checkpoint(store, &name)?;
                let position = checkpoint.and_then(|checkpoint| checkpoint.position);
                let at = position.map(Position::get);
                let object = json!({ "view": name, "position": at, "is_projection": false });
                (object, "not created by a projection".to_owned(), Some(place(position)), None)
            }
            Err(error) => {
                let reason = error.to_string();
                (json!({ "view": name, "error": reason }), printable(&reason), None, Some(error))
            }
        };
        views.push(Summary { object, name: printable(&name), text, position, damage });
    }
    Ok(views)
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
        tell(format!("shadow build of v{version} at {}", place(at)));
    }
    text
}

fn print_unhandled(events: &[UnhandledEvent], shell: &Shell) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for event in events {
        let (stream, event_type) = (event.stream.as_str(), event.event_type.as_str());
        if shell.json {
            let object = json!({
                "position": event.position.get(),
                "stream": stream,
                "id": event.id.to_string(),
                "type": event_type,
                "reason": event.reason,
                "at": event.at.to_string(),
            });
            writeln!(out, "{object}")?;
        } else {
            let reason =
                event.reason.as_deref().unwrap_or("waits for an earlier one of its stream");
            let [stream, event_type, reason] = [stream, event_type, reason].map(printable);
            let (position, at) = (event.position, event.at);
            writeln!(out, "{position:>8}  {at}  {stream}  {event_type}  {reason}")?;
        }
    }
    Ok(out.flush()?)
}
