//! [`Derived`]: the snapshots and views of a [`MemoryStore`](crate::MemoryStore).

use std::collections::BTreeMap;

use crate::model::{StreamId, Version};
use crate::snapshot_store::Snapshot;
use crate::view_store::Checkpoint;

/// Snapshots by kind and stream, then by version; views by name.
#[derive(Default)]
pub(super) struct Derived {
    pub(super) snapshots: BTreeMap<(String, StreamId), BTreeMap<Version, Snapshot>>,
    pub(super) views: BTreeMap<String, View>,
}

#[derive(Default)]
pub(super) struct View {
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) values: BTreeMap<Vec<u8>, Vec<u8>>,
}
