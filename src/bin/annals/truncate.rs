//! `annals truncate`: deletes the beginning of a stream.

use std::path::PathBuf;

use annals::{Deletion, StreamId, Version};

use super::deletion::{self, Decision};
use super::shell::{Failure, Shell};

/// Delete the events of a stream below a version
///
/// The decision is recorded first, in the stream $deletions. Positions and versions are never used
/// again. Snapshots that rest on deleted events are deleted too. `annals scavenge` gives the space
/// back. With --json: one object with number (of the deletion, or null if there is nothing to
/// delete), position (of its event), events, streams, bytes, snapshots and dry_run.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Example:\n  \
    annals truncate bank.annals account-123 --before 1000 --reason 'kept for a year' --by ada")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The stream
    stream: StreamId,
    /// The first version that is kept
    #[arg(long, value_name = "VERSION")]
    before: Version,
    #[command(flatten)]
    decision: Decision,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let Args { dir, stream, before, decision } = args;
    deletion::delete_from((dir, stream), Deletion::truncate(stream, *before), decision, shell)
}
