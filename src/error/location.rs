//! [`Location`]: where damaged bytes are.

use std::fmt;
use std::path::PathBuf;

use crate::model::{Position, StreamId, Version};

/// Where bytes are damaged or missing: in [`Error::Corruption`](crate::Error::Corruption), and in
/// the report of [`Store::verify`](crate::Store::verify). docs/FORMAT.md explains families, frames
/// and records.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// In the log, the families `packs` and `tail`: the frame that holds the event at this position.
    Log {
        /// The position.
        position: Position,
    },
    /// In the family `streams`: the frame that holds the event at this version.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The version.
        version: Version,
    },
    /// A value of a view, in the family `views`.
    View {
        /// The view.
        view: String,
        /// The key within the view.
        key: Vec<u8>,
    },
    /// Another record, or a key that is not recognised.
    Key {
        /// The family.
        family: &'static str,
        /// The key.
        key: Vec<u8>,
    },
    /// The log and the family `streams`, whose frames differ.
    Families,
    /// A file of the store.
    File {
        /// The file.
        path: PathBuf,
        /// The offset of the first damaged byte, if it is known.
        byte: Option<u64>,
    },
    /// Somewhere in the database; the error of RocksDB says where.
    Database {
        /// The operation that found the damage.
        doing: String,
    },
}

impl Location {
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), byte: None }
    }

    pub(crate) fn byte_of_file(path: impl Into<PathBuf>, byte: u64) -> Self {
        Self::File { path: path.into(), byte: Some(byte) }
    }

    pub(crate) fn log(position: Position) -> Self {
        Self::Log { position }
    }

    pub(crate) fn stream(stream: &StreamId, version: Version) -> Self {
        Self::Stream { stream: stream.clone(), version }
    }

    /// What to do about damage here.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::View { .. } | Self::Key { family: "checkpoints" | "views", .. } => {
                "rebuild the projection"
            }
            Self::Key { family: "index", .. } => "rebuild the index",
            _ => "restore a backup",
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { position } => write!(out, "the log, position {position}"),
            Self::Stream { stream, version } => {
                write!(out, "family streams, stream {stream}, version {version}")
            }
            Self::View { view, key } => {
                write!(out, "family views, view {view}, key {}", key.escape_ascii())
            }
            Self::Key { family, key } => write!(out, "family {family}, key {}", key.escape_ascii()),
            Self::Families => out.write_str("the log and family streams"),
            Self::File { path, byte: None } => path.display().fmt(out),
            Self::File { path, byte: Some(byte) } => write!(out, "{}, byte {byte}", path.display()),
            Self::Database { doing } => write!(out, "db, while {doing}"),
        }
    }
}
