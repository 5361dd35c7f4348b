//! `annals streams`: lists streams.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::audit::printable;
use annals::{EventStoreExt, StreamId, StreamInfo};
use serde_json::json;

use super::output::{Output, Pace};
use super::reading::Reading;
use super::shell::{Failure, Shell, note, readable_stream};

/// List streams in the order of their ids, each with the version of its last event
///
/// A stream that was deleted is not listed. The stream $deletions holds the deletions of the store.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals streams bank.annals --prefix account- --limit 20\n  \
    annals streams bank.annals --json | jq -r .stream")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// List only streams whose id begins with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// List only streams whose id sorts after this one
    #[arg(long, value_name = "STREAM", value_parser = readable_stream)]
    after: Option<StreamId>,
    /// List at most this many streams
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let mut out = Output::new(io::stdout())?;
    let mut reading = Reading::open(shell, &args.dir)?;
    let mut last = args.after.clone();
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut is_empty = true;
    let mut pace = Pace::Slow;
    while pace == Pace::Slow {
        pace = Pace::Steady;
        let streams =
            reading.store()?.streams().prefix(&args.prefix).after(last.clone()).into_iter();
        for stream in streams.take(left) {
            let StreamInfo { id, version, .. } = stream?;
            if shell.json {
                writeln!(out, "{}", json!({ "stream": id.as_str(), "version": version.get() }))?;
            } else {
                writeln!(out, "{:>8}  {}", version.get(), printable(id.as_str()))?;
            }
            (is_empty, last, left) = (false, Some(id), left - 1);
            pace = out.offer()?;
            if pace == Pace::Slow {
                reading.let_go()?;
                out.wait()?;
                break;
            }
        }
    }
    reading.let_go()?;
    out.finish()?;
    if is_empty && !shell.json {
        let such = if reading.head().is_some() { "such " } else { "" };
        note(&format!("the store has no {such}streams"));
    }
    Ok(())
}
