//! Metadata (text pairs) and tags of an event, owned and borrowed.

use std::fmt;

use super::limits::{METADATA_COUNT_MAX, METADATA_LEN_MAX};
use super::{InvalidArgument, LimitExceeded};

/// Metadata key of the id that all events of one piece of work share.
pub const CORRELATION_ID: &str = "$correlation_id";
/// Metadata key of the id of the command or event that caused this event.
pub const CAUSATION_ID: &str = "$causation_id";

/// Key-value pairs of text next to the payload, such as the user or the reason. Keys are unique and
/// keep the order in which they were first set.
///
/// Keys that begin with `$` are reserved, except for [`CORRELATION_ID`] and [`CAUSATION_ID`].
///
/// ```
/// use annals::Metadata;
/// let metadata: Metadata = [("user", "ada"), ("reason", "audit")].into_iter().collect();
/// assert_eq!(metadata.get("user"), Some("ada"));
/// assert_eq!(metadata.len(), 2);
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Metadata(Vec<(String, String)>);

impl Metadata {
    /// No pairs.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets a pair; an existing key keeps its place and gets the new value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(present, _)| *present == key) {
            Some(pair) => pair.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(present, _)| present == key).map(|(_, value)| value.as_str())
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A borrowed view.
    pub fn as_ref(&self) -> MetadataRef<'_> {
        MetadataRef(Source::Owned(&self.0))
    }

    /// The length of all keys and values together, in bytes.
    pub(crate) fn text_len(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    pub(crate) fn check(&self) -> Result<(), CheckError> {
        LimitExceeded::check("metadata_count_max", METADATA_COUNT_MAX, self.len())?;
        LimitExceeded::check("metadata_len_max", METADATA_LEN_MAX, self.text_len())?;
        for (key, _) in &self.0 {
            if key.is_empty() {
                return Err(InvalidArgument::Empty { what: "metadata key" }.into());
            }
            if key.starts_with('$') && key != CORRELATION_ID && key != CAUSATION_ID {
                let name = key.clone();
                return Err(InvalidArgument::Reserved { what: "metadata key", name }.into());
            }
        }
        Ok(())
    }
}

/// The two kinds of error about an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckError {
    Invalid(InvalidArgument),
    Limit(LimitExceeded),
}

impl From<InvalidArgument> for CheckError {
    fn from(invalid: InvalidArgument) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<LimitExceeded> for CheckError {
    fn from(limit: LimitExceeded) -> Self {
        Self::Limit(limit)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut metadata = Self::new();
        for (key, value) in pairs {
            metadata.set(key, value);
        }
        metadata
    }
}

/// Takes the next pair off the front of the encoded rest. The layer that knows the encoding
/// supplies the function, so that this layer does not depend on it.
pub(crate) type NextPair = for<'a> fn(&mut &'a [u8]) -> Option<(&'a str, &'a str)>;
/// Takes the next tag off the front of the encoded rest.
pub(crate) type NextTag = for<'a> fn(&mut &'a [u8]) -> Option<&'a str>;

/// Borrowed [`Metadata`]: decoded on access, without allocating.
#[derive(Clone, Copy)]
pub struct MetadataRef<'a>(Source<'a, (String, String), NextPair>);

/// Borrowed tags: decoded on access, without allocating.
#[derive(Clone, Copy)]
pub struct TagsRef<'a>(Source<'a, String, NextTag>);

enum Source<'a, Owned, Next> {
    Owned(&'a [Owned]),
    /// A list that was completely validated when its frame was decoded.
    Encoded(&'a [u8], Next),
}

impl<Owned, Next: Copy> Clone for Source<'_, Owned, Next> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Owned, Next: Copy> Copy for Source<'_, Owned, Next> {}

impl<'a> MetadataRef<'a> {
    pub(crate) fn encoded(validated: &'a [u8], next: NextPair) -> Self {
        Self(Source::Encoded(validated, next))
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (owned, mut encoded, next) = match self.0 {
            Source::Owned(pairs) => (pairs, &[][..], None),
            Source::Encoded(bytes, next) => (&[][..], bytes, Some(next)),
        };
        let owned = owned.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        owned.chain(std::iter::from_fn(move || next?(&mut encoded)))
    }

    /// The value of a key. Linear in the number of pairs.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(present, _)| *present == key).map(|(_, value)| value)
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// An owned copy.
    pub fn to_owned(&self) -> Metadata {
        if let Source::Encoded([], _) = self.0 {
            return Metadata::new();
        }
        Metadata(self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

impl fmt::Debug for MetadataRef<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> TagsRef<'a> {
    pub(crate) fn owned(tags: &'a [String]) -> Self {
        Self(Source::Owned(tags))
    }

    pub(crate) fn encoded(validated: &'a [u8], next: NextTag) -> Self {
        Self(Source::Encoded(validated, next))
    }

    /// The tags in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (owned, mut encoded, next) = match self.0 {
            Source::Owned(tags) => (tags, &[][..], None),
            Source::Encoded(bytes, next) => (&[][..], bytes, Some(next)),
        };
        owned.iter().map(String::as_str).chain(std::iter::from_fn(move || next?(&mut encoded)))
    }

    /// Whether there is no tag.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// An owned copy.
    pub fn to_owned(&self) -> Vec<String> {
        if let Source::Encoded([], _) = self.0 {
            return Vec::new();
        }
        self.iter().map(str::to_owned).collect()
    }
}

impl fmt::Debug for TagsRef<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}
