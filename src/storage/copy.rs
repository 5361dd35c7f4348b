//! Copies a store: the copy is made next to its destination, and renamed to it when it is complete.
//!
//! ```text
//! COPY.partial/UNFINISHED   marks an unfinished copy; removed after the rename
//! COPY.partial/LOCK         held during the copy; then the lock file of the copy
//! COPY.partial/db           the database, copied by the engine or file by file
//! COPY.partial/watermark    the last position of the copy
//! COPY.partial/STORE        the identity of the original
//! COPY.partial/built        a store that is built instead of copied
//! ```
//!
//! An interrupted copy is either not a store, because it has no `STORE`, or a complete one. The
//! next copy to the same destination removes an unfinished copy. It never touches anything without
//! the marker.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::durable::{parent_of, sync_directory, write_synced};
use super::paths::Paths;
use super::watermark::WatermarkFile;
use crate::error::{Error, Result};
use crate::format::{Identity, Watermark};
use crate::model::InvalidArgument;

const MARKER: &str = "UNFINISHED";

/// An unfinished copy. If it is dropped before [`PartialCopy::finish`], it is removed.
pub(crate) struct PartialCopy {
    destination: PathBuf,
    paths: Paths,
    marker: PathBuf,
    /// Held until the copy is at its destination.
    lock: File,
    is_finished: bool,
}

/// The size of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CopySize {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Bytes in files that it shares with the original.
    pub(crate) shared_bytes: u64,
}

impl PartialCopy {
    /// Checks the destination, and begins a copy of `original` next to it. Without an original, a
    /// new store can be built there.
    ///
    /// # Errors
    /// [`Error::CopyRefused`], [`Error::InvalidArgument`]: nothing was changed.
    pub(crate) fn begin(original: Option<&Paths>, destination: &Path) -> Result<Self> {
        if destination.as_os_str().is_empty() {
            return Err(InvalidArgument::Empty { what: "path of the new store" }.into());
        }
        check(original, destination)?;
        let root = partial(destination)?;
        let paths = Paths::new(&root);
        let marker = root.join(MARKER);
        let lock = match claim(destination, &paths, &marker)? {
            Some(lock) if is_at(&lock, &paths.lock) => lock,
            _ => return Err(refused(destination, UNDER_WAY)),
        };
        let copy =
            Self { destination: destination.to_owned(), paths, marker, lock, is_finished: false };
        // Checked again: only the lock rules out concurrent changes.
        check(original, destination)?;
        copy.clear()?;
        Ok(copy)
    }

    /// The paths of its parts. `db` does not exist yet.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The directory of a store that is built instead of copied; it does not exist yet.
    pub(crate) fn built(&self) -> PathBuf {
        self.paths.root.join("built")
    }

    /// Renames the store that was built to its destination. It must be closed.
    pub(crate) fn finish_built(self) -> Result<()> {
        let (from, to) = (self.built(), &self.destination);
        sync_directory(&from)
            .map_err(|error| Error::storage(format!("syncing {}", from.display()), error))?;
        if fs::symlink_metadata(to).is_ok() {
            return Err(refused(to, ALREADY_THERE));
        }
        fs::rename(&from, to)
            .and_then(|()| sync_directory(parent_of(to)))
            .map_err(|error| Error::storage(format!("renaming {}", from.display()), error))
    }

    /// Writes the identity and the watermark, makes all names durable, and renames the copy to its
    /// destination.
    pub(crate) fn finish(mut self, identity: &Identity, watermark: Watermark) -> Result<CopySize> {
        let root = &self.paths.root;
        let failed = |doing: &'static str| {
            let doing = format!("{doing} {}", root.display());
            move |error| Error::storage(doing, error)
        };
        WatermarkFile::create(&self.paths.watermark, watermark)?;
        write_synced(&self.paths.store, &identity.encode()).map_err(failed("writing STORE in"))?;
        sync_directory(root).map_err(failed("syncing"))?;
        let size = size_of(root).map_err(failed("measuring"))?;
        if fs::symlink_metadata(&self.destination).is_ok() {
            return Err(refused(&self.destination, ALREADY_THERE));
        }
        fs::rename(root, &self.destination).map_err(failed("renaming"))?;
        self.is_finished = true;
        sync_directory(parent_of(&self.destination)).map_err(failed("syncing the parent of"))?;
        // The marker is removed last, because it marks the unfinished copy until the rename is
        // durable. Next to a STORE it has no meaning, so a failed removal does no harm.
        let _ = fs::remove_file(self.destination.join(MARKER));
        Ok(size)
    }

    /// Removes everything but the marker and the lock.
    fn clear(&self) -> Result<()> {
        let Paths { store, watermark, log, db, .. } = &self.paths;
        let removed = [store, watermark].map(fs::remove_file);
        let (engines_own, built) = (engines_own(&self.paths), self.built());
        let more = [log, db, &engines_own, &built].map(fs::remove_dir_all);
        for removed in removed.into_iter().chain(more) {
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    let doing = format!("clearing {}", self.paths.root.display());
                    return Err(Error::storage(doing, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Copies a database to a directory that does not exist yet, and syncs the copy. The database must
/// not be open for writing. Table files never change after they are written, so they are
/// hard-linked if the file system supports it.
pub(crate) fn copy_database(from: &Path, to: &Path) -> Result<()> {
    let failed = |path: &Path| {
        let doing = format!("copying {}", path.display());
        move |error| Error::storage(doing, error)
    };
    fs::create_dir(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let is_file = entry.file_type().map_err(failed(&from))?.is_file();
        // The engine creates its own lock file when it opens the copy.
        if !is_file || entry.file_name() == "LOCK" {
            continue;
        }
        let is_table = from.extension().is_some_and(|extension| extension == "sst");
        if is_table && fs::hard_link(&from, &to).is_ok() {
            continue;
        }
        fs::copy(&from, &to).map_err(failed(&from))?;
        File::open(&to).and_then(|file| file.sync_all()).map_err(failed(&to))?;
    }
    sync_directory(to).map_err(failed(to))
}

impl Drop for PartialCopy {
    fn drop(&mut self) {
        if !self.is_finished {
            // The marker is removed last: it identifies the remaining files. The next copy to this
            // destination removes what cannot be removed here.
            let removed = File::create(&self.marker).is_ok() && self.clear().is_ok();
            let removed = removed && fs::remove_file(&self.paths.lock).is_ok();
            let removed = removed && fs::remove_file(&self.marker).is_ok();
            let _ = removed && fs::remove_dir(&self.paths.root).is_ok();
        }
        // As for a store, closing the file may not be enough.
        let _ = self.lock.unlock();
    }
}

const ALREADY_THERE: &str = "something is already there; name a directory that does not exist";
const UNDER_WAY: &str = "another copy to it is under way";

fn refused(destination: &Path, reason: impl Into<String>) -> Error {
    Error::CopyRefused { path: destination.to_owned(), reason: reason.into() }
}

/// Checks that a copy may be created at the destination.
fn check(original: Option<&Paths>, destination: &Path) -> Result<()> {
    if fs::symlink_metadata(destination).is_ok() {
        return Err(refused(destination, ALREADY_THERE));
    }
    // A missing parent is not created: a disk that is not mounted would look like an empty one.
    let parent = parent_of(destination);
    let above = match fs::canonicalize(parent) {
        Ok(above) if above.is_dir() => above,
        Ok(_) => return Err(refused(destination, "the path above it is a file")),
        Err(error) => {
            let reason = format!("the directory above it cannot be opened: {error}");
            return Err(refused(destination, reason));
        }
    };
    let Some(original) = original else { return Ok(()) };
    let store = fs::canonicalize(&original.root)
        .map_err(|error| Error::storage(format!("resolving {}", original.root.display()), error))?;
    if above.starts_with(store) {
        return Err(refused(destination, "it is within the store itself"));
    }
    Ok(())
}

/// Creates the directory of the copy if it is missing, and takes its lock. Returns `None` if
/// another copy holds the lock.
fn claim(destination: &Path, paths: &Paths, marker: &Path) -> Result<Option<File>> {
    let root = &paths.root;
    let failed = |error| Error::storage(format!("creating {}", root.display()), error);
    let is_left_over = is_left_over(destination, paths, marker)?;
    if !is_left_over {
        match fs::create_dir(root) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    // The marker is written first: it allows the next copy to remove the directory.
    let mark = || File::create(marker).and_then(|_| sync_directory(root));
    let marked = if is_left_over { Ok(()) } else { mark() };
    let open = || File::options().write(true).create(true).truncate(false).open(&paths.lock);
    let lock = marked.and_then(|()| open()).map_err(|error| {
        // A directory that is not empty is kept.
        let _ = fs::remove_file(marker).and_then(|()| fs::remove_dir(root));
        match error.kind() {
            // Another copy finished and renamed the directory in the meantime.
            ErrorKind::NotFound => refused(destination, UNDER_WAY),
            _ => failed(error),
        }
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether an unfinished copy exists. Anything else in its place, except an empty directory, is an
/// error.
fn is_left_over(destination: &Path, paths: &Paths, marker: &Path) -> Result<bool> {
    let root = &paths.root;
    let entries = match fs::symlink_metadata(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Ok(about) if about.is_dir() => fs::read_dir(root),
        Ok(_) => Err(ErrorKind::NotADirectory.into()),
        Err(error) => Err(error),
    };
    let mut entries =
        entries.map_err(|error| refused(destination, in_the_way(root, &error.to_string())))?;
    let is_left_over = fs::symlink_metadata(marker).is_ok();
    if entries.next().is_some() && !is_left_over {
        let reason = in_the_way(root, "it is not an unfinished copy");
        return Err(refused(destination, reason));
    }
    Ok(is_left_over)
}

fn in_the_way(root: &Path, why: &str) -> String {
    format!("{} is in the way: {why}; move it away", root.display())
}

/// The directory next to the destination in which the copy is made.
fn partial(destination: &Path) -> Result<PathBuf> {
    let name = destination.file_name();
    let mut name = OsString::from(name.ok_or_else(|| refused(destination, "it has no name"))?);
    name.push(".partial");
    Ok(parent_of(destination).join(name))
}

/// The temporary directory in which the engine copies the database.
fn engines_own(paths: &Paths) -> PathBuf {
    paths.db.with_extension("tmp")
}

fn size_of(directory: &Path) -> std::io::Result<CopySize> {
    let mut size = CopySize::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            let below = size_of(&entry.path())?;
            size.files += below.files;
            size.bytes += below.bytes;
            size.shared_bytes += below.shared_bytes;
        } else if entry.file_name() != MARKER {
            size.files += 1;
            size.bytes += about.len();
            size.shared_bytes += if is_shared(&about) { about.len() } else { 0 };
        }
    }
    Ok(size)
}

/// Whether an open file is still at this path, so was neither renamed nor removed.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (held, found) = (file.metadata(), fs::metadata(path));
    held.is_ok_and(|held| {
        found.is_ok_and(|found| (held.dev(), held.ino()) == (found.dev(), found.ino()))
    })
}

/// On other systems an open file cannot be renamed or removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(unix)]
fn is_shared(about: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(about) > 1
}

/// Only Unix reports the number of links.
#[cfg(not(unix))]
fn is_shared(_: &fs::Metadata) -> bool {
    false
}
