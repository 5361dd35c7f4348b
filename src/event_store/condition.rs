//! [`AppendCondition`]: which events must not exist when an append is committed.

use std::sync::Arc;

use super::query::Query;
use crate::error::{Error, Result};
use crate::model::Position;

/// A condition of an [`Append`](super::Append): no event after a position matches a query.
///
/// [`Append::fail_if`](super::Append::fail_if) adds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendCondition {
    pub(super) query: Query,
    pub(super) after: Option<Position>,
    pub(super) label: Option<String>,
}

/// The conditions of an append. A copy shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions(Option<Arc<Vec<AppendCondition>>>);

impl Conditions {
    pub(super) fn to_mut(&mut self) -> &mut Vec<AppendCondition> {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    pub(crate) fn as_slice(&self) -> &[AppendCondition] {
        self.0.as_deref().map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl AppendCondition {
    /// The events that must not exist.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Events up to this position do not matter; `None` if all events matter.
    pub fn after(&self) -> Option<Position> {
        self.after
    }

    /// Its label: see [`Append::label`](super::Append::label).
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The error of this condition, if this event is the first one that matches. Only
    /// implementations of a store need this.
    pub fn failed_at(&self, position: Position) -> Error {
        Error::ConditionFailed {
            query: self.query.to_string(),
            after: self.after,
            position,
            label: self.label.clone(),
        }
    }

    /// Checks that an index can answer it. No index holds prefixes of stream ids.
    pub(crate) fn check(&self) -> Result<()> {
        self.query.check()?;
        let has_index = |item: &&super::QueryItem| {
            !(item.tags().is_empty()
                && item.streams().is_empty()
                && item.categories().is_empty()
                && item.type_names().is_empty())
        };
        match self.query.items().iter().find(|item| !has_index(item)) {
            None => Ok(()),
            Some(item) => Err(Error::NotIndexed {
                query: item.to_string(),
                index: "stream prefixes, of which there is none: name a tag or a stream too",
            }),
        }
    }
}
