//! The tails of the engine's logs after a power loss: what was not synced, and may be there in
//! part.
//!
//! RocksDB takes an entry at the very end that was cut off for one that was being written. But a
//! file system may also have written a later sector and not an earlier one, or a later file and not
//! an earlier one. The first RocksDB refuses to open, in a write-ahead log and in the manifest
//! alike; the second it opens with a hole. So annals looks itself where they end, and cuts off what
//! is after that, so that the log is a prefix of what was written (G10). Whether everything that
//! was durable is in that prefix is judged before anything is cut off, on a copy (G11).
//!
//! A torn manifest has lost nothing: what an entry of it makes superfluous is removed only once
//! that is synced.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use super::durable::sync_directory;
use super::engine_log::{self, Ending, Extent};
use super::{manifest, wal};
use crate::error::{Error, Location, Result};

/// Where one of the engine's logs is to be cut off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The file that is shortened, and to what.
    path: PathBuf,
    len: u64,
    /// Files that go: what they hold comes after it.
    behind: Vec<PathBuf>,
}

impl Cut {
    /// Looks whether the manifest of a database is torn. `None`: it is not, or there is none to be
    /// found.
    ///
    /// # Errors
    /// [`Error::Corruption`] if it ends in something that no power loss leaves behind.
    pub(crate) fn find_in_manifest(db: &Path) -> Result<Option<Self>> {
        let Some((path, _)) = manifest::find(db) else { return Ok(None) };
        let extent = manifest::read(&path).map_err(|error| failed("reading", &path, error))?;
        Ok(is_torn(&path, extent)?.then_some(Self { path, len: extent.len, behind: Vec::new() }))
    }

    /// Looks where the write-ahead log of a database ends, in the files from the number `oldest`
    /// on. `None`: with its last byte.
    ///
    /// # Errors
    /// [`Error::Corruption`] if it ends in something that no power loss leaves behind.
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
            // Of a later version of RocksDB: it knows itself what to do.
            if extent.ending == Ending::Unknown {
                return Ok(None);
            }
            // Of a file in which nothing was left no number is known, but that all others come
            // after it: RocksDB begins a new file only once there was something in the one before.
            next = number.or(Some(0));
        }
        Ok(None)
    }

    /// What has to be done before the store can be read.
    pub(crate) fn to_be_made(&self) -> Error {
        Error::TornLog { path: self.path.clone(), len: self.len }
    }

    /// Cuts off. If the power goes meanwhile, the same is found again.
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

/// Whether a file that ends so has lost its end in a power loss.
fn is_torn(path: &Path, Extent { len, ending }: Extent) -> Result<bool> {
    match ending {
        Ending::Whole | Ending::Unknown => Ok(false),
        Ending::Torn | Ending::Gap => Ok(true),
        Ending::Damaged => {
            let location = Location::byte_of_file(path, len);
            Err(Error::corruption(location, "something else", "an entry of RocksDB's log"))
        }
    }
}

/// Refuses what the engine would read forever, or skip: see [`engine_log`].
pub(super) fn check(db: &Path) -> Result<()> {
    // What cannot be listed, the engine cannot open.
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
    listed().map_err(|error| failed("looking for", db, error))
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::storage(format!("the engine's logs: {doing} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_file_whose_first_entry_is_not_whole_is_cut_off_too() {
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
