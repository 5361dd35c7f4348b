//! `annals delete-stream`: deletes all events of a stream.

use std::path::PathBuf;

use annals::{Deletion, StreamId};

use super::deletion::{self, Decision};
use super::shell::{Failure, Shell};

/// Delete all events of a stream
///
/// The next append creates the stream again, and its versions go on. With --tombstone, the stream is
/// deleted for good: reads and appends are refused. The decision is recorded first, in the stream
/// $deletions. `annals scavenge` gives the space back. With --json: the same object as `annals
/// truncate`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals delete-stream bank.annals account-123 --dry-run\n  \
    annals delete-stream bank.annals account-123 --tombstone --reason 'asked to' --by ada")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The stream
    stream: StreamId,
    /// Never allow the stream again
    #[arg(long)]
    tombstone: bool,
    #[command(flatten)]
    decision: Decision,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let Args { dir, stream, tombstone, decision } = args;
    let deletion = if *tombstone { Deletion::tombstone(stream) } else { Deletion::delete(stream) };
    deletion::delete_from((dir, stream), deletion, decision, shell)
}
