//! `annals views`: which read models there are, how far they are, what they hold.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annals::{EventStore, Position, Store, ViewStore, ViewStoreExt};
use serde_json::{Value, json};

use super::print::clean;
use super::shell::{Failure, Shell, count, note};

/// List the read models that projections keep in the store, or print what one of them holds
///
/// For people: how far each is, and how far behind the log; or the keys, their parts with / between them, and values.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals views bank.annals\n  \
    annals views bank.annals account_balances --limit 20\n  \
    annals views bank.annals transaction_history --under account-123 --backward --json")]
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
    /// At most this many entries
    #[arg(long, value_name = "N", requires = "name")]
    limit: Option<usize>,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    match &args.name {
        None => list(&store, shell),
        Some(name) => print(&store, name, args, shell),
    }
}

fn list(store: &Store, shell: &Shell) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let place = |position: Option<Position>| position.map_or(0, Position::get);
    let head = place(store.head()?);
    // Those that begin with `$` are builds of the others.
    for name in store.list_views()?.into_iter().filter(|name| !name.starts_with('$')) {
        let at = store.view(&name).position()?;
        let behind = head.saturating_sub(place(at));
        if shell.json {
            let at = at.map(Position::get);
            writeln!(out, "{}", json!({ "view": name, "position": at, "behind": behind }))?;
        } else {
            let behind = if behind == 0 {
                "has every event".to_owned()
            } else {
                format!("{} behind", count(behind, "event"))
            };
            writeln!(out, "{:>8}  {}  {behind}", place(at), clean(&name))?;
        }
    }
    out.flush()?;
    Ok(())
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
    for entry in read.iter::<Value>() {
        let (key, value) = entry?;
        is_empty = false;
        if shell.json {
            writeln!(out, "{}", json!({ "key": key.to_string(), "value": value }))?;
        } else {
            writeln!(out, "{}  {}", clean(&key.to_string()), clean(&value.to_string()))?;
        }
    }
    out.flush()?;
    if is_empty && !shell.json {
        let there = if ViewStore::checkpoint(store, name)?.is_some() {
            "holds no such entries"
        } else {
            "is not there"
        };
        note(&format!("read model {} {there}", clean(name)));
    }
    Ok(())
}
