//! Typed events: encodes values as payloads and decodes them, as JSON, bincode, or in a codec of
//! the application.

mod strict;
mod binary;
mod codecs;
mod variant;
mod domain;
mod kinds;
mod union;

pub(crate) use codecs::encode_readable;
pub use codecs::{Bincode, Codec, Json};
pub(crate) use domain::reread;
#[cfg(feature = "testing")]
pub(crate) use domain::with_tags;
pub use domain::{
    DomainEvent, EncodedEvent, EventKind, TypedEvent, Undecodable, decode_value, decode_variant,
    encode_value, encode_variant,
};
pub use kinds::check_kinds;
pub use union::{count_kinds, has_type_of, join_kinds};
pub use variant::VariantName;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Cause, Error, Result};
use crate::model::{ContentType, EventRef, EventType, NewEvent, RecordedEvent};

impl NewEvent {
    /// Creates an event whose payload is a value as JSON.
    ///
    /// A number that is not finite is rejected. Unlike [`DomainEvent::encode`], this does not check
    /// that the payload decodes.
    ///
    /// ```
    /// use annals::NewEvent;
    /// let event = NewEvent::json("MoneyDeposited", &serde_json::json!({ "amount": 1000 }))?;
    /// assert_eq!(event.content_type().as_str(), "application/json");
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// The event type is not a valid name, or the value cannot be encoded as JSON.
    pub fn json<T>(event_type: T, payload: &impl Serialize) -> Result<Self>
    where
        T: TryInto<EventType, Error: Into<Error>>,
    {
        let event_type = event_type.try_into().map_err(Into::into)?;
        let payload = domain::encode_payload::<Json>(&event_type, payload)?;
        Ok(Self::new(event_type, payload).with_content_type(ContentType::JSON))
    }

    /// Creates an event whose payload is bytes that only the application understands.
    ///
    /// # Errors
    /// The event type is not a valid name.
    pub fn bytes<T>(event_type: T, payload: impl Into<Vec<u8>>) -> Result<Self>
    where
        T: TryInto<EventType, Error: Into<Error>>,
    {
        Ok(Self::new(event_type.try_into().map_err(Into::into)?, payload))
    }
}

impl RecordedEvent {
    /// Decodes the payload as JSON.
    ///
    /// # Errors
    /// [`Error::Payload`], with type and position, if the payload is not JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        self.as_ref().json()
    }
}

impl EventRef<'_> {
    /// Decodes the payload as JSON.
    ///
    /// # Errors
    /// [`Error::Payload`], with type and position, if the payload is not JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.payload()).map_err(|cause| Error::Payload {
            event_type: EventType::trusted(self.event_type()),
            position: Some(self.position()),
            cause: Cause::new(cause),
        })
    }
}
