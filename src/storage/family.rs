//! [`Family`]: the families of keys in a store.

/// A family of keys: a separate sorted key space within the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The log: frames by first position.
    Events,
    /// The same frames by stream and first version.
    Streams,
    /// Snapshots of aggregates.
    Snapshots,
    /// The checkpoint of each view.
    Checkpoints,
    /// Read models kept in the store.
    Views,
    /// Reserved for an index of tags, types and categories; empty in this version.
    Index,
    /// Small records of the store itself.
    Meta,
}

impl Family {
    pub(super) const ALL: [Self; 7] = [
        Self::Events,
        Self::Streams,
        Self::Snapshots,
        Self::Checkpoints,
        Self::Views,
        Self::Index,
        Self::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Streams => "streams",
            Self::Snapshots => "snapshots",
            Self::Checkpoints => "checkpoints",
            Self::Views => "views",
            Self::Index => "index",
            Self::Meta => "meta",
        }
    }
}
