//! [`Error`]: one error type, with variants by what the caller should do. It can be cloned, because
//! a failed write returns its error to every caller of its group. `source()` returns the cause. The
//! text says what happened, where, and what to do.

mod cause;
mod kinds;
mod location;
mod text;

use std::convert::Infallible;
use std::path::PathBuf;

pub use cause::Cause;
pub(crate) use cause::guarded;
pub use location::Location;
pub(crate) use text::found_version;

use text::{
    as_of_time, at_position, head_of, kept, kept_of_input, labelled, other_format, place_of, quoted,
};

use crate::model::{
    CheckError, Epoch, EventId, EventType, ExpectedVersion, InvalidArgument, LimitExceeded,
    Position, StreamId, Timestamp, Version,
};

/// The result type of annals.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// All errors of annals, by what the caller should do about them.
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
    /// The stream is not in the state that the append expected; nothing was appended (G4). Reload
    /// it, decide again, and retry.
    #[error(
        "stream {stream}{}: expected {expected}, but {}: read it again, decide again, and retry",
        labelled(label.as_deref()),
        found_version(*actual)
    )]
    WrongExpectedVersion {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: ExpectedVersion,
        /// The version of its last event; `None` if it has none.
        actual: Option<Version>,
        /// The [label](crate::Append::label) of the expectation, if it has one.
        label: Option<String>,
    },
    /// An event matches a [condition](crate::Append::fail_if) of the append; nothing was appended
    /// (G16). Read again, decide again, and retry.
    #[error(
        "condition{}: the event at position {position} is one of {query}{}: read again, decide again, and retry",
        labelled(label.as_deref()),
        after.map(|after| format!(" after position {after}")).unwrap_or_default()
    )]
    ConditionFailed {
        /// The query of the condition, as text.
        query: String,
        /// Only events after this position count; `None` if all do.
        after: Option<Position>,
        /// The first event that matches.
        position: Position,
        /// The [label](crate::Append::label) of the condition, if it has one.
        label: Option<String>,
    },
    /// The events at the place that this append or condition concerns were deleted, so it cannot be
    /// known whether the append was done before, or whether a deleted event matched; nothing was
    /// appended. Read again and decide again, which makes new events.
    #[error("{what} concerns events that were deleted: read again, decide again, and retry")]
    Deleted {
        /// The stream and version, or the position.
        what: String,
    },
    /// The stream was deleted for good; nothing was read or appended. Use another stream.
    #[error("stream {stream} was deleted for good: use another stream")]
    Tombstoned {
        /// The stream.
        stream: StreamId,
    },
    /// The beginning of the stream was deleted, and no snapshot replaces it, so the state of the
    /// aggregate is not known. Take snapshots before events are deleted, or read the events that are
    /// left with [`read_stream`](crate::EventStoreExt::read_stream).
    #[error(
        "stream {stream} has lost its events up to version {last}, and no snapshot of kind {kind:?} replaces them: \
         read the events that are left, or begin a new stream"
    )]
    HistoryTruncated {
        /// The stream.
        stream: StreamId,
        /// The last version that was deleted.
        last: Version,
        /// The kind of the aggregate.
        kind: String,
    },
    /// No index can answer a condition of this append, or it is still being built; nothing was
    /// appended. A condition never scans the log.
    #[error("a condition on events {query} needs an index of {index}")]
    NotIndexed {
        /// The item of the query, as text.
        query: String,
        /// The index that is missing, and what to do.
        index: &'static str,
    },
    /// Some events of this append are already stored where a retry would find them, and others are
    /// not; nothing was appended. An event id was used in two different appends: give each new
    /// event its own id.
    #[error(
        "stream {stream}: some events of this append are already stored and others are not, so it is not a retry; \
         read the streams to see what was written, and give each new event its own id"
    )]
    PartialRetry {
        /// The stream where this was detected.
        stream: StreamId,
    },
    /// The value is unique and belongs to another owner; nothing was appended. Choose another value.
    /// HTTP status 409. The text does not name the owner, so it may be shown to anyone.
    #[error("this {set} is taken: choose another one")]
    ValueTaken {
        /// The name of the set: see [`UniqueValues`](crate::UniqueValues).
        set: String,
        /// The stream of the owner.
        owner: StreamId,
    },
    /// The idempotency key was used for another request, which has another digest; nothing was
    /// written (G15). Send each request with a key of its own. HTTP status 422.
    #[error(
        "idempotency key {key:?} of scope {scope:?} was used for another request: send each request with a key of \
         its own"
    )]
    IdempotencyKeyReused {
        /// The scope of the key.
        scope: String,
        /// The key.
        key: String,
    },
    /// The recorded-at of an event is before that of the last event of the log; nothing was
    /// appended. Recorded-at never goes back along the log: give a later time, or let the store's
    /// clock set it.
    #[error(
        "recorded-at {given} is before the last event of the log, recorded at {last}: give that time or a later \
         one, or let the store's clock set it"
    )]
    RecordedAtBeforeHead {
        /// The time that was given.
        given: Timestamp,
        /// When the last event of the log was recorded.
        last: Timestamp,
    },
    /// An argument is invalid regardless of the contents of the store: fix the call. Nothing was
    /// changed (G13).
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// The call exceeds a limit of the store. Nothing was changed (G13).
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// A payload could not be encoded or decoded.
    #[error("payload of {event_type}{}: {cause}", at_position(*position))]
    Payload {
        /// The type of the event.
        event_type: EventType,
        /// The position of the event, if it is recorded.
        position: Option<Position>,
        /// The error of the codec.
        #[source]
        cause: Cause,
    },
    /// A recorded event cannot be decoded: add its type to the code, add an upcaster, or skip such
    /// events if that is acceptable.
    #[error(
        "event {id} at position {position} of stream {stream}, {event_type} in schema version {schema_version}: {cause}"
    )]
    Unreadable {
        /// The id of the event.
        id: EventId,
        /// Its position.
        position: Position,
        /// Its stream.
        stream: StreamId,
        /// Its type, as stored.
        event_type: EventType,
        /// Its schema version, as stored.
        schema_version: u32,
        /// The reason: an [`Undecodable`](crate::Undecodable), or an
        /// [`UpcastFailed`](crate::UpcastFailed).
        #[source]
        cause: Cause,
    },
    /// The upcasters do not fit together, or do not fit the events that are read: correct them as
    /// the text says. Nothing was read.
    #[error("the upcasters do not fit together: {cause}")]
    Upcasters {
        /// What is wrong: an [`UpcastError`](crate::UpcastError).
        #[source]
        cause: Cause,
    },
    /// The aggregate does not exist, or did not at that time. Create it first; if it may be
    /// missing, use `find` or `load_or_new`.
    #[error("there is no aggregate in stream {stream}{}; create it first", as_of_time(*as_of))]
    AggregateNotFound {
        /// Its stream.
        stream: StreamId,
        /// The time of the requested state; `None` for the current state.
        as_of: Option<Timestamp>,
    },
    /// The stream does not have the requested version: request one that it has.
    #[error("stream {stream} has no version {asked}: {}; ask for a version that it has", found_version(*actual))]
    VersionAhead {
        /// The stream.
        stream: StreamId,
        /// The requested version.
        asked: Version,
        /// The version of its last event; `None` if it has none.
        actual: Option<Version>,
    },
    /// The start position of a subscription is past the head of the log. If it was saved earlier,
    /// the log has lost its end since then, as after restoring a backup: start again after a
    /// position that this log has.
    #[error(
        "position {asked} is past the head of the log, {}; begin after a position that this log has",
        head_of(*head)
    )]
    PositionAhead {
        /// The requested position.
        asked: Position,
        /// The last position of the log; `None` if it is empty.
        head: Option<Position>,
    },
    /// The start position of a subscription was saved in another epoch: the log has lost its end
    /// since then, or it is another log. Start again after the last shared position, or from the
    /// beginning.
    #[error(
        "position {position} was saved in epoch {noted}, but this log is in epoch {current}; start {}",
        shared.map_or("from the beginning".to_owned(), |last| {
            format!("after position {last}, the last one that both epochs share")
        })
    )]
    OtherEpoch {
        /// The requested position.
        position: Position,
        /// The epoch in which it was saved.
        noted: Epoch,
        /// The current epoch of the log.
        current: Epoch,
        /// The last position up to which both have the same events; `None` if none is known.
        shared: Option<Position>,
    },
    /// The checkpoint of the view is not the one that its writer expected, so there is another
    /// writer; nothing was changed. Let only one writer change a view.
    #[error(
        "view {view}: its checkpoint is at {}, not at {} as expected: there is another writer, such as a \
         second ProjectionManager that runs the same projection; let only one of them run",
        place_of(*found),
        place_of(*expected)
    )]
    CheckpointMoved {
        /// The view.
        view: String,
        /// The position that was expected.
        expected: Option<Position>,
        /// The position that was found.
        found: Option<Position>,
    },
    /// The new checkpoint of a view is past the head of the log that it follows; nothing was
    /// changed. Set it to the position of the last event that is in the view; if the view follows
    /// the log of another store, set [`follows_other_log`](crate::ViewCommit::follows_other_log).
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
    /// A value of a read model cannot be decoded as the requested type, or cannot be stored: read
    /// it as the type that was stored, raise the version of the projection so that it is rebuilt,
    /// or store a smaller value.
    #[error("view {view}, key {key}: {cause}")]
    ViewValue {
        /// The view.
        view: String,
        /// The key, in readable form.
        key: String,
        /// The error of the codec, or the limit.
        #[source]
        cause: Cause,
    },
    /// The view of this name was not created by a projection: give the projection another name.
    #[error(
        "view {view} was not created by a projection; give the projection another name: {cause}"
    )]
    NotAProjection {
        /// The view.
        view: String,
        /// The error of decoding its directory.
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
    /// The store is open elsewhere, in this process or another: close it there, or wait for it to
    /// be closed, with [`open_within`](crate::StoreOptions::open_within). The directory was not
    /// touched.
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
        /// The error of the file system.
        #[source]
        cause: Cause,
    },
    /// A store cannot be created at this path, by a backup, a restore, or an import with positions.
    /// Nothing was changed: name another path, or do what the text says.
    #[error("cannot create the store {}: {reason}", .path.display())]
    CopyRefused {
        /// The destination.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The directory is not a store, and no store may be created in it. It was not touched.
    #[error("{} is not an annals store: {reason}", .path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What was found instead, and what to do.
        reason: String,
    },
    /// The bytes have a format that this version of annals does not read. If `found` is above
    /// `supported`, a later version wrote them: use that. If it is below, a version that was never
    /// released wrote them: export the store with that, and import it with this one.
    #[error("{what} has format {found}, {}", other_format(*found, *supported))]
    UnsupportedFormat {
        /// The store, file or record that has this format.
        what: String,
        /// The format version or flags that were found.
        found: u64,
        /// The newest format that is supported.
        supported: u64,
    },
    /// The store uses features of a later version of annals: use that. If `is_readable`, this
    /// version can still open the store for reading only, back it up and restore it. The directory
    /// was not touched.
    #[error(
        "{}: this store needs {}, which annals {} does not have: use a later version{}",
        path.display(),
        quoted(features),
        env!("CARGO_PKG_VERSION"),
        if *is_readable { ", or open it for reading only" } else { "" }
    )]
    MissingFeatures {
        /// The directory.
        path: PathBuf,
        /// The names of the features that this version does not have.
        features: Vec<String>,
        /// Whether the store can be opened for reading only.
        is_readable: bool,
    },
    /// Bytes on disk differ from what was written (G8). Run verify to find all damage, then restore
    /// a backup. If the damage is in a read model, rebuild its projection from the log instead.
    #[error("damaged data in {location}: found {found}, expected {expected}; {}", location.remedy())]
    Corruption {
        /// Where the damage is.
        location: Location,
        /// What was found there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// The store has lost events that it had acknowledged as durable (G11). Nothing was changed.
    /// Restore a backup, or accept the loss with
    /// [`accept_lost_history_after`](crate::StoreOptions::accept_lost_history_after).
    #[error(
        "history is lost: the log ends at {}, but it reached at least position {expected_at_least}; \
         restore a backup, or accept the loss (annals accept-loss)",
        found.map_or("nothing".to_owned(), |head| format!("position {head}"))
    )]
    HistoryLost {
        /// The last position that is known to have been durable.
        expected_at_least: Position,
        /// The last position that was found; `None` if the log is empty.
        found: Option<Position>,
    },
    /// Power loss left an incomplete tail in one of the engine's logs, and the store was opened for
    /// reading only. Open it for writing once, which truncates the unacknowledged tail (G10).
    #[error(
        "power loss left an incomplete tail after byte {len} of {}; open the store for writing once, which truncates \
         it",
        path.display()
    )]
    TornLog {
        /// The file of the log.
        path: PathBuf,
        /// The length of its intact part, in bytes.
        len: u64,
    },
    /// The write of this append failed halfway: its events may or may not be found after reopening.
    /// Reopen the store, then retry with the same events: if they were written, the retry is
    /// recognised.
    #[error(
        "the write failed: {cause}; reopen the store and retry with the same events, for it may have \
         them or not"
    )]
    Indeterminate {
        /// The error of the write.
        #[source]
        cause: Cause,
    },
    /// An earlier write failed: the store takes no more appends until it is reopened (G9). This
    /// append was not written.
    #[error("an earlier write failed, so the store takes no appends until it is reopened: {cause}")]
    Poisoned {
        /// The error of the earlier write.
        #[source]
        cause: Cause,
    },
    /// A line of an import was refused. The lines before it are in the store, except for those of
    /// the same commit. Correct the line and import again: the import continues after the lines
    /// that are kept.
    #[error("line {line}: {cause}{}", kept(*lines_kept))]
    ImportLine {
        /// The number of the line, from 1.
        line: u64,
        /// The lines up to this one are in the store; 0 if none is.
        lines_kept: u64,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// The input of an import could not be read to its end. The lines before that point are in the
    /// store, except for those of an incomplete commit. Repair the input and import it again: the
    /// import continues after the lines that are kept.
    #[error("reading the input failed after line {line}: {cause}{}", kept_of_input(*lines_kept))]
    ImportInput {
        /// The number of the last line that was read completely; 0 if none was.
        line: u64,
        /// The lines up to this one are in the store; 0 if none is.
        lines_kept: u64,
        /// The error of the reader.
        #[source]
        cause: Cause,
    },
    /// The input begins like that of an earlier import, but differs from it; nothing was added.
    /// Import the original input, with those lines unchanged, or import into a new store.
    #[error(
        "this input begins like one that was imported before, but differs from it somewhere in the first {lines} \
         lines, which are in the store; nothing was added: import the original input, or import into a new store"
    )]
    ImportDiffers {
        /// How many lines of the earlier input are in the store.
        lines: u64,
    },
    /// The disk is nearly full: this write would leave less free space than the option
    /// `disk_reserve_bytes` of the store. Nothing was changed by this call. Free space and retry;
    /// the store need not be reopened (G9).
    #[error(
        "the disk of {} has {free} bytes left, and {reserve} are reserved: free space and retry, or \
         lower disk_reserve_bytes",
        path.display()
    )]
    DiskFull {
        /// The directory of the store.
        path: PathBuf,
        /// The free space, in bytes.
        free: u64,
        /// The space to keep free, in bytes.
        reserve: u64,
    },
    /// The store was closed. Nothing was changed by this call.
    #[error("the store is closed; open it again")]
    Closed,
    /// The file system or the engine failed. Nothing was appended by this call.
    #[error("{doing}: {cause}")]
    Storage {
        /// The operation that failed.
        doing: String,
        /// The error of the operation.
        #[source]
        cause: Cause,
    },
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
