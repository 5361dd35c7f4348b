//! All limits of a store. The documentation links here instead of repeating a number.
//!
//! The constants are hard maxima, part of the format forever: they hold for every store. [`Limits`]
//! are the limits of one open store; they are at or below the maxima, and are checked only when
//! appending, never when reading.

use super::{InvalidArgument, LimitExceeded};

/// Longest stream id, in bytes of UTF-8.
pub const STREAM_ID_LEN_MAX: usize = 255;
/// Longest event type, in bytes of UTF-8.
pub const EVENT_TYPE_LEN_MAX: usize = 255;
/// Longest content type, in bytes of UTF-8.
pub const CONTENT_TYPE_LEN_MAX: usize = 255;
/// Longest payload of one event, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 16 * MIB;
/// Most metadata pairs of one event.
pub const METADATA_COUNT_MAX: usize = 256;
/// Longest metadata of one event: all keys and values together, in bytes of UTF-8.
pub const METADATA_LEN_MAX: usize = 64 * KIB;
/// Most tags of one event.
pub const TAGS_COUNT_MAX: usize = 256;
/// Longest tag, in bytes of UTF-8.
pub const TAG_LEN_MAX: usize = 255;
/// Most events of one append.
pub const APPEND_EVENTS_MAX: usize = 100_000;
/// Most conditions of one append.
pub const APPEND_CONDITIONS_MAX: usize = 64;
/// Most items of one [`Query`](crate::Query).
pub const QUERY_ITEMS_MAX: usize = 256;
/// Most names in all items of one [`Query`](crate::Query): types, tags, streams, categories and
/// prefixes.
pub const QUERY_NAMES_MAX: usize = 1_024;
/// Longest append, in bytes: payloads, metadata, tags, types and content types of all its events.
pub const APPEND_LEN_MAX: usize = 64 * MIB;
/// Most streams that one append may name, written or only checked.
pub const APPEND_STREAMS_MAX: usize = 10_000;
/// Target length of the events of a frame, in bytes: a frame ends before the event whose payload
/// and texts would exceed it. Only a frame of a single event may be much longer.
pub const FRAME_LEN_TARGET: usize = 64 * KIB;
/// Most events of one frame.
pub const FRAME_EVENTS_MAX: usize = 1_024;
/// Longest frame on disk, in bytes.
pub const FRAME_LEN_MAX: usize = PAYLOAD_LEN_MAX + FRAME_LEN_TARGET + 256 * KIB;

/// Longest scope of an idempotency key, in bytes of UTF-8.
pub const KEY_SCOPE_LEN_MAX: usize = 64;
/// Longest idempotency key within its scope, in bytes of UTF-8.
pub const KEY_LEN_MAX: usize = 255;
/// Longest reason of a rejection that is recorded with an idempotency key, in bytes.
pub const REJECTION_LEN_MAX: usize = 4 * KIB;

/// Longest snapshot kind, in bytes of UTF-8.
pub const SNAPSHOT_KIND_LEN_MAX: usize = 255;
/// Largest encoded state of a snapshot, in bytes.
pub const SNAPSHOT_STATE_LEN_MAX: usize = 64 * MIB;
/// Longest name of a view, in bytes of UTF-8.
pub const VIEW_NAME_LEN_MAX: usize = 255;
/// Longest key in a view, in bytes.
pub const VIEW_KEY_LEN_MAX: usize = KIB;
/// Longest value in a view, in bytes.
pub const VIEW_VALUE_LEN_MAX: usize = 16 * MIB;
/// Largest commit of a view, in bytes: all keys and values together.
pub const VIEW_COMMIT_LEN_MAX: usize = 64 * MIB;
/// Largest state that a checkpoint carries, in bytes.
pub const CHECKPOINT_STATE_LEN_MAX: usize = MIB;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const _: () = {
    assert!(PAYLOAD_LEN_MAX < APPEND_LEN_MAX, "an event of the greatest length must fit an append");
    assert!(FRAME_LEN_TARGET < FRAME_LEN_MAX);
    // The largest single event without its payload: metadata and tags with their length prefixes,
    // type, content type, fixed fields.
    assert!(
        METADATA_LEN_MAX
            + METADATA_COUNT_MAX * 10
            + TAGS_COUNT_MAX * (TAG_LEN_MAX + 5)
            + 2 * 260
            + 64
            < FRAME_LEN_MAX - PAYLOAD_LEN_MAX,
        "the largest event must fit a frame"
    );
    assert!(FRAME_LEN_MAX < u32::MAX as usize);
};

/// The limits of one open store, at or below the maxima of this module.
///
/// They are checked only when appending: a store written under wider limits stays readable under
/// narrower ones.
///
/// ```
/// use annals::Limits;
/// let limits = Limits::default().with_payload_len_max(1024);
/// assert_eq!(limits.payload_len_max(), 1024);
/// assert!(Limits::default().with_payload_len_max(usize::MAX).check().is_err());
/// ```
#[expect(clippy::struct_field_names, reason = "each is named as the constant that bounds it")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    payload_len_max: usize,
    append_events_max: usize,
    append_len_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_len_max: PAYLOAD_LEN_MAX,
            append_events_max: APPEND_EVENTS_MAX,
            append_len_max: APPEND_LEN_MAX,
        }
    }
}

impl Limits {
    /// Longest payload of one event, in bytes; at most [`PAYLOAD_LEN_MAX`], the default.
    pub fn with_payload_len_max(mut self, bytes: usize) -> Self {
        self.payload_len_max = bytes;
        self
    }

    /// Most events of one append; at most [`APPEND_EVENTS_MAX`], the default.
    pub fn with_append_events_max(mut self, events: usize) -> Self {
        self.append_events_max = events;
        self
    }

    /// Longest append in bytes; at most [`APPEND_LEN_MAX`], the default.
    pub fn with_append_len_max(mut self, bytes: usize) -> Self {
        self.append_len_max = bytes;
        self
    }

    /// The limit set by [`Limits::with_payload_len_max`].
    pub fn payload_len_max(&self) -> usize {
        self.payload_len_max
    }

    /// The limit set by [`Limits::with_append_events_max`].
    pub fn append_events_max(&self) -> usize {
        self.append_events_max
    }

    /// The limit set by [`Limits::with_append_len_max`].
    pub fn append_len_max(&self) -> usize {
        self.append_len_max
    }

    /// Checks that each limit is at or below its hard maximum.
    ///
    /// # Errors
    /// [`LimitExceeded`] for the first limit that is not.
    pub fn check(&self) -> Result<(), LimitExceeded> {
        LimitExceeded::check("limits.payload_len_max", PAYLOAD_LEN_MAX, self.payload_len_max)?;
        LimitExceeded::check(
            "limits.append_events_max",
            APPEND_EVENTS_MAX,
            self.append_events_max,
        )?;
        LimitExceeded::check("limits.append_len_max", APPEND_LEN_MAX, self.append_len_max)
    }

    /// The same limits, each lowered to its maximum if it is higher.
    pub(crate) fn at_most_allowed(self) -> Self {
        Self {
            payload_len_max: self.payload_len_max.min(PAYLOAD_LEN_MAX),
            append_events_max: self.append_events_max.min(APPEND_EVENTS_MAX),
            append_len_max: self.append_len_max.min(APPEND_LEN_MAX),
        }
    }
}

/// Checks a name: 1 to `len_max` bytes of UTF-8 without control characters.
pub(crate) fn check_name(
    what: &'static str,
    name: &str,
    len_max: usize,
) -> Result<(), InvalidArgument> {
    if name.is_empty() {
        return Err(InvalidArgument::Empty { what });
    }
    if name.len() > len_max {
        return Err(InvalidArgument::TooLong { what, len_max, len: name.len() });
    }
    match name.char_indices().find(|(_, character)| character.is_control()) {
        None => Ok(()),
        Some((at, character)) => {
            Err(InvalidArgument::ControlCharacter { what, at, code: u32::from(character) })
        }
    }
}
