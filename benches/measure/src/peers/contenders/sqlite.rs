//! SQLite in WAL mode: one table of events by position, one index by stream and version, streams by
//! number.

use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::row::now;
use super::tips::Tips;
use super::{Buffered, Checks, Entry, Role};
use crate::peers::contender::{
    Append, Contender, Durability, EVENT_TYPE, Failure, Result, Seen, Settings, Visit,
};

pub const ENTRY: Entry = Entry {
    name: "sqlite",
    role: Role::Peer,
    open,
    buffered: Buffered::Kept,
    // Its write transactions take turns.
    concurrent: true,
    readable: true,
    checks: Checks::Versions,
    durability: "sync: `synchronous=FULL`, fdatasync of the WAL at each commit; buffered: `synchronous=NORMAL`, \
                 which syncs at checkpoints alone",
    layout: "a table by position, an index by stream and version; not compressed",
};

/// Streams are numbered: the index is a third of its size with names, and an insert dirties fewer
/// pages. The positions are the row ids, so the table is in the order of the log. A table in the
/// order of the streams (WITHOUT ROWID) would load them faster, but replay the log with one look-up
/// for each event. <https://www.sqlite.org/withoutrowid.html>
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS streams (stream INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        version INTEGER NOT NULL,
        recorded_at INTEGER NOT NULL,
        id BLOB NOT NULL,
        type TEXT NOT NULL,
        payload BLOB NOT NULL,
        UNIQUE (stream, version)
    ) STRICT;";
const TIP: &str =
    "SELECT stream, (SELECT max(version) FROM events WHERE events.stream = streams.stream)
    FROM streams WHERE name = ?1";
const NEW_STREAM: &str = "INSERT INTO streams (name) VALUES (?1)";
const INSERT: &str = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const READ_STREAM: &str = "SELECT position, version, recorded_at, id, type, payload FROM events
    WHERE stream = (SELECT stream FROM streams WHERE name = ?1) ORDER BY version";
const REPLAY: &str =
    "SELECT position, version, recorded_at, id, type, payload FROM events ORDER BY position";

const PAGE_BYTES: usize = 4096;

/// A stream's number (none before its first event) and its version.
type Tip = (Option<i64>, u64);

struct Sqlite {
    /// All callers share one connection and its page cache. SQLite allows one writer at a time, and
    /// waiting on a mutex is cheaper than retrying when it is busy.
    writer: Mutex<Writer>,
}

struct Writer {
    connection: Connection,
    head: u64,
    tips: Tips<Tip>,
}

fn open(settings: &Settings) -> Result<Box<dyn Contender>> {
    let connection = Connection::open(settings.path.join("events.sqlite"))?;
    // Before the first table, since it is fixed from then on.
    connection.pragma_update(None, "page_size", i64::try_from(PAGE_BYTES)?)?;
    // There is no other process: no shared memory, and no file lock for each transaction.
    // https://www.sqlite.org/wal.html#noshm
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // https://www.sqlite.org/pragma.html#pragma_synchronous
    connection.pragma_update(
        None,
        "synchronous",
        match settings.durability {
            Durability::Sync => "FULL",
            Durability::Buffered => "NORMAL",
        },
    )?;
    // A checkpoint writes each dirty page once, regardless of how often it changed: the more it
    // covers, the less it writes. This is as large as the memory in which others sort their writes.
    // https://www.sqlite.org/wal.html#ckpt
    connection.pragma_update(
        None,
        "wal_autocheckpoint",
        i64::try_from(settings.memtable_bytes / PAGE_BYTES)?,
    )?;
    // Negative: in KiB. https://www.sqlite.org/pragma.html#pragma_cache_size
    let cache_kib = i64::try_from(settings.cache_bytes / 1024)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.execute_batch(SCHEMA)?;
    connection.set_prepared_statement_cache_capacity(16);
    let head = connection.query_row("SELECT max(position) FROM events", [], |row| row.get(0));
    let head = head.map(Option::unwrap_or_default)?;
    Ok(Box::new(Sqlite { writer: Mutex::new(Writer { connection, head, tips: Tips::default() }) }))
}

impl Writer {
    fn run(&self, statement: &str) -> Result<()> {
        // Prepared once: parsing would cost as much as running it.
        self.connection.prepare_cached(statement)?.execute([])?;
        Ok(())
    }

    fn stream_version(&mut self, stream: &str) -> Result<Tip> {
        let connection = &self.connection;
        self.tips.get(stream, || {
            let mut find = connection.prepare_cached(TIP)?;
            let found = find.query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(found.optional()?.unwrap_or((None, 0)))
        })
    }

    fn insert(&mut self, append: &Append<'_>) -> Result<u64> {
        let mut position = self.head;
        let time = now()?;
        let mut tips = Vec::with_capacity(append.parts.len());
        for part in &append.parts {
            let (stream, mut version) = self.stream_version(part.stream)?;
            if version != part.expected {
                return Err(Failure::Conflict);
            }
            let stream = match stream {
                Some(stream) => stream,
                None => self.connection.prepare_cached(NEW_STREAM)?.insert([part.stream])?,
            };
            let mut insert = self.connection.prepare_cached(INSERT)?;
            for event in &part.events {
                position += 1;
                version += 1;
                let row =
                    params![position, stream, version, time, event.id, EVENT_TYPE, event.payload];
                insert.execute(row)?;
            }
            tips.push((part.stream, (Some(stream), version)));
        }
        self.run("COMMIT")?;
        for (stream, tip) in tips {
            self.tips.set(stream, tip);
        }
        self.head = position;
        Ok(position)
    }
}

impl Contender for Sqlite {
    fn append(&self, append: &Append<'_>) -> Result<u64> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // IMMEDIATE: it will write, so it takes the write lock at once.
        // https://www.sqlite.org/lang_transaction.html
        writer.run("BEGIN IMMEDIATE")?;
        let inserted = writer.insert(append);
        if inserted.is_err() {
            writer.run("ROLLBACK")?;
        }
        inserted
    }

    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = writer.connection.prepare_cached(READ_STREAM)?;
        let mut rows = read.query([stream])?;
        while let Some(row) = rows.next()? {
            show(row, visit)?;
        }
        Ok(())
    }

    fn replay(&self, visit: &mut Visit<'_>) -> Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = writer.connection.prepare_cached(REPLAY)?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            show(row, visit)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The last connection that closes runs a checkpoint. https://www.sqlite.org/wal.html
        writer.connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}

/// Visits a row without copying its texts and bytes.
fn show(row: &Row<'_>, visit: &mut Visit<'_>) -> Result<()> {
    let id = row.get_ref(3)?.as_blob()?.try_into()?;
    let event_type = row.get_ref(4)?.as_str()?;
    visit(Seen { position: row.get(0)?, id, event_type, payload: row.get_ref(5)?.as_blob()? });
    Ok(())
}
