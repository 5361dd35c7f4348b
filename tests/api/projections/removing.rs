//! Removing a projection permanently.

use std::sync::{Arc, OnceLock, Weak};

use annals::prelude::*;
use annals::{
    Checkpoint, Error, OnFailure, ProjectionError, ProjectionHandle, ViewCommit, ViewStore,
};

use super::view_store::Watched;
use super::{Custom, SOON, add_up, all_views, balances, pay, stores};
use crate::support::{edit, place, quick};

fn parking() -> ProjectionOptions {
    ProjectionOptions::new().retries(0).on_failure(OnFailure::Park)
}

/// Registers and runs a projection with values, and with parked, skipped and discarded events.
fn with_everything(manager: ProjectionManager, name: &'static str) -> ProjectionManager {
    let handle = |event: &TypedEvent<super::Money>, view: &mut ViewWriter| {
        if event.event.change() == 13 { Err("thirteen".into()) } else { add_up(event, view) }
    };
    let manager = manager.register_with(Custom { name, ..Custom::new(handle) }, parking()).unwrap();
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    let projection = manager.projection(name).unwrap();
    let parked = projection.parked(9).unwrap();
    assert!(projection.discard_parked(&parked[0]).unwrap());
    manager
}

fn pay_some(store: &(impl EventStore + ?Sized)) {
    for (account, amount) in [("account-1", 13), ("account-1", 1), ("account-2", 2)] {
        pay(store, account, amount);
    }
}

#[test]
fn removed_projection_leaves_nothing_and_starts_over() {
    for (store, _kept) in stores() {
        pay_some(&*store);
        let names = ["balances", "balances@eu", "balances@1"];
        let manager = names
            .iter()
            .fold(ProjectionManager::new(&*store), |manager, name| with_everything(manager, name));
        let projection = manager.projection("balances").unwrap();
        for halt in [ProjectionHandle::pause, ProjectionHandle::stop] {
            let before = all_views(&*store);
            let refused = manager.remove("balances").unwrap_err();
            assert!(matches!(refused, ProjectionError::Running { .. }), "{refused}");
            assert_eq!(all_views(&*store), before);
            halt(projection);
        }
        assert!(manager.remove("balances").unwrap());
        assert!(!manager.remove("balances").unwrap(), "it is already removed");
        assert_eq!(all_views(&*store).len(), 4, "the other projections are intact");
        let status = projection.status().unwrap();
        assert_eq!((status.position, status.discarded_events), (None, 0));

        projection.start().unwrap();
        manager.wait_for_head(SOON).unwrap();
        assert_eq!(projection.parked(9).unwrap().len(), 2, "no event is discarded any more");
        assert_eq!(balances(&*store)["account-2"], 2);
    }
}

#[test]
fn projection_that_is_not_registered_can_be_removed() {
    for (store, _kept) in stores() {
        pay_some(&*store);
        drop(with_everything(ProjectionManager::new(&*store), "balances"));
        assert!(store.remove_projection("balances").unwrap());
        assert!(all_views(&*store).is_empty());
        assert!(!store.remove_projection("balances").unwrap());
        assert!(store.remove_projection("$balances").is_err());
    }
}

#[test]
fn interrupted_remove_is_completed_by_a_second_call() {
    let store = MemoryStore::new();
    let views = Watched::new(&store);
    pay_some(&store);
    drop(with_everything(ProjectionManager::over(&store, &views), "balances"));
    views.fail_after(1);
    views.remove_projection("balances").unwrap_err();
    assert_eq!(store.view("balances").status().unwrap(), None, "no build serves");
    assert!(!all_views(&store).is_empty());
    views.fail_after(usize::MAX);
    assert!(views.remove_projection("balances").unwrap());
    assert!(all_views(&store).is_empty());
}

#[test]
fn damaged_projection_can_be_removed() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    pay_some(&store);
    drop(with_everything(ProjectionManager::new(&store), "balances"));
    store.close().unwrap();
    edit(&path, "checkpoints", b"balances", |bytes| bytes[0] ^= 1);
    let store = quick().open(&path).unwrap();
    assert!(store.remove_projection("balances").unwrap());
    assert!(all_views(&store).is_empty());
}

#[test]
fn remove_refuses_a_view_of_no_projection() {
    let store = MemoryStore::new();
    let foreign = ViewCommit {
        view: "balances".into(),
        expected: None,
        changes: Vec::new(),
        checkpoint: Some(Checkpoint { position: None, state: b"mine".to_vec() }),
        follows_other_log: true,
    };
    store.commit_view(&foreign).unwrap();
    let refused = store.remove_projection("balances").unwrap_err();
    assert!(matches!(refused, Error::NotAProjection { .. }), "{refused}");
    assert_eq!(store.list_views().unwrap(), ["balances"]);
}

/// A thread that stops the projection waits for its handler, so the handler must not wait for that
/// thread.
#[test]
fn handler_that_removes_its_own_projection_is_refused() {
    let store = MemoryStore::new();
    let own: Arc<OnceLock<Weak<ProjectionManager>>> = Arc::default();
    let mine = own.clone();
    let removes = Custom::new(move |event, view| {
        let manager = mine.get().and_then(Weak::upgrade).unwrap();
        let refused = manager.remove("balances").unwrap_err();
        assert!(matches!(refused, ProjectionError::Running { .. }), "{refused}");
        add_up(event, view)
    });
    let manager = Arc::new(ProjectionManager::new(&store).register(removes).unwrap());
    own.set(Arc::downgrade(&manager)).unwrap();
    manager.start().unwrap();
    let last = pay(&store, "account-1", 1);
    manager.wait_for("balances", last, SOON).unwrap();
    manager.stop();
}
