//! [`ExpectedVersion`]: what an append expects of a stream, and the pure rule that decides.

use std::fmt;

use super::Version;

/// What an append expects of a stream. Always said, never a default: the weakest check must be a
/// choice.
///
/// ```
/// use annals::{ExpectedVersion, Version};
/// assert!(ExpectedVersion::NoStream.is_met_by(None));
/// assert!(!ExpectedVersion::Exact(Version::FIRST).is_met_by(None));
/// assert!(ExpectedVersion::Exact(Version::FIRST).is_met_by(Some(Version::FIRST)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Nothing: append after whatever is there.
    Any,
    /// The stream has no event.
    NoStream,
    /// The stream has at least one event.
    StreamExists,
    /// The last event of the stream has exactly this version.
    Exact(Version),
}

impl ExpectedVersion {
    /// Whether a stream whose last event has version `tip` is as expected.
    pub fn is_met_by(self, tip: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => tip.is_none(),
            Self::StreamExists => tip.is_some(),
            Self::Exact(version) => tip == Some(version),
        }
    }
}

/// A stream loaded at a version is expected there again; one that was not found is expected to be
/// absent.
impl From<Option<Version>> for ExpectedVersion {
    fn from(tip: Option<Version>) -> Self {
        tip.map_or(Self::NoStream, Self::Exact)
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
