//! [`StreamId`]: the name of a stream, and its category.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::InvalidArgument;
use super::limits::{STREAM_ID_LEN_MAX, check_name};

/// The stream in which each deletion is recorded before it is carried out: see
/// [`StreamId::deletions`]. Applications can read it and subscribe to it, but only the store appends
/// to it.
pub const DELETIONS_STREAM: &str = "$deletions";

/// The name of a stream: 1 to [`STREAM_ID_LEN_MAX`] bytes of UTF-8 without control characters, not
/// beginning with `$`.
///
/// Its **category** is the part before the first `-` (the whole id if there is none), so
/// `account-7` and `account-8` are both in the category `account`. Ids are compared and sorted by
/// their bytes. Cloning is cheap.
///
/// ```
/// use annals::StreamId;
/// let stream = StreamId::new("account-123-eur")?;
/// assert_eq!(stream.category(), "account");
/// assert!(StreamId::new("$mine").is_err());
/// assert!(StreamId::new("two\nlines").is_err());
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Checks the name.
    ///
    /// # Errors
    /// [`InvalidArgument`]: the name is empty, too long, contains a control character, or is
    /// reserved.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidArgument> {
        let id = id.as_ref();
        check_name("stream id", id, STREAM_ID_LEN_MAX)?;
        if id.starts_with('$') {
            return Err(InvalidArgument::Reserved { what: "stream id", name: id.to_owned() });
        }
        Ok(Self(id.into()))
    }

    /// The system stream in which deletions are recorded: [`DELETIONS_STREAM`]. It can be read,
    /// subscribed to and checked in an append; only the store appends to it.
    ///
    /// ```
    /// use annals::{DELETIONS_STREAM, StreamId};
    /// assert_eq!(StreamId::deletions().as_str(), DELETIONS_STREAM);
    /// assert!(StreamId::new(DELETIONS_STREAM).is_err());
    /// ```
    pub fn deletions() -> Self {
        Self::trusted(DELETIONS_STREAM)
    }

    /// Checks the name of a stream that is read: a system stream is one.
    pub(crate) fn readable(id: &str) -> Result<Self, InvalidArgument> {
        if id == DELETIONS_STREAM { Ok(Self::deletions()) } else { Self::new(id) }
    }

    /// Refuses a system stream, to which only the store appends.
    pub(crate) fn check_own(&self, what: &'static str) -> Result<(), InvalidArgument> {
        let name = self.as_str();
        if name.starts_with('$') {
            return Err(InvalidArgument::Reserved { what, name: name.to_owned() });
        }
        Ok(())
    }

    /// An id from a checked frame or from a store: it is not checked again.
    pub(crate) fn trusted(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `-`; the whole id if there is none.
    pub fn category(&self) -> &str {
        category_of(&self.0)
    }
}

/// The category of a stream id: the part before the first `-`.
pub(super) fn category_of(id: &str) -> &str {
    id.split_once('-').map_or(id, |(category, _)| category)
}

impl fmt::Display for StreamId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl AsRef<str> for StreamId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamId {
    type Err = InvalidArgument;

    fn from_str(id: &str) -> Result<Self, InvalidArgument> {
        Self::new(id)
    }
}

impl TryFrom<&str> for StreamId {
    type Error = InvalidArgument;

    fn try_from(id: &str) -> Result<Self, InvalidArgument> {
        Self::new(id)
    }
}

impl TryFrom<&String> for StreamId {
    type Error = InvalidArgument;

    fn try_from(id: &String) -> Result<Self, InvalidArgument> {
        Self::new(id)
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidArgument;

    fn try_from(id: String) -> Result<Self, InvalidArgument> {
        Self::new(id)
    }
}

impl From<&StreamId> for StreamId {
    fn from(id: &StreamId) -> Self {
        id.clone()
    }
}
