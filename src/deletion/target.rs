//! [`Target`]: the store from which is deleted.

use crate::commit::{Committer, IndexKinds};
use crate::error::Result;
use crate::head::Head;
use crate::model::{StreamId, Version};
use crate::read::index::IndexedFrom;
use crate::read::log::OpenPack;
use crate::read::lookup::last_event;
use crate::storage::{Claim, Disk, Storage};
use crate::sync::Mutex;

/// The store from which is deleted.
#[derive(Clone, Copy)]
pub(crate) struct Target<'e> {
    pub(crate) storage: &'e Storage,
    pub(crate) open: &'e OpenPack,
    pub(crate) head: &'e Head,
    pub(crate) committer: &'e Committer,
    pub(crate) claim: &'e Mutex<Option<Claim>>,
    pub(crate) index_kinds: IndexKinds,
    pub(crate) indexed_from: &'e IndexedFrom,
    pub(crate) disk_reserve_bytes: u64,
}

impl<'e> Target<'e> {
    /// What a plan reads.
    pub(super) fn seen(self) -> Seen<'e> {
        Seen { storage: self.storage, open: self.open, head: self.head }
    }
}

/// What a plan or a preview reads of a store.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'e> {
    pub(crate) storage: &'e Storage,
    pub(crate) open: &'e OpenPack,
    pub(crate) head: &'e Head,
}

/// The number of the next deletion.
pub(super) fn next_number(disk: &Disk) -> Result<Version> {
    Ok(Version::after(last_version(disk, &StreamId::deletions())?))
}

/// The last version of a stream, whether deleted or not.
pub(super) fn last_version(disk: &Disk, stream: &StreamId) -> Result<Option<Version>> {
    Ok(last_event(disk, stream)?.map(|last| last.version))
}
