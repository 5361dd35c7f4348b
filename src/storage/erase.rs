//! Physical erasure: makes deleted rows disappear from the files of the database.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rocksdb::{BottommostLevelCompaction, CompactOptions, LiveFile};

use super::disk::Disk;
use super::engine_error::engine_error;
use super::family::Family;
use super::free_space;
use crate::error::{Error, Result};
use crate::options::Durability;

/// How often files are compacted. A compaction in the background may move a file to another level
/// meanwhile, so that it is missed.
const COMPACTIONS_MAX: usize = 5;
/// How long to wait until the engine has removed files that it no longer needs.
const REMOVAL_MAX: Duration = Duration::from_secs(10);
/// How long to wait before looking at the files again.
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

impl Disk {
    /// Drops the table files that hold only rows from the first key of a range up to `last`, which is
    /// within it. All rows of the range must be deleted already. Needs no space.
    ///
    /// A file may hold the deletion of rows that another file, which stays, still has. So the range
    /// is deleted again: before, in the memtable, which is not dropped, and after.
    pub(crate) fn drop_files(&self, family: Family, keys: Range<&[u8]>, last: &[u8]) -> Result<()> {
        self.delete_again(family, &keys)?;
        self.db
            .delete_file_in_range_cf(self.handle(family), keys.start, last)
            .map_err(|error| engine_error("dropping table files", &error))?;
        self.delete_again(family, &keys)
    }

    fn delete_again(&self, family: Family, keys: &Range<&[u8]>) -> Result<()> {
        let mut batch = self.batch();
        batch.delete_range(family, keys.clone());
        self.write(batch, Durability::Sync)
    }

    /// Rewrites the table files with rows from the first key up to the last one, without what was
    /// deleted.
    ///
    /// # Errors
    /// [`Error::DiskFull`]: there is no room to rewrite them. [`Error::Storage`]: some files are
    /// as they were.
    pub(crate) fn compact(
        &self,
        family: Family,
        (first, last): (&[u8], &[u8]),
        reserve: u64,
    ) -> Result<()> {
        let old = self.files_between(family, first, last)?;
        let len: usize = old.iter().map(|file| file.size).sum();
        let free = free_space::free_bytes(self.db.path());
        // Its output is at most as long as its input.
        if free < u64::try_from(len).unwrap_or(u64::MAX).saturating_add(reserve / 2) {
            return Err(Error::DiskFull { path: self.db.path().to_owned(), free, reserve });
        }
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        options.set_exclusive_manual_compaction(false);
        let old: BTreeSet<_> = old.into_iter().map(|file| file.name).collect();
        let (mut from, mut to) = (first.to_vec(), last.to_vec());
        for tries in 1.. {
            let range = (Some(from.as_slice()), Some(to.as_slice()));
            self.db.compact_range_cf_opt(self.handle(family), range.0, range.1, &options);
            // The engine does not report whether it succeeded.
            let mut left = self.files_between(family, first, last)?;
            left.retain(|file| old.contains(&file.name));
            let Some(file) = left.first() else { break };
            if tries >= COMPACTIONS_MAX {
                let doing = format!("rewriting the table file {}", file.name);
                return Err(Error::storage(doing, std::io::Error::other("it was not rewritten")));
            }
            // The next compaction covers only the files that are left.
            from = left.iter().filter_map(|file| file.start_key.clone()).min().unwrap_or(from);
            to = left.iter().filter_map(|file| file.end_key.clone()).max().unwrap_or(to);
        }
        Ok(())
    }

    fn files_between(&self, family: Family, first: &[u8], last: &[u8]) -> Result<Vec<LiveFile>> {
        let files = self
            .db
            .live_files()
            .map_err(|error| engine_error("asking for the table files", &error))?;
        let overlaps = |file: &LiveFile| {
            file.column_family_name == family.name()
                && file.start_key.as_deref().is_none_or(|start| start <= last)
                && file.end_key.as_deref().is_none_or(|end| end >= first)
        };
        Ok(files.into_iter().filter(overlaps).collect())
    }

    /// Waits until the directory holds no table file and no write-ahead log that is not needed.
    ///
    /// # Errors
    /// [`Error::Storage`]: after ten seconds there still is one.
    pub(crate) fn wait_for_removals(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let Some(name) = self.unneeded_file()? else { return Ok(()) };
            if began.elapsed() > REMOVAL_MAX {
                let doing = format!("removing {name}");
                return Err(Error::storage(doing, std::io::Error::other("it is still there")));
            }
            thread::sleep(REMOVAL_PAUSE);
        }
    }

    /// A table file or write-ahead log that is there but no longer needed.
    fn unneeded_file(&self) -> Result<Option<String>> {
        let oldest = self.db.property_int_value(rocksdb::properties::MIN_LOG_NUMBER_TO_KEEP);
        let oldest = oldest.map_err(|error| engine_error("asking for the oldest log", &error))?;
        let (oldest, live) = (oldest.unwrap_or_default(), self.live_names()?);
        let failed = |error| Error::storage("listing the database's files", error);
        // A new file may be written meanwhile, so a file that seems unneeded is looked up again.
        for entry in fs::read_dir(self.db.path()).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let path = Path::new(&name);
            let number = path.file_stem().and_then(OsStr::to_str);
            let number = number.and_then(|stem| stem.parse::<u64>().ok());
            let is_unneeded = match (path.extension().and_then(OsStr::to_str), number) {
                (Some("sst"), Some(number)) => {
                    !live.contains(&number) && !self.live_names()?.contains(&number)
                }
                (Some("log"), Some(number)) => number < oldest,
                _ => false,
            };
            if is_unneeded && self.db.path().join(path).exists() {
                return Ok(Some(path.display().to_string()));
            }
        }
        Ok(None)
    }

    /// The numbers of the table files that are in use.
    fn live_names(&self) -> Result<BTreeSet<u64>> {
        let files = self
            .db
            .live_files()
            .map_err(|error| engine_error("asking for the table files", &error))?;
        let number = |file: &LiveFile| {
            file.name.trim_start_matches('/').split('.').next()?.parse::<u64>().ok()
        };
        Ok(files.iter().filter_map(number).collect())
    }
}
