//! One [`Error`], sorted by what the caller should do. It can be cloned, because one failed write
//! answers every caller of its group; it keeps its cause in `source()`; its text says what, where,
//! and what to do.

mod location;

use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use location::Location;

use crate::model::{
    CheckError, Epoch, EventId, EventType, ExpectedVersion, InvalidArgument, LimitExceeded,
    Position, StreamId, Timestamp, Version,
};

/// What annals returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What lies beneath an error: an I/O error, an engine's error, a decoder's. Shared, so that an
/// error can be cloned.
///
/// It stands for the error itself: `cause.downcast_ref::<std::io::Error>()` asks what it is, here
/// and through [`source`](std::error::Error::source).
#[derive(Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    /// Any error.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Cause {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self(error.into())
    }
}

impl Deref for Cause {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

/// Everything that can go wrong, by what the caller should do about it.
///
/// ```
/// use annals::prelude::*;
/// let store = MemoryStore::new();
/// let event = NewEvent::json("Opened", &())?;
/// let refused = store.append("account-1", ExpectedVersion::StreamExists, [event]).unwrap_err();
/// assert!(refused.is_conflict());
/// assert_eq!(store.head()?, None, "a refused append changes nothing");
/// # Ok::<(), annals::Error>(())
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The stream is not as the append expected; nothing was appended (G4). Load it again, decide
    /// again, retry.
    #[error(
        "stream {stream}: expected {expected}, but {}: read it again, decide again, and retry",
        found_version(*actual)
    )]
    WrongExpectedVersion {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: ExpectedVersion,
        /// The version of its last event; `None` if it has none.
        actual: Option<Version>,
    },
    /// Some events of this append stand where a retry would find them, others do not; nothing was
    /// appended. An event id was used for two different appends: give each new event an id of its
    /// own.
    #[error(
        "stream {stream}: some of the events of this append are already there and others are not, so it is no retry of \
         one append; read the streams to see what was done, and give each new event an id of its own"
    )]
    PartialRetry {
        /// The stream where it was noticed.
        stream: StreamId,
    },
    /// An event was to be recorded before the last event of the log; nothing was appended.
    /// Recorded-at never goes back along the log: give a later time, or leave it to the store's
    /// clock.
    #[error(
        "recorded-at {given} lies before the last event of the log, recorded at {last}: give a time that does not, or \
         leave it to the clock of the store"
    )]
    RecordedAtBeforeHead {
        /// The time that was given.
        given: Timestamp,
        /// When the last event of the log was recorded.
        last: Timestamp,
    },
    /// The call can never be right: fix it. Nothing was changed (G13).
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// The call is larger than the store takes. Nothing was changed (G13).
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// A payload could not be written or read as what it should be.
    #[error("payload of {event_type}{}: {cause}", at_position(*position))]
    Payload {
        /// The type of the event.
        event_type: EventType,
        /// Where the event stands, if it is recorded.
        position: Option<Position>,
        /// What the codec said.
        #[source]
        cause: Cause,
    },
    /// A recorded event cannot be read as what it should be: teach the code its type, add an
    /// upcaster, or skip what cannot be read where that is acceptable.
    #[error(
        "event {id} at position {position} of stream {stream}, {event_type} in schema version {schema_version}: {cause}"
    )]
    Unreadable {
        /// Which event.
        id: EventId,
        /// Where it stands.
        position: Position,
        /// In which stream.
        stream: StreamId,
        /// Its type as it is stored.
        event_type: EventType,
        /// Its schema version as it is stored.
        schema_version: u32,
        /// Why: an [`Undecodable`](crate::Undecodable), or an
        /// [`UpcastFailed`](crate::UpcastFailed).
        #[source]
        cause: Cause,
    },
    /// Upcasters do not fit together, or do not fit the events that are read: correct them as the
    /// text says. Nothing was read.
    #[error("the upcasters do not fit together: {cause}")]
    Upcasters {
        /// What is wrong: an [`UpcastError`](crate::UpcastError).
        #[source]
        cause: Cause,
    },
    /// The aggregate does not exist, or did not at that time. Create it first, or ask
    /// with `find` or `load_or_new` where it may be missing.
    #[error("there is no aggregate in stream {stream}{}", as_of_time(*as_of))]
    AggregateNotFound {
        /// Its stream.
        stream: StreamId,
        /// As of when it was asked for, if not as it is now.
        as_of: Option<Timestamp>,
    },
    /// The stream does not have the version that was asked for: ask for one that it has.
    #[error("stream {stream} has no version {asked}: {}; ask for a version that it has", found_version(*actual))]
    VersionAhead {
        /// The stream.
        stream: StreamId,
        /// The version that was asked for.
        asked: Version,
        /// The version of its last event; `None` if it has none.
        actual: Option<Version>,
    },
    /// A subscription was to begin after a position that the log does not have. If it was noted
    /// earlier, the log lost its end since, as a restored backup does: begin again from a position
    /// that this log has.
    #[error(
        "position {asked} is past the head of the log, {}; begin after a position that this log has",
        head_of(*head)
    )]
    PositionAhead {
        /// The position that was asked for.
        asked: Position,
        /// The last position of the log; `None` if it is empty.
        head: Option<Position>,
    },
    /// The place that a subscription was to begin after was noted in another history: the log lost
    /// its end since, or it is another log. Begin again from the last shared position, or from the
    /// beginning.
    #[error(
        "position {position} was noted in epoch {noted}, but this log is in epoch {current}; begin again {}",
        shared.map_or("from the beginning".to_owned(), |last| {
            format!("after position {last}, the last one that both epochs share")
        })
    )]
    OtherEpoch {
        /// The position that was asked for.
        position: Position,
        /// The epoch that it was noted in.
        noted: Epoch,
        /// The epoch that the log is in.
        current: Epoch,
        /// The last position up to which both have the same events; `None` if there is none that is
        /// known.
        shared: Option<Position>,
    },
    /// The view is not where its writer takes it to be, so another one writes it too: nothing was
    /// changed. Let only one write it.
    #[error(
        "view {view}: its checkpoint is at {}, not at {} as expected: something else writes it too, such as a \
         second ProjectionManager that drives the same projection; let only one do so",
        place_of(*found),
        place_of(*expected)
    )]
    CheckpointMoved {
        /// The view.
        view: String,
        /// Where it should have been.
        expected: Option<Position>,
        /// Where it is.
        found: Option<Position>,
    },
    /// The checkpoint of a view was to be past the head of the log that it follows: nothing was
    /// changed. Set it to the position of the last event that is in the view, or say that the view
    /// follows the log of another store.
    #[error(
        "view {view}: position {position} is past the head of the log, {}; set the checkpoint to the position of the \
         last event that is in the view",
        head_of(*head)
    )]
    CheckpointAhead {
        /// The view.
        view: String,
        /// The position of the checkpoint.
        position: Position,
        /// The last position of the log; `None` if it is empty.
        head: Option<Position>,
    },
    /// A value of a read model has another shape than it is read as, or cannot be stored: raise the
    /// version of the projection, so that it is rebuilt, read the value as what it is, or store a
    /// smaller one.
    #[error("view {view}, key {key}: {cause}")]
    ViewValue {
        /// The view.
        view: String,
        /// The key, readable.
        key: String,
        /// The error of the codec, or the limit.
        #[source]
        cause: Cause,
    },
    /// The view of this name was not made by a projection: give the projection another name.
    #[error("view {view} was not made by a projection, so none can be of this name: {cause}")]
    NotAProjection {
        /// The view.
        view: String,
        /// What its directory does not decode with.
        #[source]
        cause: Cause,
    },
    /// A read model was rebuilt while it was read page by page: read it again from the beginning.
    #[error(
        "the read model {projection} was rebuilt while it was being read; read it again from the beginning"
    )]
    ViewReplaced {
        /// The projection.
        projection: String,
    },
    /// The store was opened for reading only: open it for writing to append. Nothing was changed.
    #[error("the store is open for reading only: open it for writing to append")]
    ReadOnly,
    /// The store is open elsewhere, in this process or another: close it there, or wait for that
    /// with [`open_within`](crate::StoreOptions::open_within). The directory was not touched.
    #[error("{} is open elsewhere, in this process or another: close it there first", .path.display())]
    AlreadyOpen {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be written: make it writable, or open the store for reading only. It
    /// was not touched.
    #[error("{} cannot be written: make it writable, or open the store for reading only: {cause}", .path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        cause: Cause,
    },
    /// The store cannot be copied to this place, as a backup or to restore one. Nothing was
    /// changed: name another place, or do what the text says.
    #[error("cannot copy the store to {}: {reason}", .path.display())]
    CopyRefused {
        /// Where it was to be.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The directory is not a store and may not become one. It was not touched.
    #[error("{} is not an annals store: {reason}", .path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What was found instead, and what to do.
        reason: String,
    },
    /// The bytes were written by a later version of annals, or use what this one does not know: use
    /// a later version.
    #[error(
        "{what} has format {found}, but this version of annals knows {supported}: use a later version"
    )]
    UnsupportedFormat {
        /// What carries the format.
        what: String,
        /// The format version or flags that were found.
        found: u64,
        /// The newest known.
        supported: u64,
    },
    /// Bytes on disk are not what they were when they were written (G8). Run verify for the whole
    /// extent; restore a backup, or, where they belong to a read model, rebuild its projection: the
    /// log can make it again.
    #[error("damaged data in {location}: found {found}, expected {expected}; {}", location.remedy())]
    Corruption {
        /// Where they are.
        location: Location,
        /// What is there.
        found: String,
        /// What should.
        expected: String,
    },
    /// The store has lost events that it had acknowledged as durable (G11). Nothing was changed.
    /// Restore a backup; or accept the loss, with
    /// [`accept_lost_history_after`](crate::StoreOptions::accept_lost_history_after).
    #[error(
        "history is lost: the log ends at {}, but it reached at least position {expected_at_least}; \
         restore a backup, or accept the loss (annals accept-loss)",
        found.map_or("nothing".to_owned(), |head| format!("position {head}"))
    )]
    HistoryLost {
        /// The last position that is known to have been durable.
        expected_at_least: Position,
        /// The last position that is there.
        found: Option<Position>,
    },
    /// Power loss left an incomplete tail in one of the engine's logs, and the store was to be
    /// opened for reading only. Open it for writing once, which truncates the unacknowledged tail
    /// (G10).
    #[error(
        "power loss left an incomplete tail after byte {len} of {}; open the store for writing once, which truncates \
         it",
        path.display()
    )]
    TornLog {
        /// The file of the log.
        path: PathBuf,
        /// Where its whole part ends, in bytes.
        len: u64,
    },
    /// The write of this append failed half-way: it may or may not be found after reopening. Reopen
    /// the store, then retry with the same events: if they were written, the retry is recognised.
    #[error("the write failed, and may or may not be found after reopening the store: {cause}")]
    Indeterminate {
        /// What the write failed with.
        #[source]
        cause: Cause,
    },
    /// An earlier write failed: the store takes no more appends until it is reopened (G9). This
    /// append was not written.
    #[error("an earlier write failed, so the store takes no appends until it is reopened: {cause}")]
    Poisoned {
        /// What the earlier write failed with.
        #[source]
        cause: Cause,
    },
    /// A line of an import was refused. What stood before it is in the store, but for the beginning
    /// of its own commit: correct the line and import again, which goes on after the lines that are
    /// kept.
    #[error("line {line}: {cause}{}", kept(*lines_kept))]
    ImportLine {
        /// The number of the line, from 1.
        line: u64,
        /// Up to this line everything is in the store; 0 if nothing is.
        lines_kept: u64,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// The input of an import could not be read to its end. The lines before that point are in the
    /// store, except for the beginning of a commit: repair the input and import it again, which
    /// goes on after the lines that are kept.
    #[error("reading the input failed after line {line}: {cause}{}", kept_of_input(*lines_kept))]
    ImportInput {
        /// The number of the last line that was read whole; 0 if none was.
        line: u64,
        /// Up to this line everything is in the store; 0 if nothing is.
        lines_kept: u64,
        /// What the reader failed with.
        #[source]
        cause: Cause,
    },
    /// An import begins like one that was begun before, but differs from it: nothing was added.
    /// Import the input as it was, with nothing changed in those lines, or into a new store.
    #[error(
        "this input begins like one that was imported before, but differs from it somewhere in the first {lines} \
         lines, \
         which are in the store: nothing was added; import it as it was, or into a new store"
    )]
    ImportDiffers {
        /// How many lines of the earlier input are in the store.
        lines: u64,
    },
    /// The store was closed. Nothing was changed by this call.
    #[error("the store is closed")]
    Closed,
    /// The file system or the engine failed. Nothing was appended by this call.
    #[error("{doing}: {cause}")]
    Storage {
        /// What was being done.
        doing: String,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
}

impl Error {
    /// Whether others were there first: the streams are not as the append expects. Reload, decide
    /// again, and retry; HTTP status 409 or 412.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::WrongExpectedVersion { .. } | Self::PartialRetry { .. })
    }

    /// Whether what was asked for does not exist: not yet, or no longer. HTTP status 404.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::AggregateNotFound { .. }
                | Self::VersionAhead { .. }
                | Self::PositionAhead { .. }
                | Self::OtherEpoch { .. }
        )
    }

    /// Whether the call itself is wrong, and can never succeed as it is: HTTP status 400. Nothing
    /// was changed.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::Error;
    /// fn status(error: &Error) -> u16 {
    ///     match error {
    ///         error if error.is_conflict() => 409,
    ///         error if error.is_not_found() => 404,
    ///         error if error.is_invalid() => 400,
    ///         error if error.is_temporary() => 503,
    ///         _ => 500,
    ///     }
    /// }
    /// let store = MemoryStore::new();
    /// let refused = store.append("a\u{0}b", ExpectedVersion::Any, []).unwrap_err();
    /// assert_eq!(status(&refused), 400);
    /// store.close();
    /// assert_eq!(status(&store.head().unwrap_err()), 503);
    /// ```
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            Self::InvalidArgument(_)
                | Self::LimitExceeded(_)
                | Self::RecordedAtBeforeHead { .. }
                | Self::Payload { position: None, .. }
                | Self::CheckpointAhead { .. }
        )
    }

    /// Whether the same call may succeed later, unchanged: once the store is open again, free, or
    /// readable. HTTP status
    /// 503. Where [`Error::needs_reopen`] holds too, the application has to reopen the store first.
    pub fn is_temporary(&self) -> bool {
        self.needs_reopen()
            || matches!(
                self,
                Self::AlreadyOpen { .. } | Self::ViewReplaced { .. } | Self::Storage { .. }
            )
    }

    /// Whether data on disk is damaged or lost.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corruption { .. } | Self::HistoryLost { .. })
    }

    /// Whether only reopening the store can help.
    pub fn needs_reopen(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::Poisoned { .. } | Self::Closed)
    }

    pub(crate) fn storage<E>(doing: impl Into<String>, cause: E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Self::Storage { doing: doing.into(), cause: Cause::new(cause) }
    }

    pub(crate) fn not_a_store(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotAStore { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn corruption(
        location: Location,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Corruption { location, found: found.into(), expected: expected.into() }
    }
}

impl From<CheckError> for Error {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid(invalid) => Self::InvalidArgument(invalid),
            CheckError::Limit(limit) => Self::LimitExceeded(limit),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn found_version(actual: Option<Version>) -> String {
    actual.map_or_else(|| "it has no events".to_owned(), |tip| format!("it is at version {tip}"))
}

fn head_of(head: Option<Position>) -> String {
    head.map_or("which is empty".to_owned(), |head| format!("position {head}"))
}

fn at_position(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!(" at position {position}"))
}

fn as_of_time(time: Option<Timestamp>) -> String {
    time.map_or_else(String::new, |time| format!(" as of {time}"))
}

fn place_of(position: Option<Position>) -> String {
    position.map_or_else(|| "its beginning".to_owned(), |position| format!("position {position}"))
}

fn kept_of_input(lines: u64) -> String {
    if lines == 0 {
        return "; nothing was added".to_owned();
    }
    format!(
        "; lines 1 to {lines} are in the store, and importing the complete input goes on after them"
    )
}

fn kept(lines: u64) -> String {
    if lines == 0 {
        return "; nothing was added".to_owned();
    }
    format!("; lines 1 to {lines} are in the store, and importing again goes on after them")
}
