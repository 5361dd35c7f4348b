//! The baselines: the same bytes as annals', written without any of its work. They validate
//! nothing, look up and check no version, do not wait for a published head, and neither check nor
//! decode what they read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use annals::__internals::{Packer, decode_pack, decode_tail_row, parse_log_key, stream_key};
use annals::Position;
use rocksdb::{Cache, ColumnFamily, DB, Env, Options, ReadOptions, WriteBatch, WriteOptions};

use super::frame::{self, Place, stream_prefix};
use super::row::now;
use super::{Buffered, Checks, Entry, Role};
use crate::peers::contender::{
    Append, Contender, Durability, EVENT_TYPE, Result, Seen, Settings, Visit,
};

pub const ROCKSDB: Entry = Entry {
    name: "rocksdb",
    role: Role::Baseline,
    open: open_rocksdb,
    buffered: Buffered::Kept,
    concurrent: true,
    readable: true,
    checks: Checks::Nothing,
    durability: "sync: `WriteOptions::sync`, fdatasync of the write-ahead log, one for all that wait; buffered: handed \
                 to the operating system",
    layout: "annals' own frames and packs under annals' own keys, with annals' own options; values are handed out as \
             they are",
};

pub const FILE: Entry = Entry {
    name: "file",
    role: Role::Baseline,
    open: open_file,
    buffered: Buffered::Kept,
    concurrent: false,
    readable: false,
    checks: Checks::Nothing,
    durability: "sync: write and fdatasync; buffered: write",
    layout: "annals' own frames, each with both keys and twice, at the end of one file",
};

/// The counters of all baselines.
#[derive(Debug, Default)]
struct Counters {
    head: AtomicU64,
    streams: AtomicU64,
}

impl Counters {
    /// Assigns the positions and versions of an append.
    fn take(&self, append: &Append<'_>) -> Result<(Place, u64)> {
        let events: usize = append.parts.iter().map(|part| part.events.len()).sum();
        let new = append.parts.iter().filter(|part| part.expected == 0).count();
        let before = self.head.fetch_add(events as u64, Ordering::Relaxed);
        let streams = self.streams.fetch_add(new as u64, Ordering::Relaxed);
        let place = Place { first_position: before + 1, streams, recorded_at: now()? };
        Ok((place, before + events as u64))
    }
}

struct RocksDb {
    db: DB,
    counters: Counters,
    write: WriteOptions,
    /// The open pack of the log. Locked while an append takes its positions, so that packs are
    /// filled in order.
    packer: Mutex<Packer>,
}

/// Opens the database of a store that annals made, with the options of annals, which RocksDB keeps
/// in a file next to it: a copy of the options here could become outdated.
/// <https://github.com/facebook/rocksdb/wiki/RocksDB-Options-File>
fn open_rocksdb(settings: &Settings) -> Result<Box<dyn Contender>> {
    let store = settings.path.join("store");
    if !store.exists() {
        let made = annals::Store::options()
            .block_cache_bytes(settings.cache_bytes)
            .memtable_bytes(settings.memtable_bytes)
            .open(&store)?;
        made.close()?;
    }
    let database = store.join("db");
    let cache = Cache::new_lru_cache(settings.cache_bytes);
    let (options, families) = Options::load_latest(&database, Env::new()?, false, cache)?;
    let db = DB::open_cf_descriptors(&options, &database, families)?;
    let mut write = WriteOptions::default();
    write.set_sync(settings.durability == Durability::Sync);
    let (counters, packer) = (Counters::default(), Mutex::new(Packer::default()));
    Ok(Box::new(RocksDb { db, counters, write, packer }))
}

impl RocksDb {
    fn family(&self, name: &str) -> Result<&ColumnFamily> {
        Ok(self.db.cf_handle(name).ok_or("annals has no such family any more")?)
    }

    fn scan(
        &self,
        family: &str,
        from: &[u8],
        options: ReadOptions,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family)?, options);
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            let number = key.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
            visit(seen(number, value));
            iterator.next();
        }
        Ok(iterator.status()?)
    }
}

/// A frame that holds one event, which is not decoded.
fn seen(position: u64, payload: &[u8]) -> Seen<'_> {
    Seen { position, id: [0; 16], event_type: EVENT_TYPE, payload }
}

impl Contender for RocksDb {
    fn append(&self, append: &Append<'_>) -> Result<u64> {
        let [packs, tail, streams] =
            [self.family("packs")?, self.family("tail")?, self.family("streams")?];
        let mut batch = WriteBatch::default();
        let mut packer = self.packer.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, last) = self.counters.take(append)?;
        frame::encode(append, place, |frame| {
            batch.put_cf(streams, &frame.stream_key, &frame.bytes);
            if let Some((key, pack)) = packer.add(&frame.header, &frame.bytes) {
                batch.put_cf(packs, key, pack);
            }
            Ok(())
        })?;
        if let Some((key, row)) = packer.row() {
            batch.put_cf(tail, key, row);
        }
        drop(packer);
        self.db.write_opt(batch, &self.write)?;
        Ok(last)
    }

    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()> {
        let from = stream_prefix(stream);
        let mut end = from.clone();
        end.extend_from_slice(&[0xff; 9]);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        self.scan("streams", &from, options, visit)
    }

    fn replay(&self, visit: &mut Visit<'_>) -> Result<()> {
        let mut iterator = self.db.raw_iterator_cf(self.family("packs")?);
        iterator.seek_to_first();
        let (mut places, mut next) = (Vec::new(), Position::FIRST);
        while let Some((key, pack)) = iterator.item() {
            let last = parse_log_key(key).ok_or("a key of packs is a position")?;
            decode_pack(last, pack, &mut places).map_err(|malformed| format!("{malformed:?}"))?;
            for place in &places {
                visit(seen(place.first.get(), &pack[place.bytes.clone()]));
            }
            next = last.next();
            iterator.next();
        }
        iterator.status()?;
        let streams = self.family("streams")?;
        let mut iterator = self.db.raw_iterator_cf(self.family("tail")?);
        iterator.seek_to_first();
        while let Some(row) = iterator.value() {
            let decoded = decode_tail_row(row);
            let (first, entries) = decoded.map_err(|malformed| format!("{malformed:?}"))?;
            // The rows of an earlier pack.
            if first != next {
                break;
            }
            for entry in entries {
                let frame = stream_key(entry.stream, entry.first_version);
                let frame = self.db.get_pinned_cf(streams, frame)?;
                visit(seen(next.get(), &frame.ok_or("a row of tail names a frame of streams")?));
                next = next.next();
            }
            iterator.next();
        }
        Ok(iterator.status()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // As annals does: memtables become table files.
        for family in ["packs", "tail", "streams"] {
            self.db.flush_cf(self.family(family)?)?;
        }
        Ok(())
    }
}

/// A file that is appended to.
struct Appended {
    file: Mutex<File>,
    counters: Counters,
    durability: Durability,
}

fn open_file(settings: &Settings) -> Result<Box<dyn Contender>> {
    let file = OpenOptions::new().create(true).append(true).open(settings.path.join("log"))?;
    File::open(&settings.path)?.sync_all()?;
    let (counters, durability) = (Counters::default(), settings.durability);
    Ok(Box::new(Appended { file: Mutex::new(file), counters, durability }))
}

impl Contender for Appended {
    fn append(&self, append: &Append<'_>) -> Result<u64> {
        let (place, last) = self.counters.take(append)?;
        let mut bytes = Vec::new();
        frame::encode(append, place, |frame| {
            for key in [&frame.header.first_position.get().to_be_bytes()[..], &frame.stream_key] {
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(&frame.bytes);
            }
            Ok(())
        })?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&bytes)?;
        if self.durability == Durability::Sync {
            file.sync_data()?;
        }
        Ok(last)
    }

    fn read_stream(&self, _: &str, _: &mut Visit<'_>) -> Result<()> {
        Err("a file of frames is not read".into())
    }

    fn replay(&self, _: &mut Visit<'_>) -> Result<()> {
        Err("a file of frames is not read".into())
    }

    fn close(self: Box<Self>) -> Result<()> {
        let file = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(file.sync_all()?)
    }
}
