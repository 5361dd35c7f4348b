//! The tail of the write-ahead log after a power loss: what was not synced, and may be there in part.
//!
//! RocksDB takes a batch at the very end that was cut off for one that was being written. But a file system may also
//! have written a later sector and not an earlier one, or a later file and not an earlier one. The first RocksDB
//! refuses to open, the second it opens with a hole. So annals looks itself where the log ends, by the batches and
//! their numbers, and cuts off what lies behind that, so that the log is a prefix of what was written (G10). Whether
//! everything that was durable is in that prefix is judged before anything is cut off, on a copy (G11).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::directory::sync_directory;
use super::wal::{self, Ending};
use crate::error::{Error, Result};

/// Where the log is to be cut off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Files that stay as they are.
    whole: Vec<PathBuf>,
    /// The file that is shortened, and to what.
    last: PathBuf,
    len: u64,
    /// Files that go.
    behind: Vec<PathBuf>,
}

impl Cut {
    /// Looks where the log of a database ends, in the files from the number `oldest` on. `None`: with its last byte.
    ///
    /// # Errors
    /// [`Error::Corruption`] if it ends in something that no power loss leaves behind.
    pub(crate) fn find(db: &Path, oldest: u64) -> Result<Option<Self>> {
        let mut files = files(db).map_err(|error| failed("looking for", db, error))?;
        files.retain(|(number, _)| *number >= oldest);
        let mut next = None;
        for (index, (_, path)) in files.iter().enumerate() {
            let read = File::open(path).and_then(|file| wal::read(file, next));
            let reading = read.map_err(|error| failed("reading", path, error))?;
            match reading.ending {
                Ending::Whole => next = reading.next,
                // Of a later version of RocksDB: it knows itself what to do.
                Ending::Unknown => return Ok(None),
                Ending::Damaged => {
                    let place = format!("{} behind byte {}", path.display(), reading.len);
                    return Err(Error::corruption(place, "something else", "a batch of changes"));
                }
                Ending::Torn | Ending::Gap => {
                    let path_of = |(_, path): &(u64, PathBuf)| path.clone();
                    let (whole, behind) = files.split_at(index);
                    return Ok(Some(Self {
                        whole: whole.iter().map(path_of).collect(),
                        last: path.clone(),
                        len: reading.len,
                        behind: behind.iter().skip(1).map(path_of).collect(),
                    }));
                }
            }
        }
        Ok(None)
    }

    /// What has to be done before the store can be read.
    pub(crate) fn to_be_made(&self) -> Error {
        Error::TornLog { path: self.last.clone(), len: self.len }
    }

    /// Runs `judge` while a copy of what stays lies in `directory`.
    pub(crate) fn with_copy<T>(
        &self,
        directory: &Path,
        judge: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        // One that was left behind.
        remove(directory)?;
        let judged = self.copy(directory).and_then(|()| judge());
        let removed = remove(directory);
        judged.and_then(|judged| removed.map(|()| judged))
    }

    fn copy(&self, directory: &Path) -> Result<()> {
        fs::create_dir(directory).map_err(|error| failed("copying to", directory, error))?;
        let lens = self.whole.iter().map(|path| (path, u64::MAX)).chain([(&self.last, self.len)]);
        for (path, len) in lens {
            let Some(name) = path.file_name() else { continue };
            let copied = File::open(path).and_then(|file| {
                std::io::copy(&mut file.take(len), &mut File::create(directory.join(name))?)
            });
            copied.map_err(|error| failed("copying", path, error))?;
        }
        Ok(())
    }

    /// Cuts off. If the power goes meanwhile, the same is found again.
    pub(crate) fn apply(&self, db: &Path) -> Result<()> {
        for path in &self.behind {
            fs::remove_file(path).map_err(|error| failed("removing", path, error))?;
        }
        let shortened = OpenOptions::new().write(true).open(&self.last).and_then(|file| {
            file.set_len(self.len)?;
            file.sync_all()
        });
        shortened.map_err(|error| failed("shortening", &self.last, error))?;
        sync_directory(db).map_err(|error| failed("syncing", db, error))
    }
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(failed("removing", directory, error))
        }
        _ => Ok(()),
    }
}

/// The write-ahead log files with their numbers, in order.
fn files(db: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(db)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|end| end == "log")) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::storage(format!("the write-ahead log: {doing} {}", path.display()), error)
}
