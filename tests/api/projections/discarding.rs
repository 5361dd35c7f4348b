//! The decision to discard an event survives rebuilds, new versions, crashes and damage. It can be
//! revoked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use annals::prelude::*;
use annals::{OnFailure, Position, ProjectionHandle, ProjectionState, UnhandledEvent};

use super::view_store::Watched;
use super::{AnyStore, Custom, SOON, add_up, balances, pay, stores, wait_until};
use crate::support::{edit, place, quick};

/// Handles all payments, except those of 13 while `is_broken` is set; counts the payments of 13.
#[derive(Clone)]
struct Thirteen {
    is_broken: Arc<AtomicBool>,
    met: Arc<AtomicUsize>,
}

impl Thirteen {
    fn new() -> Self {
        Self { is_broken: Arc::new(AtomicBool::new(true)), met: Arc::default() }
    }

    fn version(&self, version: u32) -> Custom {
        let thirteen = self.clone();
        let handle = move |event: &TypedEvent<super::Money>, view: &mut ViewWriter| {
            if event.event.change() == 13 {
                thirteen.met.fetch_add(1, Ordering::SeqCst);
                if thirteen.is_broken.load(Ordering::SeqCst) {
                    return Err("thirteen".into());
                }
            }
            add_up(event, view)
        };
        Custom { version, ..Custom::new(handle) }
    }

    fn start(&self, store: &dyn AnyStore, version: u32) -> ProjectionManager {
        start(ProjectionManager::new(store), self.version(version))
    }
}

fn start(manager: ProjectionManager, projection: Custom) -> ProjectionManager {
    let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park).batch_events(1);
    let manager = manager.register_with(projection, options).unwrap();
    manager.start().unwrap();
    manager
}

fn balance_of(manager: &ProjectionManager) -> &ProjectionHandle {
    manager.projection("balances").unwrap()
}

/// Waits for the head, then discards the first parked event.
fn discard_first(manager: &ProjectionManager) -> UnhandledEvent {
    manager.wait_for_head(SOON).unwrap();
    let projection = balance_of(manager);
    let parked = projection.parked(1).unwrap();
    assert!(projection.discard_parked(&parked[0]).unwrap());
    projection.discarded(9).unwrap().remove(0)
}

#[test]
fn discarded_event_is_not_handled_by_later_builds() {
    for (store, _kept) in stores() {
        let thirteen = Thirteen::new();
        let at = pay(&*store, "account-1", 13);
        pay(&*store, "account-1", 7);
        let manager = thirteen.start(&*store, 1);
        let discarded = discard_first(&manager);
        assert_eq!((discarded.position, discarded.reason.as_deref()), (at, Some("thirteen")));
        assert_eq!(balance_of(&manager).retry_parked().unwrap(), 0);
        thirteen.is_broken.store(false, Ordering::SeqCst);
        thirteen.met.store(0, Ordering::SeqCst);

        balance_of(&manager).rebuild().unwrap();
        balance_of(&manager).wait_for_rebuild(SOON, |_| {}).unwrap();
        drop(manager);
        let manager = thirteen.start(&*store, 2);
        balance_of(&manager).wait_for_rebuild(SOON, |_| {}).unwrap();
        assert_eq!(thirteen.met.load(Ordering::SeqCst), 0);
        assert_eq!(balances(&*store)["account-1"], 7);
        let skipped = balance_of(&manager).skipped(9).unwrap();
        assert_eq!((skipped[0].position, skipped[0].reason.as_deref()), (at, Some("thirteen")));
        assert_eq!(store.view("balances").discarded(9).unwrap(), [discarded]);
        let status = balance_of(&manager).status().unwrap();
        assert_eq!((status.skipped_events, status.discarded_events), (1, 1));
        assert!(status.to_string().contains("1 discarded"), "{status}");
        assert_eq!(store.view("balances").status().unwrap().unwrap().discarded_events, 1);
    }
}

#[test]
fn restored_event_is_handled_by_retry_and_later_builds() {
    for (store, _kept) in stores() {
        let thirteen = Thirteen::new();
        pay(&*store, "account-1", 13);
        let manager = thirteen.start(&*store, 1);
        let discarded = discard_first(&manager);
        pay(&*store, "account-1", 7);
        manager.wait_for_head(SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 7);

        assert!(manager.restore_discarded("balances", &discarded).unwrap());
        assert!(
            !balance_of(&manager).restore_discarded(&discarded).unwrap(),
            "it is already restored"
        );
        let status = balance_of(&manager).status().unwrap();
        let counts = (status.parked_events, status.skipped_events, status.discarded_events);
        assert_eq!(counts, (1, 0, 0));
        thirteen.is_broken.store(false, Ordering::SeqCst);
        assert_eq!(balance_of(&manager).retry_parked().unwrap(), 0);
        assert_eq!(balances(&*store)["account-1"], 20);
        balance_of(&manager).rebuild().unwrap();
        balance_of(&manager).wait_for_rebuild(SOON, |_| {}).unwrap();
        assert_eq!(balances(&*store)["account-1"], 20);
    }
}

#[test]
fn decision_is_carried_out_after_a_crash() {
    let (store, thirteen) = (MemoryStore::new(), Thirteen::new());
    let views = Watched::new(&store);
    let follow = || start(ProjectionManager::over(&store, &views), thirteen.version(1));
    pay(&store, "account-1", 13);
    pay(&store, "account-1", 7);
    let manager = follow();
    manager.wait_for_head(SOON).unwrap();
    let parked = balance_of(&manager).parked(1).unwrap();
    views.fail_after(1);
    balance_of(&manager).discard_parked(&parked[0]).unwrap_err();
    wait_until(balance_of(&manager), ProjectionState::Failed);
    drop(manager);
    assert_eq!(store.view("balances").discarded(9).unwrap().len(), 1);
    assert_eq!(store.view("balances").parked(9).unwrap().len(), 2);

    views.fail_after(usize::MAX);
    let manager = follow();
    manager.wait_for_head(SOON).unwrap();
    let met = thirteen.met.load(Ordering::SeqCst);
    assert_eq!(balance_of(&manager).retry_parked().unwrap(), 0);
    assert_eq!(thirteen.met.load(Ordering::SeqCst), met);
    assert_eq!(balances(&store)["account-1"], 7);

    // The same for the decision to restore the event: the decision to discard it is revoked last.
    let discarded = balance_of(&manager).discarded(9).unwrap();
    views.fail_after(1);
    balance_of(&manager).restore_discarded(&discarded[0]).unwrap_err();
    drop(manager);
    views.fail_after(usize::MAX);
    let manager = follow();
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(balance_of(&manager).retry_parked().unwrap(), 0);
    let status = balance_of(&manager).status().unwrap();
    assert_eq!((status.skipped_events, status.discarded_events), (1, 1));
}

/// This happens after the log is restored from an older copy.
#[test]
fn decision_does_not_apply_to_another_event_at_its_position() {
    let (views, log, other) = (MemoryStore::new(), MemoryStore::new(), MemoryStore::new());
    let thirteen = Thirteen::new();
    let follow = |log| start(ProjectionManager::over(log, &views), thirteen.version(1));
    pay(&log, "account-1", 13);
    discard_first(&follow(&log));
    pay(&other, "account-1", 7);
    let manager = follow(&other);
    balance_of(&manager).rebuild().unwrap();
    balance_of(&manager).wait_for_rebuild(SOON, |_| {}).unwrap();
    assert_eq!(balances(&views)["account-1"], 7);
    assert_eq!(balance_of(&manager).discarded(9).unwrap().len(), 1, "the decision is kept");
}

/// The serving build records decisions; the shadow build applies them before it is promoted.
#[test]
fn decision_during_a_rebuild_holds_in_the_new_build() {
    for (store, _kept) in stores() {
        let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let hold = |is_held: bool| {
            *gate.0.lock().unwrap() = is_held;
            gate.1.notify_all();
        };
        let held = gate.clone();
        let handle = move |event: &TypedEvent<super::Money>, view: &mut ViewWriter| {
            if event.event.change() == 99 {
                drop(held.1.wait_while(held.0.lock().unwrap(), |is_held| *is_held).unwrap());
            }
            if event.event.change() == 13 { Err("thirteen".into()) } else { add_up(event, view) }
        };
        pay(&*store, "account-1", 13);
        pay(&*store, "account-2", 99);
        let manager = start(ProjectionManager::new(&*store), Custom::new(handle));
        manager.wait_for_head(SOON).unwrap();
        let projection = balance_of(&manager);
        let rebuild_around = |decide: &dyn Fn()| {
            hold(true);
            projection.rebuild().unwrap();
            let at_the_gate = || projection.status().unwrap().rebuild.unwrap().position;
            while at_the_gate() < Some(Position::FIRST) {
                std::thread::yield_now();
            }
            decide();
            hold(false);
            projection.wait_for_rebuild(SOON, |_| {}).unwrap();
            let status = projection.status().unwrap();
            (status.parked_events, status.skipped_events, status.discarded_events)
        };
        // The shadow build parked the event before the serving one discarded it.
        let discarded = rebuild_around(&|| {
            let parked = projection.parked(1).unwrap();
            assert!(projection.discard_parked(&parked[0]).unwrap());
        });
        assert_eq!(discarded, (0, 1, 1));
        // The shadow build skipped the event before the serving one restored it.
        let restored = rebuild_around(&|| {
            let discarded = projection.discarded(1).unwrap();
            assert!(projection.restore_discarded(&discarded[0]).unwrap());
        });
        assert_eq!(restored, (1, 0, 0));
    }
}

#[test]
fn decisions_survive_a_damaged_directory() {
    let (_directory, path) = place();
    let (store, thirteen) = (quick().open(&path).unwrap(), Thirteen::new());
    pay(&store, "account-1", 13);
    discard_first(&thirteen.start(&store, 1));
    store.close().unwrap();
    edit(&path, "checkpoints", b"balances", |bytes| bytes[0] ^= 1);

    thirteen.is_broken.store(false, Ordering::SeqCst);
    let store = quick().open(&path).unwrap();
    let manager = ProjectionManager::new(&store).register(thirteen.version(1)).unwrap();
    balance_of(&manager).rebuild().unwrap();
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    assert!(balances(&store).is_empty());
    assert_eq!(balance_of(&manager).status().unwrap().discarded_events, 1);
}

#[test]
fn damaged_decision_is_reported_and_a_rebuild_drops_it() {
    let (_directory, path) = place();
    let (store, thirteen) = (quick().open(&path).unwrap(), Thirteen::new());
    for account in ["account-1", "account-2"] {
        pay(&store, account, 13);
    }
    let manager = thirteen.start(&store, 1);
    discard_first(&manager);
    discard_first(&manager);
    drop(manager);
    store.close().unwrap();
    let key = [&b"balances\0d"[..], &2_u64.to_be_bytes()].concat();
    edit(&path, "views", &key, |bytes| bytes[0] ^= 1);

    thirteen.is_broken.store(false, Ordering::SeqCst);
    let store = quick().open(&path).unwrap();
    let manager = ProjectionManager::new(&store).register(thirteen.version(1)).unwrap();
    let refused = manager.start().unwrap_err();
    assert!(refused.to_string().contains("rebuild the projection"), "{refused}");
    balance_of(&manager).rebuild().unwrap();
    manager.start().unwrap();
    balance_of(&manager).wait_for_rebuild(SOON, |_| {}).unwrap();
    manager.wait_for_head(SOON).unwrap();
    let found: Vec<_> = balances(&store).into_iter().collect();
    assert_eq!(found, [("account-2".into(), 13)], "the first is still discarded");
}
