//! [`UpcastersBuilder`]: steps are named one by one, and checked all together.

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
    /// Names the steps; [`UpcastersBuilder::build`] checks them.
    pub fn builder() -> UpcastersBuilder {
        UpcastersBuilder::default()
    }
}

/// Names the steps of [`Upcasters`]: each for one type in one schema version, as it was stored.
/// Their order is of no importance: an event goes from step to step until it is one of today.
///
/// A change of the payload leads to the next schema version of the same type, so that a chain of
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
///     // An optional field went away: nothing is to be done.
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
    /// The first step that should have had targets.
    untargeted: Option<StoredKind>,
}

impl UpcastersBuilder {
    /// Says what the code reads today: every step must lead to one of these events in the end.
    /// Given several times: to an event of any of the sets.
    pub fn reads<E: DomainEvent>(mut self) -> Self {
        self.kinds.extend(E::KINDS);
        self
    }

    /// Changes a JSON payload; the result is the next schema version. The closure takes what the
    /// old payload is read as, a [`serde_json::Value`] or a type of its own, and gives what the new
    /// one is written from. Numbers that it leaves alone keep their digits, however many: see
    /// [`Upcasters`](crate::Upcasters).
    pub fn json<T: DeserializeOwned, U: Serialize>(
        self,
        event_type: &str,
        schema_version: u32,
        change: impl Fn(T) -> Result<U, StepError> + Send + Sync + 'static,
    ) -> Self {
        self.payload::<Json, T, U>(event_type, schema_version, change)
    }

    /// Changes a payload in bincode; the result is the next schema version. Bincode has no names,
    /// so the closure takes a type that has the fields of the old payload in their order.
    ///
    /// ```
    /// use annals::{EncodedEvent, Upcasters};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct MoneyDeposited { cents: i64, by: Option<String> }
    /// annals::domain_events! { codec annals::Bincode; MoneyDeposited => "MoneyDeposited" version 2 }
    ///
    /// /// As it was written until May.
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

    /// Declares that events of this schema version read as those of the next as they stand: where a
    /// field was added that may be missing, or one went away.
    pub fn unchanged(self, event_type: &str, schema_version: u32) -> Self {
        let next = schema_version.saturating_add(1);
        self.split(event_type, schema_version, [(event_type, next)], move |stored| {
            Ok(vec![EncodedEvent { schema_version: next, ..stored }])
        })
    }

    /// Gives events the type and the schema version that they would have today, or would have had
    /// later. The payload stays: where it changes too, let it change in a further step.
    pub fn renamed(self, event_type: &str, schema_version: u32, to: (&str, u32)) -> Self {
        let new = StoredKind::from(to);
        self.split(event_type, schema_version, [to], move |stored| {
            let StoredKind { event_type, schema_version } = new.clone();
            let event_type = Cow::Owned(event_type);
            Ok(vec![EncodedEvent { event_type, schema_version, ..stored }])
        })
    }

    /// Makes several events of one, in the order in which the closure yields them. All that it may
    /// yield is named as `targets`, though it need not yield all of them each time.
    ///
    /// This is the general form: with one target it changes an event in any way, such as the
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

    /// Leaves events out, as if they had never been. They stay in the store.
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

    /// Checks everything: what is wrong with the steps is found here, and not when an old event
    /// turns up.
    ///
    /// # Errors
    /// [`UpcastError`] names the first step that is wrong, and says what to do.
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

/// What is read today. Sets may share a type, in one schema version.
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

/// A step by itself: names, versions, and whether its events are old.
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

/// Whatever a step leads to is read, or upcast further.
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

/// Below the newest schema version that is known of a type, each has its step.
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

/// Follows the steps depth first, and returns those that lead back to where they came from. Without
/// recursion, so that no number of steps is too many.
fn find_circle(steps: &BTreeMap<StoredKind, Step>) -> Option<Vec<StoredKind>> {
    let (mut harmless, mut on_path) = (BTreeSet::new(), BTreeSet::new());
    for start in steps.keys() {
        // From where it came, and which target of each is to be looked at next.
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
