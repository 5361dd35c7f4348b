//! [`Plan`]: which entries of the index answer a query.

use crate::error::Error;
use crate::event_store::{Query, QueryItem};
use crate::format::{IndexKind, Indexed};
use crate::model::Position;

/// How each item of a query is found, if all of them can be.
pub(crate) struct Plan<'q> {
    pub(super) items: Vec<ItemPlan<'q>>,
    /// The first position from which on all entries are there.
    pub(crate) from: Position,
}

/// How the events of one item are found.
pub(super) struct ItemPlan<'q> {
    pub(super) item: &'q QueryItem,
    pub(super) lists: Lists,
    /// The first position from which on its entries are there.
    from: Position,
    /// Whether every event that is found matches. Otherwise the event itself must be looked at.
    pub(super) is_exact: bool,
}

/// The lists that hold the events of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// Those that are in the lists of all tags.
    AllTags,
    /// Those of any of the streams.
    Streams,
    /// Those that are in the list of any of the categories.
    Categories,
    /// Those that are in the list of any of the types.
    Types,
}

/// The index that would answer an item, if there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// One of this kind, which is off.
    Kind(IndexKind),
    /// None: only prefixes of stream ids are named.
    Prefixes,
}

impl Missing {
    /// The error for a condition with this item.
    pub(crate) fn refuses(self, item: &QueryItem) -> Error {
        let index = match self {
            Self::Kind(IndexKind::Tag) => "tags, which is built once the store is open for writing",
            Self::Kind(IndexKind::Type) => {
                "types: set index_types when the store is opened, or name a tag too"
            }
            Self::Kind(IndexKind::Category) => {
                "categories: set index_categories when the store is opened, or name a tag too"
            }
            Self::Prefixes => "stream prefixes, of which there is none: name a tag or a stream too",
        };
        Error::NotIndexed { query: item.to_string(), index }
    }
}

impl<'q> Plan<'q> {
    /// The plan for a query; the first item that no list answers is an error.
    pub(crate) fn of(query: &'q Query, indexed: Indexed) -> Result<Self, (&'q QueryItem, Missing)> {
        let mut plan = Self { items: Vec::new(), from: Position::FIRST };
        for item in query.items() {
            let (lists, from) = lists_of(item, indexed).map_err(|missing| (item, missing))?;
            plan.from = plan.from.max(from);
            plan.items.push(ItemPlan { item, lists, from, is_exact: is_exact(item, lists) });
        }
        Ok(plan)
    }

    /// Checks that there is a plan for a query whose entries are complete from a position on.
    pub(crate) fn check(query: &Query, indexed: Indexed, from: Position) -> Result<(), Error> {
        for item in query.items() {
            match lists_of(item, indexed) {
                Ok((_, complete)) if complete <= from => {}
                Ok(_) => return Err(incomplete(item)),
                Err(missing) => return Err(missing.refuses(item)),
            }
        }
        Ok(())
    }

    /// Checks that the entries are complete from a position on.
    pub(crate) fn check_from(&self, from: Position) -> Result<(), Error> {
        match self.items.iter().find(|item| from < item.from) {
            None => Ok(()),
            Some(item) => Err(incomplete(item.item)),
        }
    }

    /// Whether every event that is found matches.
    pub(crate) fn is_exact(&self) -> bool {
        self.items.iter().all(|item| item.is_exact)
    }
}

fn incomplete(item: &QueryItem) -> Error {
    let index = "it that is complete; it is still being built: wait for it, or begin after a later \
                 position";
    Error::NotIndexed { query: item.to_string(), index }
}

/// The lists to use for an item, and from which position on they are complete. The narrowest come
/// first.
fn lists_of(item: &QueryItem, indexed: Indexed) -> Result<(Lists, Position), Missing> {
    let by = |kind| indexed.get(kind).ok_or(Missing::Kind(kind));
    if !item.tags().is_empty() {
        return Ok((Lists::AllTags, by(IndexKind::Tag)?));
    }
    if !item.streams().is_empty() {
        return Ok((Lists::Streams, Position::FIRST));
    }
    let categories = (!item.categories().is_empty()).then(|| by(IndexKind::Category));
    let types = (!item.type_names().is_empty()).then(|| by(IndexKind::Type));
    match (categories, types) {
        (Some(Ok(from)), _) => Ok((Lists::Categories, from)),
        (_, Some(Ok(from))) => Ok((Lists::Types, from)),
        (Some(Err(missing)), _) | (None, Some(Err(missing))) => Err(missing),
        (None, None) => Err(Missing::Prefixes),
    }
}

/// Whether the lists alone decide. The lists of tags and categories know the type of each event.
fn is_exact(item: &QueryItem, lists: Lists) -> bool {
    let names_no_prefix = item.stream_prefixes().is_empty();
    let names_no_stream = item.streams().is_empty() && item.categories().is_empty();
    match lists {
        Lists::AllTags | Lists::Types => names_no_stream && names_no_prefix,
        Lists::Categories => names_no_prefix,
        Lists::Streams => false,
    }
}
