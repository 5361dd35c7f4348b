//! `annals why`: what an event came of, and what came of it.

use std::io::{self, Write};
use std::path::PathBuf;

use annals::audit::{causes, effects};
use annals::{EventId, JsonLine};

use super::shell::{Failure, Shell, note};

/// Show what an event came of, and what came of it, across streams
///
/// Follows the causation ids that events carry. With --json: the causes, from the event back to where it began, then
/// the effects, as lines of the form that import reads, led by position and version.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    annals why bank.annals 01890a5d-ac96-774b-bcce-b302099a8057")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The id of the event
    id: EventId,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let (causes, effects) = (causes(&store, args.id)?, effects(&store, args.id)?);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if shell.json {
        let effects = effects.iter().map(|effect| &**effect);
        for event in causes.iter().chain(effects) {
            JsonLine::new(event.as_ref()).with_places().write_to(&mut out)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    } else if causes.iter().len() == 0 {
        note(&format!("{} is no event of this store", args.id));
    } else {
        writeln!(out, "{causes}\n")?;
        match effects.iter().len() {
            0 => writeln!(out, "Nothing came of it.")?,
            _ => writeln!(out, "What came of it:\n{effects}")?,
        }
        out.flush()?;
    }
    Ok(())
}
