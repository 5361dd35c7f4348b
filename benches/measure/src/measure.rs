//! Timing: of single operations one by one, or of whole passes of two sides in turn.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::Result;

/// A measurement: the number of operations, and their total time.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub count: u64,
    pub elapsed: Duration,
    /// Processor time of the whole process in that time, including threads that flush and compact;
    /// zero if not requested.
    pub cpu: Duration,
    pub latency: Option<Latency>,
}

/// Percentiles of single operations.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Seconds per operation.
    pub fn seconds_each(&self) -> f64 {
        self.elapsed.as_secs_f64() / (self.count as f64).max(1.0)
    }

    /// Microseconds of the median operation, and of the 99th percentile.
    pub fn micros(&self) -> (f64, f64) {
        self.latency.map_or((0.0, 0.0), |latency| (micros(latency.p50), micros(latency.p99)))
    }
}

pub fn micros(taken: Duration) -> f64 {
    taken.as_secs_f64() * 1e6
}

/// Processor time of the whole process so far.
pub fn cpu() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?)
}

/// Processor time since then.
pub fn cpu_since(before: Duration) -> Result<Duration> {
    Ok(cpu()?.saturating_sub(before))
}

/// Measures how long a call takes.
pub fn timed<T>(run: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let began = Instant::now();
    let done = run()?;
    Ok((began.elapsed(), done))
}

/// The times of many operations, and the amount of work that they did.
#[derive(Debug)]
pub struct Recorder {
    times: Histogram<u64>,
    count: u64,
    /// Total time: of operations one after the other, or at once.
    pub elapsed: Duration,
    pub cpu: Duration,
}

impl Recorder {
    pub fn new() -> Self {
        let Ok(times) = Histogram::new(3) else {
            unreachable!("a histogram may have three digits")
        };
        Self { times, count: 0, elapsed: Duration::ZERO, cpu: Duration::ZERO }
    }

    /// Records one operation: the amount of work, and the time it took.
    pub fn note(&mut self, count: u64, took: Duration) {
        // The histogram grows as needed, so it can record every time.
        let _ = self.times.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.count += count;
        self.elapsed += took;
    }

    /// Runs and times one operation, which returns the amount of its work.
    pub fn run(&mut self, operation: impl FnOnce() -> Result<u64>) -> Result<()> {
        let (took, count) = timed(operation)?;
        self.note(count, took);
        Ok(())
    }

    /// Adds the operations of a later recorder.
    pub fn append(&mut self, other: &Self) {
        let _ = self.times.add(&other.times);
        self.count += other.count;
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
    }

    pub fn measured(&self) -> Measured {
        let at = |quantile| Duration::from_nanos(self.times.value_at_quantile(quantile));
        let max = Duration::from_nanos(self.times.max());
        let latency = Some(Latency { p50: at(0.5), p99: at(0.99), max });
        Measured { count: self.count, elapsed: self.elapsed, cpu: self.cpu, latency }
    }
}

/// Runs each share on its own thread, all at once. A single share runs on this thread, and takes
/// the sum of its operations' times: what it does between them is not the store's work. Several
/// shares take from the start of the first until the last one finishes: one works while another
/// prepares.
pub fn at_once<T: Send>(
    mut shares: Vec<T>,
    work: impl Fn(T, &mut Recorder) -> Result<()> + Sync,
) -> Result<Recorder> {
    let mut all = Recorder::new();
    if shares.len() <= 1 {
        let before = cpu()?;
        shares.pop().map_or(Ok(()), |share| work(share, &mut all))?;
        all.cpu = cpu_since(before)?;
        return Ok(all);
    }
    let start = Barrier::new(shares.len() + 1);
    let (start, work) = (&start, &work);
    thread::scope(|scope| {
        let spawn = |share| {
            scope.spawn(move || {
                let mut recorder = Recorder::new();
                start.wait();
                let began = Instant::now();
                work(share, &mut recorder).map(|()| (began, recorder))
            })
        };
        let threads: Vec<_> = shares.into_iter().map(spawn).collect();
        // If there are more threads than processors, this thread may be the last one to continue
        // after the barrier.
        let before = cpu()?;
        start.wait();
        let mut began = Instant::now();
        for thread in threads {
            let (thread_began, recorder) = thread.join().map_err(|_| "a thread panicked")??;
            began = began.min(thread_began);
            all.append(&recorder);
        }
        (all.elapsed, all.cpu) = (began.elapsed(), cpu_since(before)?);
        Ok(all)
    })
}

/// Runs both sides in turn, so that a machine that gets slower or faster does so for both, until
/// the store has run for the requested time, and at least once. Each side returns its time, and
/// does the same work each time; its median run counts. Processor time includes what a side does
/// before and after the time that it returns, such as opening and closing.
pub fn in_turn(
    count: u64,
    least: Duration,
    mut store: impl FnMut() -> Result<Duration>,
    mut baseline: impl FnMut() -> Result<Duration>,
) -> Result<[Measured; 2]> {
    let mut sides = [Vec::new(), Vec::new()];
    let began = Instant::now();
    let run = |side: &mut dyn FnMut() -> Result<Duration>| -> Result<_> {
        let before = cpu()?;
        Ok((side()?, cpu_since(before)?))
    };
    loop {
        sides[1].push(run(&mut baseline)?);
        sides[0].push(run(&mut store)?);
        let ran: Duration = sides[0].iter().map(|(elapsed, _)| elapsed).sum();
        if ran >= least || began.elapsed() >= 4 * least {
            return Ok(sides.map(|mut runs| {
                runs.sort_unstable();
                let (elapsed, cpu) = runs[runs.len() / 2];
                Measured { count, elapsed, cpu, latency: None }
            }));
        }
    }
}

/// Waits until no thread works any more, above all compaction. Returns how long that took, and
/// whether the threads became idle within this time.
pub fn rest(most: Duration) -> Result<(Duration, bool)> {
    const LOOK: Duration = Duration::from_millis(250);
    const QUIET: Duration = Duration::from_millis(1_750);
    let began = Instant::now();
    let mut busy = began;
    while busy.elapsed() < QUIET {
        if began.elapsed() >= most {
            return Ok((most, false));
        }
        let before = cpu()?;
        thread::sleep(LOOK);
        if cpu_since(before)? > LOOK / 20 {
            busy = Instant::now();
        }
    }
    Ok((busy - began, true))
}
