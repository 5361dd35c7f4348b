//! Orders: placed with one product and a quantity, then shipped or cancelled.

use annals::prelude::*;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::failure::Rejection;
use crate::product::ProductError;

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    pub customer: String,
    pub product: String,
    pub quantity: u64,
    /// The customer's own number of the order. No two orders of a customer have the same.
    #[serde(default)]
    pub reference: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum OrderEvent {
    Placed(Placement),
    Shipped,
    Cancelled { product: String, quantity: u64 },
}
domain_events! { OrderEvent {
    Placed => "OrderPlaced",
    Shipped => "OrderShipped",
    Cancelled => "OrderCancelled",
} }

#[derive(Debug)]
pub enum OrderCommand {
    Place(Placement),
    Ship,
    Cancel,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OrderError {
    #[error("there is no such order")]
    Unknown,
    #[error("the order was placed already")]
    AlreadyPlaced,
    #[error("the order was shipped already")]
    AlreadyShipped,
    #[error("the order was cancelled")]
    Cancelled,
    #[error("a reference has 1 to 100 characters")]
    InvalidReference,
    #[error("there is no such customer")]
    UnknownCustomer,
    #[error("another order of this customer has this reference")]
    ReferenceTaken,
    #[error(transparent)]
    Product(#[from] ProductError),
}

impl Rejection for OrderError {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "unknown_order"),
            Self::AlreadyPlaced => (StatusCode::CONFLICT, "already_placed"),
            Self::AlreadyShipped => (StatusCode::CONFLICT, "already_shipped"),
            Self::Cancelled => (StatusCode::CONFLICT, "cancelled"),
            Self::InvalidReference => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_reference"),
            // The order does not exist because of its contents, so this is not a 404.
            Self::UnknownCustomer => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_customer"),
            Self::Product(ProductError::Unknown) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unknown_product")
            }
            Self::ReferenceTaken => (StatusCode::CONFLICT, "reference_taken"),
            Self::Product(refusal) => refusal.code(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    #[default]
    Placed,
    Shipped,
    Cancelled,
}

#[derive(Debug, Clone, Default)]
pub struct Order {
    /// `None` until the order is placed.
    pub placed: Option<Placement>,
    pub status: OrderStatus,
}

impl Order {
    /// The value that is unique among all orders.
    pub fn unique_reference(&self) -> Option<String> {
        let placed = self.placed.as_ref()?;
        placed.reference.as_ref().map(|reference| format!("{}\n{reference}", placed.customer))
    }

    fn check_open(&self) -> Result<&Placement, OrderError> {
        let placed = self.placed.as_ref().ok_or(OrderError::Unknown)?;
        match self.status {
            OrderStatus::Placed => Ok(placed),
            OrderStatus::Shipped => Err(OrderError::AlreadyShipped),
            OrderStatus::Cancelled => Err(OrderError::Cancelled),
        }
    }
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Command = OrderCommand;
    type Error = OrderError;

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed(placement) => self.placed = Some(placement),
            OrderEvent::Shipped => self.status = OrderStatus::Shipped,
            OrderEvent::Cancelled { .. } => self.status = OrderStatus::Cancelled,
        }
    }

    fn handle(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
        let event = match command {
            OrderCommand::Place(_) if self.placed.is_some() => {
                return Err(OrderError::AlreadyPlaced);
            }
            OrderCommand::Place(placement) => {
                let reference = placement.reference.as_ref();
                if reference.is_some_and(|text| !(1..=100).contains(&text.chars().count())) {
                    return Err(OrderError::InvalidReference);
                }
                OrderEvent::Placed(placement.clone())
            }
            OrderCommand::Ship => {
                self.check_open()?;
                OrderEvent::Shipped
            }
            OrderCommand::Cancel => {
                let Placement { product, quantity, .. } = self.check_open()?.clone();
                OrderEvent::Cancelled { product, quantity }
            }
        };
        Ok(vec![event])
    }
}
