//! [`domain_event_union!`](crate::domain_event_union): one set of events made of several enums.

use super::domain::{DomainEvent, EncodedEvent, EventKind};

/// Defines an enum that combines several [`DomainEvent`]s, its members, into one.
///
/// Use it for a projection, reactor, aggregate or [`Decoder`](crate::Decoder) that reads the events
/// of several enums. The union has the kinds of all its members, so no event type or schema version
/// is repeated. Each event is encoded and decoded by the member that has its type, with the codec
/// of that member, and has the tags that the member states. The union itself stores nothing: an
/// event has the same bytes either way.
///
/// ```
/// use annals::prelude::*;
/// use annals::Decoder;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum OrderEvent { Placed { product: String }, Cancelled }
/// annals::domain_events! { OrderEvent { Placed => "OrderPlaced", Cancelled => "OrderCancelled" } }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum ProductEvent { Renamed { name: String } }
/// annals::domain_events! { codec annals::Bincode; ProductEvent { Renamed => "ProductRenamed" } }
///
/// annals::domain_event_union! {
///     /// What happens in the shop.
///     #[derive(Debug, PartialEq)]
///     enum ShopEvent {
///         Order(OrderEvent),
///         Product(ProductEvent),
///     }
/// }
///
/// let store = MemoryStore::new();
/// let placed = OrderEvent::Placed { product: "tea".into() };
/// let renamed = ProductEvent::Renamed { name: "Green tea".into() };
/// store.append("order-1", ExpectedVersion::NoStream, [placed.encode()?])?;
/// store.append("product-tea", ExpectedVersion::NoStream, [renamed.encode()?])?;
///
/// let events = Decoder::<ShopEvent>::new().iter(store.read_log());
/// let events: Vec<_> = events.map(|event| event.map(|it| it.event)).collect::<Result<_, _>>()?;
/// assert_eq!(events, [
///     ShopEvent::Order(OrderEvent::Placed { product: "tea".into() }),
///     ShopEvent::from(ProductEvent::Renamed { name: "Green tea".into() }),
/// ]);
/// # Ok::<(), annals::Error>(())
/// ```
///
/// Each variant holds one member: a type that implements [`DomainEvent`], by
/// [`domain_events!`](crate::domain_events), by hand, or as a union itself. The union has the given
/// visibility and attributes, and implements [`From`] for each member. It needs no serde traits.
///
/// Upcasters work as for one enum. Declare the events with
/// [`reads`](crate::UpcastersBuilder::reads), as the union or as its members; a step may lead from
/// an event of one member to one of another.
///
/// Two members with the same event type do not compile; the error names the type:
///
/// ```compile_fail
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct OrderPlaced {}
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct OrderReceived {}
/// annals::domain_events! { OrderPlaced => "OrderPlaced" }
/// annals::domain_events! { OrderReceived => "OrderPlaced" }
/// annals::domain_event_union! { enum ShopEvent { Placed(OrderPlaced), Received(OrderReceived) } }
/// ```
#[macro_export]
macro_rules! domain_event_union {
    ($(#[$attribute:meta])* $visibility:vis enum $union:ident {
        $($(#[$of_variant:meta])* $variant:ident($member:ty)),+ $(,)?
    }) => {
        $(#[$attribute])*
        $visibility enum $union {
            $($(#[$of_variant])* $variant($member)),+
        }

        impl $crate::DomainEvent for $union {
            const KINDS: &'static [$crate::EventKind] = {
                const MEMBERS: &[&[$crate::EventKind]] =
                    &[$(<$member as $crate::DomainEvent>::KINDS),+];
                const KINDS: [$crate::EventKind; $crate::codec::count_kinds(MEMBERS)] =
                    $crate::codec::join_kinds(MEMBERS);
                &KINDS
            };

            fn encode(&self) -> $crate::Result<$crate::NewEvent> {
                match self {
                    $(Self::$variant(event) => $crate::DomainEvent::encode(event)),+
                }
            }

            fn tags(&self) -> ::std::vec::Vec<::std::string::String> {
                match self {
                    $(Self::$variant(event) => $crate::DomainEvent::tags(event)),+
                }
            }

            fn encode_and_read(&self) -> $crate::Result<($crate::NewEvent, Self)> {
                match self {
                    $(Self::$variant(event) => {
                        let (event, read) = $crate::DomainEvent::encode_and_read(event)?;
                        Ok((event, Self::$variant(read)))
                    })+
                }
            }

            fn decode(
                stored: &$crate::EncodedEvent<'_>,
            ) -> ::core::result::Result<Self, $crate::Undecodable> {
                $(if $crate::codec::has_type_of::<$member>(stored) {
                    return <$member as $crate::DomainEvent>::decode(stored).map(Self::$variant);
                })+
                Err($crate::Undecodable::UnknownType)
            }

            fn check_kind(
                stored: &$crate::EncodedEvent<'_>,
            ) -> ::core::result::Result<(), $crate::Undecodable> {
                $(if $crate::codec::has_type_of::<$member>(stored) {
                    return <$member as $crate::DomainEvent>::check_kind(stored);
                })+
                Err($crate::Undecodable::UnknownType)
            }
        }
        const _: () = $crate::codec::check_kinds(<$union as $crate::DomainEvent>::KINDS);

        $(impl ::core::convert::From<$member> for $union {
            fn from(event: $member) -> Self {
                Self::$variant(event)
            }
        })+
    };
}

/// How many kinds the members of a union have together.
#[doc(hidden)]
#[expect(clippy::indexing_slicing, reason = "it runs in the compiler")]
pub const fn count_kinds(members: &[&[EventKind]]) -> usize {
    let (mut count, mut member) = (0, 0);
    while member < members.len() {
        count += members[member].len();
        member += 1;
    }
    count
}

/// The kinds of all members of a union, in order. `N` is their count.
#[doc(hidden)]
#[expect(clippy::indexing_slicing, reason = "it runs in the compiler")]
pub const fn join_kinds<const N: usize>(members: &[&[EventKind]]) -> [EventKind; N] {
    let mut kinds = [EventKind { event_type: "", schema_version: 0 }; N];
    let (mut count, mut member) = (0, 0);
    while member < members.len() {
        let mut at = 0;
        while at < members[member].len() {
            kinds[count] = members[member][at];
            count += 1;
            at += 1;
        }
        member += 1;
    }
    kinds
}

/// Whether a stored event has the type of one of these events, in any schema version.
#[doc(hidden)]
pub fn has_type_of<E: DomainEvent>(stored: &EncodedEvent<'_>) -> bool {
    E::KINDS.iter().any(|kind| kind.event_type == stored.event_type)
}
