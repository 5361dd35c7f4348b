//! The metrics and the health of a store.

use super::Store;
use crate::commit::Committer;
use crate::error::Result;
use crate::health::{Health, HealthState};
use crate::metrics::StoreMetrics;
use crate::read::keys::key_count;
use crate::storage::Disk;

impl Store {
    /// The counts and latencies of the store since it was opened, and its current state.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// use annals::prelude::*;
    /// let store = Store::open(&path)?;
    /// let opened = || NewEvent::json("Opened", &"Ada");
    /// store.append("account-1", ExpectedVersion::NoStream, [opened()?])?;
    /// store.append("account-1", ExpectedVersion::NoStream, [opened()?]).unwrap_err();
    /// let metrics = store.metrics()?;
    /// assert_eq!((metrics.appends, metrics.events, metrics.conflicts), (1, 1, 1));
    /// assert_eq!(metrics.durable, store.head()?);
    /// assert_eq!(metrics.synced_commit_micros.count(), 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), or an error of the engine.
    ///
    /// # Cost
    /// Waits for the commit that is running, and asks the database and the file system for their
    /// state.
    pub fn metrics(&self) -> Result<StoreMetrics> {
        let engine = &*self.engine;
        let mut metrics = engine.meters.snapshot(engine.head.get()?);
        metrics.engine = engine.storage.with(Disk::metrics)?;
        metrics.all_keys = engine.storage.with(|disk| Ok(key_count(disk)?.last))?;
        #[cfg(feature = "async")]
        if let Some(committer) = engine.writes() {
            metrics.async_waiting_bytes =
                u64::try_from(committer.waiting_bytes()).unwrap_or(u64::MAX);
        }
        metrics.durable = engine.writes().and_then(Committer::durable);
        Ok(metrics)
    }

    /// Whether the store works, and what is wrong if it does not: for a health check.
    ///
    /// Add the health of the projections: [`ProjectionManager::health`](crate::ProjectionManager::health).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// use annals::{HealthState, Store};
    /// let store = Store::open(&path)?;
    /// assert_eq!(store.health().state, HealthState::Healthy);
    /// store.clone().close()?;
    /// let health = store.health();
    /// assert_eq!(health.state, HealthState::Failed);
    /// assert_eq!(health.to_string(), "failed: the store is closed; open it again");
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Cost
    /// That of [`Store::metrics`].
    pub fn health(&self) -> Health {
        let mut health = Health::default();
        let metrics = match self.metrics() {
            Ok(metrics) => metrics,
            Err(error) => {
                health.add(HealthState::Failed, error.to_string());
                return health;
            }
        };
        if let Some(error) = self.engine.writes().and_then(Committer::poisoned) {
            health.add(HealthState::Failed, error.to_string());
        }
        if let Some(last) = metrics.last_error.filter(|last| last.error.is_corruption()) {
            health.add(HealthState::Failed, last.error.to_string());
        }
        if let Some(verify) = metrics.last_verify.filter(|verify| verify.damage_count > 0) {
            let damaged = verify.damage_count;
            let reason =
                format!("verify found {damaged} damaged places: see its report; restore a backup");
            health.add(HealthState::Failed, reason);
        }
        if metrics.engine.is_write_stopped || metrics.engine.is_write_delayed {
            let reason =
                "writes wait for flushes and compactions: the disk is too slow for the load";
            health.add(HealthState::Degraded, reason);
        }
        if metrics.engine.are_compactions_paused {
            let reason = "compactions are paused, because the disk is nearly full: free space";
            health.add(HealthState::Degraded, reason);
        }
        health
    }
}
