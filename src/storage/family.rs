//! [`Family`]: the families of keys in a store.

use crate::error::{Error, Location};

/// A family of keys: a separate sorted key space within the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The log: packs of frames by last position.
    Packs,
    /// The names of the frames that are in no pack yet, by the number of their batch.
    Tail,
    /// The frames by stream and first version.
    Streams,
    /// Snapshots of aggregates.
    Snapshots,
    /// The checkpoint of each view.
    Checkpoints,
    /// Read models kept in the store.
    Views,
    /// Idempotency keys, each with the result of its request.
    Keys,
    /// The index: entries by tag, event type or category, then by position. A store that was
    /// written before there was an index does not have it until it is opened for writing.
    Index,
    /// Small records of the store itself.
    Meta,
}

impl Family {
    pub(super) const ALL: [Self; 9] = [
        Self::Packs,
        Self::Tail,
        Self::Streams,
        Self::Snapshots,
        Self::Checkpoints,
        Self::Views,
        Self::Keys,
        Self::Index,
        Self::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Packs => "packs",
            Self::Tail => "tail",
            Self::Streams => "streams",
            Self::Snapshots => "snapshots",
            Self::Checkpoints => "checkpoints",
            Self::Views => "views",
            Self::Keys => "keys",
            Self::Index => "index",
            Self::Meta => "meta",
        }
    }

    /// The error for an invalid key.
    pub(crate) fn bad_key(self, key: &[u8]) -> Error {
        let location = Location::Key { family: self.name(), key: key.to_vec() };
        Error::corruption(location, "an invalid key", "the key of a frame or record")
    }
}
