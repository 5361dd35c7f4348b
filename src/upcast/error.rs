//! What can be wrong with upcasters: [`UpcastError`] where they are built, [`UpcastFailed`] where
//! they are used.

use std::fmt;

use crate::codec::{EncodedEvent, Undecodable};
use crate::error::{Cause, Error};
use crate::model::InvalidArgument;

/// What a step fails with: any error, also a text (`Err("no amount")?`).
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

/// A type in one schema version, as events of it are stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredKind {
    /// The type.
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

/// Why upcasters do not fit together, or do not fit the events that are read. Nothing was read.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// A step names a type that no event can have.
    #[error("a step names the type {name:?}, which no event can have: {source}")]
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
    #[error("there are two steps for {kind}: leave one of them")]
    TwoSteps {
        /// What both are for.
        kind: StoredKind,
    },
    /// Two sets of events read one type in different schema versions.
    #[error(
        "{event_type} is read in schema version {one} by one set of events and {other} by another: let all read the \
         newest, for events are upcast to one shape"
    )]
    TwoVersions {
        /// The type.
        event_type: String,
        /// The schema version of one set.
        one: u32,
        /// That of the other.
        other: u32,
    },
    /// A step is for events that are not old.
    #[error(
        "there is a step for {kind}, but schema version {current} of it is the one that is read: take the step away, \
         or give the type a higher version where its events are defined"
    )]
    NotOld {
        /// What the step is for.
        kind: StoredKind,
        /// The schema version that is read.
        current: u32,
    },
    /// A step says nothing of what it leads to.
    #[error("the step for {kind} names no target: name all that it may yield, or use `dropped`")]
    NoTarget {
        /// What the step is for.
        kind: StoredKind,
    },
    /// A step leads to what nothing reads.
    #[error(
        "the step for {kind} leads to {target}, which is neither read nor upcast further: correct the target, add a \
         step for it, or name the events that read it with `reads`"
    )]
    Gap {
        /// What the step is for.
        kind: StoredKind,
        /// Where it leads.
        target: StoredKind,
    },
    /// An older schema version has no step, although later ones are read or have one.
    #[error(
        "there is no step for {kind}, though later versions of it are known: add one, `unchanged` if it reads as the \
         next as it stands, or `first_version` if no such event was ever written"
    )]
    Missing {
        /// What has no step.
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
        /// What is read.
        kind: StoredKind,
        /// What it is turned into.
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
        /// What is read.
        kind: StoredKind,
        /// The schema version that the steps lead to.
        newest: u32,
    },
    /// Steps lead back to where they began, so that events would be upcast forever.
    #[error("the steps lead in a circle: {}; take one of them away", circle(kinds))]
    Cycle {
        /// What is upcast to what, the last to the first again.
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
        /// What the step is for.
        kind: StoredKind,
        /// What it said.
        #[source]
        cause: Cause,
    },
    /// A step read a number that [`serde_json::Value`] does not hold, so that its digits would be
    /// lost.
    #[error(
        "the upcaster of {kind} would lose digits of the number {number} in the field `{field}`: let it read that \
         field into a type that holds them, such as u128 or serde_json::value::RawValue"
    )]
    Number {
        /// What the step is for.
        kind: StoredKind,
        /// The path to the field in the payload, such as `items[2].price`; empty if the payload is
        /// the number.
        field: String,
        /// The number, as far as it is known.
        number: String,
    },
    /// A step yielded what it had not declared, so that nobody knows whether it can be read.
    #[error(
        "the upcaster of {kind} yielded {found}, which is not among its targets: name it there, or correct the step"
    )]
    Undeclared {
        /// What the step is for.
        kind: StoredKind,
        /// What it yielded.
        found: StoredKind,
    },
    /// What the steps made cannot be read.
    #[error("upcast to {kind}: {why}")]
    Undecodable {
        /// What they made.
        kind: StoredKind,
        /// Why it cannot be read.
        #[source]
        why: Undecodable,
    },
}
