//! [`InvalidArgument`] and [`LimitExceeded`]. A call that fails with one of them changed nothing
//! (G13).

use super::{EventId, StreamId};

/// An argument that is invalid regardless of the contents of the store: fix the call.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgument {
    /// A name or list that must not be empty is empty.
    #[error("{what} is empty")]
    Empty {
        /// The name or list that is empty.
        what: &'static str,
    },
    /// A name is too long.
    #[error("{what} is {len} bytes long, at most {len_max} are allowed")]
    TooLong {
        /// The name that is too long.
        what: &'static str,
        /// The longest that is allowed, in bytes.
        len_max: usize,
        /// Its length, in bytes.
        len: usize,
    },
    /// A name contains a control character.
    #[error("{what} contains the control character U+{code:04X} at byte {at}")]
    ControlCharacter {
        /// The name that contains it.
        what: &'static str,
        /// Its byte index.
        at: usize,
        /// Its code point.
        code: u32,
    },
    /// A name begins with `$`, which is reserved for annals.
    #[error("{what} {name:?} begins with '$': such names are reserved")]
    Reserved {
        /// The kind of name that is reserved.
        what: &'static str,
        /// The name that was given.
        name: String,
    },
    /// A text cannot be parsed as a number, an id or a time.
    #[error("{text:?} is not {what}")]
    Unreadable {
        /// What it should have been.
        what: &'static str,
        /// The text; a long one is cut off.
        text: String,
    },
    /// A category contains a `-`, so no stream can be in it.
    #[error(
        "category {category:?} contains a '-', but a category is the part of a stream id before the first '-'; \
         to match more of the id, use a prefix"
    )]
    CategoryWithDash {
        /// The category.
        category: String,
    },
    /// A stream without events cannot be deleted for good.
    #[error("stream {stream} has no events, so it cannot be tombstoned")]
    NothingToTombstone {
        /// The stream.
        stream: StreamId,
    },
    /// A truncation names a stream twice.
    #[error("a truncation names stream {stream} twice: name it once, with the higher version")]
    TruncatedTwice {
        /// The stream.
        stream: StreamId,
    },
    /// The event at the position is not the one that is to be redacted.
    #[error("the event at position {position} has the id {found}, not {given}: look it up again")]
    OtherEvent {
        /// The position.
        position: super::Position,
        /// The id that was given.
        given: EventId,
        /// The id of the event at this position.
        found: EventId,
    },
    /// An item of a query has no criterion, so it would match everything.
    #[error(
        "an item of the query has no type, tag, stream, category or prefix: set one, or ask for Query::Everything"
    )]
    EmptyQueryItem,
    /// A query has no items, so it would match nothing.
    #[error("the query has no items: add one, or ask for Query::Everything")]
    EmptyQuery,
    /// A position restricts a condition of an append, but no condition was added before.
    #[error("a position restricts a condition: call fail_if before after")]
    AfterWithoutCondition,
    /// A subscription starts after a version, but does not name a stream.
    #[error("a version counts within a stream: name the stream, or begin after a position")]
    VersionWithoutStream,
    /// A time is outside the years that RFC 3339 can write.
    #[error("recorded-at of {micros} µs since 1970 is outside the years 0 to 9999 of UTC")]
    RecordedAtOutOfRange {
        /// The time, in microseconds since 1970.
        micros: i64,
    },
    /// The calendar has no such date, or its year is outside 0 to 9999.
    #[error("there is no date {year:04}-{month:02}-{day:02} in the years 0 to 9999")]
    NoSuchDate {
        /// The year.
        year: i32,
        /// The month.
        month: u8,
        /// The day of the month.
        day: u8,
    },
    /// A date or time is outside the years that a key of a read model can hold.
    #[error(
        "the view key would hold a time of {micros} µs since 1970, but only the years 0 to 9999 of \
         UTC fit: use a number as the key"
    )]
    ViewKeyTimeOutOfRange {
        /// The time, or the start of the date, in microseconds since 1970.
        micros: i64,
    },
    /// A key of a read model is too long: use an id, a number, or a shortened text instead.
    #[error(
        "view key {key:?} has {len} bytes, but at most {len_max} are allowed: \
         use an id, a number, or a shortened text as the key"
    )]
    ViewKeyTooLong {
        /// The beginning of the key.
        key: String,
        /// Its length in bytes.
        len: usize,
        /// The longest that is allowed, in bytes.
        len_max: usize,
    },
    /// A key of a read model does not have the parts that it was taken apart into.
    #[error(
        "view key {key:?} does not have the parts {parts}: name the types with which it was made"
    )]
    ViewKeyParts {
        /// The key.
        key: String,
        /// The types of the parts.
        parts: &'static str,
    },
    /// Schema versions count from 1.
    #[error("schema version 0: schema versions count from 1")]
    SchemaVersionZero,
    /// The same event id occurs twice in one append.
    #[error("event id {id} occurs twice in one append: give each event its own id")]
    DuplicateEventId {
        /// The id.
        id: EventId,
    },
    /// One append expects two different versions of one stream.
    #[error("stream {stream} is given two different expected versions in one append")]
    TwoExpectations {
        /// The stream.
        stream: StreamId,
    },
    /// One append changes the owner of a unique value twice, or names its stream already.
    #[error(
        "a value of the set {set:?} is changed twice in one append: give all old and all new values of its owner in \
         one call"
    )]
    UniqueValueTwice {
        /// The name of the set.
        set: String,
    },
    /// Some events of an append have an explicit recorded-at and others do not.
    #[error(
        "some events of the append have an explicit recorded-at and others do not: set it for all or for none"
    )]
    MixedRecordedAt,
    /// A recorded-at goes back within one append.
    #[error("recorded-at goes back within one append: {given} after {before}")]
    RecordedAtGoesBack {
        /// The time that was given.
        given: super::Timestamp,
        /// The later one before it.
        before: super::Timestamp,
    },
}

/// How many characters of a text an error quotes: text from outside can have any length.
const QUOTED_CHARS_MAX: usize = 200;

/// A text as an error quotes it: cut off if it is long.
pub(crate) fn quoted(text: &str) -> String {
    shortened(text, QUOTED_CHARS_MAX)
}

/// The first `chars_max` characters of a text, followed by `…` if there are more.
pub(crate) fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
    }
}

impl InvalidArgument {
    pub(crate) fn unreadable(what: &'static str, text: &str) -> Self {
        Self::Unreadable { what, text: quoted(text) }
    }

    pub(crate) fn view_key_too_long(key: &str, len: usize, len_max: usize) -> Self {
        Self::ViewKeyTooLong { key: quoted(key), len, len_max }
    }
}

/// Something is larger than the store allows: send less, or raise the limit if it is one of
/// [`Limits`](crate::Limits) that was lowered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit {limit} allows {max}, but got {got}: {}", remedy(limit))]
pub struct LimitExceeded {
    /// The name of the limit.
    pub limit: &'static str,
    /// The maximum that it allows.
    pub max: usize,
    /// The size or count that exceeds it.
    pub got: usize,
}

impl LimitExceeded {
    pub(crate) fn check(limit: &'static str, max: usize, got: usize) -> Result<(), Self> {
        if got <= max { Ok(()) } else { Err(Self { limit, max, got }) }
    }
}

/// What to do about an exceeded limit. Only those of [`Limits`](crate::Limits) can be raised; the
/// others never change.
fn remedy(limit: &str) -> &'static str {
    match limit {
        "payload_len_max" => {
            "store large data elsewhere and a reference in the event, or raise the limit in Limits if it was lowered"
        }
        "append_events_max" | "append_len_max" => {
            "append in several parts, or raise the limit in Limits if it was lowered"
        }
        "append_conditions_max" => "join the queries of several conditions into one",
        "append_streams_max" => "append to fewer streams at once",
        "metadata_count_max" | "metadata_len_max" => {
            "put less into the metadata, more into the payload"
        }
        "tags_count_max" => "give it fewer tags",
        "query_items_max" => "ask for fewer items, such as one with several types",
        "query_names_max" => "name less in the items of the query",
        "rejection_len_max" => "record a code or a shorter reason with the idempotency key",
        "snapshot_state_len_max" => {
            "keep less in the state of the aggregate, or take no snapshots of it"
        }
        "view_key_len_max" => "use a shorter key, such as a digest of this one",
        "view_value_len_max" => "split it over several keys",
        "event_changes_len_max" => {
            "change less of the view for one event, or record the change as several events"
        }
        "view_commit_len_max" => {
            "change less in one commit; a projection commits all changes of one event together"
        }
        "checkpoint_state_len_max" => {
            "keep less in the state of the checkpoint, and the rest in values"
        }
        limit if limit.starts_with("limits.") => "the format allows no more, so set it lower",
        _ => "use less",
    }
}
