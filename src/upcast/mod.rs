//! Upcasting: old events in their current shape. Stored events never change: [`Upcasters`] convert
//! them while they are read, and a [`Decoder`] decodes the result.

mod builder;
mod decode_iter;
mod decoder;
mod error;
mod numbers;

pub use builder::UpcastersBuilder;
pub use decode_iter::DecodedEvents;
pub use decoder::{Decoder, OnUnreadable};
pub use error::{StepError, StoredKind, UpcastError, UpcastFailed};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::codec::{EncodedEvent, EventKind};
use crate::error::Cause;
use crate::model::ContentType;

use numbers::{Digits, LostNumber};

/// Converts old events to their current shape, in steps. Each step is for one event type in one
/// schema version; all steps are checked together before anything is read. Clones share the steps.
///
/// ```
/// use annals::prelude::*;
/// use annals::{Decoder, EncodedEvent, Upcasters};
/// use serde::{Deserialize, Serialize};
/// use serde_json::{Value, json};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum CustomerEvent {
///     MoneyDeposited { cents: i64 },
///     AddressChanged { address: String },
///     PhoneChanged { phone: String },
/// }
/// annals::domain_events! { CustomerEvent {
///     MoneyDeposited => "MoneyDeposited" version 2,
///     AddressChanged => "AddressChanged",
///     PhoneChanged => "PhoneChanged",
/// } }
/// use CustomerEvent::{AddressChanged, MoneyDeposited, PhoneChanged};
///
/// let upcasters = Upcasters::builder()
///     .reads::<CustomerEvent>()
///     // The amount was once in whole euros.
///     .json("MoneyDeposited", 1, |old: Value| {
///         let euros = old["amount"].as_i64().ok_or("the amount is no whole number")?;
///         Ok(json!({ "cents": euros * 100 }))
///     })
///     // The event first had another name.
///     .renamed("Deposited", 1, ("MoneyDeposited", 1))
///     // The event contained two facts.
///     .split("CustomerMoved", 1, [("AddressChanged", 1), ("PhoneChanged", 1)], |moved| {
///         let old: Value = moved.json()?;
///         Ok(vec![
///             EncodedEvent::new_json("AddressChanged", 1, &json!({ "address": old["address"] }))?,
///             EncodedEvent::new_json("PhoneChanged", 1, &json!({ "phone": old["phone"] }))?,
///         ])
///     })
///     // Nothing reads this event any more.
///     .dropped("Ping", 1)
///     .build()?;
///
/// let store = MemoryStore::new();
/// store.append("customer-1", ExpectedVersion::NoStream, [
///     NewEvent::json("Deposited", &json!({ "amount": 7 }))?,
///     NewEvent::json("Ping", &())?,
///     NewEvent::json("CustomerMoved", &json!({ "address": "Elm Street 1", "phone": "555" }))?,
///     MoneyDeposited { cents: 950 }.encode()?,
/// ])?;
///
/// let decoder = Decoder::<CustomerEvent>::with(upcasters);
/// let events = decoder.iter(store.read_stream("customer-1"));
/// let events: Vec<_> = events.map(|event| event.map(|it| it.event)).collect::<Result<_, _>>()?;
/// assert_eq!(events, [
///     MoneyDeposited { cents: 700 },
///     AddressChanged { address: "Elm Street 1".into() },
///     PhoneChanged { phone: "555".into() },
///     MoneyDeposited { cents: 950 },
/// ]);
/// # Ok::<(), annals::Error>(())
/// ```
///
/// # Numbers
/// A [`serde_json::Value`] holds integers in 64 bits and every other number as an `f64`. A step may
/// still read JSON as a `Value`: each number that it keeps, moves or renames gets all its original
/// digits back. The same applies to a number that the step writes itself, if it equals such a
/// number as an `f64`. Two cases fail with [`UpcastFailed::Number`], which names the field: a
/// number beyond the range of `f64`, and numbers of one payload that are equal as `f64`s but differ
/// in their digits. For these, let the step read the field into a type that holds it: `u128`,
/// [`RawValue`](serde_json::value::RawValue), or a decimal type.
///
/// # Cost
/// An event without a step costs one lookup in a hash table; nothing if there are no steps at all.
#[derive(Clone, Default)]
pub struct Upcasters(Option<Arc<Checked>>);

/// Checked steps: all their targets lead to events that are read, and there is no cycle.
struct Checked {
    steps: HashMap<String, BTreeMap<u32, Step>>,
    /// The event types that are read, with their current schema versions.
    current: BTreeMap<String, u32>,
}

/// The function of a step.
type StepFn =
    Box<dyn for<'a> Fn(EncodedEvent<'a>) -> Result<Vec<EncodedEvent<'a>>, StepError> + Send + Sync>;

/// A step for the events of one type in one schema version.
struct Step {
    /// All kinds of event that it may yield.
    targets: Vec<StoredKind>,
    run: StepFn,
}

impl Upcasters {
    /// No upcasters: events are read as they are stored.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there is a step for this event.
    pub fn concern(&self, stored: &EncodedEvent<'_>) -> bool {
        self.step(stored).is_some()
    }

    /// Upcasts a stored event to its current shape: one event, several in their order, or none.
    ///
    /// # Errors
    /// A step failed, yielded an event that is not among its targets, or would lose digits of a
    /// number.
    pub fn apply<'a>(
        &self,
        stored: EncodedEvent<'a>,
    ) -> Result<Vec<EncodedEvent<'a>>, UpcastFailed> {
        let mut done = Vec::with_capacity(1);
        // A stack with the next event on top. It becomes empty, because steps yield only their
        // targets, and have no cycle.
        let mut pending = vec![stored];
        while let Some(event) = pending.pop() {
            match self.step(&event) {
                None => done.push(event),
                Some(step) => pending.extend(step.apply(event)?.into_iter().rev()),
            }
        }
        Ok(done)
    }

    /// The event types under which events of these kinds may be stored: the types of the kinds,
    /// then the old types that are upcast to them, in the order of their names. A type whose events
    /// are all dropped is not included.
    ///
    /// This ignores the schema version of a kind: an event that does not fit should fail when it is
    /// read, and not be omitted.
    pub fn stored_types(&self, kinds: &[EventKind]) -> Vec<String> {
        let is_wanted = |name: &str| kinds.iter().any(|kind| kind.event_type == name);
        let current = kinds.iter().map(|kind| kind.event_type.to_owned());
        let leading = self.leading_to(is_wanted).into_iter().map(|(name, _)| name);
        let old: BTreeSet<&str> = leading.filter(|name| !is_wanted(name)).collect();
        current.chain(old.into_iter().map(str::to_owned)).collect()
    }

    /// The steps that lead to one of these kinds: the old kind of each step, and its targets.
    pub(crate) fn steps_to(&self, kinds: &[EventKind]) -> Vec<(StoredKind, Vec<StoredKind>)> {
        let is_wanted = |name: &str| kinds.iter().any(|kind| kind.event_type == name);
        let leading = self.leading_to(is_wanted);
        let steps = self.steps().filter(|(name, version, _)| leading.contains(&(*name, *version)));
        steps
            .map(|(name, version, step)| (StoredKind::from((name, version)), step.targets.clone()))
            .collect()
    }

    /// Checks that events are upcast to these kinds.
    ///
    /// # Errors
    /// [`UpcastError::ReadsOld`] or [`UpcastError::ReadsOther`], with the first kind that does not
    /// match.
    pub(crate) fn check_reads(&self, kinds: &[EventKind]) -> Result<(), UpcastError> {
        let Some(checked) = &self.0 else { return Ok(()) };
        for EventKind { event_type, schema_version } in kinds {
            let kind = || StoredKind::from((*event_type, *schema_version));
            let steps = checked.steps.get(*event_type);
            if let Some(step) = steps.and_then(|steps| steps.get(schema_version)) {
                return Err(UpcastError::ReadsOld { kind: kind(), targets: step.targets.clone() });
            }
            // Targets of steps that have no step themselves.
            let targets = self.steps().flat_map(|(_, _, step)| &step.targets);
            let targets = targets.filter(|target| target.event_type == *event_type);
            let versions = targets.map(|target| target.schema_version);
            let ends = versions.filter(|version| steps.is_none_or(|it| !it.contains_key(version)));
            let current = checked.current.get(*event_type).copied();
            if let Some(newest) = current.into_iter().chain(ends).find(|it| it != schema_version) {
                return Err(UpcastError::ReadsOther { kind: kind(), newest });
            }
        }
        Ok(())
    }

    /// The old kinds from which steps lead, directly or through other steps, to a type that is
    /// wanted.
    fn leading_to(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeSet<(&str, u32)> {
        let mut leading = BTreeSet::new();
        let mut sources: HashMap<(&str, u32), Vec<(&str, u32)>> = HashMap::new();
        let mut pending = Vec::new();
        for (name, version, step) in self.steps() {
            for target in &step.targets {
                let target = (target.event_type.as_str(), target.schema_version);
                sources.entry(target).or_default().push((name, version));
                if is_wanted(target.0) {
                    pending.push((name, version));
                }
            }
        }
        while let Some(kind) = pending.pop() {
            if leading.insert(kind) {
                pending.extend(sources.get(&kind).into_iter().flatten());
            }
        }
        leading
    }

    fn steps(&self) -> impl Iterator<Item = (&str, u32, &Step)> {
        let types = self.0.iter().flat_map(|checked| &checked.steps);
        types.flat_map(|(name, versions)| {
            versions.iter().map(move |(version, step)| (name.as_str(), *version, step))
        })
    }

    /// Whether there are no steps.
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is a current kind of any event set that these upcasters were built for.
    fn is_current(&self, stored: &EncodedEvent<'_>) -> bool {
        let version = self.0.as_ref().and_then(|checked| checked.current.get(&*stored.event_type));
        version == Some(&stored.schema_version)
    }

    fn step(&self, stored: &EncodedEvent<'_>) -> Option<&Step> {
        self.0.as_ref()?.steps.get(&*stored.event_type)?.get(&stored.schema_version)
    }
}

impl Step {
    fn apply<'a>(&self, event: EncodedEvent<'a>) -> Result<Vec<EncodedEvent<'a>>, UpcastFailed> {
        // Only an error needs the name, but the step consumes the event.
        let (name, schema_version) = (event.event_type.clone(), event.schema_version);
        let kind = || StoredKind { event_type: name.clone().into_owned(), schema_version };
        let lost =
            |LostNumber { field, number }| UpcastFailed::Number { kind: kind(), field, number };
        let digits = if is_json(&event) { Digits::of(&event.payload) } else { None };
        let mut yielded = (self.run)(event).map_err(|error| {
            let unreadable = digits.as_ref().and_then(Digits::unreadable);
            match unreadable.filter(|_| is_syntax(&error)) {
                Some(number) => lost(number.clone()),
                None => UpcastFailed::Step { kind: kind(), cause: Cause::from(error) },
            }
        })?;
        let is_declared = |event: &&EncodedEvent<'_>| self.targets.iter().any(|it| it.is_of(event));
        if let Some(event) = yielded.iter().find(|event| !is_declared(event)) {
            return Err(UpcastFailed::Undeclared { kind: kind(), found: StoredKind::of(event) });
        }
        if let Some(digits) = digits {
            for event in yielded.iter_mut().filter(|event| is_json(event)) {
                if let Some(payload) = digits.restore(&event.payload).map_err(lost)? {
                    event.payload = payload.into();
                }
            }
        }
        Ok(yielded)
    }
}

fn is_json(event: &EncodedEvent<'_>) -> bool {
    event.content_type == ContentType::JSON.as_str()
}

/// Whether a step failed because `serde_json` found a syntax error, which includes a number that it
/// cannot read.
fn is_syntax(error: &StepError) -> bool {
    let first: &(dyn std::error::Error + 'static) = &**error;
    let mut chain = std::iter::successors(Some(first), |error| error.source());
    chain.any(|error| error.downcast_ref().is_some_and(serde_json::Error::is_syntax))
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: BTreeMap<_, _> =
            self.steps().map(|(name, version, step)| ((name, version), &step.targets)).collect();
        out.debug_map().entries(steps).finish()
    }
}
