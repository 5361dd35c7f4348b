//! [`UpcastersBuilder`]: collects the steps of upcasters, and checks them together.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{StepError, StoredKind, UpcastError};
use super::{Checked, Step, StepFn, Upcasters};
use crate::codec::{Bincode, Codec, DomainEvent, EncodedEvent, EventKind, Json};
use crate::model::EventType;

impl Upcasters {
    /// Starts a builder for steps; [`UpcastersBuilder::build`] checks them.
    pub fn builder() -> UpcastersBuilder {
        UpcastersBuilder::default()
    }
}

/// Builds [`Upcasters`] from steps, each for one stored event type in one schema version.
///
/// The order of the calls does not matter: an event goes from step to step until it has its current
/// shape. A change of the payload leads to the next schema version of the same type, so a chain of
/// versions is a chain of such steps:
///
/// ```
/// use annals::Upcasters;
/// use serde::{Deserialize, Serialize};
/// use serde_json::Value;
///
/// #[derive(Serialize, Deserialize)]
/// struct Opened { owner: String, currency: String, limit: i64 }
/// annals::domain_events! { Opened => "Opened" version 4 }
///
/// let upcasters = Upcasters::builder()
///     .reads::<Opened>()
///     .json("Opened", 1, |mut data: Value| {
///         data["currency"] = "EUR".into();
///         Ok(data)
///     })
///     // An optional field was removed: the payload needs no change.
///     .unchanged("Opened", 2)
///     .json("Opened", 3, |mut data: Value| {
///         data["limit"] = 0.into();
///         Ok(data)
///     })
///     .build()?;
/// # Ok::<(), annals::UpcastError>(())
/// ```
#[derive(Default)]
#[must_use = "upcasters are made by `build`"]
pub struct UpcastersBuilder {
    kinds: Vec<EventKind>,
    first_versions: HashMap<String, u32>,
    steps: Vec<(StoredKind, Step)>,
    /// The first step that lacks targets.
    untargeted: Option<StoredKind>,
}

impl UpcastersBuilder {
    /// Declares the current events, which the code reads: every step must finally lead to one of
    /// them. If it is called several times, to an event of any of the sets.
    pub fn reads<E: DomainEvent>(mut self) -> Self {
        self.kinds.extend(E::KINDS);
        self
    }

    /// Changes a JSON payload; the result is the next schema version.
    ///
    /// The old payload is decoded as the argument of the closure, a [`serde_json::Value`] or any
    /// other type; the return value is encoded as the new payload. Numbers that the closure does
    /// not change keep all their digits: see [`Upcasters`](crate::Upcasters).
    pub fn json<T: DeserializeOwned, U: Serialize>(
        self,
        event_type: &str,
        schema_version: u32,
        change: impl Fn(T) -> Result<U, StepError> + Send + Sync + 'static,
    ) -> Self {
        self.payload::<Json, T, U>(event_type, schema_version, change)
    }

    /// Changes a bincode payload; the result is the next schema version. bincode stores no field
    /// names, so the closure must take a type with the fields of the old payload in their order.
    ///
    /// ```
    /// use annals::{EncodedEvent, Upcasters};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct MoneyDeposited { cents: i64, by: Option<String> }
    /// annals::domain_events! { codec annals::Bincode; MoneyDeposited => "MoneyDeposited" version 2 }
    ///
    /// /// The shape that was written until May.
    /// #[derive(Serialize, Deserialize)]
    /// struct MoneyDepositedV1 { euros: i64 }
    ///
    /// let upcasters = Upcasters::builder()
    ///     .reads::<MoneyDeposited>()
    ///     .bincode("MoneyDeposited", 1, |old: MoneyDepositedV1| {
    ///         Ok(MoneyDeposited { cents: old.euros * 100, by: None })
    ///     })
    ///     .build()?;
    /// let old = EncodedEvent::new_bincode("MoneyDeposited", 1, &MoneyDepositedV1 { euros: 7 })?;
    /// let new: MoneyDeposited = upcasters.apply(old)?.remove(0).bincode()?;
    /// assert_eq!(new.cents, 700);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bincode<T: DeserializeOwned, U: Serialize>(
        self,
        event_type: &str,
        schema_version: u32,
        change: impl Fn(T) -> Result<U, StepError> + Send + Sync + 'static,
    ) -> Self {
        self.payload::<Bincode, T, U>(event_type, schema_version, change)
    }

    /// Declares that events of this schema version can be read as the next version without a
    /// change: an optional field was added, or a field was removed.
    pub fn unchanged(self, event_type: &str, schema_version: u32) -> Self {
        let next = schema_version.saturating_add(1);
        self.split(event_type, schema_version, [(event_type, next)], move |stored| {
            Ok(vec![EncodedEvent { schema_version: next, ..stored }])
        })
    }

    /// Gives events another type and schema version: the current ones, or those of a later step.
    /// The payload stays the same: change it in that step.
    pub fn renamed(self, event_type: &str, schema_version: u32, to: (&str, u32)) -> Self {
        let new = StoredKind::from(to);
        self.split(event_type, schema_version, [to], move |stored| {
            let StoredKind { event_type, schema_version } = new.clone();
            let event_type = Cow::Owned(event_type);
            Ok(vec![EncodedEvent { event_type, schema_version, ..stored }])
        })
    }

    /// Splits one event into several, in the order in which the closure yields them. `targets` must
    /// name every kind that the closure may yield, but it need not yield all of them each time.
    ///
    /// This is the general form: with one target it can change any part of an event, such as the
    /// content type.
    pub fn split<'t>(
        mut self,
        event_type: &str,
        schema_version: u32,
        targets: impl IntoIterator<Item = (&'t str, u32)>,
        split: impl for<'a> Fn(EncodedEvent<'a>) -> Result<Vec<EncodedEvent<'a>>, StepError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let kind = StoredKind::from((event_type, schema_version));
        let targets: Vec<_> = targets.into_iter().map(StoredKind::from).collect();
        if targets.is_empty() {
            self.untargeted.get_or_insert(kind.clone());
        }
        self.steps.push((kind, Step { targets, run: Box::new(split) }));
        self
    }

    /// Omits events when they are read, as if they did not exist. They stay in the store.
    pub fn dropped(mut self, event_type: &str, schema_version: u32) -> Self {
        let run: StepFn = Box::new(|_| Ok(Vec::new()));
        let kind = StoredKind::from((event_type, schema_version));
        self.steps.push((kind, Step { targets: Vec::new(), run }));
        self
    }

    /// Declares that no event of this type was ever stored in an older schema version, so that none
    /// needs a step.
    pub fn first_version(mut self, event_type: &str, schema_version: u32) -> Self {
        self.first_versions.insert(event_type.to_owned(), schema_version);
        self
    }

    fn payload<C: Codec, T: DeserializeOwned, U: Serialize>(
        self,
        event_type: &str,
        schema_version: u32,
        change: impl Fn(T) -> Result<U, StepError> + Send + Sync + 'static,
    ) -> Self {
        let next = schema_version.saturating_add(1);
        self.split(event_type, schema_version, [(event_type, next)], move |stored| {
            let new = change(stored.read::<C, T>()?)?;
            Ok(vec![EncodedEvent::write::<C>(stored.event_type, next, &new)?])
        })
    }

    /// Checks all steps, and builds the upcasters. A wrong step is reported here, and not when an
    /// old event is read.
    ///
    /// # Errors
    /// [`UpcastError`] names the first wrong step and the remedy.
    pub fn build(self) -> Result<Upcasters, UpcastError> {
        let current = current(&self.kinds)?;
        let mut steps: BTreeMap<StoredKind, Step> = BTreeMap::new();
        if let Some(kind) = self.untargeted {
            return Err(UpcastError::NoTarget { kind });
        }
        for (kind, step) in self.steps {
            check_step(&kind, &step, &current)?;
            if steps.contains_key(&kind) {
                return Err(UpcastError::TwoSteps { kind });
            }
            steps.insert(kind, step);
        }
        check_targets(&steps, &current)?;
        check_versions(&steps, &current, &self.first_versions)?;
        if let Some(kinds) = find_circle(&steps) {
            return Err(UpcastError::Cycle { kinds });
        }
        if steps.is_empty() {
            return Ok(Upcasters::none());
        }
        let mut by_type: HashMap<String, BTreeMap<u32, Step>> = HashMap::new();
        for (kind, step) in steps {
            by_type.entry(kind.event_type).or_default().insert(kind.schema_version, step);
        }
        Ok(Upcasters(Some(Arc::new(Checked { steps: by_type, current }))))
    }
}

/// The event types that are read, with their current schema versions. Sets may share a type, but
/// only in the same schema version.
fn current(kinds: &[EventKind]) -> Result<BTreeMap<String, u32>, UpcastError> {
    let mut current = BTreeMap::new();
    for kind in kinds {
        let (name, other) = (kind.event_type, kind.schema_version);
        match current.insert(name.to_owned(), other) {
            Some(one) if one != other => {
                return Err(UpcastError::TwoVersions { event_type: name.to_owned(), one, other });
            }
            _ => {}
        }
    }
    Ok(current)
}

/// Checks one step without the others: its names and versions, and that its events are old.
fn check_step(
    kind: &StoredKind,
    step: &Step,
    current: &BTreeMap<String, u32>,
) -> Result<(), UpcastError> {
    for StoredKind { event_type, schema_version } in step.targets.iter().chain([kind]) {
        if let Err(source) = EventType::new(event_type) {
            return Err(UpcastError::Name { name: event_type.clone(), source });
        }
        if *schema_version == 0 {
            return Err(UpcastError::SchemaVersionZero { event_type: event_type.clone() });
        }
    }
    match current.get(&kind.event_type) {
        Some(&current) if kind.schema_version >= current => {
            Err(UpcastError::NotOld { kind: kind.clone(), current })
        }
        _ => Ok(()),
    }
}

/// Checks that every target of a step is read, or upcast further.
fn check_targets(
    steps: &BTreeMap<StoredKind, Step>,
    current: &BTreeMap<String, u32>,
) -> Result<(), UpcastError> {
    for (kind, step) in steps {
        let is_known = |target: &StoredKind| {
            steps.contains_key(target)
                || current.get(&target.event_type) == Some(&target.schema_version)
        };
        if let Some(target) = step.targets.iter().find(|target| !is_known(target)) {
            return Err(UpcastError::Gap { kind: kind.clone(), target: target.clone() });
        }
    }
    Ok(())
}

/// Checks that each schema version below the newest known one of a type has a step.
fn check_versions(
    steps: &BTreeMap<StoredKind, Step>,
    current: &BTreeMap<String, u32>,
    first_versions: &HashMap<String, u32>,
) -> Result<(), UpcastError> {
    let mut newest = current.clone();
    for kind in steps.keys() {
        let known = newest.entry(kind.event_type.clone()).or_default();
        *known = kind.schema_version.max(*known);
    }
    for (event_type, newest) in newest {
        let first = first_versions.get(&event_type).copied().unwrap_or(1);
        for schema_version in first..newest {
            let kind = StoredKind::from((event_type.as_str(), schema_version));
            if !steps.contains_key(&kind) {
                return Err(UpcastError::Missing { kind });
            }
        }
    }
    Ok(())
}

/// Follows the steps depth first, and returns the first cycle. It uses no recursion, so that a long
/// chain of steps cannot overflow the stack.
fn find_circle(steps: &BTreeMap<StoredKind, Step>) -> Option<Vec<StoredKind>> {
    let (mut harmless, mut on_path) = (BTreeSet::new(), BTreeSet::new());
    for start in steps.keys() {
        // The kinds from `start` to the current one, each with the index of its next target.
        let mut path = vec![(start, 0)];
        on_path.insert(start);
        while let Some((kind, next)) = path.last_mut() {
            let (kind, index) = (*kind, *next);
            *next += 1;
            match steps.get(kind).and_then(|step| step.targets.get(index)) {
                Some(target) if on_path.contains(target) => {
                    let path = path.into_iter().map(|(kind, _)| kind);
                    return Some(path.skip_while(|kind| *kind != target).cloned().collect());
                }
                Some(target) if harmless.contains(target) => {}
                Some(target) => {
                    path.push((target, 0));
                    on_path.insert(target);
                }
                None => {
                    harmless.insert(kind);
                    on_path.remove(kind);
                    path.pop();
                }
            }
        }
    }
    None
}

impl fmt::Debug for UpcastersBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|(kind, step)| (kind, &step.targets));
        out.debug_map().entries(steps).finish()
    }
}
