//! [`Decoder`]: stored events as today's domain events, upcast where they are old.

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
    /// Go on without it, and report it to the caller.
    Skip,
}

/// Reads stored events as domain events of today. Clones share its upcasters.
///
/// It fails on what it does not know: an event of a type that `E` does not have is an error,
/// because nothing should be left out in silence. To read only what `E` knows, ask the store for
/// those types:
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
/// An event that upcasters split may hold parts for several sets of events, all of them named to
/// [`reads`](crate::UpcastersBuilder::reads): of an event whose type is one of
/// [`Decoder::stored_types`], the parts that belong to other sets are left out.
pub struct Decoder<E> {
    upcasters: Upcasters,
    /// What upcasters add to the types of `E`; `None` if there are no upcasters.
    old_types: Option<Arc<[String]>>,
    events: PhantomData<fn() -> E>,
}

impl<E: DomainEvent> Decoder<E> {
    /// Reads events as they are stored.
    pub fn new() -> Self {
        Self::with(Upcasters::none())
    }

    /// Reads events as these upcasters make them.
    pub fn with(upcasters: Upcasters) -> Self {
        let old_types = if upcasters.is_empty() {
            None
        } else {
            // Those of today are first.
            Some(upcasters.stored_types(E::KINDS).into_iter().skip(E::KINDS.len()).collect())
        };
        Self { upcasters, old_types, events: PhantomData }
    }

    /// The types under which events that may become one of these are stored: to read no others.
    ///
    /// Those that upcasters drop are not among them, for there is nothing to read.
    pub fn stored_types(&self) -> Vec<&str> {
        let old = self.old_types.iter().flat_map(|types| types.iter());
        E::KINDS.iter().map(|kind| kind.event_type).chain(old.map(String::as_str)).collect()
    }

    /// Checks that `E` reads what the upcasters lead to.
    ///
    /// # Errors
    /// [`UpcastError`] names the first kind that it reads otherwise.
    pub(crate) fn check(&self) -> Result<(), UpcastError> {
        self.upcasters.check_reads(E::KINDS)
    }

    /// The steps that lead to `E`: the old kind of each, and its targets.
    pub(crate) fn steps(&self) -> Vec<(StoredKind, Vec<StoredKind>)> {
        self.upcasters.steps_to(E::KINDS)
    }

    /// Gives the values of a recorded event to `take`: one, unless upcasters split or drop it. All
    /// of them, or none if one of them cannot be read.
    ///
    /// # Errors
    /// [`Error::Unreadable`] names event, position and type, and says why.
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

    /// The values of a recorded event, each with its place.
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

    /// The values that steps make of a stored event: all that are for `E`.
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

    /// Whether an event, or a part of one, is to be left out: another set reads it, and it is only
    /// here because events of `E` are stored under the same type.
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
