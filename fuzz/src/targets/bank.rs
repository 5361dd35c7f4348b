//! Domain events of every form that serde supports, and an aggregate of them.

use std::collections::BTreeMap;

use annals::{Aggregate, Bincode};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum BankEvent {
    Opened { owner: String, limit: Option<i64> },
    Deposited(u64),
    Moved(String, i32, bool),
    Closed,
    Noted { notes: BTreeMap<String, Vec<Note>>, by: Option<Box<Note>> },
    Signed(#[serde(with = "bytes")] Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Note {
    Text(String),
    Letter(char),
    Sum { of: u128, at: i16 },
    Nothing,
}

/// As a byte-string crate does it.
mod bytes {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }

        from.deserialize_byte_buf(Bytes)
    }
}

annals::domain_events! { codec Bincode; BankEvent {
    Opened => "Opened",
    Deposited => "Deposited" version 2,
    Moved => "Moved",
    Closed => "Closed",
    Noted => "Noted",
    Signed => "Signed",
} }

/// The events read of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) balance: u64,
    pub(super) owners: Vec<String>,
    pub(super) last: Option<BankEvent>,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = BankEvent;
    type Command = BankEvent;
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: BankEvent) {
        match &event {
            BankEvent::Deposited(amount) => self.balance = self.balance.wrapping_add(*amount),
            BankEvent::Opened { owner, .. } => self.owners.push(owner.clone()),
            _ => {}
        }
        self.last = Some(event);
    }

    fn handle(&self, command: &BankEvent) -> Result<Vec<BankEvent>, std::convert::Infallible> {
        Ok(vec![command.clone()])
    }
}
