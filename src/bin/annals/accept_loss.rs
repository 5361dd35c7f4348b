//! `annals accept-loss`: what is left of a store that has lost history, as a store.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::{Error, Position};
use serde_json::json;

use super::shell::{Failure, Shell, count, open_patiently};

/// Copy what is left of a store that has lost history, as a store that goes on from there
///
/// A store whose log ends before a position that is known to have been durable is refused by every
/// other command. Look for a backup first. Where there is none, this accepts the loss: the log must
/// end exactly at the position named by --after, which the refusal says. The store itself is not
/// changed: keep it. The copy is in a new epoch. With --json: one object with head and lost_from,
/// and lost_to_at_least.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Example:\n  annals accept-loss bank.annals bank-again.annals --after 4711")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// Where the copy comes: nothing may be there, and the directory above must be
    to: PathBuf,
    /// The last position that is left; 0 for none
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
            return Err(Failure::Missing(format!("{dir} has lost nothing that is known of")));
        }
        Err(other) => return Err(other),
    };
    let place = |position: Option<Position>| position.map_or(0, Position::get);
    if found != left {
        let (found, after) = (place(found), args.after);
        let reason = format!("the log ends at {found}, not at {after}: nothing was done");
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
        writeln!(out, "copied {} to {to}, which goes on from there", count(args.after, "event"))?;
        writeln!(out, "lost: positions {} to {expected}, or more", args.after + 1)?;
    }
    Ok(())
}
