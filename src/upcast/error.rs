//! Errors of upcasters: [`UpcastError`] when they are built, [`UpcastFailed`] when they are used.

use std::fmt;

use crate::codec::{EncodedEvent, Undecodable};
use crate::error::{Cause, Error};
use crate::model::InvalidArgument;

/// The error of a step: any error, or a text (`Err("no amount")?`).
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

/// An event type in one schema version, as it is stored with an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredKind {
    /// The event type.
    pub event_type: String,
    /// The schema version.
    pub schema_version: u32,
}

impl StoredKind {
    pub(super) fn of(event: &EncodedEvent<'_>) -> Self {
        Self::from((&*event.event_type, event.schema_version))
    }

    pub(super) fn is_of(&self, event: &EncodedEvent<'_>) -> bool {
        self.schema_version == event.schema_version && self.event_type == event.event_type
    }
}

impl<S: Into<String>> From<(S, u32)> for StoredKind {
    fn from((event_type, schema_version): (S, u32)) -> Self {
        Self { event_type: event_type.into(), schema_version }
    }
}

impl fmt::Display for StoredKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in schema version {}", self.event_type, self.schema_version)
    }
}

/// Why upcasters are inconsistent, or do not match the events that the code reads. No event was
/// read.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// A step names an invalid event type.
    #[error("a step names the type {name:?}, which is not a valid event type: {source}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidArgument,
    },
    /// A schema version is 0.
    #[error("{event_type} is named in schema version 0: schema versions count from 1")]
    SchemaVersionZero {
        /// The type.
        event_type: String,
    },
    /// There are two steps for the same events.
    #[error("there are two steps for {kind}: remove one of them")]
    TwoSteps {
        /// The kind of event that both are for.
        kind: StoredKind,
    },
    /// Two sets of events read one type in different schema versions.
    #[error(
        "{event_type} is read in schema version {one} by one set of events and {other} by another: let all sets \
         read the newest, because events are upcast to one shape"
    )]
    TwoVersions {
        /// The type.
        event_type: String,
        /// The schema version of one set.
        one: u32,
        /// The schema version of the other set.
        other: u32,
    },
    /// A step is for events that are not old.
    #[error(
        "there is a step for {kind}, but schema version {current} of it is the one that is read: remove the step, or \
         give the type a higher version where its events are defined"
    )]
    NotOld {
        /// The kind of event that the step is for.
        kind: StoredKind,
        /// The schema version that is read.
        current: u32,
    },
    /// A step has no targets.
    #[error(
        "the step for {kind} names no target: name every kind that it may yield, or use `dropped`"
    )]
    NoTarget {
        /// The kind of event that the step is for.
        kind: StoredKind,
    },
    /// A step leads to a kind that is neither read nor upcast further.
    #[error(
        "the step for {kind} leads to {target}, which is neither read nor upcast further: correct the target, add a \
         step for it, or name the events that read it with `reads`"
    )]
    Gap {
        /// The kind of event that the step is for.
        kind: StoredKind,
        /// The target of the step.
        target: StoredKind,
    },
    /// An older schema version has no step, although later versions are read or have a step.
    #[error(
        "there is no step for {kind}, though later versions of it are known: add one, or use `unchanged` if it can be \
         read as the next version, or `first_version` if no such event was ever written"
    )]
    Missing {
        /// The kind without a step.
        kind: StoredKind,
    },
    /// A set of events reads a kind that the steps change before it is read.
    #[error(
        "{kind} is read, but the upcasters {}",
        match targets.as_slice() {
            [] => "drop it: remove it from domain_events!, or remove the step".to_owned(),
            targets => format!(
                "turn it into {}: name that in domain_events! instead",
                targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
            ),
        }
    )]
    ReadsOld {
        /// The kind that is read.
        kind: StoredKind,
        /// The kinds that it is turned into.
        targets: Vec<StoredKind>,
    },
    /// A set of events reads a type in another schema version than the steps lead to.
    #[error(
        "{kind} is read, but the upcasters lead to schema version {newest}: {}",
        if kind.schema_version < *newest {
            format!("name version {newest} in domain_events!")
        } else {
            format!("add a step for schema version {newest}")
        }
    )]
    ReadsOther {
        /// The kind that is read.
        kind: StoredKind,
        /// The schema version that the steps lead to.
        newest: u32,
    },
    /// The steps form a cycle, so that events would be upcast forever.
    #[error("the steps form a cycle: {}; remove one of them", circle(kinds))]
    Cycle {
        /// The kinds in the cycle: each is upcast to the next, the last to the first.
        kinds: Vec<StoredKind>,
    },
}

impl From<UpcastError> for Error {
    fn from(error: UpcastError) -> Self {
        Self::Upcasters { cause: Cause::new(error) }
    }
}

fn circle(kinds: &[StoredKind]) -> String {
    let names = kinds.iter().chain(kinds.first());
    names
        .map(|kind| format!("{} {}", kind.event_type, kind.schema_version))
        .collect::<Vec<_>>()
        .join(" → ")
}

/// Why a stored event could not be upcast: the cause of an [`Error::Unreadable`].
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpcastFailed {
    /// A step failed.
    #[error("the upcaster of {kind} failed: {cause}")]
    Step {
        /// The kind of event that the step is for.
        kind: StoredKind,
        /// The error of the step.
        #[source]
        cause: Cause,
    },
    /// A step read a number that [`serde_json::Value`] cannot hold, so that its digits would be
    /// lost.
    #[error(
        "the upcaster of {kind} would lose digits of the number {number} in the field `{field}`: let it read that \
         field into a type that holds them, such as u128 or serde_json::value::RawValue"
    )]
    Number {
        /// The kind of event that the step is for.
        kind: StoredKind,
        /// The path to the field in the payload, such as `items[2].price`; empty if the payload is
        /// the number.
        field: String,
        /// The text of the number, shortened if it is long.
        number: String,
    },
    /// A step yielded an event that is not among its targets, so that nothing has checked whether
    /// the code can read it.
    #[error(
        "the upcaster of {kind} yielded {found}, which is not among its targets: name it there, or correct the step"
    )]
    Undeclared {
        /// The kind of event that the step is for.
        kind: StoredKind,
        /// The kind that it yielded.
        found: StoredKind,
    },
    /// The result of the steps cannot be decoded.
    #[error("upcast to {kind}: {why}")]
    Undecodable {
        /// The kind that the steps yielded.
        kind: StoredKind,
        /// Why it cannot be decoded.
        #[source]
        why: Undecodable,
    },
}
