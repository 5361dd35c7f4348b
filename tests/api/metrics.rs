//! Metrics and health: each count moves when it should, and each problem is reported.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    Checkpoint, Durability, Error, HealthState, IdempotencyKey, KeyedSubmission, ProjectionState,
    RefusalMetrics, RequestDigest, Snapshot, SnapshotStore, Timestamp, Version, ViewCommit,
    ViewStore,
};

use crate::support::random::Random;
use crate::support::{SOON, damage_packs, events, place, quick};

fn key(name: &str, request: &str) -> IdempotencyKey {
    IdempotencyKey::new("metrics", name, RequestDigest::of(request)).unwrap()
}

#[test]
fn writes_are_counted_by_their_outcome() {
    use ExpectedVersion::{Any, Exact, NoStream};
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let first = events(3);
    store.append("a", NoStream, first.clone()).unwrap();
    store.append("a", NoStream, first.clone()).unwrap();
    store.append("b", Any, events(1)).unwrap();
    store.append("a", NoStream, events(1)).unwrap_err();
    store.append("a", NoStream, [first[0].clone(), events(1).remove(0)]).unwrap_err();
    store.append("a\0", Any, events(1)).unwrap_err();
    store.append("a", Exact(Version::FIRST), []).unwrap_err();
    let once = |request: &str| {
        let append = Append::new().to("c", Any, events(1));
        store.submit_once(&key("k", request), append.into())
    };
    once("one").unwrap();
    once("one").unwrap();
    once("two").unwrap_err();
    store.submit_once(&key("alone", ""), KeyedSubmission::nothing()).unwrap();

    let metrics = store.metrics().unwrap();
    assert_eq!((metrics.appends, metrics.events, metrics.keys), (3, 5, 2));
    assert_eq!((metrics.retries, metrics.conflicts), (1, 1), "a keyed retry asks no writer");
    let RefusalMetrics { invalid, partial_retries, keys_reused, .. } = metrics.refused;
    assert_eq!((invalid, partial_retries, keys_reused), (2, 1, 1));
    assert!(metrics.frame_bytes > 5 * 30);
    assert_eq!(metrics.commit_submissions.sum(), metrics.commit_submissions.count());
    assert_eq!(metrics.synced_commit_micros.count(), 0);
    assert_eq!((metrics.head, metrics.durable), (store.head().unwrap(), None));
    assert!(metrics.last_error.is_none(), "{:?}", metrics.last_error);

    let hits = metrics.version_cache_hits;
    store.append("b", Any, events(1)).unwrap();
    assert_eq!(store.metrics().unwrap().version_cache_hits, hits + 1);
    store.close().unwrap();
    let store = quick().open(&path).unwrap();
    store.append("b", Any, events(1)).unwrap();
    let metrics = store.metrics().unwrap();
    assert_eq!((metrics.version_cache_hits, metrics.version_cache_misses), (0, 1));
    assert_eq!((metrics.appends, metrics.events), (1, 1), "counts begin again at each open");
    assert_eq!((metrics.keys, metrics.all_keys), (0, 2));
    store.close().unwrap();
    let store = quick().read_only(true).open(&path).unwrap();
    store.append("b", Any, events(1)).unwrap_err();
    let metrics = store.metrics().unwrap();
    assert_eq!((metrics.refused.other, metrics.all_keys), (1, 2));
}

#[test]
fn synced_commits_are_measured_and_share_their_sync() {
    let (_directory, path) = place();
    let store = quick().durability(Durability::Sync).open(&path).unwrap();
    thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..20 {
                    store.append(format!("a-{writer}"), ExpectedVersion::Any, events(1)).unwrap();
                }
            });
        }
    });
    let metrics = store.metrics().unwrap();
    assert_eq!(metrics.commit_submissions.sum(), 160);
    let commits = metrics.commit_submissions.count();
    assert!(commits < 160, "no commit was shared");
    assert_eq!(metrics.synced_commit_micros.count(), commits);
    assert!(metrics.synced_commit_micros.quantile(0.5) > Some(0));
    assert_eq!(metrics.durable, store.head().unwrap());
    for _ in 0..160 {
        let buffered = Append::new().to("b", ExpectedVersion::Any, events(1));
        store.submit(buffered.with_durability(Durability::Buffered)).unwrap();
    }
    assert_eq!(store.metrics().unwrap().buffered_commit_micros.count(), 10);
}

#[test]
fn subscriptions_views_snapshots_and_copies_are_counted() {
    let (directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a-1", ExpectedVersion::Any, events(5)).unwrap();
    let mut following = store.subscribe().start().unwrap();
    following.recv().unwrap();
    let other = store.subscribe().after(store.head().unwrap()).start().unwrap();
    let subscriptions = store.metrics().unwrap().subscriptions;
    let lags: Vec<_> = subscriptions.iter().map(|one| one.lag_events).collect();
    assert_eq!(lags, [4, 0]);
    assert_eq!(subscriptions[0].position, following.checkpoint());
    drop(other);
    assert_eq!(store.metrics().unwrap().subscriptions.len(), 1);

    let snapshot = Snapshot {
        kind: "kind".to_owned(),
        stream: StreamId::new("a-1").unwrap(),
        version: Version::FIRST,
        event_id: EventId::random(),
        schema_version: 1,
        taken_at: Timestamp::from_micros(1),
        state: vec![1],
    };
    store.save_snapshot(&snapshot, 1.try_into().unwrap()).unwrap();
    let commit = ViewCommit {
        view: "view".to_owned(),
        expected: None,
        changes: Vec::new(),
        checkpoint: Some(Checkpoint { position: None, state: Vec::new() }),
        follows_other_log: false,
    };
    store.commit_view(&commit).unwrap();
    store.commit_view(&commit).unwrap_err();
    store.backup(directory.path().join("backup")).unwrap();
    store.verify(|_| {}).unwrap();
    let metrics = store.metrics().unwrap();
    assert_eq!((metrics.snapshots, metrics.view_commits, metrics.conflicts), (1, 1, 1));
    assert_eq!(metrics.last_backup.unwrap().head, store.head().unwrap());
    assert_eq!(metrics.last_verify.unwrap().damage_count, 0);
    assert!(metrics.engine.memtable_bytes > 0);
    assert_eq!(store.health().state, HealthState::Healthy);
    store.close().unwrap();
    let store = quick().open(&path).unwrap();
    assert!(store.metrics().unwrap().engine.table_bytes > 0);
}

/// Appends as fast as the disk allows, until each metric of the engine has moved. Only
/// `is_write_delayed` needs luck: most disks stop writes at once.
#[test]
fn engine_metrics_move_under_load() {
    let (_directory, path) = place();
    let store = quick().memtable_bytes(1 << 20).open(&path).unwrap();
    let is_over = AtomicBool::new(false);
    let fill = || {
        let mut random = Random(7);
        while !is_over.load(Ordering::Relaxed) {
            let payload: Vec<u8> = (0..12_500).flat_map(|_| random.next().to_be_bytes()).collect();
            let event = NewEvent::bytes("Happened", payload).unwrap();
            store.append("a", ExpectedVersion::Any, [event]).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(fill);
        scope.spawn(fill);
        let until = Instant::now() + SOON;
        let mut has_moved = BTreeMap::new();
        loop {
            let engine = store.metrics().unwrap().engine;
            for (metric, moves) in [
                ("memtable_bytes", engine.memtable_bytes > 0),
                ("table_bytes", engine.table_bytes > 0),
                ("block_cache_bytes", engine.block_cache_bytes > 0),
                ("pending_compaction_bytes", engine.pending_compaction_bytes > 0),
                ("running_flushes", engine.running_flushes > 0),
                ("running_compactions", engine.running_compactions > 0),
                ("is_write_stopped", engine.is_write_stopped),
                ("disk_free_bytes", engine.disk_free_bytes > Some(0)),
            ] {
                *has_moved.entry(metric).or_insert(false) |= moves;
            }
            let is_late = Instant::now() > until;
            if is_late || has_moved.values().all(|moved| *moved) {
                is_over.store(true, Ordering::Relaxed);
                assert!(!is_late, "{has_moved:?}");
                break;
            }
        }
    });
}

#[test]
fn health_reports_damage_and_a_full_disk() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(3_000)).unwrap();
    store.close().unwrap();
    let store = quick().disk_reserve_bytes(u64::MAX).open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(1)).unwrap_err();
    let metrics = store.metrics().unwrap();
    assert_eq!(metrics.refused.disk_full, 1);
    assert!(metrics.engine.are_compactions_paused);
    assert!(matches!(metrics.last_error.unwrap().error, Error::DiskFull { .. }));
    let health = store.health();
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.to_string().contains("the disk is nearly full"), "{health}");
    store.close().unwrap();

    damage_packs(&path);
    let store = quick().open(&path).unwrap();
    assert_eq!(store.health().state, HealthState::Healthy, "nobody has looked yet");
    store.verify(|_| {}).unwrap();
    let health = store.health();
    assert_eq!(health.state, HealthState::Failed);
    assert!(health.to_string().contains("verify found"), "{health}");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Happened(u64);
annals::domain_events! { Happened => "Counted" }

/// Fails for 13, and waits for a second at 60.
struct Counting;

impl Projection for Counting {
    type Event = Happened;

    fn name(&self) -> &'static str {
        "counting"
    }

    fn handle(&self, event: &TypedEvent<Happened>, _: &mut ViewWriter) -> Result<(), HandlerError> {
        match event.event.0 {
            13 => Err("thirteen".into()),
            60 => {
                thread::sleep(Duration::from_secs(1));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn health_reports_projections_that_fail_park_or_stand_still() {
    let store = MemoryStore::new();
    let append = |number: u64| {
        let event = Happened(number).encode().unwrap();
        store.append(format!("a-{number}"), ExpectedVersion::Any, [event]).unwrap().last_position()
    };
    let manager = |options: ProjectionOptions| {
        let manager = ProjectionManager::new(&store).register_with(Counting, options).unwrap();
        manager.start().unwrap();
        manager
    };
    let projections = manager(ProjectionOptions::new().retries(0));
    projections.wait_for("counting", append(1), SOON).unwrap();
    assert_eq!(projections.health(Duration::ZERO).state, HealthState::Healthy);

    // While a handler takes long, the projection is behind; only after some time it is stuck.
    append(60);
    let until = std::time::Instant::now() + SOON;
    while projections.status("counting").unwrap().lag_events == 0 {
        assert!(std::time::Instant::now() < until);
    }
    projections.health(Duration::ZERO);
    assert_eq!(projections.health(SOON).state, HealthState::Healthy);
    let health = projections.health(Duration::ZERO);
    assert_eq!(health.state, HealthState::Degraded);
    assert!(
        health.to_string().contains("counting is 1 events behind and has not moved"),
        "{health}"
    );

    projections.wait_for("counting", append(13), SOON).unwrap_err();
    let health = projections.health(SOON);
    assert_eq!(health.state, HealthState::Failed);
    assert!(health.to_string().contains("counting has stopped"), "{health}");
    drop(projections);

    let options = ProjectionOptions::new().retries(0).on_failure(annals::OnFailure::Park);
    let projections = manager(options);
    projections.wait_for_head(SOON).unwrap();
    let health = projections.health(SOON);
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.to_string().contains("1 parked events of 1 streams"), "{health}");
    projections.stop();
    assert_eq!(projections.status("counting").unwrap().state, ProjectionState::Stopped);
}
