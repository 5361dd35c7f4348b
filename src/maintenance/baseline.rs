//! The baseline: a store's bytes, read and written by the engine alone. What benchmarks compare a
//! store with, so that each figure says how much of what RocksDB gives here is left.
//!
//! The engine is opened, tuned and called as a store does it; what is missing is annals: no
//! encoding, checksum of ours, expected version, queue, publishing or watermark. It is here because
//! `storage` is the one user of RocksDB, and because only the crate knows the keys. Only
//! `__internals` shows it.

#![allow(missing_debug_implementations, clippy::missing_errors_doc)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{log_key, parse_log_key, stream_key};
use crate::model::{InvalidArgument, Position, StreamId, Version};
use crate::options::Durability;
use crate::read::lookup::{bad_key, decode_in_log};
use crate::storage::{Cursor, Disk, Family, Paths, Storage};
use crate::store_options::StoreOptions;

/// What the engine writes before each record of its log, as long as none crosses a block.
const LOG_RECORD_HEADER_LEN: usize = 7;

/// What was written together, as the engine sees it: keys and values of several families.
#[derive(Debug)]
pub struct Batch {
    puts: Vec<(Family, Vec<u8>, Arc<[u8]>)>,
    events: u64,
}

impl Batch {
    /// How many events are in it; of a read model, how many entries.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The key of the last entry.
    pub fn last_key(&self) -> &[u8] {
        self.puts.last().map(|(_, key, _)| key.as_slice()).unwrap_or_default()
    }
}

/// What a scan met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Keys.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The last value. Each is copied here: rows that nobody looks at are not read.
    pub last: Vec<u8>,
}

/// Reads below an open store. Nothing is checked but what the engine checks.
#[derive(Clone)]
pub struct Baseline {
    storage: Arc<Storage>,
}

/// A database of its own, tuned as that of a store, for writing what a store wrote.
pub struct Database {
    disk: Disk,
}

impl Baseline {
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Self { storage }
    }

    /// Whole appends after a position, in order, until they hold this many bytes; at least one, if
    /// there is one. Returns the last position of them.
    pub fn appends(
        &self,
        after: Option<Position>,
        bytes_max: usize,
    ) -> Result<(Vec<Batch>, Option<Position>)> {
        let start = Position::after(after);
        let mut batches: Vec<Batch> = Vec::new();
        let (mut last, mut bytes) = (after, 0);
        self.storage.with(|disk| {
            let mut cursor = disk.cursor(Family::Events, &log_key(start), Direction::Forward)?;
            while let Some((key, value)) = cursor.next()? {
                let at = parse_log_key(key).ok_or_else(|| bad_key(Family::Events, key))?;
                if at < start {
                    continue;
                }
                let header = decode_in_log(at, value)?.header;
                if header.commit_before == 0 {
                    if bytes >= bytes_max {
                        break;
                    }
                    batches.push(Batch { puts: Vec::new(), events: 0 });
                }
                let Some(batch) = batches.last_mut() else {
                    let found = format!("an append that begins before {at}");
                    let expected = "the beginning of an append";
                    return Err(Error::corruption(Location::log(at), found, expected));
                };
                bytes += value.len();
                last = Some(header.last_position());
                let value: Arc<[u8]> = value.into();
                let by_stream = stream_key(header.stream, header.first_version);
                batch.puts.push((Family::Events, key.to_vec(), value.clone()));
                batch.puts.push((Family::Streams, by_stream, value));
                batch.events += u64::from(header.count);
            }
            Ok(())
        })?;
        Ok((batches, last))
    }

    /// The next entries of the read models behind a key, in one batch of at most this many; `None`
    /// after the last.
    pub fn view_entries(&self, after: &[u8], entries: usize) -> Result<Option<Batch>> {
        let mut puts = Vec::new();
        self.storage.with(|disk| {
            let mut cursor = disk.cursor(Family::Views, after, Direction::Forward)?;
            while puts.len() < entries {
                let Some((key, value)) = cursor.next()? else { break };
                if key > after {
                    puts.push((Family::Views, key.to_vec(), value.into()));
                }
            }
            Ok(())
        })?;
        let events = u64::try_from(puts.len()).unwrap_or(u64::MAX);
        Ok((events > 0).then_some(Batch { puts, events }))
    }

    /// Scans the log.
    pub fn scan_log(&self) -> Result<Scanned> {
        self.scan(Family::Events)
    }

    /// Scans all streams, one after the other.
    pub fn scan_streams(&self) -> Result<Scanned> {
        self.scan(Family::Streams)
    }

    /// Scans one stream: seeks it, and goes on until it ends.
    pub fn scan_stream(&self, stream: &StreamId) -> Result<Scanned> {
        let begin = stream_key(stream.as_str(), Version::FIRST);
        self.storage.with(|disk| Scanned::of(disk.stream_cursor(&begin, Direction::Forward)?))
    }

    fn scan(&self, family: Family) -> Result<Scanned> {
        self.storage.with(|disk| Scanned::of(disk.cursor(family, &[], Direction::Forward)?))
    }
}

impl Scanned {
    fn of(mut cursor: Cursor<'_>) -> Result<Self> {
        let mut scanned = Self::default();
        while let Some((key, value)) = cursor.next()? {
            scanned.rows += 1;
            scanned.bytes += u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
            scanned.last.clear();
            scanned.last.extend_from_slice(value);
        }
        Ok(scanned)
    }
}

impl Database {
    /// Makes an empty one in a directory that is not there yet.
    pub fn create(directory: impl AsRef<Path>, options: &StoreOptions) -> Result<Self> {
        let paths = Paths::new(directory.as_ref());
        let doing = || format!("creating {}", paths.root.display());
        fs::create_dir(&paths.root).map_err(|error| Error::storage(doing(), error))?;
        Ok(Self { disk: Disk::create(&paths.db, &paths.log, options)? })
    }

    /// Opens one that was made before. A store is refused: it is not to be opened past its lock.
    pub fn open(directory: impl AsRef<Path>, options: &StoreOptions) -> Result<Self> {
        let paths = Paths::new(directory.as_ref());
        if paths.identifies_a_store() {
            let reason = "it is a store, and no database next to one".to_owned();
            return Err(Error::NotAStore { path: paths.root, reason });
        }
        Ok(Self { disk: Disk::open(&paths, options)? })
    }

    /// Writes a batch as it was written.
    pub fn write(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.write_as_one(std::slice::from_ref(batch), durability)
    }

    /// Writes several batches as one.
    pub fn write_as_one(&self, batches: &[Batch], durability: Durability) -> Result<()> {
        self.disk.write(self.gather(batches), durability)
    }

    /// How many bytes writing this batch adds to the write-ahead log.
    pub fn len_in_log(&self, batch: &Batch) -> usize {
        self.gather(std::slice::from_ref(batch)).len() + LOG_RECORD_HEADER_LEN
    }

    fn gather(&self, batches: &[Batch]) -> crate::storage::Batch<'_> {
        let mut gathered = self.disk.batch();
        for (family, key, value) in batches.iter().flat_map(|batch| &batch.puts) {
            gathered.put(*family, key, value);
        }
        gathered
    }

    /// Makes what was written survive a power loss.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync()
    }

    /// Copies it as it is, with its write-ahead log, to a directory that is not there yet.
    pub fn copy(&self, directory: impl AsRef<Path>) -> Result<()> {
        let paths = Paths::new(directory.as_ref());
        if paths.root.as_os_str().is_empty() {
            return Err(InvalidArgument::Empty { what: "path of the copy" }.into());
        }
        let doing = || format!("creating {}", paths.root.display());
        fs::create_dir(&paths.root).map_err(|error| Error::storage(doing(), error))?;
        self.disk.checkpoint(&paths.db)
    }

    /// Moves everything into table files, and closes.
    pub fn close(self) -> Result<()> {
        self.disk.flush()
    }
}
