//! What can be wrong with an argument. A call refused for one of these changed nothing (G13).

use super::{EventId, StreamId};

/// An argument that can never be right, whatever the store holds: fix the call.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgument {
    /// A name or list that must hold something is empty.
    #[error("{what} is empty")]
    Empty {
        /// What was empty.
        what: &'static str,
    },
    /// What is stored along with an aggregate was put in place of its own events. Nothing was
    /// stored.
    #[error(
        "the append no longer begins with the events of {stream}: add to the append that is given, and give it back"
    )]
    AppendReplaced {
        /// The stream of the aggregate.
        stream: StreamId,
    },
    /// A name is longer than it may be.
    #[error("{what} is {len} bytes long, at most {len_max} are allowed")]
    TooLong {
        /// What was too long.
        what: &'static str,
        /// How long it may be, in bytes.
        len_max: usize,
        /// How long it was, in bytes.
        len: usize,
    },
    /// A name holds a control character.
    #[error("{what} holds the control character U+{code:04X} at byte {at}")]
    ControlCharacter {
        /// What held it.
        what: &'static str,
        /// Where, as a byte index.
        at: usize,
        /// Its code point.
        code: u32,
    },
    /// A name begins with `$`, which annals keeps for itself.
    #[error("{what} {name:?} begins with '$': such names are reserved")]
    Reserved {
        /// What was reserved.
        what: &'static str,
        /// The name that was given.
        name: String,
    },
    /// Text that should be a number, an id or a time is not.
    #[error("{text:?} is not {what}")]
    Unreadable {
        /// What it should have been.
        what: &'static str,
        /// The text as given, but of a long one only how it begins.
        text: String,
    },
    /// A category holds a `-`, so that no stream can be of it.
    #[error(
        "category {category:?} holds a '-': a category is the part of a stream id before the first one; \
         to name more of it, use a prefix"
    )]
    CategoryWithDash {
        /// The category.
        category: String,
    },
    /// A subscription begins after a version, but follows no stream to count it in.
    #[error("a version counts within a stream: name the stream, or begin after a position")]
    VersionWithoutStream,
    /// A time is outside the years that RFC 3339 can write.
    #[error("recorded-at of {micros} µs since 1970 lies outside the years 0 to 9999 of UTC")]
    RecordedAtOutOfRange {
        /// The time, in microseconds since 1970.
        micros: i64,
    },
    /// A key of a read model is too long: use an id, a number, or a shortened text instead.
    #[error(
        "view key {key:?} has {len} bytes, but at most {len_max} are allowed: \
         use an id, a number, or a shortened text as the key"
    )]
    ViewKeyTooLong {
        /// How the key begins.
        key: String,
        /// Its length in bytes.
        len: usize,
        /// The most that is allowed.
        len_max: usize,
    },
    /// Schema versions count from 1.
    #[error("schema version 0: schema versions count from 1")]
    SchemaVersionZero,
    /// The same event id stands twice in one append.
    #[error("event id {id} stands twice in one append: each event needs an id of its own")]
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
    /// Some events of an append carry a recorded-at of their own and others do not.
    #[error("of one append, either all events carry a recorded-at of their own or none does")]
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

/// As much of a text as an error quotes: what comes in from outside may be of any length.
const QUOTED_CHARS_MAX: usize = 200;

/// How a text that an error quotes begins; all of it, unless it is long.
pub(crate) fn quoted(text: &str) -> String {
    shortened(text, QUOTED_CHARS_MAX)
}

/// The first characters of a text; all of it, unless there are more.
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

/// Something is larger than the store takes: send less, or raise the limit if it is one of
/// [`Limits`](crate::Limits) that was set lower.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit {limit} allows {max}, but got {got}: {}", remedy(limit))]
pub struct LimitExceeded {
    /// Which limit.
    pub limit: &'static str,
    /// What it allows.
    pub max: usize,
    /// What was asked for.
    pub got: usize,
}

impl LimitExceeded {
    pub(crate) fn check(limit: &'static str, max: usize, got: usize) -> Result<(), Self> {
        if got <= max { Ok(()) } else { Err(Self { limit, max, got }) }
    }
}

/// What to do where a limit is met. Some are forever; only those of [`Limits`](crate::Limits) can
/// be raised.
fn remedy(limit: &str) -> &'static str {
    match limit {
        "payload_len_max" => {
            "keep what is that large elsewhere and its place in the event, or raise it in Limits if it was set lower"
        }
        "append_events_max" | "append_len_max" => {
            "append in several parts, or raise it in Limits if it was set lower"
        }
        "append_streams_max" => "append to fewer streams at once",
        "metadata_count_max" | "metadata_len_max" => {
            "put less into the metadata, more into the payload"
        }
        "tags_count_max" => "give it fewer tags",
        "snapshot_state_len_max" => {
            "keep less in the state of the aggregate, or do without snapshots of it"
        }
        "view_key_len_max" => "take a shorter key, such as a digest of this one",
        "view_value_len_max" => "split it over several keys",
        "event_changes_len_max" => {
            "change less of the view for one event, or record the change as several events"
        }
        "view_commit_len_max" => {
            "change less at once: of a projection, what one event changes is one commit"
        }
        "checkpoint_state_len_max" => {
            "keep less in the state of the checkpoint, and the rest in values"
        }
        limit if limit.starts_with("limits.") => "the format allows no more, so set it lower",
        _ => "take less",
    }
}
