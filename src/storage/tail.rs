//! The tails of the engine's logs after a power loss, which may hold only parts of the unsynced
//! data.
//!
//! RocksDB treats a truncated entry at the end of a log as an unfinished write. But a file system
//! may also have written a later sector without an earlier one, or a later file without an earlier
//! one. If a sector of a write-ahead log or of the manifest is missing, RocksDB refuses to open the
//! database. If a file is missing, RocksDB opens the database with a gap in the history. So annals
//! finds the end of the logs itself and cuts off everything after it, which leaves a prefix of what
//! was written (G10). Before it cuts anything off, it checks on a copy that the prefix contains
//! everything that was durable (G11).
//!
//! A torn manifest has lost nothing: RocksDB removes files that an entry makes obsolete only after
//! that entry is synced.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use super::durable::sync_directory;
use super::engine_log::{self, Ending, Extent};
use super::{manifest, wal};
use crate::error::{Error, Location, Result};

/// Where to cut off one of the engine's logs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The file to truncate; `len` is its new length.
    path: PathBuf,
    len: u64,
    /// Later files, which are removed.
    behind: Vec<PathBuf>,
}

impl Cut {
    /// Finds where to cut off a torn manifest. Returns `None` if the manifest is not torn or cannot
    /// be found.
    ///
    /// # Errors
    /// [`Error::Corruption`] if it ends in damage that no power loss causes.
    pub(crate) fn find_in_manifest(db: &Path) -> Result<Option<Self>> {
        let Some((path, _)) = manifest::find(db) else { return Ok(None) };
        let extent = manifest::read(&path).map_err(|error| failed("reading", &path, error))?;
        Ok(is_torn(&path, extent)?.then_some(Self { path, len: extent.len, behind: Vec::new() }))
    }

    /// Finds where to cut off a torn write-ahead log, in the files from number `oldest` on. Returns
    /// `None` if the log is not torn.
    ///
    /// # Errors
    /// [`Error::Corruption`] if it ends in damage that no power loss causes.
    pub(crate) fn find_in_log(db: &Path, oldest: u64) -> Result<Option<Self>> {
        let mut files = log_files(db)?;
        files.retain(|(number, _)| *number >= oldest);
        let mut next = None;
        let mut files = files.into_iter().map(|(_, path)| path);
        while let Some(path) = files.next() {
            let read = File::open(&path).and_then(|file| wal::read(file, next));
            let (extent, number) = read.map_err(|error| failed("reading", &path, error))?;
            if is_torn(&path, extent)? {
                return Ok(Some(Self { path, len: extent.len, behind: files.collect() }));
            }
            // A later version of RocksDB wrote the log, and handles it itself.
            if extent.ending == Ending::Unknown {
                return Ok(None);
            }
            // If nothing is left in a file, its numbers are unknown, but every later file is past
            // the end: RocksDB begins a new file only after the previous one has content.
            next = number.or(Some(0));
        }
        Ok(None)
    }

    /// The error for a reader: the log must be cut off before the store can be read.
    pub(crate) fn to_be_made(&self) -> Error {
        Error::TornLog { path: self.path.clone(), len: self.len }
    }

    /// Cuts off the log. After a power loss in between, the next open finds the same cut again.
    pub(crate) fn apply(&self, db: &Path) -> Result<()> {
        for path in &self.behind {
            fs::remove_file(path).map_err(|error| failed("removing", path, error))?;
        }
        let shortened = OpenOptions::new().write(true).open(&self.path).and_then(|file| {
            file.set_len(self.len)?;
            file.sync_all()
        });
        shortened.map_err(|error| failed("shortening", &self.path, error))?;
        sync_directory(db).map_err(|error| failed("syncing", db, error))
    }
}

/// Whether a file lost its end in a power loss.
fn is_torn(path: &Path, Extent { len, ending }: Extent) -> Result<bool> {
    match ending {
        Ending::Whole | Ending::Unknown => Ok(false),
        Ending::Torn | Ending::Gap => Ok(true),
        Ending::Damaged => {
            let location = Location::byte_of_file(path, len);
            Err(Error::corruption(location, "invalid bytes", "an entry of RocksDB's log"))
        }
    }
}

/// Rejects logs that would make the engine loop forever or skip entries: see [`engine_log`].
pub(super) fn check(db: &Path) -> Result<()> {
    // If the directory cannot be listed, the engine cannot open it and reports the error.
    let logs = log_files(db).unwrap_or_default().into_iter().map(|(_, path)| path);
    for path in manifest::find(db).map(|(path, _)| path).into_iter().chain(logs) {
        let found = File::open(&path).and_then(engine_log::find_recycled);
        if let Some(at) = found.map_err(|error| failed("reading", &path, error))? {
            let location = Location::byte_of_file(path, at);
            let found = "a record of a recycled log";
            return Err(Error::corruption(location, found, "one of a new log"));
        }
    }
    Ok(())
}

/// The write-ahead log files with their numbers, in order.
fn log_files(db: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let listed = || {
        let mut files = Vec::new();
        for entry in fs::read_dir(db)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            files.extend(number.filter(|_| is_log).map(|number| (number, path)));
        }
        files.sort_unstable();
        Ok(files)
    };
    listed().map_err(|error| failed("listing", db, error))
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::storage(format!("the engine's logs: {doing} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_after_an_incomplete_first_entry_are_cut_off() {
        let db = tempfile::tempdir().unwrap();
        let [first, second] = ["000007.log", "000009.log"].map(|name| db.path().join(name));
        let batch = |number: u8| {
            let head = [number, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
            engine_log::tests::file([[&head[..], &[7; 100]].concat().as_slice()])
        };
        fs::write(&second, batch(2)).unwrap();
        for len in [0, 1, 50] {
            fs::write(&first, &batch(1)[..len]).unwrap();
            let found = Cut::find_in_log(db.path(), 1).unwrap();
            let expected = Cut { path: second.clone(), len: 0, behind: vec![] };
            assert_eq!(found, Some(expected), "{len} bytes of the first");
        }
        fs::write(&first, batch(1)).unwrap();
        assert_eq!(Cut::find_in_log(db.path(), 1).unwrap(), None);
    }
}
