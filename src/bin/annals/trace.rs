//! `annals trace`: shows the causes and effects of an event.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::JsonLine;
use annals::audit::{causes, effects};

use super::named::Named;
use super::shell::{Failure, Shell};

/// Show the causes and effects of an event, across streams
///
/// Follows the causation ids of events. If given the id of a command (a UUID), shows its effects.
/// With --json: the causes, from the event back to its origin, then the effects, in the form that
/// import reads, preceded by position and version. Exit code 1 if the store has no such event.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals trace bank.annals 262000\n  \
    annals trace bank.annals account-123@7\n  \
    annals trace bank.annals 01890a5d-ac96-774b-bcce-b302099a8057")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The event: its position, its stream and version as STREAM@VERSION, or its id
    event: Named,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let id = args.event.id(&store)?;
    let (causes, effects) = (causes(&store, id)?, effects(&store, id)?);
    if causes.iter().len() + effects.iter().len() == 0 {
        let missing = format!("no event of this store has the id {id} or names it as its cause");
        return Err(Failure::Missing(missing));
    }
    // Closed before printing, so that a pager does not keep it open.
    store.close()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if shell.json {
        let effects = effects.iter().map(|effect| &**effect);
        for event in causes.iter().chain(effects) {
            JsonLine::new(event.as_ref()).with_places().write_to(&mut out)?;
            out.write_all(b"\n")?;
        }
    } else {
        writeln!(out, "{causes}\n")?;
        match effects.iter().len() {
            0 => writeln!(out, "No effects.")?,
            _ => writeln!(out, "Effects:\n{effects}")?,
        }
    }
    out.flush()?;
    Ok(())
}
