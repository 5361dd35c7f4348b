//! [`Named`]: an event as named on the command line.

use std::ops::ControlFlow;
use std::str::FromStr;

use annals::audit::printable;
use annals::{
    Error, EventId, EventStore, EventStoreExt, Position, RecordedEvent, Store, StreamId, Version,
};

use super::shell::Failure;

/// An event as named on the command line.
#[derive(Clone)]
pub(crate) enum Named {
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
    pub(crate) fn id(&self, store: &Store) -> Result<EventId, Failure> {
        match self {
            Self::As(id) => Ok(*id),
            _ => Ok(self.event(store)?.id()),
        }
    }

    /// The event. One named by its id is searched in the whole log.
    pub(crate) fn event(&self, store: &Store) -> Result<RecordedEvent, Failure> {
        let (event, missing) = match self {
            Self::As(id) => {
                (search(store, *id)?, format!("no event of this store has the id {id}"))
            }
            Self::At(position) => {
                let head = store.head()?;
                let missing = match head {
                    Some(head) if *position <= head => {
                        format!("the event at position {position} was deleted")
                    }
                    Some(head) => {
                        format!("the log has not reached position {position}: it is at {head}")
                    }
                    None => {
                        format!("the log has not reached position {position}: it has no events")
                    }
                };
                let event = store.read_log().from(*position).first()?;
                (event.filter(|event| event.position() == *position), missing)
            }
            Self::In(stream, version) => {
                let tip = store.stream_version(stream)?;
                if let Some(tip) = tip.filter(|tip| tip < version) {
                    let (stream, version) = (stream.clone(), *version);
                    return Err(
                        Error::VersionAhead { stream, asked: version, actual: Some(tip) }.into()
                    );
                }
                let name = printable(stream.as_str());
                let missing = match tip {
                    Some(_) => format!("version {version} of stream {name} was deleted"),
                    None => format!("stream {name} has no events"),
                };
                let event = store.read_stream(stream).from(*version).first()?;
                (event.filter(|event| event.version() == *version), missing)
            }
        };
        event.ok_or(Failure::Missing(missing))
    }
}

/// The event with this id.
fn search(store: &Store, id: EventId) -> Result<Option<RecordedEvent>, Failure> {
    let mut found = None;
    store.read_log().for_each(|event| {
        if event.id() == id {
            found = Some(event.position());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    match found {
        Some(position) => Ok(store.read_log().from(position).first()?),
        None => Ok(None),
    }
}
