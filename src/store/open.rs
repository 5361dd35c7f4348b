//! Opening a [`Store`]: builds the engine from what recovery returns.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Engine, Mode, Owner, Store};
use crate::commit::{Committer, OpenLog};
use crate::deletion::Deleter;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::metrics::Meters;
use crate::read::Reader;
use crate::read::index::IndexedFrom;
use crate::recovery;
use crate::storage::Space;
use crate::store_options::StoreOptions;
use crate::sync::Mutex;
use crate::trace;

/// Pause between attempts to open a store that is still open elsewhere.
const OPEN_PAUSE: Duration = Duration::from_millis(10);

impl Engine {
    /// Continues what was under way when the store was closed.
    fn continue_work(self: &Arc<Self>) -> Result<()> {
        let Some(committer) = self.writes() else { return Ok(()) };
        committer.start_backfill()?;
        self.resume_deletions()
    }
}

impl StoreOptions {
    /// Opens the store in this directory. See [`Store::open`].
    ///
    /// # Errors
    /// The errors of [`Store::open`]; [`Error::LimitExceeded`] for limits above the hard maxima.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        self.limits.check()?;
        let recovered = recovery::open(path.as_ref(), &self)?;
        let storage = Arc::new(recovered.storage);
        let open = Arc::new(recovered.open);
        let head = Arc::new(Head::new(recovered.end.head));
        let meters = Arc::new(Meters::default());
        let indexed_from = Arc::new(IndexedFrom::new(recovered.indexed));
        let mode = match recovered.watermark {
            None => Mode::ReadOnly(recovered.end),
            Some(watermark) => Mode::Writable(Box::new(Committer::new(OpenLog {
                storage: storage.clone(),
                space: Arc::new(Space::new(&recovered.claim.paths.db, self.disk_reserve_bytes)),
                open: open.clone(),
                head: head.clone(),
                watermark,
                end: recovered.end,
                clock: self.clock.clone(),
                pack_bytes: self.pack_bytes,
                version_cache_streams: self.version_cache_streams,
                key_expiry: recovered.key_expiry.clone(),
                meters: meters.clone(),
                indexed_from: indexed_from.clone(),
                deleted_up_to: recovered.deletions.up_to,
                #[cfg(feature = "async")]
                waiting_bytes: self.async_waiting_bytes,
            }))),
        };
        trace::event!(
            info,
            path = %path.as_ref().display(),
            head = recovered.end.head.map_or(0, crate::model::Position::get),
            read_only = self.read_only,
            "opened the store"
        );
        // What is read ahead must not displace itself.
        let read_ahead_bytes = self.read_ahead_bytes.min(self.block_cache_bytes / 4);
        let identity = recovered.claim.identity.clone();
        let engine = Arc::new(Engine {
            reader: Reader::new(
                (storage.clone(), open.clone()),
                head.clone(),
                indexed_from.clone(),
                read_ahead_bytes,
            ),
            open,
            storage,
            head,
            mode,
            limits: self.limits,
            index_kinds: recovered.indexed.into(),
            indexed_from,
            durability: self.durability,
            clock: self.clock,
            path: path.as_ref().to_owned(),
            store_id: Uuid::from_bytes(identity.store_id),
            created_at: identity.created_at,
            epochs: identity.epochs,
            is_backup: identity.is_backup,
            key_expiry: recovered.key_expiry,
            meters,
            importing: Mutex::new(()),
            deleter: Deleter::new(recovered.deletions),
            disk_reserve_bytes: self.disk_reserve_bytes,
            claim: Mutex::new(Some(recovered.claim)),
        });
        let store = Store { _owner: Some(Arc::new(Owner { engine: engine.clone() })), engine };
        store.engine.continue_work()?;
        Ok(store)
    }

    /// Opens the store like [`StoreOptions::open`], but waits up to `timeout` while it is open
    /// elsewhere, as when a process restarts before its predecessor has ended.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// use annals::prelude::*;
    /// use annals::Error;
    /// use std::time::Duration;
    /// let open = Store::open(&path)?;
    /// let refused = Store::options().open_within(&path, Duration::from_millis(20));
    /// assert!(matches!(refused, Err(Error::AlreadyOpen { .. })));
    /// drop(open);
    /// Store::options().open_within(&path, Duration::from_secs(5))?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`StoreOptions::open`]; [`Error::AlreadyOpen`] only after `timeout`.
    pub fn open_within(self, path: impl AsRef<Path>, timeout: Duration) -> Result<Store> {
        let begun = Instant::now();
        loop {
            match self.clone().open(path.as_ref()) {
                Err(Error::AlreadyOpen { .. }) if begun.elapsed() < timeout => {
                    thread::sleep(OPEN_PAUSE.min(timeout));
                }
                opened => return opened,
            }
        }
    }
}
