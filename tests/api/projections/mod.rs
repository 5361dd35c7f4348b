//! Projections over both stores: the content of read models, failures of handlers, and rebuilds.

#[cfg(feature = "async")]
mod async_executors;
#[cfg(feature = "async")]
mod async_handlers;
#[cfg(feature = "async")]
mod async_manager;
mod reactors;
mod definitions;
mod discarding;
mod failures;
mod following;
mod keys;
mod control;
mod parking;
mod partitioning;
mod rebuilding;
mod removing;
mod view_store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    HandlerError, Position, Projection, ProjectionHandle, ProjectionState, Query, Target,
    TypedEvent, ViewEntry, ViewStore, ViewWriter,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub(crate) use crate::support::SOON;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Money {
    Deposited { amount: i64 },
    Withdrawn { amount: i64 },
}

annals::domain_events! { Money {
    Deposited => "Deposited",
    Withdrawn => "Withdrawn",
} }

impl Money {
    pub(crate) fn change(self) -> i64 {
        match self {
            Self::Deposited { amount } => amount,
            Self::Withdrawn { amount } => -amount,
        }
    }
}

/// A store of events and views: the memory store or the store on disk.
pub(crate) trait AnyStore: EventStore + ViewStore {}
impl<S: EventStore + ViewStore> AnyStore for S {}

pub(crate) fn stores() -> Vec<(Arc<dyn AnyStore>, Option<TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let disk = crate::support::quick().open(directory.path().join("store")).unwrap();
    vec![(Arc::new(MemoryStore::new()), None), (Arc::new(disk), Some(directory))]
}

/// Appends a deposit to an account, or a withdrawal if the amount is negative.
pub(crate) fn pay(store: &(impl EventStore + ?Sized), account: &str, amount: i64) -> Position {
    let money =
        if amount < 0 { Money::Withdrawn { amount: -amount } } else { Money::Deposited { amount } };
    let event = money.encode().unwrap();
    store.append(account, ExpectedVersion::Any, [event]).unwrap().last_position()
}

/// Appends one payment after another; returns the position of the last one.
pub(crate) fn pay_all(
    store: &(impl EventStore + ?Sized),
    account: &str,
    amounts: std::ops::RangeInclusive<i64>,
) -> Position {
    amounts.fold(Position::FIRST, |_, amount| pay(store, account, amount))
}

/// Folds the balances from the log.
pub(crate) fn fold(store: &(impl EventStore + ?Sized)) -> BTreeMap<String, i64> {
    let mut balances = BTreeMap::new();
    for event in store.read_log() {
        let event = event.unwrap();
        let stored = annals::EncodedEvent::from(event.as_ref());
        if let Ok(money) = Money::decode(&stored) {
            *balances.entry(event.stream().to_string()).or_default() += money.change();
        }
    }
    balances
}

/// Reads the balances from the read model.
pub(crate) fn balances(store: &(impl ViewStore + ?Sized)) -> BTreeMap<String, i64> {
    let entries = store.view("balances").entries().iter::<i64>();
    entries.map(|entry| entry.map(|(key, value)| (key.to_string(), value)).unwrap()).collect()
}

type Handle =
    Box<dyn Fn(&TypedEvent<Money>, &mut ViewWriter) -> Result<(), HandlerError> + Send + Sync>;

/// A projection with parts that a test can replace.
pub(crate) struct Custom {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) handle: Handle,
    pub(crate) flush: Box<dyn Fn() -> Result<(), HandlerError> + Send + Sync>,
    pub(crate) reset: Box<dyn Fn() -> Result<(), HandlerError> + Send + Sync>,
}

impl Custom {
    pub(crate) fn new(
        handle: impl Fn(&TypedEvent<Money>, &mut ViewWriter) -> Result<(), HandlerError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            name: "balances",
            version: 1,
            target: Target::View,
            query: Query::Everything,
            handle: Box::new(handle),
            flush: Box::new(|| Ok(())),
            reset: Box::new(|| Ok(())),
        }
    }

    /// Keeps the balance of each account.
    pub(crate) fn balances() -> Self {
        Self::new(add_up)
    }
}

pub(crate) fn add_up(event: &TypedEvent<Money>, view: &mut ViewWriter) -> Result<(), HandlerError> {
    Ok(view.update(event.stream(), |balance: &mut i64| *balance += event.event.change())?)
}

impl Projection for Custom {
    type Event = Money;

    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn target(&self) -> Target {
        self.target
    }

    fn query(&self) -> Query {
        self.query.clone()
    }

    fn handle(&self, event: &TypedEvent<Money>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        (self.handle)(event, view)
    }

    fn flush(&self) -> Result<(), HandlerError> {
        (self.flush)()
    }

    fn reset(&self) -> Result<(), HandlerError> {
        (self.reset)()
    }
}

/// Waits until a projection reaches a state.
pub(crate) fn wait_until(projection: &ProjectionHandle, state: ProjectionState) {
    let until = std::time::Instant::now() + SOON;
    while projection.status().unwrap().state != state {
        assert!(std::time::Instant::now() < until, "{}", projection.status().unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads everything that a store keeps in views, byte for byte.
pub(crate) fn all_views(store: &(impl ViewStore + ?Sized)) -> BTreeMap<String, Vec<ViewEntry>> {
    let names = store.list_views().unwrap().into_iter();
    names
        .map(|view| {
            let scan = annals::ViewScan {
                view: view.clone(),
                entries_max: usize::MAX,
                ..annals::ViewScan::default()
            };
            let page = store.scan_view(&scan).unwrap();
            assert!(!page.has_more);
            (view, page.entries)
        })
        .collect()
}
