//! Backup and restore copy a store, while it may be in use, to a complete store.
//!
//! A RocksDB checkpoint gives a consistent set of files: table files, which never change and are
//! shared with the original if both are on one file system, and copies of the rest. All
//! acknowledged events are in the write-ahead log, regardless of durability, so they are in the
//! copy. The copy is then opened for reading with the checks of every open: it must contain
//! everything that the store had published before, and its watermark is set to its last event.

use std::path::Path;

use crate::error::Result;
use crate::format::Identity;
use crate::head::Head;
use crate::model::Position;
use crate::recovery;
use crate::storage::{PartialCopy, Paths, Storage, copy_database};

/// Describes the copy made by [`Store::backup`](crate::Store::backup) or
/// [`Store::restore_to`](crate::Store::restore_to).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyReport {
    /// The last position in the copy.
    pub head: Option<Position>,
    /// The number of files.
    pub files: u64,
    /// The total size of the files.
    pub bytes: u64,
    /// How many of these bytes are in files that the copy shares with the store because both are on
    /// one file system. Damage to the medium affects both. 0 if sharing cannot be detected.
    pub shared_bytes: u64,
}

/// The purpose of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A backup: it is marked, so that opening it for writing begins a new epoch.
    Backup,
    /// A store to continue with: it begins a new epoch.
    Restore,
}

/// The store to copy.
pub(crate) struct Source<'s> {
    pub(crate) storage: &'s Storage,
    pub(crate) head: &'s Head,
    pub(crate) paths: &'s Paths,
    /// Its identity at the moment of the call.
    pub(crate) identity: &'s dyn Fn() -> Result<Identity>,
    /// Whether it is open for writing.
    pub(crate) is_writing: bool,
}

pub(crate) fn copy_store(
    source: &Source<'_>,
    destination: &Path,
    purpose: Purpose,
) -> Result<CopyReport> {
    let Source { storage, paths, .. } = *source;
    let published = source.head.get()?;
    let copy = PartialCopy::begin(Some(paths), destination)?;
    storage.with(|disk| {
        if source.is_writing {
            disk.checkpoint(&copy.paths().db)
        } else {
            // A checkpoint of a database that is open for reading leaves out its write-ahead logs.
            copy_database(&paths.db, &copy.paths().db)
        }
    })?;
    // After the database was copied: it may need a feature that was added meanwhile.
    let identity = (source.identity)()?;
    let watermark = recovery::inspect(copy.paths(), &identity, published)?;
    let identity = match purpose {
        Purpose::Backup => Identity { is_backup: true, ..identity },
        Purpose::Restore => identity.in_new_epoch(watermark.durable),
    };
    let size = copy.finish(&identity, watermark)?;
    Ok(CopyReport {
        head: watermark.durable,
        files: size.files,
        bytes: size.bytes,
        shared_bytes: size.shared_bytes,
    })
}
