//! `annals accept-loss`: copies the remaining data of a store that has lost history.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use annals::{Error, Position, StoreOptions};
use serde_json::json;

use super::shell::{Failure, Shell, count, open_patiently};

/// Copy the remaining data of a store that has lost history, as a store that continues from there
///
/// Every other command refuses a store whose log ends before a position that is known to have been
/// durable. Look for a backup first. If none exists, use this command to accept the loss. The log
/// must end exactly at the position given by --after, which the error of the other commands shows.
/// The store itself is not changed: keep it. The copy begins a new epoch. If a log is torn, TO.torn
/// is needed for a while, and removed. With --json: one object with head, lost_from and
/// lost_to_at_least.
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
    let reading = shell.options().read_only(true);
    match accept(args, shell, &args.dir, &reading) {
        // What is left of the log can be read only once its torn tail is cut off: in a copy.
        Err(Failure::Store(Error::TornLog { .. })) => {
            let mut copy = args.to.clone().into_os_string();
            copy.push(".torn");
            let copy = PathBuf::from(copy);
            let failed = |cause| Failure::file(format!("copying to {}", copy.display()), cause);
            fs::create_dir(&copy).map_err(failed)?;
            let accepted = copy_files(&args.dir, &copy)
                .map_err(failed)
                .and_then(|()| accept(args, shell, &copy, &shell.options().create(false)));
            let _ = fs::remove_dir_all(&copy);
            accepted
        }
        accepted => accepted,
    }
}

/// Copies what is in a directory.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_files(&from, &to)?;
        } else {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// Copies what is left of a store that is opened with these options.
fn accept(args: &Args, shell: &Shell, dir: &Path, options: &StoreOptions) -> Result<(), Failure> {
    let left = Position::new(args.after);
    let (found, expected) = match open_patiently(options, dir) {
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
    let store = open_patiently(&options.clone().accept_lost_history_after(left), dir)?;
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
