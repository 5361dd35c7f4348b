//! The read models of the bank: the balance of every account, and its transactions.

use annals::prelude::*;
use annals::{Query, View, ViewKey};
use serde::{Deserialize, Serialize};

use crate::account::AccountEvent;

/// A read model of the balance of each account.
pub(crate) struct AccountBalances;

impl Projection for AccountBalances {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "account_balances"
    }

    fn query(&self) -> Query {
        Query::category("account")
    }

    fn handle(
        &self,
        event: &TypedEvent<AccountEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let change = match &event.event {
            AccountEvent::MoneyDeposited { amount, .. } => *amount,
            AccountEvent::MoneyWithdrawn { amount, .. } => -amount,
            AccountEvent::AccountCreated { .. } => 0,
            AccountEvent::AccountBlocked { .. } => return Ok(()),
        };
        Ok(view.update(event.stream(), |balance: &mut i64| *balance += change)?)
    }
}

/// One line of an account's statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// Negative for a withdrawal.
    pub(crate) amount: i64,
    pub(crate) description: String,
    pub(crate) time: String,
}

/// A read model of the deposits and withdrawals of each account, in order.
pub(crate) struct TransactionHistory;

impl Projection for TransactionHistory {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "transaction_history"
    }

    fn query(&self) -> Query {
        Query::category("account")
    }

    fn handle(
        &self,
        event: &TypedEvent<AccountEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let (amount, description) = match &event.event {
            AccountEvent::MoneyDeposited { amount, description } => (*amount, description),
            AccountEvent::MoneyWithdrawn { amount, description } => (-amount, description),
            AccountEvent::AccountCreated { .. } | AccountEvent::AccountBlocked { .. } => {
                return Ok(());
            }
        };
        let time = event.recorded_at().to_string();
        let transaction = Transaction { amount, description: description.clone(), time };
        // Keyed by account and version, so that a statement can be read in pages from either end.
        Ok(view.put((event.stream(), event.version()), &transaction)?)
    }
}

/// A page of an account's statement, the newest first, and the key after which the next page
/// begins.
pub(crate) fn statement(
    history: &View,
    account: &StreamId,
    after: Option<&ViewKey>,
    lines: usize,
) -> annals::Result<(Vec<Transaction>, Option<ViewKey>)> {
    let mut page = history.entries().under(account).backward().limit(lines);
    if let Some(after) = after {
        page = page.after(after);
    }
    let entries: Vec<(ViewKey, Transaction)> = page.iter().collect::<annals::Result<_>>()?;
    let next = entries.last().map(|(key, _)| key.clone());
    Ok((entries.into_iter().map(|(_, transaction)| transaction).collect(), next))
}
