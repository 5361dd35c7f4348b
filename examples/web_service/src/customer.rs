//! Customers: each has a name and an email address that no other customer has.

use annals::prelude::*;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::failure::Rejection;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CustomerEvent {
    Registered { name: String, email: String },
    EmailChanged { email: String },
}
domain_events! { CustomerEvent {
    Registered => "CustomerRegistered",
    EmailChanged => "CustomerEmailChanged",
} }

#[derive(Debug)]
pub enum CustomerCommand {
    Register { name: String, email: String },
    ChangeEmail { email: String },
}

/// Serialised, because a refusal is recorded with the idempotency key of its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CustomerError {
    #[error("there is no such customer")]
    Unknown,
    #[error("the customer is registered already")]
    AlreadyRegistered,
    #[error("a name has 1 to 100 characters")]
    InvalidName,
    #[error("an email address has a part before and after one @, and at most 200 characters")]
    InvalidEmail,
    #[error("this email address belongs to another customer")]
    EmailTaken,
}

impl Rejection for CustomerError {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "unknown_customer"),
            Self::AlreadyRegistered => (StatusCode::CONFLICT, "already_registered"),
            Self::InvalidName => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_name"),
            Self::InvalidEmail => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_email"),
            Self::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Customer {
    pub name: String,
    /// `None` until the customer is registered.
    pub email: Option<String>,
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;
    type Command = CustomerCommand;
    type Error = CustomerError;

    fn apply(&mut self, event: CustomerEvent) {
        match event {
            CustomerEvent::Registered { name, email } => {
                (self.name, self.email) = (name, Some(email));
            }
            CustomerEvent::EmailChanged { email } => self.email = Some(email),
        }
    }

    fn handle(&self, command: &CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        match command {
            CustomerCommand::Register { .. } if self.email.is_some() => {
                Err(CustomerError::AlreadyRegistered)
            }
            CustomerCommand::Register { name, email } => {
                let name = name.trim().to_owned();
                if !(1..=100).contains(&name.chars().count()) {
                    return Err(CustomerError::InvalidName);
                }
                Ok(vec![CustomerEvent::Registered { name, email: normalised(email)? }])
            }
            CustomerCommand::ChangeEmail { email } => {
                let current = self.email.as_ref().ok_or(CustomerError::Unknown)?;
                let email = normalised(email)?;
                if email == *current {
                    return Ok(Vec::new());
                }
                Ok(vec![CustomerEvent::EmailChanged { email }])
            }
        }
    }
}

/// Unique values are compared by their bytes, so addresses have one form.
fn normalised(email: &str) -> Result<String, CustomerError> {
    let email = email.trim().to_lowercase();
    let is_valid = email.chars().count() <= 200
        && !email.chars().any(char::is_whitespace)
        && email.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@')
        });
    if is_valid { Ok(email) } else { Err(CustomerError::InvalidEmail) }
}
