//! [`Store`]: the one public door of the embedded engine. It composes what is below and holds no
//! logic of its own.
//!
//! Owners and readers are told apart: clones of a [`Store`] own it; iterators and subscriptions
//! hold only its engine. When the last owner goes, or [`Store::close`] is called, the store closes:
//! waiting calls end, pages and commits under way are finished, everything is moved into table
//! files, the lock is let go. What survives gets [`Error::Closed`].

mod contract;
mod open;

use std::fmt;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::commit::{Committer, Prepared};
use crate::error::{Error, Result};
use crate::event_store::Append;
use crate::head::Head;
use crate::maintenance::backup::{CopyReport, Purpose, Source, copy_store};
use crate::maintenance::export::{Exported, export};
use crate::maintenance::import::{Destination, ImportOptions, Imported, import};
use crate::maintenance::verify::{VerifyProgress, VerifyReport, verify};
use crate::model::{Epoch, Epochs, Limits, Position, Timestamp};
use crate::options::{Clock, Durability, now};
use crate::read::Reader;
use crate::read::lookup::LogEnd;
use crate::storage::{Claim, Disk, Storage};
use crate::store_options::StoreOptions;
use crate::sync::Mutex;

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
    /// `None` in the handles of readers and subscriptions, which do not keep the store open.
    _owner: Option<Arc<Owner>>,
}

/// Closes the store when the last of its owners goes.
struct Owner {
    engine: Arc<Engine>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; what was acknowledged is in the write-ahead log
        // whatever happens here.
        let _ = self.engine.close();
    }
}

/// The parts of an open store.
struct Engine {
    storage: Arc<Storage>,
    head: Arc<Head>,
    reader: Reader,
    mode: Mode,
    limits: Limits,
    durability: Durability,
    clock: Clock,
    path: PathBuf,
    store_id: Uuid,
    created_at: Timestamp,
    epochs: Epochs,
    is_backup: bool,
    /// Held while an import runs: two of the same input would not see what the other adds.
    importing: Mutex<()>,
    /// Holds the directory until the store is closed.
    claim: Mutex<Option<Claim>>,
}

/// What a store was opened for.
enum Mode {
    /// For reading: the log ended here then.
    ReadOnly(LogEnd),
    Writable(Box<Committer>),
}

/// What a store knows of itself without reading its history.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct StoreInfo {
    /// The directory.
    pub path: PathBuf,
    /// Which store this is: the same for all its copies.
    pub store_id: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// The epoch that its log is in.
    pub epoch: Epoch,
    /// Whether it is a backup that was never opened for writing. That would begin a new epoch.
    pub is_backup: bool,
    /// The version of the bytes on disk.
    pub format_version: u32,
    /// The last position; also the number of events.
    pub head: Option<Position>,
    /// How many streams there are.
    pub streams: u64,
    /// Bytes in table files.
    pub table_bytes: u64,
    /// How far the clock is behind the last event: until it has caught up, events are
    /// recorded at the time of that last event.
    pub clock_behind: Option<Duration>,
    /// Why the store takes no appends until it is reopened.
    pub poisoned: Option<Error>,
}

impl Store {
    /// Opens the store in this directory for reading and writing. A missing or empty directory
    /// becomes a store.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`], [`Error::NotAStore`], [`Error::NotWritable`],
    /// [`Error::UnsupportedFormat`], [`Error::Corruption`], [`Error::HistoryLost`]: nothing in the
    /// directory was changed. [`Error::Storage`].
    ///
    /// # Cost
    /// Independent of the number of events. After a crash the write-ahead log is read, which
    /// [`StoreOptions::memtable_bytes`] bounds. Syncs the disk.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Options to open with, at their defaults.
    pub fn options() -> StoreOptions {
        StoreOptions::default()
    }

    /// Makes all [`Durability::Buffered`] appends acknowledged so far survive a power loss.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`]; [`Error::Indeterminate`] if the
    /// disk failed, after which the store must be reopened.
    ///
    /// # Cost
    /// One sync of the disk.
    pub fn sync(&self) -> Result<()> {
        self.engine.committer()?.sync()
    }

    /// Proves on disk what can be proven, up to the head at the start, while the store is in use:
    /// checksums, gapless positions and versions, whole commits, times that never go back, that
    /// both families hold the same frames (G1 to G3, G8), and that snapshots, checkpoints and
    /// values of views are whole. Damage is not an error: it is in the report, precisely.
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
    /// Damage that opening meets is an error of opening: there is then no store to verify.
    ///
    /// # Errors
    /// [`Error::Closed`], also when the store is closed meanwhile; [`Error::Storage`] if the disk
    /// fails.
    ///
    /// # Cost
    /// Reads the whole history twice, sequentially, in bounded memory.
    pub fn verify(&self, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport> {
        let engine = &*self.engine;
        verify(&engine.storage, &engine.head, &mut progress)
    }

    /// Copies the store to a directory that is not there yet, while it is in use. The copy is a
    /// store: with the same id, everything that was acknowledged before this call, whatever its
    /// durability, and of what is committed meanwhile a beginning (G14); snapshots and read models
    /// too. To restore it, use [`Store::restore_to`]. The copy is marked as a backup: the first
    /// time that it is opened for writing it begins a new [`Epoch`].
    ///
    /// It is made in `DIRECTORY.partial`, synced, and renamed: it exists whole or not at all. On
    /// the file system of the store, table files are shared with it (hard links), so such a copy
    /// does not outlive the medium: take it to another one, or copy it there.
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
    /// [`Error::CopyRefused`]: something is at this place, it is within the store, or the directory
    /// above it is missing; nothing was changed. [`Error::Poisoned`], [`Error::Closed`].
    /// [`Error::Storage`], as when the disk is full, and damage (G8) that opening the copy would
    /// meet: nothing is left of the copy, and the store is as it was.
    ///
    /// # Cost
    /// On the file system of the store: a link for each table file, and a copy of the write-ahead
    /// log, which [`StoreOptions::memtable_bytes`] bounds. On another one, all bytes are copied.
    /// Appends go on meanwhile; closing waits for it.
    pub fn backup(&self, directory: impl AsRef<Path>) -> Result<CopyReport> {
        self.engine.copy(directory.as_ref(), Purpose::Backup)
    }

    /// Copies this store to a directory that does not exist yet, where it goes on in a new
    /// [`Epoch`]: restores a backup (G14). The backup stays as it is.
    ///
    /// Use it for copies that another tool made, too: nothing marks those, so opening one for
    /// writing does not begin an epoch (G11).
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
    /// Those of [`Store::backup`].
    ///
    /// # Cost
    /// That of [`Store::backup`].
    pub fn restore_to(&self, directory: impl AsRef<Path>) -> Result<CopyReport> {
        self.engine.copy(directory.as_ref(), Purpose::Restore)
    }

    /// What the store knows of itself.
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

    /// Adds the events of an input to the log: one JSON object a line, as
    /// [`JsonLine`](crate::JsonLine) says.
    ///
    /// `stream`, `type`, `time` and one of `data` (any JSON: its text is the payload, as it stands)
    /// and `data_base64` must be there; `id`, `schema_version`, `content_type`, `metadata`, `tags`
    /// and `commit` may be. Consecutive lines of equal `commit` are one append, all or nothing
    /// (G1); a line without it is an append of its own. `position` and `version` are ignored, any
    /// other field is refused. Times are kept, and may not go back, unless
    /// [`ImportOptions::clamp_times`] says otherwise. An import of an export gives the same log.
    ///
    /// **Every line is added once**, however often its input is imported: after an error, a crash,
    /// a power loss, or in full, the same input goes on where the store has it, for what was read
    /// is noted in the same write as the events. The input is known by its lines: one that has
    /// grown at its end is the same, and adds what is new.
    ///
    /// `progress` is told now and then how far it is. One import runs at a time; others wait.
    ///
    /// # Errors
    /// [`Error::ImportLine`] names the line that was refused and says why: what stood before it is
    /// in the store. [`Error::ImportDiffers`]: the input was changed within the lines that are in
    /// the store. [`Error::ImportInput`]: the input cannot be read to its end, and what came before
    /// is in the store. [`Error::ReadOnly`], and those of
    /// [`EventStore::submit`](crate::EventStore::submit).
    ///
    /// # Cost
    /// Written in batches of about 1,000 events, synced once at the end. Memory does not grow with
    /// the input: one batch, or one commit where that is larger, and one line. Lines that are there
    /// already are read, not looked up.
    pub fn import(
        &self,
        mut input: impl BufRead,
        options: ImportOptions,
        mut progress: impl FnMut(Imported),
    ) -> Result<Imported> {
        let engine = &*self.engine;
        let _alone = engine.importing.lock();
        let target = Destination {
            store: self,
            committer: engine.committer()?,
            storage: &engine.storage,
            limits: &engine.limits,
        };
        import(target, &mut input, options, &mut progress)
    }

    /// Writes all events up to the head, one JSON object a line, in the form that [`Store::import`]
    /// reads, with every field. See [`JsonLine`](crate::JsonLine).
    ///
    /// # Errors
    /// [`Error::Storage`] if the output cannot be written; damage (G8), [`Error::Closed`].
    ///
    /// # Cost
    /// Reads the whole log, a page at a time. Give it a buffered output.
    pub fn export(
        &self,
        mut output: impl Write,
        mut progress: impl FnMut(Exported),
    ) -> Result<Exported> {
        export(self, &mut output, &mut progress)
    }

    /// Closes the store for all its owners, readers and subscriptions, and reports what went wrong
    /// if something did. Dropping the last owner closes too, silently.
    ///
    /// # Errors
    /// The disk failed, or an earlier write had: what was acknowledged is safe, and the next open
    /// recovers it.
    ///
    /// # Cost
    /// Waits for calls under way; writes the memtables into table files and syncs them.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }

    #[cfg(feature = "__internals")]
    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.engine.storage
    }

    /// A store that does not keep itself open.
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

    /// Reads what does not depend on the head.
    fn read<T>(&self, work: impl FnOnce(&Disk) -> Result<T>) -> Result<T> {
        self.head.get()?;
        self.storage.with(work)
    }

    fn copy(&self, directory: &Path, purpose: Purpose) -> Result<CopyReport> {
        if let Some(poisoned) = self.writes().and_then(Committer::poisoned) {
            return Err(poisoned);
        }
        let claimed = {
            let claim = self.claim.lock();
            claim.as_ref().map(|claim| (claim.paths.clone(), claim.identity.clone()))
        };
        let (paths, identity) = claimed.ok_or(Error::Closed)?;
        let (storage, head, is_writing) = (&self.storage, &self.head, self.writes().is_some());
        let source = Source { storage, head, paths: &paths, identity: &identity, is_writing };
        copy_store(&source, directory, purpose)
    }

    /// Validates and encodes an append on the caller's thread.
    fn prepare(&self, append: &Append) -> Result<Prepared> {
        append.validate(&self.limits)?;
        Ok(Prepared::new(append))
    }

    /// Wakes the waiting, finishes what is under way, seals, lets go. Only the first call does
    /// anything.
    fn close(&self) -> Result<()> {
        self.head.close();
        if let Some(committer) = self.writes() {
            committer.close();
        }
        let sealed = self.storage.close(|disk| match self.writes() {
            Some(committer) => committer.seal(disk),
            None => Ok(()),
        });
        // The lock goes last: the next owner finds everything in place.
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
