//! `annals streams`: which streams there are.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annals::{EventStore, EventStoreExt, StreamId};
use serde_json::json;

use super::print::clean;
use super::shell::{Failure, Shell, note};

/// List streams in the order of their ids, each with the version of its last event
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals streams bank.annals --prefix account- --limit 20\n  \
    annals streams bank.annals --json | jq -r .stream")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// Only streams whose id begins with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only streams whose id sorts after this one
    #[arg(long, value_name = "STREAM")]
    after: Option<StreamId>,
    /// At most this many streams
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let streams = store.streams().prefix(&args.prefix).after(args.after.clone()).iter();
    let mut is_empty = true;
    for stream in streams.take(args.limit.unwrap_or(usize::MAX)) {
        let stream = stream?;
        is_empty = false;
        if shell.json {
            let line = json!({ "stream": stream.id.as_str(), "tip": stream.tip.get() });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{:>8}  {}", stream.tip.get(), clean(stream.id.as_str()))?;
        }
    }
    out.flush()?;
    if is_empty && !shell.json {
        let such = if store.head()?.is_some() { "such " } else { "" };
        note(&format!("the store has no {such}streams"));
    }
    Ok(())
}
