//! [`Family`]: which sorted spaces of keys there are.

/// A family of keys: its own sorted space within the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The log: frames by first position.
    Events,
    /// The same frames by stream and first version.
    Streams,
    /// Snapshots of aggregates.
    Snapshots,
    /// How far each projection is.
    Checkpoints,
    /// Read models kept in the store.
    Views,
    /// Tags, types, categories; empty until asked for.
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
