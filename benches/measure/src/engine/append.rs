//! How fast events are written: appends, the log that the other figures read, and the import of the
//! user's own events. The store and the baseline write the same bytes in turn, slice by slice.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use annals::__internals::{Batch, Database, Packer, baseline};
use annals::{
    Durability, EventStore, EventStoreExt, ExpectedVersion, ImportOptions, Position, Store,
};
use flate2::bufread::MultiGzDecoder;

use super::{Base, Bench, Group, Shown};
use crate::measure::{Measured, Recorder, at_once, timed};
use crate::place::remove;
use crate::report::{count, whole as grouped};
use crate::source::{Ready, Source};
use crate::{Result, at};

/// The number of concurrent callers on a busy server.
const THREADS: usize = 32;
/// Writers of one hot stream, and how many appends each makes in a slice.
const WRITERS: usize = 64;
const WRITER_APPENDS: usize = 20;
/// The maximum bytes of rows and number of events in one batch, as in an import.
const IMPORT_BATCH_LEN: usize = 4 << 20;
const IMPORT_BATCH_EVENTS: u64 = 1_000;
/// A slice grows until it takes this long: long enough that its overhead does not count, short
/// enough that both sides run under the same conditions.
const SLICE: Duration = Duration::from_millis(100);
const SLICE_BYTES_MAX: usize = 16 << 20;
const SLICE_APPENDS_MAX: usize = 1 << 16;
const SAME_ROWS: &str = "RocksDB writing the same rows";

/// How appends are made.
#[derive(Clone, Copy)]
struct Pace {
    durability: Durability,
    /// Events in each append.
    events: u32,
    threads: usize,
}

/// When a measurement ends.
#[derive(Clone, Copy)]
enum Until {
    /// The store has run for this long.
    Time(Duration),
    /// The log has this many events.
    Events(u64),
}

/// The baseline of the store: RocksDB writes the same rows, or a file gets as many bytes as
/// RocksDB's log, and is synced.
struct Below {
    database: Database,
    file: Option<File>,
}

impl Bench<'_> {
    pub(super) fn appends(&mut self) -> Result<()> {
        let (sync, buffered) = (Durability::Sync, Durability::Buffered);
        for (durability, events, threads) in [
            (sync, 1, 1),
            (sync, 1, THREADS),
            (buffered, 1, 1),
            (buffered, 10, 1),
            (buffered, 100, 1),
        ] {
            let how = if durability == sync { "synced" } else { "buffered" };
            let many = if threads == 1 { String::new() } else { format!(", {threads} threads") };
            let name = format!("append {}, {how}{many}", count(u64::from(events), "event"));
            let Base { store, database } = self.pair("append", durability)?;
            let path = self.place.path("a-file");
            let is_file = (durability, threads) == (sync, 1);
            let file = if is_file { Some(at(&path, File::create_new(&path))?) } else { None };
            let below = Below { database, file };
            let pace = Pace { durability, events, threads };
            let until = Until::Time(self.args.seconds);
            let sides = race(&store, &below, &mut self.source, pace, until)?;
            let baseline_is =
                if is_file { "a file written and synced, the same bytes" } else { SAME_ROWS };
            self.add(Group::Append, name, Shown::Rate("event"), sides, baseline_is);
            // Leaves the disk for the next measurement as this one found it.
            store.close()?;
            drop(below);
            remove(&self.place.path("append"))?;
            remove(&self.place.path("append-baseline"))?;
        }
        self.hot_stream()
    }

    /// Many writers of one stream, compared with as many writers of one stream each.
    pub(super) fn hot_stream(&mut self) -> Result<()> {
        let Base { store, database } = self.pair("append", Durability::Sync)?;
        drop(database);
        let mut sides = [Recorder::new(), Recorder::new()];
        let mut counts = false;
        while sides[0].elapsed < self.args.seconds {
            for (is_spread, side) in [false, true].into_iter().zip(&mut sides) {
                let mut shares = Vec::with_capacity(WRITERS);
                for writer in 0..WRITERS {
                    let mut share = self.source.appends(WRITER_APPENDS, 1)?;
                    let own = if is_spread { writer } else { 0 };
                    for append in &mut share {
                        append.stream = format!("hot-{own}").try_into()?;
                    }
                    shares.push(share);
                }
                let slice = at_once(shares, |share, recorder| append(&store, share, recorder))?;
                // The first slices create the streams and fill the caches.
                if counts {
                    side.append(&slice);
                }
            }
            counts = true;
        }
        let name = format!("append 1 event, synced, {WRITERS} writers of one stream");
        let [hot, spread] = sides.map(|side| side.measured());
        let baseline_is = "as many writers, each of its own stream";
        self.add(Group::Append, name, Shown::Rate("event"), [hot, spread], baseline_is);
        store.close()?;
        remove(&self.place.path("append"))?;
        remove(&self.place.path("append-baseline"))
    }

    /// Makes the log that is read, and a database with the same rows.
    pub(super) fn fill(&mut self) -> Result<Base> {
        if let Some(file) = &self.args.input {
            return self.import(file);
        }
        let Base { store, database } = self.pair("log", Durability::Buffered)?;
        let below = Below { database, file: None };
        let events = self.args.per_append;
        let pace = Pace { durability: Durability::Buffered, events, threads: 1 };
        let until = Until::Events(self.args.events);
        race(&store, &below, &mut self.source, pace, until)?;
        Ok(Base { store, database: below.database })
    }

    fn import(&mut self, file: &Path) -> Result<Base> {
        let Base { store, database } = self.pair("log", Durability::Buffered)?;
        let input = open_input(file)?;
        // A log that is only measured may have times that go backward.
        let options = ImportOptions::default().clamp_times(true);
        let (elapsed, imported) = timed(|| Ok(store.import(input, options, |_| {})?))?;
        if imported.added == 0 {
            return Err(format!("{} holds no events", file.display()).into());
        }
        let written = write_as_imported(&store, &database)?;
        if self.wants(Group::Import) {
            let name = format!("import {} lines", grouped(imported.lines));
            let sides = [elapsed, written].map(|elapsed| Measured {
                count: imported.added,
                elapsed,
                cpu: Duration::ZERO,
                latency: None,
            });
            let baseline_is = "RocksDB writing the same rows, in batches as large";
            self.add(Group::Import, name, Shown::Rate("event"), sides, baseline_is);
        }
        Ok(Base { store, database })
    }
}

/// The input, decompressed if it begins as gzip does.
pub(super) fn open_input(path: &Path) -> Result<Box<dyn BufRead>> {
    let mut input = BufReader::with_capacity(1 << 16, at(path, File::open(path))?);
    let is_gzip = at(path, input.fill_buf())?.starts_with(&[0x1f, 0x8b]);
    if is_gzip {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(input))));
    }
    Ok(Box::new(input))
}

/// Writes the rows of a store in batches of an import's size, with a sync at the end, and returns
/// how long that took.
fn write_as_imported(store: &Store, database: &Database) -> Result<Duration> {
    let (below, mut after, mut elapsed) = (baseline(store), None, Duration::ZERO);
    let mut packer = Packer::default();
    loop {
        let (rows, last) = below.appends(after, IMPORT_BATCH_LEN, &mut packer)?;
        if rows.is_empty() {
            return Ok(elapsed + timed(|| Ok(database.sync()?))?.0);
        }
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let mut events = 0;
            let fits = rest.iter().take_while(|batch| {
                events += batch.events();
                events <= IMPORT_BATCH_EVENTS
            });
            let (batch, left) = rest.split_at(fits.count().max(1));
            elapsed += timed(|| Ok(database.write_as_one(batch, Durability::Buffered)?))?.0;
            rest = left;
        }
        after = last;
    }
}

/// Appends on both sides until the measurement ends. The first slice does not count, unless the
/// number of events is given.
fn race(
    store: &Store,
    below: &Below,
    source: &mut Source,
    pace: Pace,
    until: Until,
) -> Result<[Measured; 2]> {
    let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
    let mut packer = Packer::default();
    let mut len = 32;
    let mut counts = matches!(until, Until::Events(_));
    let began = Instant::now();
    loop {
        let head = store.head()?;
        let left = match until {
            Until::Events(events) => {
                events.saturating_sub(head.map_or(0, Position::get)).div_ceil(pace.events.into())
            }
            Until::Time(least) => {
                let is_enough = of_store.elapsed >= least || began.elapsed() >= 6 * least;
                if is_enough && !of_store.elapsed.is_zero() { 0 } else { u64::MAX }
            }
        };
        if left == 0 {
            return Ok([of_store.measured(), of_baseline.measured()]);
        }
        let appends = len.min(usize::try_from(left).unwrap_or(usize::MAX)).div_ceil(pace.threads);
        let shares: Result<Vec<_>> =
            (0..pace.threads).map(|_| source.appends(appends, pace.events)).collect();
        let slice = at_once(shares?, |share, recorder| append(store, share, recorder))?;
        let rows = baseline(store).appends(head, usize::MAX, &mut packer)?.0;
        let bytes: usize = rows.iter().map(|batch| below.database.len_in_log(batch)).sum();
        let written = at_once(dealt(rows, pace.threads), |share, recorder| {
            below.write(share, pace.durability, recorder)
        })?;
        let is_short = slice.elapsed < SLICE && len < SLICE_APPENDS_MAX;
        if is_short && bytes < SLICE_BYTES_MAX {
            len *= 2;
        }
        if counts {
            of_store.append(&slice);
            of_baseline.append(&written);
        }
        counts = true;
    }
}

fn append(store: &Store, share: Vec<Ready>, recorder: &mut Recorder) -> Result<()> {
    share.into_iter().try_for_each(|Ready { stream, events }| {
        let count = events.len() as u64;
        recorder.run(|| Ok(store.append(stream, ExpectedVersion::Any, events).map(|_| count)?))
    })
}

impl Below {
    fn write(
        &self,
        rows: Vec<Batch>,
        durability: Durability,
        recorder: &mut Recorder,
    ) -> Result<()> {
        for batch in rows {
            let events = batch.events();
            match self.file.as_ref() {
                None => recorder.run(|| {
                    self.database.write(&batch, durability)?;
                    Ok(events)
                })?,
                Some(mut file) => {
                    let bytes = vec![0x5a; self.database.len_in_log(&batch)];
                    recorder.run(|| {
                        file.write_all(&bytes)?;
                        file.sync_data()?;
                        Ok(events)
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Distributes rows over this many threads.
fn dealt<T>(rows: Vec<T>, threads: usize) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, row) in rows.into_iter().enumerate() {
        shares[index % threads].push(row);
    }
    shares
}
