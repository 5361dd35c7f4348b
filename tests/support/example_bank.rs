//! Checks that the read models of the example bank equal a fold of the log (G12), after any fault
//! of the process, the file system or the machine.

use std::collections::BTreeMap;

use annals::prelude::*;
use annals::{Decoder, Position, ProjectionManager, Repository, SnapshotPolicy};

use crate::account::{Account, AccountEvent};
use crate::read_models::{AccountBalances, Transaction, TransactionHistory};
use crate::support::SOON;

type Balances = BTreeMap<String, i64>;
type Histories = BTreeMap<String, i64>;

/// Folds the log up to a position by hand: balances, and the amount of each line of a statement.
fn fold(store: &Store, up_to: Option<Position>) -> (Balances, Histories) {
    let (mut balances, mut lines) = (Balances::new(), Histories::new());
    let Some(up_to) = up_to else { return (balances, lines) };
    let decoder = Decoder::<AccountEvent>::new();
    for event in store.read_log().category("account").as_of_position(up_to) {
        for event in decoder.decode(event.unwrap()).unwrap() {
            let account = event.stream().to_string();
            let amount = match event.event {
                AccountEvent::AccountCreated { .. } => None,
                AccountEvent::MoneyDeposited { amount, .. } => Some(amount),
                AccountEvent::MoneyWithdrawn { amount, .. } => Some(-amount),
                AccountEvent::AccountBlocked { .. } => continue,
            };
            *balances.entry(account.clone()).or_default() += amount.unwrap_or_default();
            if let Some(amount) = amount {
                let key = annals::ViewKey::new((account, event.version())).unwrap();
                lines.insert(key.to_string(), amount);
            }
        }
    }
    (balances, lines)
}

/// The contents and positions of the read models.
fn found(store: &Store) -> ((Balances, Option<Position>), (Histories, Option<Position>)) {
    let balances = store.view("account_balances");
    let entries = balances.entries().iter::<i64>().map(Result::unwrap);
    let all = entries.map(|(key, balance)| (key.to_string(), balance)).collect();
    let history = store.view("transaction_history");
    let lines = history.entries().iter::<Transaction>().map(Result::unwrap);
    let lines = lines.map(|(key, line)| (key.to_string(), line.amount)).collect();
    ((all, balances.position().unwrap()), (lines, history.position().unwrap()))
}

/// Checks the read models right after the open, and again when they have caught up.
pub(crate) fn check_read_models(store: &Store) {
    let ((balances, balances_at), (history, history_at)) = found(store);
    assert!(
        balances_at.max(history_at) <= store.head().unwrap(),
        "a read model is ahead of the log"
    );
    assert_eq!(balances, fold(store, balances_at).0, "up to {balances_at:?}");
    assert_eq!(history, fold(store, history_at).1, "up to {history_at:?}");

    let projections = ProjectionManager::new(store).register(AccountBalances).unwrap();
    let projections = projections.register(TransactionHistory).unwrap();
    projections.start().unwrap();
    let head = store.head().unwrap();
    for projection in projections.projections() {
        if let Some(head) = head {
            projection.wait_for(head, SOON).unwrap();
        }
        projection.wait_for_rebuild(SOON, |_| {}).unwrap();
    }
    let ((balances, _), (history, _)) = found(store);
    assert_eq!((balances, history), fold(store, head));

    let accounts = Repository::<Account>::new(store).snapshots(store, SnapshotPolicy::every(5));
    for id in 0..5 {
        let report = accounts.check_snapshots(id).unwrap();
        assert!(report.is_sound(), "{report}");
    }
    projections.stop();
}
