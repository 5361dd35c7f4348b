//! What a walk along the log knows.

use crate::model::{Position, Timestamp};

/// The state that the next frame of the log must continue.
pub(super) struct LogState {
    pub(super) next: Position,
    pub(super) recorded_at: Timestamp,
    pub(super) streams: u64,
    /// First position and length of the current commit, if it is not whole yet.
    pub(super) commit: Option<(Position, u32)>,
    /// Whether a hole is before the next frame, so that the beginning of its commit may be missing.
    pub(super) is_after_hole: bool,
}

/// A frame of the log once all decided deletions are carried out.
pub(super) enum AsDecided {
    Unchanged,
    /// What is left of it, and how many of its events are deleted.
    Changed {
        kept: Option<Vec<u8>>,
        deleted: u64,
    },
}
