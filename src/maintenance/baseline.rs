//! The baseline reads and writes the bytes of a store with RocksDB alone. Benchmarks compare a
//! store with it, so that each figure shows which part of RocksDB's speed annals keeps.
//!
//! RocksDB is opened, tuned and called as a store does. The work of annals is missing: encoding,
//! its checksums, expected versions, queue, publishing and watermark. The baseline is in this crate
//! because only `storage` uses RocksDB, and because only this crate knows the keys. It is exported
//! only by `__internals`.

#![allow(missing_debug_implementations, clippy::missing_errors_doc)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::commit::packer::Packer;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{FrameHeader, stream_key};
use crate::model::{InvalidArgument, Position, StreamId, Version};
use crate::options::Durability;
use crate::read::log::{Log, OpenPack};
use crate::read::lookup::decode_in_log;
use crate::storage::{Cursor, Disk, Family, Paths, Storage};
use crate::store_options::StoreOptions;

/// The header that RocksDB writes before each record of its log, if no record crosses a block.
const LOG_RECORD_HEADER_LEN: usize = 7;

/// Keys and values, of several column families, that were written together.
#[derive(Debug)]
pub struct Batch {
    puts: Vec<(Family, Vec<u8>, Arc<[u8]>)>,
    events: u64,
}

impl Batch {
    /// The number of events, or of entries of a read model.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The key of the last entry.
    pub fn last_key(&self) -> &[u8] {
        self.puts.last().map(|(_, key, _)| key.as_slice()).unwrap_or_default()
    }

    fn add(&mut self, header: &FrameHeader<'_>, frame: &[u8], packer: &mut Packer) {
        let by_stream = stream_key(header.stream, header.first_version);
        self.puts.push((Family::Streams, by_stream, frame.into()));
        if let Some((key, pack)) = packer.add(header, frame) {
            self.puts.push((Family::Packs, key.to_vec(), pack.into()));
        }
        if header.last_position() == header.commit_last()
            && let Some((key, row)) = packer.row()
        {
            self.puts.push((Family::Tail, key.to_vec(), row.into()));
        }
        self.events += u64::from(header.count);
    }
}

/// The result of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Keys.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The last value. Every value is copied here, because values that are not used would not be
    /// read.
    pub last: Vec<u8>,
}

/// Reads the RocksDB database of an open store, with no checks but those of RocksDB.
#[derive(Clone)]
pub struct Baseline {
    storage: Arc<Storage>,
    open: Arc<OpenPack>,
}

/// A separate database, tuned like that of a store, for writing the batches of a store.
pub struct Database {
    disk: Disk,
}

impl Baseline {
    pub(crate) fn new(storage: Arc<Storage>, open: Arc<OpenPack>) -> Self {
        Self { storage, open }
    }

    /// Returns whole appends after a position, in order, until they hold this many bytes, and their
    /// last position. Returns at least one append, if one exists. Each is what a store writes if it
    /// commits that append alone; `packer` holds the open pack from call to call.
    pub fn appends(
        &self,
        after: Option<Position>,
        bytes_max: usize,
        packer: &mut Packer,
    ) -> Result<(Vec<Batch>, Option<Position>)> {
        let start = Position::after(after);
        let mut batches: Vec<Batch> = Vec::new();
        let (mut last, mut bytes) = (after, 0);
        self.storage.with(|disk| {
            let mut cursor = Log::new(disk, &self.open).cursor(start, Direction::Forward);
            while let Some(frames) = cursor.next()? {
                for (place, frame) in frames.from(start) {
                    let header = decode_in_log(place.first, frame)?.header;
                    if header.commit_before == 0 {
                        if bytes >= bytes_max {
                            return Ok(());
                        }
                        batches.push(Batch { puts: Vec::new(), events: 0 });
                    }
                    let Some(batch) = batches.last_mut() else {
                        let found = format!("an append that begins before {}", place.first);
                        let expected = "the beginning of an append";
                        return Err(Error::corruption(Location::log(place.first), found, expected));
                    };
                    bytes += frame.len();
                    last = Some(place.last);
                    batch.add(&header, frame, packer);
                }
            }
            Ok(())
        })?;
        Ok((batches, last))
    }

    /// The next entries of the read models after a key, at most this many, in one batch; `None`
    /// after the last entry.
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

    /// Scans the packs of the log.
    pub fn scan_log(&self) -> Result<Scanned> {
        self.scan(Family::Packs)
    }

    /// Scans all streams, one after the other.
    pub fn scan_streams(&self) -> Result<Scanned> {
        self.scan(Family::Streams)
    }

    /// Scans one stream: seeks to its beginning and reads to its end.
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
    /// Creates an empty database in a directory that does not exist yet.
    pub fn create(directory: impl AsRef<Path>, options: &StoreOptions) -> Result<Self> {
        let paths = Paths::new(directory.as_ref());
        let doing = || format!("creating {}", paths.root.display());
        fs::create_dir(&paths.root).map_err(|error| Error::storage(doing(), error))?;
        Ok(Self { disk: Disk::create(&paths.db, &paths.log, options)? })
    }

    /// Opens an existing database. Refuses a store, because opening it here would bypass its lock.
    pub fn open(directory: impl AsRef<Path>, options: &StoreOptions) -> Result<Self> {
        let paths = Paths::new(directory.as_ref());
        if paths.identifies_a_store() {
            let reason = "it is a store, not a separate database".to_owned();
            return Err(Error::NotAStore { path: paths.root, reason });
        }
        Ok(Self { disk: Disk::open(&paths, options, None)? })
    }

    /// Writes one batch.
    pub fn write(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.write_as_one(std::slice::from_ref(batch), durability)
    }

    /// Writes several batches as one.
    pub fn write_as_one(&self, batches: &[Batch], durability: Durability) -> Result<()> {
        self.disk.write(self.gather(batches), durability)
    }

    /// The number of bytes that writing this batch adds to the write-ahead log.
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

    /// Makes all writes so far survive a power loss.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync()
    }

    /// Copies the database, with its write-ahead log, to a directory that does not exist yet.
    pub fn copy(&self, directory: impl AsRef<Path>) -> Result<()> {
        let paths = Paths::new(directory.as_ref());
        if paths.root.as_os_str().is_empty() {
            return Err(InvalidArgument::Empty { what: "path of the copy" }.into());
        }
        let doing = || format!("creating {}", paths.root.display());
        fs::create_dir(&paths.root).map_err(|error| Error::storage(doing(), error))?;
        self.disk.checkpoint(&paths.db)
    }

    /// Moves everything into table files and closes the database.
    pub fn close(self) -> Result<()> {
        self.disk.flush()
    }
}
