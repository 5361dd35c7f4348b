//! [`Query`]: which events a read, a subscription, a projection or a condition is about.

use std::fmt;

use crate::model::limits::{QUERY_ITEMS_MAX, QUERY_NAMES_MAX};
use crate::model::{
    CheckError, EventRef, EventType, InvalidArgument, LimitExceeded, StreamId, check_tag,
};

/// Which events are meant: all of them, or those that match at least one item.
///
/// It follows the query of Dynamic Consistency Boundaries (dcb.events): items are OR-ed; within an
/// item, an event must have *one of* the types and *all* of the tags. Beyond that, an item can name
/// streams, categories and prefixes of stream ids. [`Query::Everything`] is a variant of its own: an
/// item without any criterion, and a query without items, are refused.
///
/// ```
/// use annals::prelude::*;
/// use annals::{Query, QueryItem};
/// let store = MemoryStore::new();
/// let enrolled = NewEvent::json("Enrolled", &())?.with_tag("course:c1").with_tag("student:s1");
/// let defined = NewEvent::json("CourseDefined", &())?.with_tag("course:c2");
/// store.append("enrolments", ExpectedVersion::Any, [enrolled, defined])?;
///
/// let both = QueryItem::new().tag("course:c1").tag("student:s1").types(["Enrolled"]);
/// assert_eq!(store.read_log().query(both.clone()).into_iter().count(), 1);
/// let either = Query::any_of([both, QueryItem::new().tag("course:c2")]);
/// assert_eq!(store.read_log().query(either).into_iter().count(), 2);
/// assert!(store.read_log().query(QueryItem::new()).first().is_err());
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Query {
    /// All events.
    #[default]
    Everything,
    /// The events that match at least one of these items.
    AnyOf(Vec<QueryItem>),
}

/// A part of a [`Query`]: an event matches if it meets every criterion that was set.
///
/// ```
/// use annals::QueryItem;
/// let item = QueryItem::new().category("account").types(["MoneyDeposited"]);
/// assert!(item.matches_stream("account-7") && !item.matches_stream("loan-7"));
/// assert_eq!(item.to_string(), r#"of type "MoneyDeposited" and in category "account""#);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct QueryItem {
    types: Vec<String>,
    tags: Vec<String>,
    streams: Vec<String>,
    categories: Vec<String>,
    stream_prefixes: Vec<String>,
}

impl QueryItem {
    /// An item without criteria: set at least one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds event types: an event matches if it has *one of* the types added. Without any types, a
    /// type does not matter.
    pub fn types(mut self, types: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.types.extend(types.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Adds a tag: an event matches if it has *all* of the tags added.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds a stream: an event matches if it is in one of the streams added.
    pub fn stream(mut self, stream: impl AsRef<str>) -> Self {
        self.streams.push(stream.as_ref().to_owned());
        self
    }

    /// Adds a category: an event matches if its stream is in one of the categories added.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.categories.push(category.into());
        self
    }

    /// Adds a prefix of stream ids: an event matches if its stream begins with one of the prefixes
    /// added.
    pub fn stream_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.stream_prefixes.push(prefix.into());
        self
    }

    /// The event types that were added.
    pub fn type_names(&self) -> &[String] {
        &self.types
    }

    /// The tags that were added.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The streams that were added.
    pub fn streams(&self) -> &[String] {
        &self.streams
    }

    /// The categories that were added.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// The prefixes of stream ids that were added.
    pub fn stream_prefixes(&self) -> &[String] {
        &self.stream_prefixes
    }

    /// Whether no criterion was set.
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let Self { types, tags, streams, categories, stream_prefixes } = self;
        [types, tags, streams, categories, stream_prefixes].into_iter().flatten()
    }

    /// Checks its names. It may have no criterion.
    pub(crate) fn check_names(&self) -> Result<(), CheckError> {
        self.types.iter().try_for_each(|name| EventType::new(name).map(drop))?;
        self.tags.iter().try_for_each(|tag| check_tag(tag))?;
        self.streams.iter().try_for_each(|stream| StreamId::readable(stream).map(drop))?;
        match self.categories.iter().find(|category| category.contains('-')) {
            None => Ok(()),
            Some(category) => {
                Err(InvalidArgument::CategoryWithDash { category: category.clone() }.into())
            }
        }
    }

    /// The item whose events match both; `None` if none can.
    fn and(&self, other: &Self) -> Option<Self> {
        let common = |of: fn(&Self) -> &Vec<String>| match (of(self), of(other)) {
            (names, none) | (none, names) if none.is_empty() => Some(names.clone()),
            (ours, theirs) => {
                let common = ours.iter().filter(|name| theirs.contains(name));
                Some(common.cloned().collect::<Vec<_>>()).filter(|common| !common.is_empty())
            }
        };
        // Of two prefixes, the longer one is left, if it begins with the other one.
        let prefixes = match (&self.stream_prefixes, &other.stream_prefixes) {
            (names, none) | (none, names) if none.is_empty() => names.clone(),
            (ours, theirs) => {
                let pairs = ours.iter().flat_map(|a| theirs.iter().map(move |b| (a, b)));
                let longer =
                    pairs.filter_map(|(a, b)| match (a.starts_with(b), b.starts_with(a)) {
                        (true, _) => Some(a.clone()),
                        (_, true) => Some(b.clone()),
                        _ => None,
                    });
                Some(longer.collect::<Vec<_>>()).filter(|longer| !longer.is_empty())?
            }
        };
        Some(Self {
            types: common(|item| &item.types)?,
            tags: self.tags.iter().chain(&other.tags).cloned().collect(),
            streams: common(|item| &item.streams)?,
            categories: common(|item| &item.categories)?,
            stream_prefixes: prefixes,
        })
    }

    /// Whether events of this stream may match.
    #[inline]
    pub fn matches_stream(&self, stream: &str) -> bool {
        let is_any = self.streams.is_empty()
            && self.categories.is_empty()
            && self.stream_prefixes.is_empty();
        is_any || self.selects(stream)
    }

    fn selects(&self, stream: &str) -> bool {
        let in_category = |category: &String| {
            let rest = stream.strip_prefix(category.as_str());
            !category.contains('-')
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        (self.streams.is_empty() || self.streams.iter().any(|named| named == stream))
            && (self.categories.is_empty() || self.categories.iter().any(in_category))
            && (self.stream_prefixes.is_empty()
                || self.stream_prefixes.iter().any(|prefix| stream.starts_with(prefix.as_str())))
    }

    /// Whether events of this type may match.
    #[inline]
    pub fn matches_type(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| wanted == event_type)
    }

    #[inline]
    fn matches_tags(&self, event: &EventRef<'_>) -> bool {
        self.tags.iter().all(|wanted| event.tags().iter().any(|tag| tag == wanted))
    }

    /// Whether this event matches.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        self.matches_in_stream(event) && self.matches_stream(event.stream())
    }

    /// Whether an event matches whose stream does.
    #[inline]
    fn matches_in_stream(&self, event: &EventRef<'_>) -> bool {
        self.matches_type(event.event_type()) && self.matches_tags(event)
    }
}

impl Query {
    /// The events that match at least one of these items.
    pub fn any_of(items: impl IntoIterator<Item = QueryItem>) -> Self {
        Self::AnyOf(items.into_iter().collect())
    }

    /// The events with this tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        QueryItem::new().tag(tag).into()
    }

    /// The events of one of these types.
    pub fn types(types: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        QueryItem::new().types(types).into()
    }

    /// The events of this stream.
    pub fn stream(stream: impl AsRef<str>) -> Self {
        QueryItem::new().stream(stream).into()
    }

    /// The events of streams in this category.
    pub fn category(category: impl Into<String>) -> Self {
        QueryItem::new().category(category).into()
    }

    /// The events of streams whose id begins with this prefix.
    pub fn stream_prefix(prefix: impl Into<String>) -> Self {
        QueryItem::new().stream_prefix(prefix).into()
    }

    /// Its items; none for [`Query::Everything`].
    pub fn items(&self) -> &[QueryItem] {
        match self {
            Self::Everything => &[],
            Self::AnyOf(items) => items,
        }
    }

    /// The events that match this query or the other one.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::AnyOf(mut items), Self::AnyOf(others)) => {
                let is_new = |item: &QueryItem| !items.contains(item);
                let others: Vec<_> = others.into_iter().filter(is_new).collect();
                items.extend(others);
                Self::AnyOf(items)
            }
            _ => Self::Everything,
        }
    }

    /// Checks the names. Reads, subscriptions and appends call this before they start. A valid
    /// query may still match nothing, such as one with a category and a prefix outside of it.
    ///
    /// # Errors
    /// [`InvalidArgument::EmptyQuery`], [`InvalidArgument::EmptyQueryItem`]: to get all events, ask
    /// for [`Query::Everything`]. An invalid event type, tag or stream.
    /// [`InvalidArgument::CategoryWithDash`]: a category ends before the first `-`, so it cannot
    /// contain one. [`LimitExceeded`] for more than [`QUERY_ITEMS_MAX`] items, or more than
    /// [`QUERY_NAMES_MAX`] names in all of them, without the types of items that name a tag.
    pub fn check(&self) -> crate::error::Result<()> {
        let Self::AnyOf(items) = self else { return Ok(()) };
        if items.is_empty() {
            return Err(InvalidArgument::EmptyQuery.into());
        }
        LimitExceeded::check("query_items_max", QUERY_ITEMS_MAX, items.len())?;
        self.check_names_max()?;
        if items.iter().any(QueryItem::is_empty) {
            return Err(InvalidArgument::EmptyQueryItem.into());
        }
        Ok(items.iter().try_for_each(QueryItem::check_names)?)
    }

    /// Checks the number of names. Types next to a tag are free: the entries of the tag hold them.
    pub(crate) fn check_names_max(&self) -> crate::error::Result<()> {
        let names = |item: &QueryItem| {
            let types = if item.tags.is_empty() { 0 } else { item.types.len() };
            item.names().count() - types
        };
        let names = self.items().iter().map(names).sum();
        Ok(LimitExceeded::check("query_names_max", QUERY_NAMES_MAX, names)?)
    }

    /// Whether all events match.
    pub fn is_everything(&self) -> bool {
        *self == Self::Everything
    }

    /// Whether events of this stream may match.
    #[inline]
    pub fn matches_stream(&self, stream: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::AnyOf(items) => items.iter().any(|item| item.matches_stream(stream)),
        }
    }

    /// Whether this event matches.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        match self {
            Self::Everything => true,
            Self::AnyOf(items) => items.iter().any(|item| item.matches(event)),
        }
    }

    /// Whether an event matches whose stream may match.
    #[inline]
    pub(crate) fn matches_in_stream(&self, event: &EventRef<'_>) -> bool {
        match self {
            Self::Everything => true,
            Self::AnyOf(items) => match items.as_slice() {
                [item] => item.matches_in_stream(event),
                items => items.iter().any(|item| item.matches(event)),
            },
        }
    }

    /// Those of its events that also match an item. An item without criteria matches everything.
    pub(crate) fn and(self, other: &QueryItem) -> Self {
        match self {
            query if other.is_empty() => query,
            Self::Everything => other.clone().into(),
            Self::AnyOf(items) => {
                Self::AnyOf(items.iter().filter_map(|item| item.and(other)).collect())
            }
        }
    }

    /// Those of its events that have one of these types. Without any types, no event is left.
    pub(crate) fn restricted_to(self, types: &[&str]) -> Self {
        if types.is_empty() {
            Self::AnyOf(Vec::new())
        } else {
            self.and(&QueryItem::new().types(types))
        }
    }
}

impl From<QueryItem> for Query {
    fn from(item: QueryItem) -> Self {
        Self::AnyOf(vec![item])
    }
}

impl<const N: usize> From<[QueryItem; N]> for Query {
    fn from(items: [QueryItem; N]) -> Self {
        Self::any_of(items)
    }
}

impl From<Vec<QueryItem>> for Query {
    fn from(items: Vec<QueryItem>) -> Self {
        Self::AnyOf(items)
    }
}

impl fmt::Display for QueryItem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let criteria = [
            ("of type", " or ", &self.types),
            ("with tag", " and ", &self.tags),
            ("of stream", " or ", &self.streams),
            ("in category", " or ", &self.categories),
            ("in streams with prefix", " or ", &self.stream_prefixes),
        ];
        let mut separator = "";
        for (what, joined_by, names) in criteria {
            if !names.is_empty() {
                let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                write!(out, "{separator}{what} {}", quoted.join(joined_by))?;
                separator = " and ";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::AnyOf(items) = self else { return out.write_str("every event") };
        let mut separator = "events ";
        for item in items {
            write!(out, "{separator}{item}")?;
            separator = ", or ";
        }
        Ok(())
    }
}
