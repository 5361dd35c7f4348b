//! [`ExpectedVersion`]: what an append expects of a stream, and whether a stream meets it.

use std::fmt;

use super::Version;

/// What an append expects of a stream. It has no default, so that the weakest check is always an
/// explicit choice.
///
/// ```
/// use annals::{ExpectedVersion, Version};
/// assert!(ExpectedVersion::NoStream.is_met_by(None));
/// assert!(!ExpectedVersion::Exact(Version::FIRST).is_met_by(None));
/// assert!(ExpectedVersion::Exact(Version::FIRST).is_met_by(Some(Version::FIRST)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Nothing: append after the last event, if there is one.
    Any,
    /// The stream has no event.
    NoStream,
    /// The stream has at least one event.
    StreamExists,
    /// The last event of the stream has exactly this version.
    Exact(Version),
}

impl ExpectedVersion {
    /// Whether a stream whose last event has version `actual` meets the expectation; `None` is a
    /// stream without events.
    pub fn is_met_by(self, actual: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::StreamExists => actual.is_some(),
            Self::Exact(version) => actual == Some(version),
        }
    }
}

/// Expects exactly this version.
impl From<Version> for ExpectedVersion {
    fn from(version: Version) -> Self {
        Self::Exact(version)
    }
}

/// `Some` expects exactly the version at which a stream was loaded; `None` expects no stream.
impl From<Option<Version>> for ExpectedVersion {
    fn from(actual: Option<Version>) -> Self {
        actual.map_or(Self::NoStream, Self::Exact)
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("any version"),
            Self::NoStream => out.write_str("no stream"),
            Self::StreamExists => out.write_str("an existing stream"),
            Self::Exact(version) => write!(out, "version {version}"),
        }
    }
}
