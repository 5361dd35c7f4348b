//! Asks one contender one question, once.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::contender::{Contender, Durability, EVENT_TYPE, Event, Result, Seen, Settings};
use super::contenders::{Entry, Role};
use super::workload::{Caller, Random, SEED, Shape, Tally, World};
use crate::measure::{self, Measured, Recorder, at_once, cpu, cpu_since};
use crate::place::disk_bytes;

/// Number of events in each stream of the log that is read.
pub const STREAM_EVENTS: usize = 30;
/// Number of events in one commit of that log, each for another stream.
const FILL_COMMIT: usize = 100;
/// How often the chosen streams are loaded when they are warm.
const WARM_PASSES: usize = 3;
/// Time for a contender's background work before its log is read.
const REST_MAX: Duration = Duration::from_secs(120);

/// The settings that all contenders share.
#[derive(Debug, Clone)]
pub struct Budget {
    pub cache_bytes: usize,
    pub memtable_bytes: usize,
}

impl Budget {
    pub fn settings(&self, directory: &Path, durability: Durability) -> Settings {
        let Self { cache_bytes, memtable_bytes } = *self;
        Settings { path: directory.to_owned(), durability, cache_bytes, memtable_bytes }
    }
}

/// How appends are measured.
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
    /// Microseconds for a commit or a load: the median and the 99th percentile.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Microseconds of processor time for an event or a load, all threads of the process together,
    /// including those that flush and compact: the cost of the store to the application, and the
    /// figure that a busy machine disturbs least.
    pub cpu_us: f64,
}

impl Figure {
    /// Operations per second.
    pub fn rate(measured: &Measured) -> Self {
        Self { value: measured.per_second(), ..Self::time(measured) }
    }

    /// The microseconds of each operation.
    fn time(measured: &Measured) -> Self {
        let (p50_us, p99_us) = measured.micros();
        let cpu_us = measure::micros(measured.cpu) / (measured.count as f64).max(1.0);
        Self { value: measured.seconds_each() * 1e6, p50_us, p99_us, cpu_us }
    }
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
    let mut callers = Vec::new();
    for number in 0..how.threads {
        let mut caller = Caller::new(world, number, how.threads);
        // The clock starts when each stream has an event: measures a store in use, not a new one.
        warm_up(&*contender, &mut caller)?;
        callers.push(caller);
    }
    let appended = at_once(callers, |caller, recorder| calls(&*contender, caller, how, recorder))?;
    contender.close()?;
    Ok(Figure::rate(&appended.measured()))
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

/// Appends until the time is up.
fn calls(
    contender: &dyn Contender,
    mut caller: Caller<'_>,
    how: Appending,
    recorder: &mut Recorder,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(how.seconds);
    loop {
        let append = caller.choose(how.shape);
        let begun = Instant::now();
        let position = contender.append(&append)?;
        let answered = Instant::now();
        recorder.note(how.shape.len() as u64, answered - begun);
        caller.appended(&append, position);
        if answered >= end {
            return Ok(());
        }
    }
}

/// A log that was written to be read, and its expected contents.
#[derive(Debug)]
pub struct Filled {
    pub figure: Figure,
    /// Events per second, right after the last append.
    pub replay: Figure,
    /// On disk, after closing.
    pub disk_bytes: u64,
    pub log: Tally,
    pub streams: Vec<Tally>,
}

/// Writes a log in which each stream has [`STREAM_EVENTS`] events, one in each of so many passes
/// over all streams in random order, and replays it at once. The figure is events per second, and
/// includes closing, but not the replay: any deferred work is done by then, or is not needed.
pub fn fill(entry: &Entry, world: &World, budget: &Budget, directory: &Path) -> Result<Filled> {
    let is_buffered = entry.offers(Durability::Buffered);
    let durability = if is_buffered { Durability::Buffered } else { Durability::Sync };
    let contender = (entry.open)(&budget.settings(directory, durability))?;
    let mut caller = Caller::new(world, 0, 1);
    let mut random = Random::new(SEED);
    let mut order: Vec<usize> = (0..world.names.len()).collect();
    let (mut log, mut streams) = (Tally::default(), vec![Tally::default(); world.names.len()]);
    let (mut recorder, before) = (Recorder::new(), cpu()?);
    for _ in 0..STREAM_EVENTS {
        random.shuffle(&mut order);
        for chunk in order.chunks(FILL_COMMIT) {
            let append = caller.one_each(chunk);
            let begun = Instant::now();
            let position = contender.append(&append)?;
            recorder.note(chunk.len() as u64, begun.elapsed());
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
    recorder.cpu = cpu_since(before)?;
    let replay = replay(entry, &*contender, log)?;
    let (closing, before) = (Instant::now(), cpu()?);
    contender.close()?;
    recorder.elapsed += closing.elapsed();
    recorder.cpu += cpu_since(before)?;
    let figure = Figure::rate(&recorder.measured());
    Ok(Filled { figure, replay, disk_bytes: disk_bytes(directory)?, log, streams })
}

/// Opens a store and waits until all of its threads are idle: a store that still reorganizes
/// recently written data is slower to read, so it gets no figure. Returns `false` if it is not idle
/// after two minutes.
pub fn rest(entry: &Entry, budget: &Budget, directory: &Path) -> Result<bool> {
    let contender = (entry.open)(&budget.settings(directory, Durability::Sync))?;
    let (_, is_quiet) = measure::rest(REST_MAX)?;
    contender.close()?;
    Ok(is_quiet)
}

/// The figures of a newly opened handle.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// Microseconds for each of the chosen streams, the first time.
    pub cold: Figure,
    /// The same streams again.
    pub warm: Figure,
    /// Events per second, the whole log.
    pub replay: Figure,
}

/// Opens a store that was filled, loads these streams, loads them again, and replays the log. Fails
/// if anything is missing.
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
        let (mut recorder, before) = (Recorder::new(), cpu()?);
        for stream in std::iter::repeat_n(chosen, passes).flatten() {
            let mut tally = Tally::default();
            recorder.run(|| {
                contender.read_stream(&world.names[*stream], &mut |seen| tally.see(&seen))?;
                Ok(1)
            })?;
            check(entry, tally, filled.streams[*stream])?;
        }
        recorder.cpu = cpu_since(before)?;
        Ok(Figure::time(&recorder.measured()))
    };
    let (cold, warm) = (load(1)?, load(WARM_PASSES)?);
    let replay = replay(entry, &*contender, filled.log)?;
    contender.close()?;
    Ok(Reads { cold, warm, replay })
}

/// Replays a whole log. Fails if anything is missing.
fn replay(entry: &Entry, contender: &dyn Contender, log: Tally) -> Result<Figure> {
    let (mut tally, mut position, mut is_gapless) = (Tally::default(), 0, true);
    let (begun, before) = (Instant::now(), cpu()?);
    contender.replay(&mut |seen| {
        tally.see(&seen);
        is_gapless &= seen.position == position + 1;
        position = seen.position;
    })?;
    let (elapsed, cpu) = (begun.elapsed(), cpu_since(before)?);
    check(entry, tally, log)?;
    if !is_gapless {
        return Err("positions that do not count on from 1".into());
    }
    let replay = Measured { count: tally.events, elapsed, cpu, latency: None };
    Ok(Figure::rate(&replay))
}

/// A baseline returns more than the payload, since it decodes nothing; the others must have found
/// exactly the expected bytes.
fn check(entry: &Entry, found: Tally, expected: Tally) -> Result<()> {
    let holds_all = found.events == expected.events && found.bytes >= expected.bytes;
    let agrees = found == expected || entry.role == Role::Baseline && holds_all;
    if agrees { Ok(()) } else { Err(format!("read {found:?}, not {expected:?}").into()) }
}
