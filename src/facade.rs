//! Passes metrics to the facade [`metrics`], if the feature of that name is on.

use std::time::Duration;

use metrics::{counter, gauge};

use crate::histogram::Histogram;
use crate::metrics::StoreMetrics;
use crate::model::Position;
use crate::projection::ProjectionStatus;

impl StoreMetrics {
    /// Passes the metrics to the recorder of the crate `metrics` that the application has
    /// installed, with this name as the label `store`. Call it regularly, such as each ten seconds.
    ///
    /// Counters, each with `annals_` before it and `_total` after it: `appends`,
    /// `appended_events`, `appended_bytes`, `retries`, `keys`, `conflicts`, `view_commits`,
    /// `snapshots`; `refused` by `reason`; `version_cache` by `result`.
    ///
    /// Gauges, each with `annals_` before it: `head`, `durable`, `subscriptions`,
    /// `subscription_lag_events` (the largest), `commit_submissions` (the mean), `memtable_bytes`,
    /// `table_bytes`, `block_cache_bytes`, `pending_compaction_bytes`, `disk_free_bytes`,
    /// `all_keys`, `async_waiting_bytes`; `commit_seconds` by `durability` and `quantile`; `writes_stopped`,
    /// `writes_delayed`, `compactions_paused` (0 or 1).
    pub fn record(&self, store: &str) {
        self.record_counts(store);
        let place = |position: Option<Position>| position.map_or(0, Position::get);
        let lag = self.subscriptions.iter().map(|one| one.lag_events).max().unwrap_or_default();
        let engine = &self.engine;
        for (name, value) in [
            ("annals_head", place(self.head)),
            ("annals_durable", place(self.durable)),
            ("annals_subscriptions", u64::try_from(self.subscriptions.len()).unwrap_or(u64::MAX)),
            ("annals_subscription_lag_events", lag),
            ("annals_memtable_bytes", engine.memtable_bytes),
            ("annals_table_bytes", engine.table_bytes),
            ("annals_block_cache_bytes", engine.block_cache_bytes),
            ("annals_pending_compaction_bytes", engine.pending_compaction_bytes),
            ("annals_writes_stopped", engine.is_write_stopped.into()),
            ("annals_writes_delayed", engine.is_write_delayed.into()),
            ("annals_compactions_paused", engine.are_compactions_paused.into()),
            ("annals_all_keys", self.all_keys),
            ("annals_async_waiting_bytes", self.async_waiting_bytes),
            ("annals_commit_submissions", self.commit_submissions.mean().unwrap_or_default()),
        ] {
            gauge!(name, "store" => store.to_owned()).set(float(value));
        }
        if let Some(free) = engine.disk_free_bytes {
            gauge!("annals_disk_free_bytes", "store" => store.to_owned()).set(float(free));
        }
        for (durability, times) in
            [("sync", &self.synced_commit_micros), ("buffered", &self.buffered_commit_micros)]
        {
            record_seconds(store, durability, times);
        }
    }

    fn record_counts(&self, store: &str) {
        for (name, count) in [
            ("annals_appends_total", self.appends),
            ("annals_appended_events_total", self.events),
            ("annals_appended_bytes_total", self.frame_bytes),
            ("annals_retries_total", self.retries),
            ("annals_keys_total", self.keys),
            ("annals_conflicts_total", self.conflicts),
            ("annals_view_commits_total", self.view_commits),
            ("annals_snapshots_total", self.snapshots),
        ] {
            counter!(name, "store" => store.to_owned()).absolute(count);
        }
        let refused = &self.refused;
        for (reason, count) in [
            ("invalid", refused.invalid),
            ("partial_retry", refused.partial_retries),
            ("key_reused", refused.keys_reused),
            ("disk_full", refused.disk_full),
            ("indeterminate", refused.indeterminate),
            ("poisoned", refused.poisoned),
            ("other", refused.other),
        ] {
            let counter = counter!(
                "annals_refused_total", "store" => store.to_owned(), "reason" => reason
            );
            counter.absolute(count);
        }
        for (result, count) in
            [("hit", self.version_cache_hits), ("miss", self.version_cache_misses)]
        {
            let counter = counter!(
                "annals_version_cache_total", "store" => store.to_owned(), "result" => result
            );
            counter.absolute(count);
        }
    }
}

impl ProjectionStatus {
    /// Passes the status to the recorder of the crate `metrics`, with the name of the projection as
    /// the label `projection`: the counters `annals_projection_handled_total` and
    /// `annals_projection_failed_tries_total`, and the gauges `annals_projection_lag_events`,
    /// `annals_projection_lag_seconds`, `annals_projection_parked_events` and
    /// `annals_projection_skipped_events`.
    pub fn record(&self) {
        let name = || self.name.clone();
        counter!("annals_projection_handled_total", "projection" => name()).absolute(self.handled);
        counter!("annals_projection_failed_tries_total", "projection" => name())
            .absolute(self.failed_tries);
        for (gauge_name, value) in [
            ("annals_projection_lag_events", float(self.lag_events)),
            ("annals_projection_lag_seconds", self.lag_time.as_secs_f64()),
            ("annals_projection_parked_events", float(self.parked_events)),
            ("annals_projection_skipped_events", float(self.skipped_events)),
        ] {
            gauge!(gauge_name, "projection" => name()).set(value);
        }
    }
}

fn record_seconds(store: &str, durability: &'static str, times: &Histogram) {
    for (quantile, share) in [("0.5", 0.5), ("0.99", 0.99), ("1", 1.0)] {
        let Some(micros) = times.quantile(share) else { continue };
        let gauge = gauge!(
            "annals_commit_seconds",
            "store" => store.to_owned(), "durability" => durability, "quantile" => quantile
        );
        gauge.set(Duration::from_micros(micros).as_secs_f64());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn float(value: u64) -> f64 {
    value as f64
}
