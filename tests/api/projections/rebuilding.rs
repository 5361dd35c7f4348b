//! A shadow build creates a read model while readers see the old one, and is promoted once it has
//! caught up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use annals::prelude::*;
use annals::{
    Error, HandlerError, Position, ProjectionError, ProjectionManager, ProjectionOptions, ViewStore,
};

use super::{Custom, SOON, add_up, all_views, balances, fold, pay, pay_all, stores};

/// Lets handlers process up to a set number of events.
#[derive(Default)]
struct Gate {
    open_for: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    fn open(&self, events: usize) {
        *self.open_for.lock().unwrap() = events;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open_for = self.open_for.lock().unwrap();
        let mut open_for = self.opened.wait_while(open_for, |events| *events == 0).unwrap();
        *open_for = open_for.saturating_sub(1);
    }
}

/// Version 2 counts each amount twice. It handles an event only when the gate lets it.
fn doubled(gate: &Arc<Gate>, handled: &Arc<AtomicUsize>) -> Custom {
    let (gate, handled) = (gate.clone(), handled.clone());
    let handle = move |event: &_, view: &mut _| -> Result<(), HandlerError> {
        gate.pass();
        handled.fetch_add(1, Ordering::SeqCst);
        add_up(event, view)?;
        add_up(event, view)
    };
    Custom { version: 2, ..Custom::new(handle) }
}

#[test]
fn new_version_is_shadow_built_and_promoted() {
    for (store, _kept) in stores() {
        let last = pay_all(&*store, "account-1", 1..=50);
        let old = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        old.start().unwrap();
        old.wait_for("balances", last, SOON).unwrap();
        drop(old);
        let before = balances(&*store);

        let (gate, handled) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let one_by_one = ProjectionOptions::new().batch_events(1);
        let manager = || {
            let manager = ProjectionManager::new(&*store);
            manager.register_with(doubled(&gate, &handled), one_by_one.clone()).unwrap()
        };
        let new = manager();
        new.start().unwrap();
        gate.open(20);
        let projection = new.projection("balances").unwrap();
        let not_yet = projection.wait_for_rebuild(Duration::from_millis(1), |_| {}).unwrap_err();
        assert!(matches!(not_yet, ProjectionError::RebuildTimedOut { .. }), "{not_yet}");
        let status = projection.status().unwrap();
        assert_eq!((status.version, status.serving_version), (2, Some(1)));
        assert_eq!(status.rebuild.unwrap().version, 2);
        assert_eq!(balances(&*store), before, "readers see the old build");

        // A restart continues the build where it stopped.
        while handled.load(Ordering::SeqCst) < 20 {
            std::thread::yield_now();
        }
        projection.pause();
        gate.open(1);
        drop(new);
        assert_eq!(balances(&*store), before, "readers still see the old build");
        let done = handled.load(Ordering::SeqCst);
        gate.open(usize::MAX);
        let new = manager();
        new.start().unwrap();
        let projection = new.projection("balances").unwrap();
        let mut told = Vec::new();
        let mut progress = |rebuild: annals::RebuildStatus| told.push(rebuild.position);
        projection.wait_for_rebuild(SOON, &mut progress).unwrap();
        assert!(told.is_sorted());
        assert_eq!(balances(&*store)["account-1"], 2 * fold(&*store)["account-1"]);
        assert_eq!(
            handled.load(Ordering::SeqCst),
            50,
            "each event once: {done} before the restart"
        );
        assert_eq!(projection.status().unwrap().serving_version, Some(2));
        let next = pay(&*store, "account-1", 1);
        projection.wait_for(next, SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], 2 * fold(&*store)["account-1"]);
        assert_eq!(
            store.list_views().unwrap().len(),
            2,
            "the old build is gone: {:?}",
            store.list_views()
        );
    }
}

/// A rebuild gives the same bytes, because the order in which events reached a read model must not
/// matter.
#[test]
fn rebuild_during_appends_equals_the_fold() {
    for (store, _kept) in stores() {
        let projections = ProjectionManager::new(&*store);
        let small = ProjectionOptions::new().batch_events(7);
        let projections = projections.register_with(Custom::balances(), small).unwrap();
        projections.start().unwrap();
        let projection = projections.projection("balances").unwrap();
        let mut last = pay(&*store, "account-0", 1);
        for round in 0..5 {
            projection.rebuild().unwrap();
            for amount in 1..=40 {
                last = pay(&*store, &format!("account-{}", amount % 3), amount);
            }
            if round % 2 == 0 {
                projection.wait_for_rebuild(SOON, |_| {}).unwrap();
            }
        }
        projection.wait_for_rebuild(SOON, |_| {}).unwrap();
        projection.wait_for(last, SOON).unwrap();
        assert_eq!(balances(&*store), fold(&*store));
        projections.stop();
        let views = all_views(&*store);
        assert_eq!(views.len(), 2, "{:?}", views.keys());
    }
}

/// A reader that has waited for a position must not read less afterwards, not even while another
/// build is promoted.
#[test]
fn waited_for_event_stays_visible_during_promotion() {
    for (store, _kept) in stores() {
        let projections = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        projections.start().unwrap();
        let projection = projections.projection("balances").unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    projection.rebuild().unwrap();
                    projection.wait_for_rebuild(SOON, |_| {}).unwrap();
                }
            });
            for paid in 1..=400 {
                let position = pay(&*store, "account-1", 1);
                projection.wait_for(position, SOON).unwrap();
                for _ in 0..5 {
                    let balance = store.view("balances").get::<i64>("account-1").unwrap();
                    assert_eq!(balance, Some(paid));
                }
            }
            is_over.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn paging_reader_gets_an_error_after_promotion() {
    for (store, _kept) in stores() {
        let last =
            (0..600).fold(Position::FIRST, |_, n| pay(&*store, &format!("account-{n:03}"), 1));
        let projections = ProjectionManager::new(&*store).register(Custom::balances()).unwrap();
        projections.start().unwrap();
        let projection = projections.projection("balances").unwrap();
        projection.wait_for(last, SOON).unwrap();
        let mut reading = store.view("balances").entries().iter::<i64>();
        reading.next().unwrap().unwrap();
        projection.rebuild().unwrap();
        projection.wait_for_rebuild(SOON, |_| {}).unwrap();
        let rest: Vec<_> = reading.collect();
        let replaced = rest.last().unwrap().as_ref().unwrap_err();
        assert!(matches!(replaced, Error::ViewReplaced { .. }), "{replaced}");
        assert_eq!(balances(&*store).len(), 600, "a new read is complete");
    }
}

#[test]
fn view_without_projection_is_not_adopted() {
    let store = MemoryStore::new();
    let foreign = annals::ViewCommit {
        view: "balances".into(),
        expected: None,
        changes: Vec::new(),
        checkpoint: Some(annals::Checkpoint { position: None, state: b"mine".to_vec() }),
        follows_other_log: true,
    };
    store.commit_view(&foreign).unwrap();
    let projections = ProjectionManager::new(&store).register(Custom::balances()).unwrap();
    let refused = projections.start().unwrap_err();
    assert!(matches!(refused, ProjectionError::Store(Error::NotAProjection { .. })), "{refused}");
    assert!(store.view("balances").get::<i64>("account-1").is_err());
}
