//! `annals trace`: shows the causes and effects of an event.

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use annals::audit::{causes, effects, printable};
use annals::{
    Error, EventId, EventStore, EventStoreExt, JsonLine, Position, Store, StreamId, Version,
};

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

/// An event as named on the command line.
#[derive(Clone)]
enum Named {
    At(Position),
    In(StreamId, Version),
    As(EventId),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // A UUID may consist of digits only, but has more digits than a position.
            if let Ok(position) = text.parse() {
                return Ok(Self::At(position));
            }
        }
        if let Some((stream, version)) = text.rsplit_once('@') {
            let wrong = |error: annals::InvalidArgument| error.to_string();
            return Ok(Self::In(stream.parse().map_err(wrong)?, version.parse().map_err(wrong)?));
        }
        text.parse().map(Self::As).map_err(|_| {
            "neither a position (a whole number from 1), nor STREAM@VERSION, nor an event id (a UUID)".to_owned()
        })
    }
}

impl Named {
    /// The id of the event. An event named by its id may not exist.
    fn id(&self, store: &Store) -> Result<EventId, Failure> {
        let (event, missing) = match self {
            Self::As(id) => return Ok(*id),
            Self::At(position) => {
                let end = store
                    .head()?
                    .map_or("it has no events".to_owned(), |head| format!("it is at {head}"));
                let missing = format!("the log has not reached position {position}: {end}");
                (store.read_log().from(*position).first()?, missing)
            }
            Self::In(stream, version) => {
                if let Some(tip) = store.stream_version(stream)?.filter(|tip| tip < version) {
                    let (stream, version) = (stream.clone(), *version);
                    return Err(
                        Error::VersionAhead { stream, asked: version, actual: Some(tip) }.into()
                    );
                }
                let missing = format!("stream {} has no events", printable(stream.as_str()));
                (store.read_stream(stream).from(*version).first()?, missing)
            }
        };
        event.map(|event| event.id()).ok_or(Failure::Missing(missing))
    }
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let id = args.event.id(&store)?;
    let (causes, effects) = (causes(&store, id)?, effects(&store, id)?);
    if causes.iter().len() + effects.iter().len() == 0 {
        let missing =
            format!("{id} is no event of this store, and no event here names it as its cause");
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
