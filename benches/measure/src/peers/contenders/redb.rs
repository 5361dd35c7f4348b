//! redb: the row of an event in two tables, by position and by stream and version, written in one
//! transaction.

use std::sync::{Mutex, PoisonError};

use redb::{
    Builder, Database, Durability as Commit, ReadableDatabase, ReadableTable, TableDefinition,
};

use super::row::{self, now};
use super::tips::Tips;
use super::{Buffered, Checks, Entry, Role};
use crate::peers::contender::{Append, Contender, Durability, Failure, Result, Settings, Visit};

pub const ENTRY: Entry = Entry {
    name: "redb",
    role: Role::Peer,
    open,
    // A commit of this kind is only in the memory of the process.
    buffered: Buffered::Weaker,
    // Its write transactions take turns.
    concurrent: true,
    readable: true,
    checks: Checks::Versions,
    durability: "sync: `Durability::Immediate`, fdatasync at each commit; buffered: `Durability::None`, which does not \
                 even survive the end of the process, and every 1,000th commit `Immediate`",
    layout: "rows, by position and by stream; not compressed; checksums checked after a crash alone",
};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const STREAMS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("streams");

/// Pages that commits without durability free are not reused before a durable commit, so a store
/// that never makes one grows without bound.
/// <https://docs.rs/redb/4/redb/enum.Durability.html>
const COMMITS_BETWEEN_DURABLE: u64 = 1_000;

struct Redb {
    database: Database,
    writer: Mutex<Writer>,
    durability: Durability,
}

struct Writer {
    head: u64,
    commits: u64,
    tips: Tips<u64>,
}

fn open(settings: &Settings) -> Result<Box<dyn Contender>> {
    // https://docs.rs/redb/4/redb/struct.Builder.html
    let database = Builder::new()
        .set_cache_size(settings.cache_bytes)
        .create(settings.path.join("events.redb"))?;
    let begun = database.begin_write()?;
    let head = begun.open_table(LOG)?.last()?.map_or(0, |(position, _)| position.value());
    begun.open_table(STREAMS)?;
    begun.commit()?;
    let writer = Mutex::new(Writer { head, commits: 0, tips: Tips::default() });
    Ok(Box::new(Redb { database, writer, durability: settings.durability }))
}

impl Contender for Redb {
    fn append(&self, append: &Append<'_>) -> Result<u64> {
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = &mut *guard;
        let (mut position, time) = (writer.head, now()?);
        let mut value = Vec::new();
        let mut begun = self.database.begin_write()?;
        writer.commits += 1;
        let is_durable = writer.commits.is_multiple_of(COMMITS_BETWEEN_DURABLE);
        if self.durability == Durability::Buffered && !is_durable {
            begun.set_durability(Commit::None)?;
        }
        {
            let mut log = begun.open_table(LOG)?;
            let mut streams = begun.open_table(STREAMS)?;
            for part in &append.parts {
                let find = || {
                    let last = streams.range((part.stream, 0)..=(part.stream, u64::MAX))?;
                    let last = last.last().transpose()?;
                    Ok::<_, redb::StorageError>(last.map_or(0, |(key, _)| key.value().1))
                };
                let mut version = writer.tips.get(part.stream, find)?;
                if version != part.expected {
                    // A transaction dropped without a commit has no effect.
                    return Err(Failure::Conflict);
                }
                for event in &part.events {
                    position += 1;
                    version += 1;
                    row::encode(position, version, time, event, &mut value)?;
                    log.insert(position, value.as_slice())?;
                    streams.insert((part.stream, version), value.as_slice())?;
                }
            }
        }
        begun.commit()?;
        for part in &append.parts {
            writer.tips.set(part.stream, part.expected + part.events.len() as u64);
        }
        writer.head = position;
        Ok(position)
    }

    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()> {
        let streams = self.database.begin_read()?.open_table(STREAMS)?;
        for row in streams.range((stream, 0)..=(stream, u64::MAX))? {
            visit(row::decode(row?.1.value())?);
        }
        Ok(())
    }

    fn replay(&self, visit: &mut Visit<'_>) -> Result<()> {
        let log = self.database.begin_read()?.open_table(LOG)?;
        for row in log.iter()? {
            visit(row::decode(row?.1.value())?);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        // A durable commit includes all earlier ones.
        self.database.begin_write()?.commit()?;
        self.database.close()?;
        Ok(())
    }
}
