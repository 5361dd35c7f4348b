//! Products: how many of each are in stock. Orders reserve them, and cancelled orders return them.

use annals::prelude::*;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::failure::Rejection;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ProductEvent {
    Added { name: String },
    StockAdded { quantity: u64 },
    StockReserved { order: String, quantity: u64 },
    StockReturned { order: String, quantity: u64 },
}
domain_events! { ProductEvent {
    Added => "ProductAdded",
    StockAdded => "StockAdded",
    StockReserved => "StockReserved",
    StockReturned => "StockReturned",
} }

#[derive(Debug)]
pub enum ProductCommand {
    Add { name: String },
    AddStock { quantity: u64 },
    Reserve { order: String, quantity: u64 },
    Return { order: String, quantity: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProductError {
    #[error("there is no such product")]
    Unknown,
    #[error("the product exists already")]
    AlreadyAdded,
    #[error("a name has 1 to 100 characters")]
    InvalidName,
    #[error("a quantity is 1 to {QUANTITY_MAX}")]
    InvalidQuantity,
    #[error("{quantity} were ordered, but {stock} are in stock")]
    OutOfStock { quantity: u64, stock: u64 },
}

pub const QUANTITY_MAX: u64 = 1_000_000;

impl Rejection for ProductError {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "unknown_product"),
            Self::AlreadyAdded => (StatusCode::CONFLICT, "already_added"),
            Self::InvalidName => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_name"),
            Self::InvalidQuantity => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_quantity"),
            Self::OutOfStock { .. } => (StatusCode::CONFLICT, "out_of_stock"),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Product {
    /// `None` until the product is added.
    pub name: Option<String>,
    pub stock: u64,
}

impl Aggregate for Product {
    const CATEGORY: &'static str = "product";
    type Event = ProductEvent;
    type Command = ProductCommand;
    type Error = ProductError;

    fn apply(&mut self, event: ProductEvent) {
        match event {
            ProductEvent::Added { name } => self.name = Some(name),
            ProductEvent::StockAdded { quantity }
            | ProductEvent::StockReturned { quantity, .. } => {
                self.stock += quantity;
            }
            ProductEvent::StockReserved { quantity, .. } => self.stock -= quantity,
        }
    }

    fn handle(&self, command: &ProductCommand) -> Result<Vec<ProductEvent>, ProductError> {
        if let ProductCommand::Add { name } = command {
            let name = name.trim().to_owned();
            if self.name.is_some() {
                return Err(ProductError::AlreadyAdded);
            }
            if !(1..=100).contains(&name.chars().count()) {
                return Err(ProductError::InvalidName);
            }
            return Ok(vec![ProductEvent::Added { name }]);
        }
        if self.name.is_none() {
            return Err(ProductError::Unknown);
        }
        Ok(match command {
            ProductCommand::Add { .. } => Vec::new(),
            ProductCommand::AddStock { quantity } => {
                check_quantity(*quantity)?;
                vec![ProductEvent::StockAdded { quantity: *quantity }]
            }
            ProductCommand::Reserve { order, quantity } => {
                let (quantity, stock) = (*quantity, self.stock);
                check_quantity(quantity)?;
                if quantity > stock {
                    return Err(ProductError::OutOfStock { quantity, stock });
                }
                vec![ProductEvent::StockReserved { order: order.clone(), quantity }]
            }
            ProductCommand::Return { order, quantity } => {
                vec![ProductEvent::StockReturned { order: order.clone(), quantity: *quantity }]
            }
        })
    }
}

fn check_quantity(quantity: u64) -> Result<(), ProductError> {
    if (1..=QUANTITY_MAX).contains(&quantity) { Ok(()) } else { Err(ProductError::InvalidQuantity) }
}
