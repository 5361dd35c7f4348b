//! fjall: the row of an event in two keyspaces, by position and by stream and version, written in
//! one batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::row::{self, now};
use super::tips::Tips;
use super::{Buffered, Checks, Entry, Role};
use crate::peers::contender::{Append, Contender, Durability, Failure, Result, Settings, Visit};

pub const ENTRY: Entry = Entry {
    name: "fjall",
    role: Role::Peer,
    open,
    buffered: Buffered::Kept,
    concurrent: true,
    readable: true,
    checks: Checks::Versions,
    durability: "sync: `PersistMode::SyncData`, fdatasync of the journal, one for all callers that wait; buffered: \
                 `PersistMode::Buffer`, handed to the operating system",
    layout: "rows, by position and by stream; LZ4 below the upper levels",
};

/// Sorts after every version.
const STREAM_END: u8 = 0;

struct Fjall {
    database: Database,
    log: Keyspace,
    streams: Keyspace,
    /// Held from the check of the versions to the end of the write: positions follow the order of
    /// the journal.
    writer: Mutex<Writer>,
    durability: Durability,
    /// How many batches are in the journal, and how many of them are known to be synced.
    written: AtomicU64,
    synced: Mutex<u64>,
}

struct Writer {
    head: u64,
    tips: Tips<u64>,
}

fn open(settings: &Settings) -> Result<Box<dyn Contender>> {
    let cache_bytes = u64::try_from(settings.cache_bytes)?;
    // https://docs.rs/fjall/3/fjall/struct.DatabaseBuilder.html
    let database = Database::builder(&settings.path).cache_size(cache_bytes).open()?;
    // Two keyspaces take the writes, each with half of the memory.
    let memtable_bytes = u64::try_from(settings.memtable_bytes / 2)?;
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(memtable_bytes)
            // Both are read in ranges, not by single keys: larger blocks compress better and need a
            // smaller index, and filters would never be used.
            // https://docs.rs/fjall/3/fjall/struct.KeyspaceCreateOptions.html#method.data_block_size_policy
            .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
            .filter_policy(FilterPolicy::disabled())
    };
    let log = database.keyspace("log", options)?;
    let streams = database.keyspace("streams", options)?;
    let head = match log.last_key_value() {
        Some(last) => number(&last.key()?)?,
        None => 0,
    };
    Ok(Box::new(Fjall {
        database,
        log,
        streams,
        writer: Mutex::new(Writer { head, tips: Tips::default() }),
        durability: settings.durability,
        written: AtomicU64::new(0),
        synced: Mutex::new(0),
    }))
}

/// The prefix of all keys of one stream.
fn prefix(stream: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + 1 + 8);
    key.extend_from_slice(stream.as_bytes());
    key.push(STREAM_END);
    key
}

/// The number at the end of a key.
fn number(key: &[u8]) -> Result<u64> {
    let last = key.last_chunk::<8>().ok_or("a key that is too short")?;
    Ok(u64::from_be_bytes(*last))
}

impl Fjall {
    fn stream_version(&self, stream: &str) -> Result<u64> {
        match self.streams.prefix(prefix(stream)).next_back() {
            Some(last) => number(&last.key()?),
            None => Ok(0),
        }
    }

    /// Returns the last position, and the number of this batch.
    fn write(&self, append: &Append<'_>) -> Result<(u64, u64)> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // To the operating system, unless requested otherwise.
        // https://docs.rs/fjall/3/fjall/struct.Database.html#method.batch
        let mut batch = self.database.batch();
        let (mut position, time) = (writer.head, now()?);
        let mut value = Vec::new();
        for part in &append.parts {
            let mut version = writer.tips.get(part.stream, || self.stream_version(part.stream))?;
            if version != part.expected {
                return Err(Failure::Conflict);
            }
            let mut key = prefix(part.stream);
            let prefix_len = key.len();
            for event in &part.events {
                position += 1;
                version += 1;
                row::encode(position, version, time, event, &mut value)?;
                key.truncate(prefix_len);
                key.extend_from_slice(&version.to_be_bytes());
                // Slices are reference-counted: the two keyspaces share the bytes of the row.
                let value = fjall::Slice::from(value.as_slice());
                batch.insert(&self.log, position.to_be_bytes(), value.clone());
                batch.insert(&self.streams, key.as_slice(), value);
            }
        }
        batch.commit()?;
        for part in &append.parts {
            writer.tips.set(part.stream, part.expected + part.events.len() as u64);
        }
        writer.head = position;
        Ok((position, self.written.fetch_add(1, Ordering::AcqRel) + 1))
    }

    /// Syncs this batch, unless another caller's sync has covered it already. fjall's own
    /// `durability` of a batch would sync once for each, while all other writers wait.
    fn sync(&self, batch: u64) -> Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced < batch {
            let covers = self.written.load(Ordering::Acquire);
            // https://docs.rs/fjall/3/fjall/enum.PersistMode.html: fdatasync, as RocksDB calls it.
            self.database.persist(PersistMode::SyncData)?;
            *synced = covers;
        }
        Ok(())
    }
}

impl Contender for Fjall {
    fn append(&self, append: &Append<'_>) -> Result<u64> {
        let (position, batch) = self.write(append)?;
        if self.durability == Durability::Sync {
            self.sync(batch)?;
        }
        Ok(position)
    }

    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()> {
        self.streams.prefix(prefix(stream)).try_for_each(|row| show(row, visit))
    }

    fn replay(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.log.iter().try_for_each(|row| show(row, visit))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.database.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}

fn show(row: Guard, visit: &mut Visit<'_>) -> Result<()> {
    visit(row::decode(&row.value()?)?);
    Ok(())
}
