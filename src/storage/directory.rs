//! The directory of a store: its files, its lock, and its creation.
//!
//! ```text
//! STORE       marks a store; holds its format and identity (written last)
//! LOCK        held while the store is open: exclusively by a writer, shared by readers
//! watermark   the last position known to be durable
//! log/        RocksDB's own log files
//! db/         RocksDB
//! probe/      a copy of db/ without its torn end, while that copy is checked
//! ```
//!
//! Everything is checked before RocksDB touches anything, because RocksDB changes a directory that
//! it then rejects, and destroys a database whose CURRENT is missing.
//!
//! Creation: `STORE.new` is written and synced; the database is built in `db.new`, synced, and
//! renamed to `db`; the watermark is written; `STORE.new` is renamed to `STORE`. A directory with
//! `STORE.new` and without `STORE` is an interrupted creation. It has never held an event, and
//! opening it for writing finishes or restarts the creation.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::durable::{create_directory, parent_of, sync_directory, write_synced};
use super::paths::Paths;
use super::watermark::WatermarkFile;
use crate::error::{Cause, Error, Location, Result};
use crate::format::{FeatureClass, Identity, Malformed, STORE_FILE_LEN_MAX, Watermark};
use crate::model::{InvalidArgument, Position};
use crate::store_options::StoreOptions;

/// The access to the directory that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Write, and create a store if the directory is missing or empty.
    Create,
}

/// A store's directory with its lock held. While it exists, no other caller or process can open the
/// store for writing.
pub(crate) struct Claim {
    pub(crate) paths: Paths,
    pub(crate) identity: Identity,
    lock: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just starting holds a
        // copy of it for a moment. If unlocking fails, closing the file still releases the lock.
        let _ = self.lock.unlock();
    }
}

enum Found {
    Store(Identity),
    Nothing,
    /// An interrupted creation; the identity is `None` if it was not completely written.
    Unfinished(Option<Identity>),
}

impl Claim {
    /// Checks the directory, takes the lock, and creates the store if `access` allows it.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::AlreadyOpen`], [`Error::NotWritable`],
    /// [`Error::UnsupportedFormat`], [`Error::MissingFeatures`], [`Error::Corruption`]: the
    /// directory is unchanged.
    pub(crate) fn take(
        root: &Path,
        access: Access,
        options: &StoreOptions,
        new: Identity,
    ) -> Result<Self> {
        if root.as_os_str().is_empty() {
            return Err(InvalidArgument::Empty { what: "path of the store" }.into());
        }
        let paths = Paths::new(root);
        match inspect(&paths, access)? {
            Found::Store(_) => {}
            Found::Nothing | Found::Unfinished(_) if access == Access::Create => {
                create_directory(root).map_err(|error| not_writable(root, error))?;
            }
            Found::Nothing => {
                let reason = if root.exists() { "it is empty" } else { "it does not exist" };
                return Err(Error::not_a_store(root, reason));
            }
            Found::Unfinished(_) => {
                let reason = "its creation was interrupted; open it for writing once to finish it";
                return Err(Error::not_a_store(root, reason));
            }
        }
        let found = settled(root);
        let found = found
            .map_err(|error| Error::storage(format!("resolving {}", root.display()), error))?;
        let paths = Paths::new(&found);
        let lock = take_lock(&paths, access)?;
        // Checked again: only the lock rules out concurrent changes.
        let identity = match inspect(&paths, access)? {
            Found::Store(identity) => identity,
            Found::Nothing => create(&paths, options, new)?,
            Found::Unfinished(identity) => create(&paths, options, identity.unwrap_or(new))?,
        };
        Ok(Self { paths, identity, lock })
    }

    /// Begins a new epoch after a position. This is atomic: after a crash the store is in either
    /// the old epoch or the new one.
    pub(crate) fn begin_epoch(&mut self, after: Option<Position>) -> Result<()> {
        self.replace(self.identity.in_new_epoch(after))
    }

    /// Adds the feature of a store that has an index, before the first entry is written.
    pub(crate) fn add_index(&mut self) -> Result<()> {
        if self.identity.features.has_index() {
            return Ok(());
        }
        self.replace(self.identity.with_index())
    }

    /// Adds the feature of a store from which events are deleted, before the first deletion.
    pub(crate) fn add_deletions(&mut self) -> Result<()> {
        if self.identity.features.has_deletions() {
            return Ok(());
        }
        self.replace(self.identity.with_deletions())
    }

    /// Replaces the file `STORE`.
    fn replace(&mut self, identity: Identity) -> Result<()> {
        let Paths { root, store, store_new, .. } = &self.paths;
        write_synced(store_new, &identity.encode())
            .and_then(|()| fs::rename(store_new, store))
            .and_then(|()| sync_directory(root))
            .map_err(|error| Error::storage(format!("writing {}", store.display()), error))?;
        self.identity = identity;
        Ok(())
    }
}

/// An absolute path that stays valid if the process changes its working directory or a symbolic
/// link on the path changes. The engine opens each file by name when it needs it.
fn settled(root: &Path) -> std::io::Result<PathBuf> {
    // On Windows, the engine cannot append to a canonical path.
    if cfg!(unix) { fs::canonicalize(root) } else { std::path::absolute(root) }
}

fn inspect(paths: &Paths, access: Access) -> Result<Found> {
    let root = &paths.root;
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Error::not_a_store(root, "it is a file, not a directory"));
        }
        Err(error) => return Err(Error::storage(format!("reading {}", root.display()), error)),
    };
    if let Some(bytes) = read_if_there(&paths.store)? {
        let identity = Identity::decode(&bytes)
            .ok_or_else(|| Error::not_a_store(root, "its file STORE is not from annals"))?
            .map_err(|malformed| unreadable(root, &paths.store, malformed))?;
        check_features(root, &identity, access)?;
        check_database(paths)?;
        return Ok(Found::Store(identity));
    }
    let mut foreign = None;
    for entry in entries {
        let entry =
            entry.map_err(|error| Error::storage(format!("reading {}", root.display()), error))?;
        let name = entry.file_name();
        let ours = ["STORE.new", "LOCK", "watermark", "log", "db", "db.new"];
        if !ours.iter().any(|our| name == *our) {
            foreign = Some(name);
        }
    }
    if let Some(name) = foreign {
        let name = name.to_string_lossy();
        let mut reason = format!("it holds {name:?} and no file STORE");
        if access == Access::Create {
            reason += "; a store is created only in an empty or missing directory";
        }
        return Err(Error::not_a_store(root, reason));
    }
    let unfinished = read_if_there(&paths.store_new)?;
    let begun = paths.db.exists() || paths.db_new.exists();
    match (unfinished.as_deref().and_then(Identity::decode), unfinished) {
        (Some(Ok(identity)), _) => {
            check_features(root, &identity, access)?;
            Ok(Found::Unfinished(Some(identity)))
        }
        // Another version of annals began this store.
        (Some(Err(malformed @ Malformed::Unsupported { .. })), _) => {
            Err(unreadable(root, &paths.store_new, malformed))
        }
        // No database exists yet, so writing STORE.new itself was interrupted.
        (_, Some(_)) if !begun => Ok(Found::Unfinished(None)),
        (_, None) if !begun && !paths.watermark.exists() && !paths.log.exists() => {
            Ok(Found::Nothing)
        }
        _ => Err(Error::corruption(
            Location::file(&paths.store),
            "no file, although a database exists",
            "the identity of the store",
        )),
    }
}

/// The error for a file `STORE` that does not decode. Its format is that of the whole store.
fn unreadable(root: &Path, file: &Path, malformed: Malformed) -> Error {
    match malformed {
        Malformed::Unsupported { what: Identity::STORE, found, supported } => {
            Error::UnsupportedFormat { what: root.display().to_string(), found, supported }
        }
        malformed => malformed.at(Location::file(file)),
    }
}

/// Rejects a store with features that this version does not have, but needs for this access.
fn check_features(root: &Path, identity: &Identity, access: Access) -> Result<()> {
    let missing = |needed_for| identity.features.missing(needed_for);
    let needed_for = match access {
        Access::Read => FeatureClass::Reading,
        Access::Write | Access::Create => FeatureClass::Writing,
    };
    let features = missing(needed_for);
    if features.is_empty() {
        return Ok(());
    }
    let is_readable = missing(FeatureClass::Reading).is_empty();
    Err(Error::MissingFeatures { path: root.to_owned(), features, is_readable })
}

/// Rejects a database without its CURRENT, because opening it would destroy it.
fn check_database(paths: &Paths) -> Result<()> {
    let current = paths.db.join("CURRENT");
    match read_if_there(&current)? {
        Some(bytes) if bytes.starts_with(b"MANIFEST-") => Ok(()),
        found => {
            let found =
                found.map_or("no file".to_owned(), |bytes| format!("{} bytes", bytes.len()));
            Err(Error::corruption(Location::file(current), found, "the name of a manifest"))
        }
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // No valid file read here is longer.
    let len_max = 2 * STORE_FILE_LEN_MAX as u64;
    match File::open(path).and_then(|file| file.take(len_max).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::storage(format!("reading {}", path.display()), error)),
    }
}

fn take_lock(paths: &Paths, access: Access) -> Result<File> {
    let writes = access != Access::Read;
    let opened = OpenOptions::new().read(true).write(writes).create(writes).open(&paths.lock);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::not_a_store(
            &paths.root,
            "its file LOCK is missing; open it for writing once to restore it",
        ),
        _ if writes => not_writable(&paths.root, error),
        _ => Error::storage(format!("opening {}", paths.lock.display()), error),
    })?;
    let taken = if writes { file.try_lock() } else { file.try_lock_shared() };
    match taken {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::AlreadyOpen { path: paths.root.clone() }),
        Err(TryLockError::Error(error)) => {
            Err(Error::storage(format!("locking {}", paths.lock.display()), error))
        }
    }
}

fn not_writable(root: &Path, error: std::io::Error) -> Error {
    let is_refusal =
        matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied);
    if is_refusal {
        return Error::NotWritable { path: root.to_owned(), cause: Cause::new(error) };
    }
    Error::storage(format!("opening {} for writing", root.display()), error)
}

/// Creates the store, or finishes an interrupted creation.
fn create(paths: &Paths, options: &StoreOptions, identity: Identity) -> Result<Identity> {
    let failed = |doing: &'static str| {
        let root = paths.root.display().to_string();
        move |error| Error::storage(format!("creating the store {root}: {doing}"), error)
    };
    if !paths.db.exists() {
        // First, because an incomplete STORE.new next to db.new would be taken for damage.
        if paths.db_new.exists() {
            fs::remove_dir_all(&paths.db_new).map_err(failed("removing an unfinished db.new"))?;
            sync_directory(&paths.root).map_err(failed("syncing the directory"))?;
        }
        // Written again even if it exists: after a failed sync it may exist only in memory.
        write_synced(&paths.store_new, &identity.encode()).map_err(failed("STORE.new"))?;
        sync_directory(&paths.root).map_err(failed("syncing the directory"))?;
        fs::create_dir_all(&paths.log).map_err(failed("log"))?;
        let disk = Disk::create(&paths.db_new, &paths.log, options)?;
        disk.flush()?;
        drop(disk);
        sync_directory(&paths.db_new).map_err(failed("syncing db.new"))?;
        fs::rename(&paths.db_new, &paths.db).map_err(failed("renaming db.new"))?;
        sync_directory(&paths.root).map_err(failed("syncing the directory"))?;
    }
    let store_id = identity.store_id;
    let empty = Watermark { store_id, durable: None, is_clean: true, evidence: None };
    WatermarkFile::create(&paths.watermark, empty)?;
    // The name `watermark` must be durable before `STORE` marks the creation as complete.
    sync_directory(&paths.root).map_err(failed("syncing the directory"))?;
    fs::rename(&paths.store_new, &paths.store).map_err(failed("renaming STORE.new"))?;
    sync_directory(&paths.root).map_err(failed("syncing the directory"))?;
    sync_directory(parent_of(&paths.root)).map_err(failed("syncing the directory above"))?;
    Ok(identity)
}
