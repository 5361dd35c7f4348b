//! [`DomainEvent`]: events as values of the application's own types, and
//! [`domain_events!`](crate::domain_events), which implements it for a serde enum.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codecs::{Bincode, Codec, Json, not_read_back};
use super::variant::{Fields, OfVariant, VariantName};
use crate::error::{Cause, Error, Result};
use crate::model::{ContentType, EventRef, EventType, NewEvent, REDACTED, RecordedEvent};

/// The name under which a kind of event is stored, and its current schema version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKind {
    /// The event type, as it is stored with every event.
    pub event_type: &'static str,
    /// The version of the payload's shape; the first is 1.
    pub schema_version: u32,
}

/// The type and payload of a stored event: the input and output of upcasters, from which a
/// [`DomainEvent`] is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent<'a> {
    /// Its event type.
    pub event_type: Cow<'a, str>,
    /// The version of its payload's shape.
    pub schema_version: u32,
    /// The format of its payload.
    pub content_type: Cow<'a, str>,
    /// Its payload.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> EncodedEvent<'a> {
    /// Creates an event whose payload is a value as JSON, for an upcaster to yield.
    ///
    /// # Errors
    /// [`Error::Payload`]: the value cannot be encoded as JSON. An invalid argument: the event type
    /// is not a valid name.
    pub fn new_json(
        event_type: impl Into<Cow<'a, str>>,
        schema_version: u32,
        value: &impl Serialize,
    ) -> Result<Self> {
        Self::write::<Json>(event_type.into(), schema_version, value)
    }

    /// Creates an event whose payload is a value as bincode, for an upcaster to yield.
    ///
    /// # Errors
    /// [`Error::Payload`]: the value cannot be encoded as bincode. An invalid argument: the event
    /// type is not a valid name.
    pub fn new_bincode(
        event_type: impl Into<Cow<'a, str>>,
        schema_version: u32,
        value: &impl Serialize,
    ) -> Result<Self> {
        Self::write::<Bincode>(event_type.into(), schema_version, value)
    }

    /// Decodes the payload as JSON.
    ///
    /// # Errors
    /// [`Undecodable`]: the payload has another content type, or does not decode.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        self.read::<Json, T>()
    }

    /// Decodes the payload as bincode.
    ///
    /// # Errors
    /// [`Undecodable`]: the payload has another content type, or does not decode.
    pub fn bincode<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        self.read::<Bincode, T>()
    }

    /// Decodes the payload with this codec only: bytes of another codec might decode by accident.
    pub(crate) fn read<C: Codec, T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        let expected = C::content_type();
        if self.content_type == REDACTED {
            return Err(Undecodable::Redacted);
        }
        if self.content_type != expected.as_str() {
            let found = self.content_type.clone().into_owned();
            return Err(Undecodable::OtherContentType { found, expected });
        }
        C::decode(&self.payload).map_err(|cause| Undecodable::Payload { cause })
    }

    pub(crate) fn write<C: Codec>(
        event_type: Cow<'a, str>,
        schema_version: u32,
        value: &impl Serialize,
    ) -> Result<Self> {
        let payload = Cow::Owned(encode_payload::<C>(&EventType::new(&event_type)?, value)?);
        let content_type = Cow::Owned(C::content_type().as_str().to_owned());
        Ok(Self { event_type, schema_version, content_type, payload })
    }
}

impl<'a> From<EventRef<'a>> for EncodedEvent<'a> {
    fn from(event: EventRef<'a>) -> Self {
        Self {
            event_type: Cow::Borrowed(event.event_type()),
            schema_version: event.schema_version(),
            content_type: Cow::Borrowed(event.content_type()),
            payload: Cow::Borrowed(event.payload()),
        }
    }
}

/// Why a stored event cannot be decoded as one of a set of domain events.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Undecodable {
    /// The code knows no event of this type.
    #[error(
        "the code knows no event of this type: name it in domain_events!, or have an upcaster rename or drop it"
    )]
    UnknownType,
    /// The code reads this type, but in another schema version.
    #[error(
        "the code reads schema version {known} of it: {}",
        if found < known {
            "an upcaster is missing"
        } else {
            "this program is older than the one that wrote it, \
             or domain_events! still names an older version"
        }
    )]
    OtherSchemaVersion {
        /// The schema version of the stored event.
        found: u32,
        /// The schema version that the code reads.
        known: u32,
    },
    /// The event was redacted: see [`Store::delete`](crate::Store::delete).
    #[error("it was redacted: skip it, or let an upcaster replace its content")]
    Redacted,
    /// The payload has a content type for which the code has no codec.
    #[error(
        "no codec for the content type {content_type}: JSON and bincode are always read, another codec must be named \
         in domain_events!; when you append by hand, declare the format using with_content_type"
    )]
    UnknownContentType {
        /// The content type.
        content_type: String,
    },
    /// The payload has another content type than it is read as.
    #[error(
        "its content type is {found}, but it is read as {expected}: let an upcaster convert it, or read it as \
         {found}"
    )]
    OtherContentType {
        /// The content type of the payload.
        found: String,
        /// The content type that it is read as.
        expected: ContentType,
    },
    /// The payload does not decode.
    #[error("its payload does not decode: {cause}")]
    Payload {
        /// The error of the codec.
        #[source]
        cause: Cause,
    },
}

/// Events as values of the application: usually an enum, for which
/// [`domain_events!`](crate::domain_events) implements it.
///
/// Implement it by hand for payloads that serde should not handle, such as raw bytes:
///
/// ```
/// use annals::prelude::*;
/// use annals::{DomainEvent, EventKind, EncodedEvent, Undecodable};
///
/// struct ImageScanned(Vec<u8>);
///
/// impl DomainEvent for ImageScanned {
///     const KINDS: &'static [EventKind] = &[EventKind { event_type: "ImageScanned", schema_version: 1 }];
///
///     fn encode(&self) -> annals::Result<NewEvent> {
///         NewEvent::bytes("ImageScanned", self.0.clone())
///     }
///     fn decode(stored: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
///         Ok(Self(stored.payload.to_vec()))
///     }
/// }
/// ```
pub trait DomainEvent: Sized {
    /// The type and schema version of each kind of event.
    const KINDS: &'static [EventKind];

    /// Encodes the event to append.
    ///
    /// The implementation by [`domain_events!`](crate::domain_events) also adds its tags, and decodes
    /// it once, so that an event that cannot be read is never stored. It does not compare the values.
    ///
    /// # Errors
    /// [`Error::Payload`]: the codec cannot encode the value, or cannot decode the result.
    fn encode(&self) -> Result<NewEvent>;

    /// The tags under which the event is found, such as `course:c1`; none by default. An event is
    /// stored with them, so that a decision about a tag depends on it: see
    /// [`DecisionModel`](crate::DecisionModel).
    ///
    /// Derive them from the event alone. The tags of stored events never change, not even when
    /// this method does. They are stored as text, so put no personal data into them. With
    /// [`domain_events!`](crate::domain_events), state them in its clause `tags`. An invalid tag is
    /// refused when the event is appended.
    ///
    /// If you implement [`DomainEvent::encode`] by hand, it need not add them: commands, decisions
    /// and the testing kit do. Code that calls `encode` itself then calls
    /// [`NewEvent::with_tag`] too.
    fn tags(&self) -> Vec<String> {
        Vec::new()
    }

    /// Encodes the event to append with its tags, and decodes the value that a reader will get.
    #[doc(hidden)]
    fn encode_and_read(&self) -> Result<(NewEvent, Self)> {
        let event = with_tags(self.encode()?, self);
        let read = reread(&event)?;
        Ok((event, read))
    }

    /// Decodes a stored event that is one of [`DomainEvent::KINDS`].
    ///
    /// # Errors
    /// [`Undecodable`] gives the reason.
    fn decode(stored: &EncodedEvent<'_>) -> Result<Self, Undecodable>;

    /// Checks that a stored event is one of [`DomainEvent::KINDS`], in its current schema version.
    ///
    /// # Errors
    /// [`Undecodable::UnknownType`] or [`Undecodable::OtherSchemaVersion`].
    fn check_kind(stored: &EncodedEvent<'_>) -> Result<(), Undecodable> {
        let kind = Self::KINDS.iter().find(|kind| kind.event_type == stored.event_type);
        let known = kind.ok_or(Undecodable::UnknownType)?.schema_version;
        let found = stored.schema_version;
        if found == known { Ok(()) } else { Err(Undecodable::OtherSchemaVersion { found, known }) }
    }
}

/// A domain event with the [`RecordedEvent`] from which it was decoded, which it dereferences to
/// (see [`Deref`]).
#[derive(Debug, Clone)]
pub struct TypedEvent<E> {
    /// The domain event.
    pub event: E,
    recorded: Arc<RecordedEvent>,
}

impl<E> TypedEvent<E> {
    /// Combines a domain event with the recorded event from which it was decoded.
    pub fn new(event: E, recorded: Arc<RecordedEvent>) -> Self {
        Self { event, recorded }
    }
}

impl<E> Deref for TypedEvent<E> {
    type Target = RecordedEvent;

    fn deref(&self) -> &RecordedEvent {
        &self.recorded
    }
}

/// Implements [`DomainEvent`] for an enum that derives `Serialize` and `Deserialize`.
///
/// It names the event type under which each variant is stored. A missing variant or a duplicate
/// event type does not compile.
///
/// The payload is the variant's own fields. The name of the enum and the names of its variants are
/// not stored, so you may rename them in the code, as long as the event types to the right of `=>`
/// stay the same.
///
/// ```
/// use annals::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum AccountEvent {
///     AccountCreated { owner_id: String },
///     MoneyDeposited { amount: i64, #[serde(default)] description: String },
///     Closed,
/// }
///
/// annals::domain_events! { AccountEvent {
///     AccountCreated => "AccountCreated",
///     MoneyDeposited => "MoneyDeposited" version 2,
///     Closed => "AccountClosed",
/// } }
///
/// let event = AccountEvent::MoneyDeposited { amount: 1000, description: "salary".into() }.encode()?;
/// assert_eq!(event.payload(), br#"{"amount":1000,"description":"salary"}"#);
/// assert_eq!((event.event_type().as_str(), event.schema_version()), ("MoneyDeposited", 2));
/// # Ok::<(), annals::Error>(())
/// ```
///
/// Payloads are JSON unless another [`Codec`] is named in front. This codec encodes new events.
/// Stored events are decoded by their content type, so a store may contain both formats.
///
/// ```
/// # use annals::DomainEvent;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct MoneyDeposited { amount: i64 }
/// annals::domain_events! { codec annals::Bincode; MoneyDeposited => "MoneyDeposited" }
///
/// assert_eq!(MoneyDeposited { amount: 7 }.encode()?.payload(), [14]);
/// # Ok::<(), annals::Error>(())
/// ```
///
/// The clause `tags` states the tags of each event ([`DomainEvent::tags`]), as a function or a
/// closure from the event to a `Vec<String>`. It comes after the codec, if there is one.
///
/// ```
/// # use annals::DomainEvent;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum CourseEvent {
///     Defined { course: String, capacity: u32 },
///     Enrolled { course: String, student: String },
/// }
/// annals::domain_events! {
///     tags |event| match event {
///         CourseEvent::Defined { course, .. } => vec![format!("course:{course}")],
///         CourseEvent::Enrolled { course, student } => {
///             vec![format!("course:{course}"), format!("student:{student}")]
///         }
///     };
///     CourseEvent { Defined => "CourseDefined", Enrolled => "StudentEnrolled" }
/// }
///
/// let enrolled = CourseEvent::Enrolled { course: "c1".into(), student: "s1".into() };
/// assert_eq!(enrolled.encode()?.tags(), ["course:c1", "student:s1"]);
/// # Ok::<(), annals::Error>(())
/// ```
///
/// A single struct can be an event:
/// `annals::domain_events! { MoneyDeposited => "MoneyDeposited" }`. A generic type needs an alias
/// without parameters: `type BankEvent = AccountEvent<Cents>;`.
///
/// Variants may have any form, with serde attributes on their fields. In JSON, a variant with named
/// fields is an object; one without fields is an empty object, which may get fields with
/// `#[serde(default)]` later; one with a single unnamed field is the value of that field; and one
/// with several unnamed fields is an array.
///
/// Serde attributes that change the names of variants (`rename`, `rename_all`) or the form of the
/// enum (`tag`, `untagged`) are not supported: encoding or decoding an event fails. A test that
/// encodes one event of each enum detects this.
///
/// A missing variant does not compile:
///
/// ```compile_fail
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// enum AccountEvent { Opened, Closed }
/// annals::domain_events! { AccountEvent { Opened => "Opened" } }
/// ```
///
/// Two variants with the same event type do not compile:
///
/// ```compile_fail
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// enum AccountEvent { Opened, Closed }
/// annals::domain_events! { AccountEvent { Opened => "Opened", Closed => "Opened" } }
/// ```
///
/// A schema version of 0 does not compile:
///
/// ```compile_fail
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// enum AccountEvent { Opened, Closed }
/// annals::domain_events! { AccountEvent { Opened => "Opened", Closed => "Closed" version 0 } }
/// ```
#[macro_export]
macro_rules! domain_events {
    (codec $codec:ty; tags $tags:expr; $($events:tt)+) => {
        $crate::domain_events! { @of $codec; ($tags) $($events)+ }
    };
    (codec $codec:ty; $($events:tt)+) => { $crate::domain_events! { @of $codec; () $($events)+ } };
    (tags $tags:expr; $($events:tt)+) => {
        $crate::domain_events! { @of $crate::Json; ($tags) $($events)+ }
    };
    ($events:ident { $($variants:tt)+ }) => {
        $crate::domain_events! { @of $crate::Json; () $events { $($variants)+ } }
    };
    ($event:ident => $($kind:tt)+) => {
        $crate::domain_events! { @of $crate::Json; () $event => $($kind)+ }
    };
    (@of $codec:ty; ($($tags:expr)?) $events:ident {
        $($variant:ident => $name:literal $(version $version:literal)?),+ $(,)?
    }) => {
        impl $crate::DomainEvent for $events {
            const KINDS: &'static [$crate::EventKind] =
                &[$($crate::domain_events!(@kind $name $(version $version)?)),+];

            fn encode(&self) -> $crate::Result<$crate::NewEvent> {
                $crate::DomainEvent::encode_and_read(self).map(|(event, _)| event)
            }

            fn encode_and_read(&self) -> $crate::Result<($crate::NewEvent, Self)> {
                let (variant, kind) = match self {
                    $(Self::$variant { .. } => (
                        stringify!($variant),
                        $crate::domain_events!(@kind $name $(version $version)?),
                    )),+
                };
                $crate::codec::encode_variant::<$codec, Self>(self, variant, kind)
            }

            $($crate::domain_events! { @tags $tags })?

            fn decode(
                stored: &$crate::EncodedEvent<'_>,
            ) -> ::core::result::Result<Self, $crate::Undecodable> {
                <Self as $crate::DomainEvent>::check_kind(stored)?;
                match &*stored.event_type {
                    $($name => {
                        struct Variant;
                        impl $crate::codec::VariantName for Variant {
                            const NAME: &'static str = stringify!($variant);
                        }
                        $crate::codec::decode_variant::<$codec, Self, Variant>(stored)
                    })+
                    _ => Err($crate::Undecodable::UnknownType),
                }
            }
        }
        const _: () = $crate::codec::check_kinds(<$events as $crate::DomainEvent>::KINDS);
    };
    (@of $codec:ty; ($($tags:expr)?) $event:ident => $name:literal $(version $version:literal)?) => {
        impl $crate::DomainEvent for $event {
            const KINDS: &'static [$crate::EventKind] =
                &[$crate::domain_events!(@kind $name $(version $version)?)];

            fn encode(&self) -> $crate::Result<$crate::NewEvent> {
                $crate::DomainEvent::encode_and_read(self).map(|(event, _)| event)
            }

            fn encode_and_read(&self) -> $crate::Result<($crate::NewEvent, Self)> {
                let kind = $crate::domain_events!(@kind $name $(version $version)?);
                $crate::codec::encode_value::<$codec, Self>(self, kind)
            }

            $($crate::domain_events! { @tags $tags })?

            fn decode(
                stored: &$crate::EncodedEvent<'_>,
            ) -> ::core::result::Result<Self, $crate::Undecodable> {
                <Self as $crate::DomainEvent>::check_kind(stored)?;
                $crate::codec::decode_value::<$codec, Self>(stored)
            }
        }
        const _: () = $crate::codec::check_kinds(<$event as $crate::DomainEvent>::KINDS);
    };
    (@tags $tags:expr) => {
        fn tags(&self) -> ::std::vec::Vec<::std::string::String> {
            let tags: fn(&Self) -> ::std::vec::Vec<::std::string::String> = $tags;
            tags(self)
        }
    };
    (@kind $name:literal) => { $crate::domain_events!(@kind $name version 1) };
    (@kind $name:literal version $version:literal) => {
        $crate::EventKind { event_type: $name, schema_version: $version }
    };
}

#[doc(hidden)]
pub fn encode_variant<C: Codec, E: DomainEvent + Serialize>(
    event: &E,
    variant: &'static str,
    kind: EventKind,
) -> Result<(NewEvent, E)> {
    encode_fields::<C, E>(event, &Fields { value: event, variant }, kind)
}

#[doc(hidden)]
pub fn encode_value<C: Codec, E: DomainEvent + Serialize>(
    event: &E,
    kind: EventKind,
) -> Result<(NewEvent, E)> {
    encode_fields::<C, E>(event, event, kind)
}

fn encode_fields<C: Codec, E: DomainEvent>(
    value: &E,
    fields: &impl Serialize,
    kind: EventKind,
) -> Result<(NewEvent, E)> {
    let event_type = EventType::new(kind.event_type)?;
    let payload = encode_payload::<C>(&event_type, fields)?;
    let event = NewEvent::new(event_type, payload)
        .with_content_type(C::content_type())
        .with_schema_version(kind.schema_version);
    let event = with_tags(event, value);
    let read = reread(&event)?;
    Ok((event, read))
}

/// Adds the tags of a domain event that its encoded form does not have yet.
pub(crate) fn with_tags<E: DomainEvent>(encoded: NewEvent, event: &E) -> NewEvent {
    event.tags().into_iter().fold(encoded, |encoded, tag| {
        if encoded.tags().contains(&tag) { encoded } else { encoded.with_tag(tag) }
    })
}

/// Decodes the value that a reader of the event will get. An error means that the event would be
/// unreadable once stored.
pub(crate) fn reread<E: DomainEvent>(event: &NewEvent) -> Result<E> {
    let stored = EncodedEvent {
        event_type: Cow::Borrowed(event.event_type().as_str()),
        schema_version: event.schema_version(),
        content_type: Cow::Borrowed(event.content_type().as_str()),
        payload: Cow::Borrowed(event.payload()),
    };
    E::check_kind(&stored).and_then(|()| E::decode(&stored)).map_err(|why| {
        let cause = match why {
            Undecodable::Payload { cause } => cause,
            why => Cause::new(why),
        };
        Error::Payload {
            event_type: event.event_type().clone(),
            position: None,
            cause: not_read_back(event.content_type().clone(), cause),
        }
    })
}

pub(super) fn encode_payload<C: Codec>(
    event_type: &EventType,
    value: &impl Serialize,
) -> Result<Vec<u8>> {
    C::encode(value).map_err(|cause| Error::Payload {
        event_type: event_type.clone(),
        position: None,
        cause,
    })
}

#[doc(hidden)]
pub fn decode_variant<C: Codec, E: DeserializeOwned, N: VariantName>(
    stored: &EncodedEvent<'_>,
) -> Result<E, Undecodable> {
    decode_value::<C, OfVariant<E, N>>(stored).map(|decoded| decoded.value)
}

/// Decodes a payload with the codec that its content type names, which may differ from the codec
/// that encodes new events.
#[doc(hidden)]
pub fn decode_value<C: Codec, T: DeserializeOwned>(
    stored: &EncodedEvent<'_>,
) -> Result<T, Undecodable> {
    let content_type = &*stored.content_type;
    let decoded = if content_type == C::content_type().as_str() {
        C::decode(&stored.payload)
    } else if content_type == ContentType::JSON.as_str() {
        Json::decode(&stored.payload)
    } else if content_type == ContentType::BINCODE.as_str() {
        Bincode::decode(&stored.payload)
    } else if content_type == REDACTED {
        return Err(Undecodable::Redacted);
    } else {
        return Err(Undecodable::UnknownContentType { content_type: content_type.to_owned() });
    };
    decoded.map_err(|cause| Undecodable::Payload { cause })
}
