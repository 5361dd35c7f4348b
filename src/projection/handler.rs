//! Type-erased projections, as a worker drives them.

use std::sync::Arc;

use super::Projection;
use super::definition::Definition;
use super::stage::EVENT_CHANGES_LEN_MAX;
use super::status::ProjectionFailure;
use super::writer::ViewWriter;
use crate::error::{self, Cause, Error, Result};
use crate::event_store::Query;
use crate::model::{LimitExceeded, RecordedEvent};
use crate::upcast::{Decoder, UpcastError, Upcasters};

/// Why an event was not handled.
pub(super) enum HandlerFailure {
    /// It cannot be read: a retry would not help.
    Unreadable(Error),
    /// The handler failed.
    Failed(Cause),
}

impl HandlerFailure {
    /// The error of the handler or the decoder.
    pub(super) fn into_cause(self) -> Cause {
        match self {
            Self::Unreadable(error) => Cause::new(error),
            Self::Failed(cause) => cause,
        }
    }

    /// Whether a retry may help.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Whether the handler was cancelled, so that the event counts as not handled.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Failed(cause) if is_cancelled(cause))
    }
}

/// The projection was stopped, or its build replaced, while an async handler was pending.
#[cfg_attr(not(feature = "async"), allow(dead_code))]
#[derive(Debug, thiserror::Error)]
#[error("the projection was stopped before the handler was done")]
pub(super) struct Cancelled;

/// Whether this is the error of a cancelled handler.
pub(super) fn is_cancelled(cause: &Cause) -> bool {
    cause.downcast_ref::<Cancelled>().is_some()
}

/// A projection with its decoder.
pub(super) trait Handler: Send + Sync {
    /// The events that it receives.
    fn query(&self) -> Query;

    /// The recorded definition of what it reads.
    fn definition(&self) -> Result<Definition, Cause>;

    /// Checks that the upcasters lead to its event types.
    fn check(&self) -> Result<(), UpcastError>;

    /// Handles one event. Either all of its changes are staged, or none.
    fn handle(
        &self,
        event: &Arc<RecordedEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerFailure>;

    fn reset(&self) -> Result<(), Cause>;

    fn flush(&self) -> Result<(), Cause>;

    /// The same projection, reading old events through these upcasters.
    fn with(&self, upcasters: Upcasters) -> Arc<dyn Handler>;
}

pub(super) struct Typed<P: Projection> {
    projection: Arc<P>,
    decoder: Decoder<P::Event>,
}

impl<P: Projection> Typed<P> {
    pub(super) fn new(projection: Arc<P>, upcasters: Upcasters) -> Self {
        Self { projection, decoder: Decoder::with(upcasters) }
    }
}

impl<P: Projection> Handler for Typed<P> {
    fn query(&self) -> Query {
        self.projection.query().restricted_to(&self.decoder.stored_types())
    }

    fn definition(&self) -> Result<Definition, Cause> {
        let query = guarded(|| self.projection.query())?;
        query.check().map_err(Cause::new)?;
        self.query().check().map_err(Cause::new)?;
        Ok(Definition::of(&self.decoder, &query))
    }

    fn check(&self) -> Result<(), UpcastError> {
        self.decoder.check()
    }

    fn handle(
        &self,
        event: &Arc<RecordedEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerFailure> {
        let handled = guarded(|| {
            let events = self.decoder.decode(event.clone()).map_err(HandlerFailure::Unreadable)?;
            let mut events = events.iter();
            let handled = events.try_for_each(|event| self.projection.handle(event, view));
            handled.map_err(|error| HandlerFailure::Failed(error.into()))?;
            let len = view.stage.event_len();
            LimitExceeded::check("event_changes_len_max", EVENT_CHANGES_LEN_MAX, len)
                .map_err(|error| HandlerFailure::Failed(Cause::new(Error::from(error))))
        });
        let handled = handled.unwrap_or_else(|panicked| Err(HandlerFailure::Failed(panicked)));
        match handled {
            Ok(()) => view.stage.keep_event(),
            Err(_) => view.stage.drop_event(),
        }
        handled
    }

    fn reset(&self) -> Result<(), Cause> {
        guarded(|| self.projection.reset())?.map_err(Cause::from)
    }

    fn flush(&self) -> Result<(), Cause> {
        guarded(|| self.projection.flush())?.map_err(Cause::from)
    }

    fn with(&self, upcasters: Upcasters) -> Arc<dyn Handler> {
        Arc::new(Self::new(self.projection.clone(), upcasters))
    }
}

/// Runs a projection's code, and turns a panic into an error.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Cause> {
    // A panic may leave only the projection's own state half changed: staged changes are dropped.
    error::guarded("the projection", run)
}

/// The error, if this is the failure of a write of the projection itself that found the disk full.
pub(super) fn disk_full(failure: &ProjectionFailure) -> Option<&Error> {
    let cause = failure.cause.downcast_ref::<Error>().filter(|_| failure.position.is_none());
    cause.filter(|cause| matches!(cause, Error::DiskFull { .. }))
}

/// Whether this is the failure of the projection itself that found the store closed.
pub(super) fn is_closed(failure: &ProjectionFailure) -> bool {
    failure.position.is_none() && matches!(failure.cause.downcast_ref(), Some(Error::Closed))
}
