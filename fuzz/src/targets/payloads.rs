//! Payloads of typed events: any bytes become an event of the application or an error, with memory
//! in proportion to them; and a decoded event encodes and decodes to the same event.

use annals::{DomainEvent, EncodedEvent, StepError, Upcasters};
use serde_json::{Value, json};

use super::bank::BankEvent;
use crate::allocation::within;
use crate::input::Input;

/// `src/format/value.rs` limits the memory that bincode reserves for a claimed length; serde
/// reserves up to 1 MiB for each open list. An element of a list takes at least a byte of the
/// payload, and as much memory as the application's type does.
fn bound(payload: &[u8]) -> usize {
    let told = if payload.len() <= 64 << 10 { 1 << 20 } else { 1 << 30 };
    told + (3 << 20) + 256 * payload.len()
}

pub fn payloads(data: &[u8]) {
    let mut input = Input::new(data);
    let kinds = BankEvent::KINDS;
    let kind = kinds[input.below(kinds.len())];
    let content_type = input.of(&["application/x-bincode", "application/json", "text/plain"]);
    let stored = EncodedEvent {
        event_type: kind.event_type.into(),
        schema_version: if input.byte() == 255 { 9 } else { kind.schema_version },
        content_type: content_type.into(),
        payload: input.rest().into(),
    };
    let bound = bound(&stored.payload);
    if let Ok(event) = within(bound, "decoding a payload", || BankEvent::decode(&stored)) {
        let again = event.encode().expect("what was decoded is encoded");
        let recoded = EncodedEvent {
            content_type: again.content_type().as_str().into(),
            payload: again.payload().into(),
            ..stored.clone()
        };
        assert_eq!(BankEvent::decode(&recoded).expect("and decoded again"), event);
    }
    // An upcaster receives the same bytes first.
    let old = EncodedEvent { event_type: "Deposited".into(), schema_version: 1, ..stored };
    let upcast = within(bound + (64 << 10), "upcasting", || upcasters().apply(old.clone()));
    if let Ok(events) = upcast {
        assert!(old.json::<Value>().is_ok() && events.len() == 1);
    }
}

fn upcasters() -> Upcasters {
    let step = |old: Value| -> Result<Value, StepError> {
        let euros = old["euros"].as_u64().ok_or("the amount is no whole number")?;
        Ok(json!(euros.checked_mul(100).ok_or("it is too large")?))
    };
    Upcasters::builder().reads::<BankEvent>().json("Deposited", 1, step).build().unwrap()
}
