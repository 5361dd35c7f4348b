//! Appending: the store and the baseline write the same bytes in turn, slice by slice.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use annals::baseline::{Batch, Database};
use annals::{Durability, EventStore, EventStoreExt, ExpectedVersion, Store};

use super::super::shell::Failure;
use super::measure::{Measured, Recorder};
use super::source::{Ready, Source};

/// A slice grows until it takes this long: long enough that what is around it does not count, short enough that both
/// sides meet the same machine.
const SLICE: Duration = Duration::from_millis(100);
const SLICE_BYTES_MAX: usize = 16 << 20;
const SLICE_APPENDS_MAX: usize = 1 << 16;

/// What the baseline of an append is.
pub(crate) enum Baseline {
    /// The engine writes the same rows.
    Engine(Database),
    /// A file gets as many bytes as the engine's log gets, and is synced.
    File { file: File, database: Database },
}

/// How appends are made.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) durability: Durability,
    /// Events in each append.
    pub(crate) events: u32,
    pub(crate) threads: usize,
}

/// When there is enough.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// The store has run for this long.
    Time(Duration),
    /// The log has this many events.
    Events(u64),
}

impl Baseline {
    pub(crate) fn file(path: &Path, database: Database) -> Result<Self, Failure> {
        let doing = || format!("creating {}", path.display());
        let file = File::create_new(path).map_err(|error| Failure::file(doing(), error))?;
        Ok(Self::File { file, database })
    }

    pub(crate) fn is(&self) -> &'static str {
        match self {
            Self::Engine(_) => "RocksDB writing the same rows",
            Self::File { .. } => "a file written and synced, the same bytes",
        }
    }
}

/// Appends on both sides until there is enough. The first slice does not count, unless a number of events is asked for.
pub(crate) fn race(
    store: &Store,
    below: &Baseline,
    source: &mut Source,
    pace: Pace,
    until: Until,
    mut progress: impl FnMut(u64),
) -> Result<(Measured, Measured), Failure> {
    let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
    let per_append = u64::from(pace.events);
    let mut len = 32;
    let mut counts = matches!(until, Until::Events(_));
    let began = Instant::now();
    loop {
        let head = store.head()?;
        let done = head.map_or(0, annals::Position::get);
        let left = match until {
            Until::Events(events) => events.saturating_sub(done).div_ceil(per_append),
            Until::Time(least) => {
                let is_enough = of_store.elapsed >= least || began.elapsed() >= 6 * least;
                if is_enough && !of_store.elapsed.is_zero() { 0 } else { u64::MAX }
            }
        };
        if left == 0 {
            return Ok((of_store.measured(), of_baseline.measured()));
        }
        let appends = len.min(usize::try_from(left).unwrap_or(usize::MAX)).div_ceil(pace.threads);
        let shares: Result<Vec<_>, _> =
            (0..pace.threads).map(|_| source.appends(appends, pace.events)).collect();
        let slice = at_once(shares?, |share, recorder| append(store, share, recorder))?;
        let rows = store.baseline().appends(head, usize::MAX)?.0;
        let bytes: usize = rows.iter().map(|batch| below.database().len_in_log(batch)).sum();
        let baseline = below.write(rows, pace)?;
        let is_short = slice.elapsed < SLICE && len < SLICE_APPENDS_MAX;
        if is_short && bytes < SLICE_BYTES_MAX {
            len *= 2;
        }
        if counts {
            of_store.append(&slice);
            of_baseline.append(&baseline);
        }
        counts = true;
        progress(done);
    }
}

fn append(store: &Store, share: Vec<Ready>, recorder: &mut Recorder) -> Result<(), Failure> {
    for Ready { stream, events } in share {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let began = Instant::now();
        store.append(stream, ExpectedVersion::Any, events)?;
        recorder.note(count, began.elapsed());
    }
    Ok(())
}

impl Baseline {
    fn database(&self) -> &Database {
        match self {
            Self::Engine(database) | Self::File { database, .. } => database,
        }
    }

    /// Writes what the store wrote, on as many threads.
    fn write(&self, rows: Vec<Batch>, pace: Pace) -> Result<Recorder, Failure> {
        match self {
            Self::Engine(database) => at_once(dealt(rows, pace.threads), |share, recorder| {
                for batch in share {
                    let began = Instant::now();
                    database.write(&batch, pace.durability)?;
                    recorder.note(batch.events(), began.elapsed());
                }
                Ok(())
            }),
            Self::File { file, database } => {
                let bytes =
                    |batch: Batch| (batch.events(), vec![0x5a; database.len_in_log(&batch)]);
                let rows = rows.into_iter().map(bytes).collect();
                at_once(dealt(rows, pace.threads), |share: Vec<(u64, Vec<u8>)>, recorder| {
                    let mut file = file;
                    let failed = |error| Failure::file("writing a file", error);
                    for (events, bytes) in share {
                        let began = Instant::now();
                        file.write_all(&bytes).map_err(failed)?;
                        file.sync_data().map_err(failed)?;
                        recorder.note(events, began.elapsed());
                    }
                    Ok(())
                })
            }
        }
    }
}

/// Deals out rows to so many threads.
fn dealt<T>(rows: Vec<T>, threads: usize) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, row) in rows.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(index % threads) {
            share.push(row);
        }
    }
    shares
}

/// Does each share on a thread of its own, all at once; how long they took together is until the last has finished.
fn at_once<T: Send>(
    mut shares: Vec<T>,
    work: impl Fn(T, &mut Recorder) -> Result<(), Failure> + Sync,
) -> Result<Recorder, Failure> {
    let mut all = Recorder::new();
    if shares.len() == 1 {
        let share = shares.pop();
        let began = Instant::now();
        share.map_or(Ok(()), |share| work(share, &mut all))?;
        all.elapsed = began.elapsed();
        return Ok(all);
    }
    let start = Barrier::new(shares.len() + 1);
    let (start, work) = (&start, &work);
    thread::scope(|scope| {
        let spawn = |share| {
            scope.spawn(move || {
                let mut recorder = Recorder::new();
                start.wait();
                work(share, &mut recorder).map(|()| recorder)
            })
        };
        let threads: Vec<_> = shares.into_iter().map(spawn).collect();
        start.wait();
        let began = Instant::now();
        for thread in threads {
            match thread.join() {
                Ok(recorder) => all.join(&recorder?),
                Err(_) => return Err(Failure::Measuring("a thread panicked".to_owned())),
            }
        }
        all.elapsed = began.elapsed();
        Ok(all)
    })
}
