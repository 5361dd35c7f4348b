//! Backup and restore: a copy of the store that is a store, taken while it is written.
//!
//! The engine's checkpoint gives the files of one moment: table files, which never change, shared
//! with the original where both lie on one file system, and copies of the rest. What is
//! acknowledged is in the write-ahead log, whatever its durability, so it is in the copy. The copy
//! is then opened for reading and judged as a store is when it is opened: it must hold what the
//! store had published before, and its watermark is what it holds.

use std::path::Path;

use crate::error::Result;
use crate::format::Identity;
use crate::head::Head;
use crate::model::Position;
use crate::recovery;
use crate::storage::{PartialCopy, Paths, Storage, copy_database};

/// The copy that [`Store::backup`](crate::Store::backup) or
/// [`Store::restore_to`](crate::Store::restore_to) made.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyReport {
    /// The last position in the copy: it holds the log up to there.
    pub head: Option<Position>,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many of these bytes are in files that the copy shares with the store, for both are on
    /// one file system: a medium that damages one damages both. 0 where that cannot be told.
    pub shared_bytes: u64,
}

/// What the copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be kept: it is marked, so that it begins a new epoch when it is opened for writing.
    Backup,
    /// To go on with: it is in a new epoch.
    Restore,
}

/// What is to be copied.
pub(crate) struct Source<'s> {
    pub(crate) storage: &'s Storage,
    pub(crate) head: &'s Head,
    pub(crate) paths: &'s Paths,
    pub(crate) identity: &'s Identity,
    /// Whether it is open for writing.
    pub(crate) is_writing: bool,
}

pub(crate) fn copy_store(
    source: &Source<'_>,
    destination: &Path,
    purpose: Purpose,
) -> Result<CopyReport> {
    let Source { storage, paths, identity, .. } = *source;
    let published = source.head.get()?;
    let copy = PartialCopy::begin(paths, destination)?;
    storage.with(|disk| {
        if source.is_writing {
            disk.checkpoint(&copy.paths().db)
        } else {
            // A checkpoint of a database that is open for reading leaves out its write-ahead logs.
            copy_database(&paths.db, &copy.paths().db)
        }
    })?;
    let watermark = recovery::inspect(copy.paths(), identity, published)?;
    let identity = match purpose {
        Purpose::Backup => Identity { is_backup: true, ..identity.clone() },
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
