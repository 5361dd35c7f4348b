//! A bank that several tests use: an account accepts deposits and withdrawals until it is blocked.

use annals::Aggregate;
use serde::{Deserialize, Serialize};

pub(crate) use BankEvent::{AccountBlocked, AccountCreated, MoneyDeposited, MoneyWithdrawn};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum BankEvent {
    AccountCreated { owner_id: String, name: String },
    MoneyDeposited { amount: i64, description: String },
    MoneyWithdrawn { amount: i64, description: String },
    AccountBlocked { reason: String },
}

annals::domain_events! { BankEvent {
    AccountCreated => "AccountCreated",
    MoneyDeposited => "MoneyDeposited",
    MoneyWithdrawn => "MoneyWithdrawn",
    AccountBlocked => "AccountBlocked",
} }

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Create {
        owner_id: String,
    },
    Deposit {
        amount: i64,
    },
    Withdraw {
        amount: i64,
    },
    /// Emits many events at once: deposits of 1.
    DepositOnes {
        count: usize,
    },
    Block {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum AccountError {
    #[error("the account exists already")]
    AlreadyCreated,
    #[error("there is no such account")]
    NotCreated,
    #[error("{amount} is not a positive amount")]
    NotPositive { amount: i64 },
    #[error("the balance is {balance}, but {asked} was asked for")]
    InsufficientFunds { balance: i64, asked: i64 },
    #[error("the account is blocked")]
    Blocked,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) owner_id: Option<String>,
    pub(crate) balance: i64,
    pub(crate) blocked: Option<String>,
    pub(crate) events: u64,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = BankEvent;
    type Command = Command;
    type Error = AccountError;

    fn apply(&mut self, event: BankEvent) {
        self.events += 1;
        match event {
            AccountCreated { owner_id, .. } => self.owner_id = Some(owner_id),
            MoneyDeposited { amount, .. } => self.balance += amount,
            MoneyWithdrawn { amount, .. } => self.balance -= amount,
            AccountBlocked { reason } => self.blocked = Some(reason),
        }
    }

    fn handle(&self, command: &Command) -> Result<Vec<BankEvent>, AccountError> {
        match command {
            Command::Create { .. } if self.owner_id.is_some() => Err(AccountError::AlreadyCreated),
            Command::Create { owner_id } => Ok(vec![created(owner_id)]),
            _ if self.owner_id.is_none() => Err(AccountError::NotCreated),
            _ if self.blocked.is_some() => Err(AccountError::Blocked),
            Command::Deposit { amount } | Command::Withdraw { amount } if *amount <= 0 => {
                Err(AccountError::NotPositive { amount: *amount })
            }
            Command::Withdraw { amount } if *amount > self.balance => {
                Err(AccountError::InsufficientFunds { balance: self.balance, asked: *amount })
            }
            Command::Deposit { amount } => Ok(vec![deposited(*amount)]),
            Command::Withdraw { amount } => Ok(vec![withdrawn(*amount)]),
            Command::DepositOnes { count } => Ok(vec![deposited(1); *count]),
            Command::Block { reason } => Ok(vec![AccountBlocked { reason: reason.clone() }]),
        }
    }
}

pub(crate) fn created(owner_id: &str) -> BankEvent {
    AccountCreated { owner_id: owner_id.to_owned(), name: "Savings".to_owned() }
}

pub(crate) fn deposited(amount: i64) -> BankEvent {
    MoneyDeposited { amount, description: "salary".to_owned() }
}

pub(crate) fn withdrawn(amount: i64) -> BankEvent {
    MoneyWithdrawn { amount, description: "rent".to_owned() }
}

pub(crate) fn create() -> Command {
    Command::Create { owner_id: "ada".to_owned() }
}

pub(crate) fn deposit(amount: i64) -> Command {
    Command::Deposit { amount }
}

pub(crate) fn withdraw(amount: i64) -> Command {
    Command::Withdraw { amount }
}

pub(crate) fn block() -> Command {
    Command::Block { reason: "lost card".to_owned() }
}
