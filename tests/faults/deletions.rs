//! The work of a child that deletes: streams are truncated, deleted and tombstoned, events are
//! redacted, and retentions are scavenged, between appends to the same streams (G17).

use std::num::NonZeroU64;

use annals::prelude::*;
use annals::{Deletion, Durability, Error, InvalidArgument, Retention, RetentionScope, Version};

use crate::support::promises::{Heard, event};

/// One step: an append to these streams, or a deletion.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Append(&'static [&'static str], &'static [usize]),
    /// Keeps the last events of a stream.
    Truncate(&'static str, u64),
    Delete(&'static str),
    Tombstone(&'static str),
    /// Redacts the event this far from the end of a stream.
    Redact(&'static str, usize),
    Scavenge(&'static str),
}

use Step::{Append as Add, Delete, Redact, Scavenge, Tombstone, Truncate};

/// Frames of several events, and packs of several frames.
pub(crate) const STEPS: [Step; 21] = [
    Add(&["cut-1", "kept-1"], &[10, 300, 20]),
    Add(&["old-1", "old-2", "cut-1"], &[40, 3_000]),
    Add(&["gone-1", "never", "cut-1"], &[10, 20, 30, 40]),
    // Within a frame.
    Truncate("cut-1", 2),
    Add(&["cut-1", "old-1"], &[700]),
    Redact("kept-1", 1),
    Delete("gone-1"),
    Add(&["gone-1"], &[10, 10]),
    Tombstone("never"),
    Add(&["old-1", "old-3"], &[9_000, 10, 10]),
    Scavenge("old"),
    Add(&["old-2", "kept-1", "gone-1"], &[10]),
    // All of it.
    Truncate("cut-1", 0),
    Add(&["kept-1"], &[45_000, 10]),
    Redact("kept-1", 0),
    Delete("gone-1"),
    Add(&["cut-1", "old-3"], &[5, 5]),
    Scavenge("old"),
    Truncate("kept-1", 1),
    Add(&["kept-1", "gone-1", "old-1"], &[60]),
    Delete("old-2"),
];

impl Step {
    /// Takes the step the first, second… time that the store is open.
    pub(crate) fn run(self, open: usize, store: &Store, heard: &Heard) -> annals::Result<()> {
        let book = heard.decorator();
        let id = |name: &str| match name {
            // Each can be tombstoned once.
            "never" => StreamId::new(format!("never-{open}")).unwrap(),
            _ => StreamId::new(name).unwrap(),
        };
        match self {
            Add(streams, lens) => {
                let append = streams.iter().fold(Append::new(), |append, name| {
                    let events = lens.iter().map(|len| event("Happened", *len));
                    append.to(id(name), ExpectedVersion::Any, events.collect::<Vec<_>>())
                });
                let is_synced = streams.len().is_multiple_of(2);
                let durability = if is_synced { Durability::Sync } else { Durability::Buffered };
                heard.submit(append.with_durability(durability)).map(drop)
            }
            Truncate(name, keep) => {
                let last = store.stream_version(&id(name))?.map_or(0, Version::get);
                let before = Version::new(last.saturating_sub(keep) + 1).unwrap();
                book.delete(store, &Deletion::truncate(&id(name), before))
            }
            Delete(name) => book.delete(store, &Deletion::delete(&id(name))),
            Tombstone(name) => match book.delete(store, &Deletion::tombstone(&id(name))) {
                // Its events could not be appended.
                Err(Error::InvalidArgument(InvalidArgument::NothingToTombstone { .. })) => Ok(()),
                done => done,
            },
            Redact(name, back) => {
                let stream = id(name);
                let event = store.read_stream(&stream).backward().into_iter().nth(back);
                let Some(event) = event.transpose()? else { return Ok(()) };
                let deletion = Deletion::redact(event.position(), event.id());
                book.delete(store, &deletion.removing_tags(["promised"]))
            }
            Scavenge(category) => {
                let newest = Retention::newest(NonZeroU64::new(2).unwrap());
                store.set_retention(&RetentionScope::Category(category.into()), Some(newest))?;
                book.scavenge(store, category)
            }
        }
    }
}
