//! [`Decoder`]: decodes stored events as current domain events, and upcasts old ones.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{StoredKind, UpcastError, UpcastFailed, Upcasters};
use crate::codec::{DomainEvent, EncodedEvent, TypedEvent, Undecodable};
use crate::error::{Cause, Error, Result};
use crate::model::{EventRef, EventType, RecordedEvent, StreamId};

/// What to do with a recorded event that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OnUnreadable {
    /// Fail with [`Error::Unreadable`].
    #[default]
    Fail,
    /// Skip it, and report it to the caller.
    Skip,
}

/// Decodes stored events as current domain events. Clones share its upcasters.
///
/// An event of a type that `E` does not have is an error, so that no event is omitted silently. To
/// read only the events of `E`, read only their types from the store:
///
/// ```
/// use annals::Decoder;
/// use annals::prelude::*;
/// use annals::Position;
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// struct Deposited(i64);
/// annals::domain_events! { Deposited => "Deposited" }
///
/// let store = MemoryStore::new();
/// let events = [NewEvent::json("Opened", &"Ada")?, Deposited(7).encode()?];
/// store.append("account-1", ExpectedVersion::NoStream, events)?;
///
/// let decoder = Decoder::<Deposited>::new();
/// let unknown = decoder.iter(store.read_log()).next().unwrap().unwrap_err();
/// assert!(unknown.to_string().contains("the code knows no event of this type"), "{unknown}");
///
/// let known = store.read_log().types(decoder.stored_types()).into_iter();
/// let deposits: Vec<_> = decoder.iter(known).collect::<Result<_, _>>()?;
/// assert_eq!((deposits[0].event.0, deposits[0].position()), (7, Position::new(2).unwrap()));
/// # Ok::<(), annals::Error>(())
/// ```
///
/// Upcasters may split an event into parts for several sets of events, each declared with
/// [`reads`](crate::UpcastersBuilder::reads). If the type of the stored event is one of
/// [`Decoder::stored_types`], the decoder omits the parts that belong to other sets.
pub struct Decoder<E> {
    upcasters: Upcasters,
    /// The types that upcasters add to those of `E`; `None` if there are no upcasters.
    old_types: Option<Arc<[String]>>,
    events: PhantomData<fn() -> E>,
}

impl<E: DomainEvent> Decoder<E> {
    /// Creates a decoder without upcasters.
    pub fn new() -> Self {
        Self::with(Upcasters::none())
    }

    /// Creates a decoder with these upcasters.
    pub fn with(upcasters: Upcasters) -> Self {
        let old_types = if upcasters.is_empty() {
            None
        } else {
            // The current types come first.
            Some(upcasters.stored_types(E::KINDS).into_iter().skip(E::KINDS.len()).collect())
        };
        Self { upcasters, old_types, events: PhantomData }
    }

    /// The event types under which events of `E` may be stored, as a filter for reads.
    ///
    /// A type whose events are all dropped by the upcasters is not included.
    pub fn stored_types(&self) -> Vec<&str> {
        let old = self.old_types.iter().flat_map(|types| types.iter());
        E::KINDS.iter().map(|kind| kind.event_type).chain(old.map(String::as_str)).collect()
    }

    /// Checks that the upcasters lead to the kinds of `E`.
    ///
    /// # Errors
    /// [`UpcastError`] names the first kind of `E` that does not match.
    pub(crate) fn check(&self) -> Result<(), UpcastError> {
        self.upcasters.check_reads(E::KINDS)
    }

    /// The steps that lead to `E`: the old kind of each step, and its targets.
    pub(crate) fn steps(&self) -> Vec<(StoredKind, Vec<StoredKind>)> {
        self.upcasters.steps_to(E::KINDS)
    }

    /// Passes the values of a recorded event to `take`: one, unless upcasters split or drop the
    /// event. If one value cannot be read, it passes none.
    ///
    /// # Errors
    /// [`Error::Unreadable`], with the event, its position and type, and the cause.
    pub fn each(&self, recorded: EventRef<'_>, mut take: impl FnMut(E)) -> Result<()> {
        let stored = EncodedEvent::from(recorded);
        if self.upcasters.concern(&stored) {
            let values =
                self.upcast(stored).map_err(|why| unreadable(recorded, Cause::new(why)))?;
            values.into_iter().for_each(take);
            return Ok(());
        }
        match read(&stored) {
            Ok(value) => take(value),
            Err(why) if self.is_for_others(recorded.event_type(), &stored, &why) => {}
            Err(why) => return Err(unreadable(recorded, Cause::new(why))),
        }
        Ok(())
    }

    /// The values of a recorded event, each with the recorded event.
    ///
    /// # Errors
    /// Those of [`Decoder::each`].
    pub fn decode(&self, recorded: impl Into<Arc<RecordedEvent>>) -> Result<Vec<TypedEvent<E>>> {
        let recorded = recorded.into();
        let mut values = Vec::with_capacity(1);
        self.each((*recorded).as_ref(), |event| {
            values.push(TypedEvent::new(event, recorded.clone()));
        })?;
        Ok(values)
    }

    /// Upcasts a stored event, and returns the values that belong to `E`.
    fn upcast(&self, stored: EncodedEvent<'_>) -> Result<Vec<E>, UpcastFailed> {
        let stored_type = stored.event_type.clone();
        let parts = self.upcasters.apply(stored)?;
        let mut values = Vec::with_capacity(parts.len());
        for part in &parts {
            match read(part) {
                Ok(value) => values.push(value),
                Err(why) if self.is_for_others(&stored_type, part, &why) => {}
                Err(why) => {
                    return Err(UpcastFailed::Undecodable { kind: StoredKind::of(part), why });
                }
            }
        }
        Ok(values)
    }

    /// Whether to omit an event, or a part of one: another set reads it, and this decoder only met
    /// it because events of `E` are stored under the same type.
    fn is_for_others(&self, stored_type: &str, part: &EncodedEvent<'_>, why: &Undecodable) -> bool {
        matches!(why, Undecodable::UnknownType)
            && self.upcasters.is_current(part)
            && self.stored_types().contains(&stored_type)
    }
}

fn read<E: DomainEvent>(stored: &EncodedEvent<'_>) -> Result<E, Undecodable> {
    E::check_kind(stored).and_then(|()| E::decode(stored))
}

fn unreadable(recorded: EventRef<'_>, cause: Cause) -> Error {
    Error::Unreadable {
        id: recorded.id(),
        position: recorded.position(),
        stream: StreamId::trusted(recorded.stream()),
        event_type: EventType::trusted(recorded.event_type()),
        schema_version: recorded.schema_version(),
        cause,
    }
}

impl<E: DomainEvent> Default for Decoder<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for Decoder<E> {
    fn clone(&self) -> Self {
        Self {
            upcasters: self.upcasters.clone(),
            old_types: self.old_types.clone(),
            events: PhantomData,
        }
    }
}

impl<E> fmt::Debug for Decoder<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decoder").field("upcasters", &self.upcasters).finish_non_exhaustive()
    }
}
