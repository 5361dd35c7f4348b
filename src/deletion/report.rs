//! What a deletion and a scavenge have done.

use crate::model::{Deletion, Position, Timestamp, Version};

/// What a deletion did, or would do.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The number of the deletion: the version of its event in
    /// [`DELETIONS_STREAM`](crate::DELETIONS_STREAM). `None` if there was nothing to delete.
    pub number: Option<Version>,
    /// The position of that event; `None` in a preview.
    pub position: Option<Position>,
    /// How many events are deleted or redacted.
    pub events: u64,
    /// How many streams they are in.
    pub streams: u64,
    /// About how many bytes these events take, before compression. They are free after the next
    /// [scavenge](crate::Store::scavenge).
    pub bytes: u64,
    /// How many snapshots are deleted because they rest on deleted events.
    pub snapshots: u64,
    /// The snapshots that may hold what is redacted, by the kind of the aggregate and the version,
    /// unless they are deleted too.
    pub snapshots_with_it: Vec<(String, Version)>,
    /// All views: each may hold what is redacted, also one that was about to handle the event.
    /// Rebuild the projections that handle such events.
    pub views_with_it: Vec<String>,
}

/// A deletion as it is recorded: see [`Store::deletions`](crate::Store::deletions).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedDeletion {
    /// Its number: the version of its event in [`DELETIONS_STREAM`](crate::DELETIONS_STREAM).
    pub number: Version,
    /// The position of that event.
    pub position: Position,
    /// When it was decided.
    pub recorded_at: Timestamp,
    /// What was decided.
    pub deletion: Deletion,
}

/// The progress of a scavenge and, at its end, its result.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scavenged {
    /// How many streams were looked at.
    pub streams: u64,
    /// How many of them have lost events.
    pub truncated_streams: u64,
    /// How many events were deleted.
    pub events: u64,
    /// About how many bytes these events took, before compression.
    pub bytes: u64,
    /// How many packs of the log were rewritten or dropped.
    pub packs: u64,
    /// How many bytes of table files the store has less than before. Appends that came meanwhile
    /// make it smaller; it is 0 if the store has grown.
    pub freed_bytes: u64,
    /// Whether files with deleted events were left as they are, because there was no space to
    /// rewrite them. Free some space and scavenge again.
    pub is_incomplete: bool,
}
