//! Export writes the log, or the events that match a query, in the [line form](super::lines).

use std::io::Write;
use std::ops::ControlFlow;

use super::lines::JsonLine;
use crate::error::{Error, Result};
use crate::event_store::{EventStore, Query};
use crate::extension::EventStoreExt;
use crate::model::DELETIONS_STREAM;

/// The number of events between two reports of progress.
pub(super) const PROGRESS_EVENTS: u64 = 1_000;

/// The progress of an export and, at its end, its result.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Events written; one line each.
    pub events: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Writes all events.
pub(crate) fn export(
    store: &dyn EventStore,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(Exported),
) -> Result<Exported> {
    export_matching(store, Query::Everything, output, progress)
}

/// Writes the events that match a query, except those of the system stream.
pub(crate) fn export_matching(
    store: &dyn EventStore,
    query: Query,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(Exported),
) -> Result<Exported> {
    let mut done = Exported::default();
    let mut failure = None;
    let mut line = Vec::new();
    store.read_log().query(query).for_each(|event| {
        if event.stream() == DELETIONS_STREAM {
            return ControlFlow::Continue(());
        }
        line.clear();
        let written = JsonLine::new(event).write_to(&mut line).and_then(|()| {
            line.push(b'\n');
            output.write_all(&line)
        });
        if let Err(error) = written {
            failure = Some(error);
            return ControlFlow::Break(());
        }
        done.events += 1;
        done.bytes += line.len() as u64;
        if done.events.is_multiple_of(PROGRESS_EVENTS) {
            progress(done);
        }
        ControlFlow::Continue(())
    })?;
    let written = failure.map_or_else(|| output.flush(), Err);
    written.map_err(|error| {
        Error::storage(format!("writing the export after event {}", done.events), error)
    })?;
    progress(done);
    Ok(done)
}
