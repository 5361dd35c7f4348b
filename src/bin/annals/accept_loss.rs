//! `annals accept-loss`: copies the remaining data of a store that has lost history.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::{Error, Position};
use serde_json::json;

use super::shell::{Failure, Shell, count, open_patiently};

/// Copy the remaining data of a store that has lost history, as a store that continues from there
///
/// Every other command refuses a store whose log ends before a position that is known to have been
/// durable. Look for a backup first. If none exists, use this command to accept the loss. The log
/// must end exactly at the position given by --after, which the error of the other commands shows.
/// The store itself is not changed: keep it. The copy begins a new epoch. With --json: one object
/// with head, lost_from and lost_to_at_least.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Example:\n  annals accept-loss bank.annals bank-again.annals --after 4711")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The directory of the copy: it must not exist, but its parent must
    to: PathBuf,
    /// The last remaining position; 0 if no event remains
    #[arg(long, value_name = "POSITION")]
    after: u64,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let left = Position::new(args.after);
    let (found, expected) = match shell.open_to_read(&args.dir) {
        Err(Failure::Store(Error::HistoryLost { expected_at_least, found })) => {
            (found, expected_at_least)
        }
        Ok(_) => {
            let dir = args.dir.display();
            return Err(Failure::Missing(format!(
                "{dir} has lost nothing that is known: open it as usual"
            )));
        }
        Err(other) => return Err(other),
    };
    let place = |position: Option<Position>| position.map_or(0, Position::get);
    if found != left {
        let (found, after) = (place(found), args.after);
        let reason = format!(
            "the log ends at {found}, not at {after}; nothing was changed; use --after {found}"
        );
        return Err(Failure::Missing(reason));
    }
    let accepting = shell.options().read_only(true).accept_lost_history_after(left);
    let store = open_patiently(&accepting, &args.dir)?;
    store.restore_to(&args.to)?;
    let mut out = io::stdout().lock();
    if shell.json {
        let lost = json!({
            "head": found.map(Position::get),
            "lost_from": args.after + 1,
            "lost_to_at_least": expected.get(),
        });
        writeln!(out, "{lost}")?;
    } else {
        let to = args.to.display();
        writeln!(out, "copied {} to {to}, which continues from there", count(args.after, "event"))?;
        let from = args.after + 1;
        writeln!(out, "lost: positions {from} to {expected}, and perhaps later ones")?;
    }
    Ok(())
}
