//! [`Store`]: the only public entry point of the embedded engine. It composes the lower layers and
//! holds no logic of its own.
//!
//! Clones of a [`Store`] own it; iterators and subscriptions hold only its engine. The store closes
//! when its last owner is dropped or [`Store::close`] is called: waiting calls end, pages and
//! commits under way finish, all data moves into table files, and the lock is released. Iterators
//! and subscriptions that are still in use then get [`Error::Closed`].

mod contract;
mod deletion;
mod health;
mod index;
mod open;
mod submit;
mod transfer;

pub use index::IndexStatus;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::commit::{Committer, IndexKinds};
use crate::deletion::Deleter;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::keys::KeyExpiry;
use crate::maintenance::backup::{CopyReport, Purpose, Source, copy_store};
use crate::maintenance::verify::{VerifyProgress, VerifyReport, verify};
use crate::metrics::Meters;
use crate::model::{Epoch, Epochs, Limits, Position, Timestamp};
use crate::options::{Clock, Durability, now};
use crate::read::Reader;
use crate::read::ahead::ReadAhead;
use crate::read::index::IndexedFrom;
use crate::read::log::OpenPack;
use crate::read::log_end::LogEnd;
use crate::storage::{Claim, Disk, Storage};
use crate::store_options::StoreOptions;
use crate::sync::Mutex;
use crate::trace;

/// An event store in a directory. Open it once per process; clones share it.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("bank.annals");
/// use annals::prelude::*;
///
/// let store = Store::open(&path)?;
/// store.append("account-123", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
/// store.close()?;
///
/// let store = Store::open(&path)?;
/// assert_eq!(store.read_stream("account-123").first()?.unwrap().json::<String>()?, "Ada");
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    /// `None` in the handles that readers and subscriptions hold: they do not keep the store open.
    _owner: Option<Arc<Owner>>,
}

/// Closes the store when its last owner is dropped.
struct Owner {
    engine: Arc<Engine>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // No caller is left to receive an error. Even if this fails, everything acknowledged is in
        // the write-ahead log.
        let _ = self.engine.close();
    }
}

/// The parts of an open store.
struct Engine {
    storage: Arc<Storage>,
    open: Arc<OpenPack>,
    head: Arc<Head>,
    reader: Reader,
    mode: Mode,
    limits: Limits,
    index_kinds: IndexKinds,
    indexed_from: Arc<IndexedFrom>,
    durability: Durability,
    clock: Clock,
    path: PathBuf,
    store_id: Uuid,
    created_at: Timestamp,
    epochs: Epochs,
    is_backup: bool,
    key_expiry: Arc<KeyExpiry>,
    meters: Arc<Meters>,
    /// Held while an import runs: two imports of the same input would not see each other's events.
    importing: Mutex<()>,
    deleter: Deleter,
    disk_reserve_bytes: u64,
    /// Locks the directory until the store is closed.
    claim: Mutex<Option<Claim>>,
}

/// Whether a store was opened for reading or for writing.
enum Mode {
    /// With the end of the log when the store was opened.
    ReadOnly(LogEnd),
    Writable(Box<Committer>),
}

/// Facts about a store that are known without reading its history.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct StoreInfo {
    /// The directory.
    pub path: PathBuf,
    /// The id of the store, which all its copies share.
    pub store_id: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// The current epoch of its log.
    pub epoch: Epoch,
    /// Whether it is a backup that was never opened for writing. Opening it for writing begins a
    /// new epoch.
    pub is_backup: bool,
    /// The version of the format on disk.
    pub format_version: u32,
    /// The last position; also the number of events that were appended.
    pub head: Option<Position>,
    /// The number of streams.
    pub streams: u64,
    /// Bytes in table files.
    pub table_bytes: u64,
    /// How far the clock is behind the time of the last event. Until the clock catches up, new
    /// events get the time of that event.
    pub clock_behind: Option<Duration>,
    /// The reason why the store rejects appends until it is reopened.
    pub poisoned: Option<Error>,
}

impl Store {
    /// Opens the store in this directory for reading and writing. Creates the store if the
    /// directory is missing or empty.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`], [`Error::NotAStore`], [`Error::NotWritable`],
    /// [`Error::UnsupportedFormat`], [`Error::MissingFeatures`], [`Error::Corruption`],
    /// [`Error::HistoryLost`]: nothing in the directory was changed. [`Error::Storage`].
    ///
    /// # Cost
    /// Independent of the number of events, except that the first open of a backup or a restored copy
    /// for writing, and one after a loss, reads the index once. After a crash, reads the write-ahead log, whose size
    /// [`StoreOptions::memtable_bytes`] bounds. Syncs the disk.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// The default options for opening a store.
    pub fn options() -> StoreOptions {
        StoreOptions::default()
    }

    /// Makes all [`Durability::Buffered`] appends acknowledged so far survive a power loss.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`]; [`Error::Indeterminate`] if the
    /// disk failed: the store must then be reopened.
    ///
    /// # Cost
    /// One sync of the disk.
    pub fn sync(&self) -> Result<()> {
        self.engine.committer()?.sync()
    }

    /// Checks the data on disk, up to the head at the start, while the store is in use.
    ///
    /// It checks that checksums match, positions and versions have no gaps, commits are whole,
    /// times never go back, and both column families hold the same frames (G1 to G3, G8). It also
    /// checks that snapshots, checkpoints and view values are intact. Damage is not an error: the
    /// report lists where it is.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// use annals::prelude::*;
    /// let store = Store::open(&path)?;
    /// store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
    /// let report = store.verify(|_| {})?;
    /// assert!(report.is_sound());
    /// assert_eq!((report.events, report.streams), (1, 1));
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// If [`Store::open`] finds damage, it fails, and there is no store to verify.
    ///
    /// # Errors
    /// [`Error::Closed`], also if the store is closed meanwhile; [`Error::Storage`] if the disk
    /// fails.
    ///
    /// # Cost
    /// Reads the whole history twice, sequentially, in bounded memory. Deletions wait for it.
    pub fn verify(&self, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport> {
        let engine = &*self.engine;
        let log = (&*engine.open, engine.reader.ahead());
        let report = engine.deleter.undisturbed(&engine.storage, |deletions| {
            let published = (&*engine.head, &*engine.indexed_from);
            verify(&engine.storage, log, published, deletions, &mut progress)
        })?;
        engine.meters.verified(now(&engine.clock), report.damage_count);
        Ok(report)
    }

    /// Copies the store to a directory that does not exist yet, while the store is in use.
    ///
    /// The copy is a complete store with the same id, including snapshots and read models. It holds
    /// everything acknowledged before this call, regardless of durability, and a prefix of what is
    /// committed during the call (G14). It is marked as a backup: opening it for writing for the
    /// first time begins a new [`Epoch`]. To restore it, use [`Store::restore_to`].
    ///
    /// The copy is made in `DIRECTORY.partial`, synced, and renamed, so it exists whole or not at
    /// all. On the file system of the store, the copy shares table files with the store (hard
    /// links), so both are lost with the medium: back up to another medium, or copy the backup to
    /// one.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// # let backup = directory.path().join("bank-2026-11-17.annals");
    /// use annals::prelude::*;
    /// let store = Store::open(&path)?;
    /// store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
    /// let copied = store.backup(&backup)?;
    /// assert_eq!(copied.head, store.head()?);
    /// let copy = Store::options().read_only(true).open(&backup)?;
    /// assert!(copy.verify(|_| {})?.is_sound());
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CopyRefused`]: the path exists or is within the store, or its parent directory is
    /// missing; nothing was changed. [`Error::Poisoned`], [`Error::Closed`]. [`Error::Storage`], as
    /// when the disk is full, and damage (G8) that opening the copy would find: the partial copy is
    /// removed, and the store is as before.
    ///
    /// # Cost
    /// On the file system of the store: a hard link for each table file, and a copy of the
    /// write-ahead log, whose size [`StoreOptions::memtable_bytes`] bounds. On another file system,
    /// all bytes are copied. Appends continue meanwhile; closing waits for the copy.
    pub fn backup(&self, directory: impl AsRef<Path>) -> Result<CopyReport> {
        let engine = &*self.engine;
        let copied = engine.copy(directory.as_ref(), Purpose::Backup);
        let copied =
            copied.inspect_err(|error| engine.meters.failed(error, || now(&engine.clock)))?;
        trace::event!(
            info,
            to = %directory.as_ref().display(),
            head = copied.head.map_or(0, Position::get),
            "made a backup"
        );
        engine.meters.backed_up(now(&engine.clock), copied.head);
        Ok(copied)
    }

    /// Restores a backup: copies this store to a directory that does not exist yet, and begins a
    /// new [`Epoch`] there (G14). The backup is unchanged.
    ///
    /// Also use it for copies made by another tool: they carry no mark, so opening one for writing
    /// does not begin a new epoch (G11).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// # let backup = directory.path().join("bank-2026-11-17.annals");
    /// # let restored = directory.path().join("bank-restored.annals");
    /// use annals::prelude::*;
    /// # let store = Store::open(&path)?;
    /// # store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
    /// # store.backup(&backup)?;
    /// # let noted = store.epochs()?.current();
    /// Store::options().read_only(true).open(&backup)?.restore_to(&restored)?;
    ///
    /// let restored = Store::open(&restored)?;
    /// assert_ne!(restored.epochs()?.current(), noted);
    /// assert_eq!(restored.epochs()?.shared_up_to(noted), restored.head()?);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Store::backup`].
    ///
    /// # Cost
    /// The cost of [`Store::backup`].
    pub fn restore_to(&self, directory: impl AsRef<Path>) -> Result<CopyReport> {
        self.engine.copy(directory.as_ref(), Purpose::Restore)
    }

    /// Facts about the store, such as its id, head and size.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn info(&self) -> Result<StoreInfo> {
        let engine = &*self.engine;
        let (end, poisoned) = match &engine.mode {
            Mode::ReadOnly(end) => (*end, None),
            Mode::Writable(committer) => (committer.end(), committer.poisoned()),
        };
        let behind = end.recorded_at.and_then(|last| last.since(now(&engine.clock)));
        Ok(StoreInfo {
            path: engine.path.clone(),
            store_id: engine.store_id,
            created_at: engine.created_at,
            epoch: engine.epochs.current(),
            is_backup: engine.is_backup,
            format_version: crate::format::FORMAT_VERSION,
            head: engine.head.get()?,
            streams: end.streams,
            table_bytes: engine.storage.with(Disk::table_bytes)?,
            clock_behind: behind.filter(|behind| !behind.is_zero()),
            poisoned,
        })
    }

    /// Closes the store for all its owners, readers and subscriptions. Dropping the last owner
    /// closes it too, but does not report errors.
    ///
    /// # Errors
    /// The disk failed now or in an earlier write. Everything acknowledged is safe, and the next
    /// open recovers it.
    ///
    /// # Cost
    /// Waits for calls under way; writes the memtables to table files and syncs them.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }

    #[cfg(feature = "__internals")]
    pub(crate) fn baseline(&self) -> crate::maintenance::baseline::Baseline {
        crate::maintenance::baseline::Baseline::new(
            self.engine.storage.clone(),
            self.engine.open.clone(),
        )
    }

    /// A handle that does not keep the store open.
    fn reader_handle(&self) -> Self {
        Self { engine: self.engine.clone(), _owner: None }
    }
}

impl Engine {
    fn writes(&self) -> Option<&Committer> {
        match &self.mode {
            Mode::ReadOnly(_) => None,
            Mode::Writable(committer) => Some(committer),
        }
    }

    fn committer(&self) -> Result<&Committer> {
        self.head.get()?;
        self.writes().ok_or(Error::ReadOnly)
    }

    /// Counts the result of a write.
    fn counted<T>(&self, result: Result<T>) -> Result<T> {
        self.meters.written(result, || now(&self.clock))
    }

    /// Reads data that does not depend on the head.
    fn read<T>(&self, work: impl FnOnce(&Disk) -> Result<T>) -> Result<T> {
        self.head.get()?;
        self.storage.with(work)
    }

    fn copy(&self, directory: &Path, purpose: Purpose) -> Result<CopyReport> {
        if let Some(poisoned) = self.writes().and_then(Committer::poisoned) {
            return Err(poisoned);
        }
        let claimed = self.claim.lock().as_ref().map(|claim| claim.paths.clone());
        let paths = claimed.ok_or(Error::Closed)?;
        let identity = || {
            let claim = self.claim.lock();
            claim.as_ref().map(|claim| claim.identity.clone()).ok_or(Error::Closed)
        };
        let (storage, head, is_writing) = (&self.storage, &self.head, self.writes().is_some());
        let source = Source { storage, head, paths: &paths, identity: &identity, is_writing };
        copy_store(&source, directory, purpose)
    }

    /// Wakes waiting calls, finishes calls under way, seals the log and releases the lock. Only the
    /// first call does anything.
    fn close(&self) -> Result<()> {
        self.head.close();
        self.reader.ahead().into_iter().for_each(ReadAhead::close);
        if let Some(committer) = self.writes() {
            committer.close();
        }
        let sealed = self.storage.close(|disk| match self.writes() {
            Some(committer) => committer.seal(disk),
            None => Ok(()),
        });
        // The lock is released last, so that the next owner finds everything in place.
        drop(self.claim.lock().take());
        sealed.unwrap_or(Ok(()))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = &*self.engine;
        out.debug_struct("Store")
            .field("path", &engine.path)
            .field("head", &engine.head.current())
            .finish_non_exhaustive()
    }
}
