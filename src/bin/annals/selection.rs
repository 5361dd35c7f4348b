//! The options that select events: `--type`, `--tag`, `--stream`, `--category`, `--stream-prefix`.

use annals::{EventType, Query, QueryItem, StreamId};

use super::shell::{Failure, readable_stream};

/// Which events a command is about: all of them, or those that meet every kind of option given.
#[derive(clap::Args)]
pub(crate) struct Selection {
    /// Only events of this type; if given several times, of any of the types
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// Only events with this tag; if given several times, with all of the tags
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only events of this stream; if given several times, of any of the streams
    #[arg(long = "stream", value_name = "STREAM", value_parser = readable_stream)]
    streams: Vec<StreamId>,
    /// Only streams of this category (the part of the id before the first -); may be given several
    /// times
    #[arg(long = "category", value_name = "CATEGORY")]
    categories: Vec<String>,
    /// Only streams whose id begins with this; may be given several times
    #[arg(long = "stream-prefix", value_name = "PREFIX")]
    stream_prefixes: Vec<String>,
}

impl Selection {
    /// The query, checked before a store is opened.
    pub(crate) fn query(&self) -> Result<Query, Failure> {
        let item = QueryItem::new().types(&self.types);
        let item = self.tags.iter().fold(item, QueryItem::tag);
        let item = self.streams.iter().fold(item, QueryItem::stream);
        let item = self.categories.iter().fold(item, QueryItem::category);
        let item = self.stream_prefixes.iter().fold(item, QueryItem::stream_prefix);
        let query = if item.is_empty() { Query::Everything } else { item.into() };
        query.check()?;
        Ok(query)
    }
}
