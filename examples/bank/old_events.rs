//! Upcasters for old events. Stored events are never changed.

use annals::UpcastError;
use annals::prelude::*;
use serde::Deserialize;
use serde_json::json;

use crate::account::AccountEvent;

/// A deposit in its old form: in whole euros, without a description.
#[derive(Deserialize)]
struct EurosDeposited {
    euros: i64,
}

/// Deposits used to be called `Deposited`, with amounts in euros.
pub(crate) fn upcasters() -> Result<Upcasters, UpcastError> {
    Upcasters::builder()
        .reads::<AccountEvent>()
        .renamed("Deposited", 1, ("MoneyDeposited", 1))
        .json("MoneyDeposited", 1, |old: EurosDeposited| {
            let cents = old.euros.checked_mul(100).ok_or("more than an account can hold")?;
            Ok(json!({ "amount": cents, "description": "before there were cents" }))
        })
        .build()
}
