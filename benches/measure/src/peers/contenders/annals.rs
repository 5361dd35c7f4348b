//! annals, through its public API alone.

use std::ops::ControlFlow;

use annals::prelude::*;
use annals::{EventType, Version};

use super::{Buffered, Checks, Entry, Role};
use crate::peers::contender::{
    self, Contender, Durability, EVENT_TYPE, Failure, Result, Seen, Settings, Visit,
};

pub const ENTRY: Entry = Entry {
    name: "annals",
    role: Role::Annals,
    open,
    buffered: Buffered::Kept,
    concurrent: true,
    readable: true,
    checks: Checks::Versions,
    durability: "`Sync`: fdatasync of the write-ahead log before the answer, one for all callers that wait; \
                 `Buffered`: handed to the operating system",
    layout: "frames, in packs by position (LZ4) and by stream (LZ4, Zstandard at the bottom); checksums on",
};

struct Annals {
    store: Store,
    event_type: EventType,
}

fn open(settings: &Settings) -> Result<Box<dyn Contender>> {
    let durability = match settings.durability {
        Durability::Buffered => annals::Durability::Buffered,
        Durability::Sync => annals::Durability::Sync,
    };
    // All other settings are defaults: all contenders get the same memory.
    let store = Store::options()
        .durability(durability)
        .block_cache_bytes(settings.cache_bytes)
        .memtable_bytes(settings.memtable_bytes)
        .open(settings.path.join("store"))?;
    Ok(Box::new(Annals { store, event_type: EventType::new(EVENT_TYPE)? }))
}

impl Contender for Annals {
    fn append(&self, append: &contender::Append<'_>) -> Result<u64> {
        let mut built = Append::new();
        for part in &append.parts {
            let expected = match Version::new(part.expected) {
                _ if !append.is_conditional => ExpectedVersion::Any,
                None => ExpectedVersion::NoStream,
                Some(version) => ExpectedVersion::Exact(version),
            };
            let events = part.events.iter().map(|event| {
                // The id that all contenders store. A random one is generated first and discarded,
                // at annals' cost.
                NewEvent::new(self.event_type.clone(), event.payload)
                    .with_id(EventId::from_bytes(event.id))
            });
            built = built.to(part.stream, expected, events);
        }
        match self.store.submit(built) {
            Ok(appended) => Ok(appended.last_position().get()),
            Err(error) if error.is_conflict() => Err(Failure::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()> {
        self.store.read_stream(stream).for_each(|event| show(&event, visit))?;
        Ok(())
    }

    fn replay(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.store.read_log().for_each(|event| show(&event, visit))?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

fn show(event: &EventRef<'_>, visit: &mut Visit<'_>) -> ControlFlow<()> {
    visit(Seen {
        position: event.position().get(),
        id: *event.id().as_bytes(),
        event_type: event.event_type(),
        payload: event.payload(),
    });
    ControlFlow::Continue(())
}
