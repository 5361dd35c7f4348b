//! Asks one contender one question, once.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise, syncfs};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::contender::{Contender, Durability, EVENT_TYPE, Event, Result, Seen, Settings};
use crate::contenders::{Entry, Role};
use crate::workload::{Caller, Random, SEED, Shape, Tally, World};

/// How many events each stream of the log has that is read.
pub const STREAM_EVENTS: usize = 30;
/// How many events one commit of that log has, each of another stream.
const FILL_COMMIT: usize = 100;
/// How often the chosen streams are loaded when they are warm.
const WARM_PASSES: usize = 3;
const NANOS_PER_MICRO: f64 = 1_000.0;

/// What is the same for all contenders.
#[derive(Debug, Clone)]
pub struct Budget {
    pub cache_bytes: usize,
    pub memtable_bytes: usize,
}

impl Budget {
    fn settings(&self, directory: &Path, durability: Durability) -> Settings {
        let Self { cache_bytes, memtable_bytes } = *self;
        Settings { path: directory.to_owned(), durability, cache_bytes, memtable_bytes }
    }
}

/// How an append is asked.
#[derive(Debug, Clone, Copy)]
pub struct Appending {
    pub shape: Shape,
    pub durability: Durability,
    pub threads: usize,
    pub seconds: f64,
}

/// One answer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figure {
    pub value: f64,
    /// Microseconds for a commit or a load: half took less, and 99 of 100.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Microseconds of processor time for an event or a load, all threads of the process together, those that flush and
    /// compact too: what the store takes from the application, and what a busy machine disturbs least.
    pub cpu_us: f64,
}

/// Processor time of the whole process so far.
fn cpu() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?)
}

/// Microseconds for each of so many.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn micros_each(taken: Duration, count: u64) -> f64 {
    micros(taken) / count.max(1) as f64
}

/// The median of what each call took, and its 99th percentile.
fn percentiles(mut taken: Vec<Duration>) -> (f64, f64) {
    taken.sort_unstable();
    let at = |hundredths: usize| {
        let index = (taken.len() * hundredths / 100).min(taken.len().saturating_sub(1));
        taken.get(index).map_or(0.0, |taken| micros(*taken))
    };
    (at(50), at(99))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn micros(taken: Duration) -> f64 {
    taken.as_nanos() as f64 / NANOS_PER_MICRO
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: u64, taken: Duration) -> f64 {
    count as f64 / taken.as_secs_f64()
}

/// Events per second, by this many callers on a new store in this directory.
pub fn append(
    entry: &Entry,
    how: Appending,
    world: &World,
    budget: &Budget,
    directory: &Path,
) -> Result<Figure> {
    let contender = (entry.open)(&budget.settings(directory, how.durability))?;
    let barrier = Barrier::new(how.threads + 1);
    let (taken, wall, worked) = thread::scope(|scope| {
        let call = |number| {
            let (contender, barrier) = (&*contender, &barrier);
            scope.spawn(move || {
                let mut caller = Caller::new(world, number, how.threads);
                // The clock starts when each stream has an event: a store that is in use, not one that is new.
                let warmed = warm_up(contender, &mut caller);
                barrier.wait();
                warmed?;
                calls(contender, caller, how)
            })
        };
        let callers: Vec<_> = (0..how.threads).map(call).collect();
        barrier.wait();
        let (begun, before) = (Instant::now(), cpu()?);
        let joined =
            callers.into_iter().map(|caller| caller.join().map_err(|_| "a caller panicked")?);
        let taken = joined.collect::<Result<Vec<_>>>();
        let (wall, worked) = (begun.elapsed(), cpu()? - before);
        taken.map(|taken| (taken, wall, worked))
    })?;
    contender.close()?;
    let taken: Vec<Duration> = taken.into_iter().flatten().collect();
    let events = (taken.len() * how.shape.len()) as u64;
    // A single caller's time of its own, spent on making events, is not the store's. Of several, one makes events while
    // the store works for another.
    let spent = if how.threads == 1 { taken.iter().sum() } else { wall };
    let (p50_us, p99_us) = percentiles(taken);
    let cpu_us = micros_each(worked, events);
    Ok(Figure { value: per_second(events, spent), p50_us, p99_us, cpu_us })
}

/// Appends an event to each stream of the caller.
fn warm_up(contender: &dyn Contender, caller: &mut Caller<'_>) -> Result<()> {
    let streams: Vec<usize> = (0..caller.streams()).collect();
    streams.chunks(FILL_COMMIT).try_for_each(|chunk| {
        let append = caller.one_each(chunk);
        let position = contender.append(&append)?;
        caller.appended(&append, position);
        Ok(())
    })
}

/// Appends until the time is up; returns what each call took.
fn calls(
    contender: &dyn Contender,
    mut caller: Caller<'_>,
    how: Appending,
) -> Result<Vec<Duration>> {
    let end = Instant::now() + Duration::from_secs_f64(how.seconds);
    let mut taken = Vec::new();
    loop {
        let append = caller.choose(how.shape);
        let begun = Instant::now();
        let position = contender.append(&append)?;
        let answered = Instant::now();
        taken.push(answered - begun);
        caller.appended(&append, position);
        if answered >= end {
            return Ok(taken);
        }
    }
}

/// A log that was written to be read, and what must be found in it.
#[derive(Debug)]
pub struct Filled {
    pub figure: Figure,
    /// On disk, after closing.
    pub disk_bytes: u64,
    pub log: Tally,
    pub streams: Vec<Tally>,
}

/// Writes a log in which each stream has [`STREAM_EVENTS`] events, one in each of so many passes over all streams in
/// random order. The figure is events per second, and the closing counts: what was put off is done by then, or is not
/// needed.
pub fn fill(entry: &Entry, world: &World, budget: &Budget, directory: &Path) -> Result<Filled> {
    let durability = match entry.offers(Durability::Buffered) {
        true => Durability::Buffered,
        false => Durability::Sync,
    };
    let contender = (entry.open)(&budget.settings(directory, durability))?;
    let mut caller = Caller::new(world, 0, 1);
    let mut random = Random::new(SEED);
    let mut order: Vec<usize> = (0..world.names.len()).collect();
    let (mut log, mut streams) = (Tally::default(), vec![Tally::default(); world.names.len()]);
    let (mut taken, before) = (Vec::new(), cpu()?);
    for _ in 0..STREAM_EVENTS {
        random.shuffle(&mut order);
        for chunk in order.chunks(FILL_COMMIT) {
            let append = caller.one_each(chunk);
            let begun = Instant::now();
            let position = contender.append(&append)?;
            taken.push(begun.elapsed());
            caller.appended(&append, position);
            for (stream, part) in chunk.iter().zip(&append.parts) {
                for event in &part.events {
                    let Event { id, payload } = *event;
                    let seen = Seen { position: 0, id, event_type: EVENT_TYPE, payload };
                    log.see(&seen);
                    streams[*stream].see(&seen);
                }
            }
        }
    }
    let closing = Instant::now();
    contender.close()?;
    let spent = taken.iter().sum::<Duration>() + closing.elapsed();
    let (p50_us, p99_us) = percentiles(taken);
    let cpu_us = micros_each(cpu()? - before, log.events);
    let figure = Figure { value: per_second(log.events, spent), p50_us, p99_us, cpu_us };
    Ok(Filled { figure, disk_bytes: disk_bytes(directory)?, log, streams })
}

/// Opens a store and waits until none of its threads works any more: who still puts in order what was just written is
/// slower to read, and for that there is no figure. At most two minutes; `false` if it worked on then.
pub fn rest(entry: &Entry, budget: &Budget, directory: &Path) -> Result<bool> {
    const LOOK: Duration = Duration::from_millis(250);
    const QUIET: u32 = 8;
    let contender = (entry.open)(&budget.settings(directory, Durability::Sync))?;
    let (begun, mut quiet) = (Instant::now(), 0);
    while quiet < QUIET && begun.elapsed() < Duration::from_secs(120) {
        let before = cpu()?;
        thread::sleep(LOOK);
        quiet = if cpu()? - before < LOOK / 20 { quiet + 1 } else { 0 };
    }
    contender.close()?;
    Ok(quiet == QUIET)
}

/// What a handle answers that has just been opened.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// Microseconds for each of the chosen streams, the first time.
    pub cold: Figure,
    /// The same streams again.
    pub warm: Figure,
    /// Events per second, the whole log.
    pub replay: Figure,
}

/// Opens a store that was filled, loads these streams, loads them again, and replays the log. Fails if anything is
/// missing.
pub fn read(
    entry: &Entry,
    filled: &Filled,
    world: &World,
    chosen: &[usize],
    budget: &Budget,
    directory: &Path,
) -> Result<Reads> {
    let contender = (entry.open)(&budget.settings(directory, Durability::Sync))?;
    let load = |passes: usize| -> Result<Figure> {
        let (mut taken, before) = (Vec::with_capacity(passes * chosen.len()), cpu()?);
        for stream in std::iter::repeat_n(chosen, passes).flatten() {
            let mut tally = Tally::default();
            let begun = Instant::now();
            contender.read_stream(&world.names[*stream], &mut |seen| tally.see(&seen))?;
            taken.push(begun.elapsed());
            check(entry, tally, filled.streams[*stream])?;
        }
        let (loads, worked) = (taken.len() as u64, cpu()? - before);
        let value = micros_each(taken.iter().sum(), loads);
        let (p50_us, p99_us) = percentiles(taken);
        Ok(Figure { value, p50_us, p99_us, cpu_us: micros_each(worked, loads) })
    };
    let (cold, warm) = (load(1)?, load(WARM_PASSES)?);
    let (mut tally, mut position, mut is_gapless) = (Tally::default(), 0, true);
    let (begun, before) = (Instant::now(), cpu()?);
    contender.replay(&mut |seen| {
        tally.see(&seen);
        is_gapless &= seen.position == position + 1;
        position = seen.position;
    })?;
    let (spent, worked) = (begun.elapsed(), cpu()? - before);
    check(entry, tally, filled.log)?;
    if !is_gapless {
        return Err("positions that do not count on from 1".into());
    }
    contender.close()?;
    let (value, cpu_us) = (per_second(tally.events, spent), micros_each(worked, tally.events));
    let replay = Figure { value, p50_us: 0.0, p99_us: 0.0, cpu_us };
    Ok(Reads { cold, warm, replay })
}

/// A baseline hands out more than the payload, for it decodes nothing; the others must have found exactly what is there.
fn check(entry: &Entry, found: Tally, expected: Tally) -> Result<()> {
    let is_baseline = entry.role == Role::Baseline;
    let agrees = match is_baseline {
        true => found.events == expected.events && found.bytes >= expected.bytes,
        false => found == expected,
    };
    if agrees { Ok(()) } else { Err(format!("read {found:?}, not {expected:?}").into()) }
}

/// Has the operating system write out what earlier runs left to it, so that nobody pays for another's writes.
pub fn settle(directory: &Path) -> Result<()> {
    Ok(syncfs(File::open(directory)?)?)
}

/// Takes the files of a store out of the operating system's page cache: those of this store alone, so it needs no root.
pub fn drop_cache(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_cache(&path)?;
        } else {
            let file = File::open(&path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// What a directory takes on disk.
fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Blocks of 512 bytes: a file may be longer than what was written, or have room kept behind its end.
        sum += if path.is_dir() { disk_bytes(&path)? } else { fs::metadata(&path)?.blocks() * 512 };
    }
    Ok(sum)
}
