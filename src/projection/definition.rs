//! [`Definition`]: the events that a build reads. It is recorded, so that a code change between two
//! starts is detected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::DomainEvent;
use crate::event_store::{Query, QueryItem};
use crate::upcast::{Decoder, StoredKind};

/// A type with its schema version.
type Kind = (String, u32);

/// What a projection reads: its event types, the upcasters that lead to them, and its query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    /// Its event types, with the schema version that the code reads.
    types: BTreeMap<String, u32>,
    /// The types under which these events are stored.
    stored_types: BTreeSet<String>,
    /// The old kinds that upcasters convert to these types, with the targets of each.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    upcasts: BTreeSet<(Kind, Vec<Kind>)>,
    /// The items of its query.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    query: BTreeSet<Item>,
}

/// What was removed and added.
fn differences<T: Ord + fmt::Display>(
    what: &str,
    before: &BTreeSet<T>,
    now: &BTreeSet<T>,
) -> Vec<String> {
    let removed = before.difference(now).map(|name| format!("{what} {name} was removed"));
    let added = now.difference(before).map(|name| format!("{what} {name} was added"));
    removed.chain(added).collect()
}

/// An item of a query, regardless of the order of its names.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
struct Item {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    types: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    streams: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    categories: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    stream_prefixes: BTreeSet<String>,
}

impl From<&QueryItem> for Item {
    fn from(item: &QueryItem) -> Self {
        let set = |names: &[String]| names.iter().cloned().collect();
        Self {
            types: set(item.type_names()),
            tags: set(item.tags()),
            streams: set(item.streams()),
            categories: set(item.categories()),
            stream_prefixes: set(item.stream_prefixes()),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let item = QueryItem::new().types(&self.types);
        let item = self.tags.iter().fold(item, QueryItem::tag);
        let item = self.streams.iter().fold(item, QueryItem::stream);
        let item = self.categories.iter().fold(item, QueryItem::category);
        self.stream_prefixes.iter().fold(item, QueryItem::stream_prefix).fmt(out)
    }
}

impl Definition {
    pub(super) fn of<E: DomainEvent>(decoder: &Decoder<E>, query: &Query) -> Self {
        let types = E::KINDS.iter().map(|kind| (kind.event_type.to_owned(), kind.schema_version));
        let kind = |kind: StoredKind| (kind.event_type, kind.schema_version);
        let upcasts = decoder.steps().into_iter().map(|(from, targets)| {
            let targets = targets.into_iter().map(kind).collect();
            (kind(from), targets)
        });
        Self {
            types: types.collect(),
            stored_types: decoder.stored_types().into_iter().map(str::to_owned).collect(),
            upcasts: upcasts.collect(),
            query: query.items().iter().map(Item::from).collect(),
        }
    }

    /// Lists the differences to the current code that would make earlier results inconsistent with
    /// new ones. An upcaster that was added for a stored type that was already read is not one of
    /// them: without it, such events failed or were recorded as skipped.
    pub(super) fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, version) in &self.types {
            match now.types.get(name) {
                None => changes.push(format!("event type {name} was removed")),
                Some(new) if new == version => {}
                Some(new) => changes.push(format!(
                    "event type {name} changed from schema version {version} to {new}"
                )),
            }
        }
        let added = now.types.keys().filter(|name| !self.types.contains_key(*name));
        changes.extend(added.map(|name| format!("event type {name} was added")));
        let is_reported =
            |name: &str| self.types.contains_key(name) != now.types.contains_key(name);
        let others = |stored: &BTreeSet<String>| -> BTreeSet<String> {
            stored.iter().filter(|name| !is_reported(name)).cloned().collect()
        };
        let (before, today) = (others(&self.stored_types), others(&now.stored_types));
        changes.extend(differences("stored event type", &before, &today));
        for ((name, version), _) in self.upcasts.difference(&now.upcasts) {
            changes.push(format!("the upcaster of {name} in schema version {version} changed"));
        }
        changes.extend(differences("the query", &self.query, &now.query));
        changes
    }
}
