//! Retrying and discarding parked events: what it costs, and which events a retry skips.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annals::limits;
use annals::prelude::*;
use annals::{OnFailure, ProjectionState, Query, Target};

use super::view_store::Watched;
use super::{Custom, SOON, add_up, balances, fold, pay, stores};

fn parking() -> ProjectionOptions {
    ProjectionOptions::new().retries(0).on_failure(OnFailure::Park)
}

/// Fails for every event while `is_broken` is set.
fn broken(is_broken: &Arc<AtomicBool>) -> Custom {
    let is_broken = is_broken.clone();
    Custom::new(move |event, view| {
        if is_broken.load(Ordering::SeqCst) { Err("broken".into()) } else { add_up(event, view) }
    })
}

/// Deleted keys are slow to scan: 20,000 parked events of one stream once took 82 s to retry.
#[test]
fn retry_and_discard_read_each_page_of_parked_events_once() {
    let (store, is_broken) = (MemoryStore::new(), Arc::new(AtomicBool::new(true)));
    let views = Watched::new(&store);
    let manager = ProjectionManager::over(&store, &views);
    let manager = manager.register_with(broken(&is_broken), parking()).unwrap();
    for _ in 0..3_000 {
        pay(&store, "account-1", 1);
    }
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    let projection = manager.projection("balances").unwrap();
    let mut parked = projection.parked(200).unwrap();
    parked.extend(projection.parked_after(&parked[199], 300).unwrap());
    is_broken.store(false, Ordering::SeqCst);

    views.pages.store(0, Ordering::SeqCst);
    for event in &parked {
        assert!(projection.discard_parked(event).unwrap());
    }
    assert_eq!(views.pages.load(Ordering::SeqCst), 0, "discarding scans nothing");
    assert_eq!(projection.retry_parked().unwrap(), 0);
    let pages = views.pages.load(Ordering::SeqCst);
    assert!(pages <= 3, "2,500 parked events were read in {pages} pages");
    assert_eq!(balances(&store)["account-1"], 2_500);
    assert_eq!(projection.parked_after(&parked[499], 9).unwrap(), []);
    let status = projection.status().unwrap();
    assert_eq!((status.parked_events, status.parked_streams), (0, 0));
    assert_eq!((status.skipped_events, status.discarded_events), (500, 500));
}

/// The error of a handler may quote user input of any length.
#[test]
fn event_with_a_very_long_error_is_parked() {
    let store = MemoryStore::new();
    let quotes = Custom::new(|event, view| match event.event.change() {
        13 => Err("x".repeat(limits::VIEW_VALUE_LEN_MAX + 1).into()),
        _ => add_up(event, view),
    });
    let manager = ProjectionManager::new(&store).register_with(quotes, parking()).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 13);
    let last = pay(&store, "account-2", 1);
    manager.wait_for("balances", last, SOON).unwrap();
    let projection = manager.projection("balances").unwrap();
    let is_short = || {
        let parked = projection.parked(9).unwrap();
        parked[0].reason.as_ref().unwrap().chars().count() == 4_097
    };
    assert!(is_short());
    assert_eq!(projection.retry_parked().unwrap(), 1);
    assert!(is_short());
}

#[test]
fn parked_events_are_counted_by_stream() {
    for (store, _kept) in stores() {
        let is_broken = Arc::new(AtomicBool::new(true));
        let manager = || {
            let manager = ProjectionManager::new(&*store);
            let manager = manager.register_with(broken(&is_broken), parking()).unwrap();
            manager.start().unwrap();
            manager
        };
        let first = manager();
        for account in ["account-1", "account-2", "account-1"] {
            pay(&*store, account, 1);
        }
        first.wait_for_head(SOON).unwrap();
        let counts = |manager: &ProjectionManager| {
            let status = manager.status("balances").unwrap();
            (status.parked_events, status.parked_streams)
        };
        assert_eq!(counts(&first), (3, 2));
        let projection = first.projection("balances").unwrap();
        assert_eq!(projection.retry_parked().unwrap(), 3, "they fail again");
        let parked = projection.parked(1).unwrap();
        assert!(projection.discard_parked(&parked[0]).unwrap());
        assert_eq!(counts(&first), (2, 2), "one of account-1 is left");
        drop(first);

        let second = manager();
        second.wait_for_head(SOON).unwrap();
        is_broken.store(false, Ordering::SeqCst);
        assert_eq!(second.projection("balances").unwrap().retry_parked().unwrap(), 0);
        assert_eq!(counts(&second), (0, 0));
        pay(&*store, "account-2", 1);
        second.wait_for_head(SOON).unwrap();
        assert_eq!(balances(&*store)["account-1"], fold(&*store)["account-1"] - 1);
        assert_eq!(balances(&*store)["account-2"], fold(&*store)["account-2"]);
    }
}

#[test]
fn retry_skips_events_that_the_filter_no_longer_selects() {
    for (store, _kept) in stores() {
        let is_broken = Arc::new(AtomicBool::new(true));
        let manager = |version, filter| {
            let target = Target::Reactor;
            let projection = Custom { version, target, query: filter, ..broken(&is_broken) };
            let manager = ProjectionManager::new(&*store);
            let manager = manager.register_with(projection, parking()).unwrap();
            manager.start().unwrap();
            manager.wait_for_head(SOON).unwrap();
            manager
        };
        pay(&*store, "account-1", 1);
        pay(&*store, "account-1", 2);
        pay(&*store, "loan-1", 3);
        assert_eq!(manager(1, Query::Everything).status("balances").unwrap().parked_events, 3);
        is_broken.store(false, Ordering::SeqCst);

        let manager = manager(2, Query::category("loan"));
        let projection = manager.projection("balances").unwrap();
        assert_eq!(projection.retry_parked().unwrap(), 0);
        assert_eq!(balances(&*store).into_iter().collect::<Vec<_>>(), [("loan-1".into(), 3)]);
        let skipped = projection.skipped(9).unwrap();
        let reasons: Vec<_> = skipped.iter().map(|it| it.reason.as_deref()).collect();
        let reason = "the projection's query and event types no longer select it";
        let first = format!("{reason}; it was parked for: broken");
        assert_eq!(reasons, [Some(first.as_str()), Some(reason)]);
        let status = projection.status().unwrap();
        assert_eq!((status.parked_events, status.skipped_events), (0, 2));
    }
}

/// A health check right after a restart must not report that nothing is parked.
#[test]
fn status_counts_parked_events_from_the_start() {
    let (store, is_broken) = (MemoryStore::new(), Arc::new(AtomicBool::new(true)));
    for amount in 1..=1_000 {
        pay(&store, "account-1", amount);
    }
    for restart in 0..30 {
        let manager = ProjectionManager::new(&store);
        let manager = manager.register_with(broken(&is_broken), parking()).unwrap();
        manager.start().unwrap();
        let status = manager.projection("balances").unwrap().status().unwrap();
        if restart > 0 {
            assert_eq!((status.parked_events, status.parked_streams), (1_000, 1), "{status}");
        }
        manager.wait_for_head(SOON).unwrap();
    }
}

/// An event that was parked before an earlier one was handled comes again. It is parked once.
#[test]
fn event_that_was_parked_ahead_is_counted_once() {
    let (store, is_late) = (MemoryStore::new(), Arc::new(AtomicBool::new(true)));
    let manager = |options| {
        let late = is_late.clone();
        let mut custom = Custom::new(move |event, _| match event.stream().as_str() {
            "account-0" if late.load(Ordering::SeqCst) => Err("not yet".into()),
            "account-0" => Ok(()),
            _ => Err("broken".into()),
        });
        custom.target = Target::External;
        ProjectionManager::new(&store).register_with(custom, options).unwrap()
    };
    let pay_each = |accounts: std::ops::Range<usize>| {
        accounts.fold(None, |_, account| Some(pay(&store, &format!("account-{account}"), 1)))
    };
    let parked = manager(parking());
    let last = pay_each(1..6).unwrap();
    parked.start().unwrap();
    parked.wait_for("balances", last, SOON).unwrap();
    parked.stop();

    // The events of one stream fail for a while; those of the others are parked ahead of them.
    for _ in 0..10 {
        pay_each(0..6);
    }
    let options = parking().partitions(4).retries(9).backoff(SOON, SOON);
    let retrying = manager(options.clone());
    retrying.start().unwrap();
    let projection = retrying.projection("balances").unwrap();
    while projection.status().unwrap().state != ProjectionState::Retrying {
        std::thread::yield_now();
    }
    projection.stop();
    assert!(projection.parked(99).unwrap().len() > 5, "some are parked ahead");
    is_late.store(false, Ordering::SeqCst);
    projection.start().unwrap();
    retrying.wait_for_head(SOON).unwrap();
    let status = projection.status().unwrap();
    assert_eq!((status.parked_events, status.parked_streams), (55, 5));
    assert_eq!(projection.parked(99).unwrap().len(), 55);
}
