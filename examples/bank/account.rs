//! The account: its events, commands and rules.

use annals::prelude::*;
use serde::{Deserialize, Serialize};

/// The events of an account. Amounts are in cents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountEvent {
    AccountCreated { owner_id: String, name: String },
    MoneyDeposited { amount: i64, description: String },
    MoneyWithdrawn { amount: i64, description: String },
    AccountBlocked { reason: String },
}

domain_events! { AccountEvent {
    AccountCreated => "AccountCreated",
    MoneyDeposited => "MoneyDeposited" version 2,
    MoneyWithdrawn => "MoneyWithdrawn",
    AccountBlocked => "AccountBlocked",
} }

/// The commands of an account.
#[derive(Debug, Clone)]
pub(crate) enum AccountCommand {
    Create { owner_id: String, name: String },
    Deposit { amount: i64, description: String },
    Withdraw { amount: i64, description: String },
    Block { reason: String },
}

/// Why a command is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("there is no such account")]
    NotCreated,
    #[error("the account exists already")]
    AlreadyCreated,
    #[error("an amount must be positive, not {amount}")]
    NotPositive { amount: i64 },
    #[error("a deposit of {amount} is more than an account can hold")]
    TooMuch { amount: i64 },
    #[error("the account is blocked: {reason}")]
    Blocked { reason: String },
    #[error("the balance is {balance}, but {asked} were asked for")]
    InsufficientFunds { balance: i64, asked: i64 },
}

fn check_amount(amount: i64) -> Result<(), AccountError> {
    if amount > 0 { Ok(()) } else { Err(AccountError::NotPositive { amount }) }
}

/// The state of an account: only what the rules need.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    is_created: bool,
    balance: i64,
    blocked: Option<String>,
}

impl Account {
    pub(crate) fn balance(&self) -> i64 {
        self.balance
    }

    fn check_usable(&self) -> Result<(), AccountError> {
        match &self.blocked {
            _ if !self.is_created => Err(AccountError::NotCreated),
            Some(reason) => Err(AccountError::Blocked { reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = AccountCommand;
    type Error = AccountError;

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::AccountCreated { .. } => self.is_created = true,
            AccountEvent::MoneyDeposited { amount, .. } => self.balance += amount,
            AccountEvent::MoneyWithdrawn { amount, .. } => self.balance -= amount,
            AccountEvent::AccountBlocked { reason } => self.blocked = Some(reason),
        }
    }

    fn handle(&self, command: &AccountCommand) -> Result<Vec<AccountEvent>, AccountError> {
        let event = match command.clone() {
            AccountCommand::Create { owner_id, name } => {
                if self.is_created {
                    return Err(AccountError::AlreadyCreated);
                }
                AccountEvent::AccountCreated { owner_id, name }
            }
            AccountCommand::Deposit { amount, description } => {
                self.check_usable()?;
                check_amount(amount)?;
                if self.balance.checked_add(amount).is_none() {
                    return Err(AccountError::TooMuch { amount });
                }
                AccountEvent::MoneyDeposited { amount, description }
            }
            AccountCommand::Withdraw { amount, description } => {
                self.check_usable()?;
                check_amount(amount)?;
                if amount > self.balance {
                    let (balance, asked) = (self.balance, amount);
                    return Err(AccountError::InsufficientFunds { balance, asked });
                }
                AccountEvent::MoneyWithdrawn { amount, description }
            }
            AccountCommand::Block { reason } => {
                // A blocked account cannot be blocked again.
                self.check_usable()?;
                AccountEvent::AccountBlocked { reason }
            }
        };
        Ok(vec![event])
    }
}
