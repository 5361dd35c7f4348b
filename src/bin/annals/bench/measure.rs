//! What is measured, and how: two sides in turn, the store and the baseline below it, within one run.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::shell::Failure;
use super::Group;

/// A row of the table.
pub(crate) struct Figure {
    pub(crate) group: Group,
    pub(crate) name: String,
    /// What is counted: `event`, `load`.
    pub(crate) unit: &'static str,
    pub(crate) shown: Shown,
    pub(crate) store: Measured,
    pub(crate) baseline: Measured,
    /// What the baseline does.
    pub(crate) baseline_is: &'static str,
}

/// Which number stands for a measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// How many in a second.
    Rate,
    /// How long one takes.
    Time,
    /// How long the middle one takes: where a few that wait for a processor would spoil the mean.
    Median,
}

/// What one side did.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Option<Latency>,
}

#[derive(Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        float(self.count) / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The seconds that one takes.
    pub(crate) fn seconds(&self, shown: Shown) -> f64 {
        match self.latency.filter(|_| shown == Shown::Median) {
            Some(latency) => latency.p50.as_secs_f64(),
            None => self.elapsed.as_secs_f64() / float(self.count).max(1.0),
        }
    }
}

impl Figure {
    /// Which part of the baseline's speed the store reaches: 1 is as fast, above is faster.
    pub(crate) fn ratio(&self) -> f64 {
        self.baseline.seconds(self.shown) / self.store.seconds(self.shown).max(f64::MIN_POSITIVE)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure has fewer digits than a float")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// How long something took.
pub(crate) fn timed<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<(Duration, T), Failure> {
    let began = Instant::now();
    let done = run()?;
    Ok((began.elapsed(), done))
}

/// The times of many operations, and how much they did.
pub(crate) struct Recorder {
    times: Histogram<u64>,
    count: u64,
    pub(crate) elapsed: Duration,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let Ok(times) = Histogram::new(3) else {
            unreachable!("a histogram may have three digits")
        };
        Self { times, count: 0, elapsed: Duration::ZERO }
    }

    /// Notes one operation and how long it took, and leaves to the caller how long all took together.
    pub(crate) fn note(&mut self, count: u64, took: Duration) {
        // It grows as it must, so it has room for every time.
        let _ = self.times.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.count += count;
    }

    /// Runs and times one operation, which says how much it did.
    pub(crate) fn run(
        &mut self,
        operation: impl FnOnce() -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        let (took, count) = timed(operation)?;
        self.note(count, took);
        self.elapsed += took;
        Ok(())
    }

    /// Takes in what another thread recorded in the same time.
    pub(crate) fn join(&mut self, other: &Self) {
        let _ = self.times.add(&other.times);
        self.count += other.count;
    }

    /// Takes in what was recorded after it.
    pub(crate) fn append(&mut self, other: &Self) {
        self.join(other);
        self.elapsed += other.elapsed;
    }

    pub(crate) fn measured(&self) -> Measured {
        let at = |quantile| Duration::from_nanos(self.times.value_at_quantile(quantile));
        let max = Duration::from_nanos(self.times.max());
        let latency = Latency { p50: at(0.5), p99: at(0.99), max };
        Measured { count: self.count, elapsed: self.elapsed, latency: Some(latency) }
    }
}

/// Runs both sides in turn, so that a machine that gets slower or faster does so for both: until the store has run for
/// as long as was asked, and at least once. Each side says how long it took, and does the same work each time; its
/// middle run counts.
pub(crate) fn in_turn(
    count: u64,
    least: Duration,
    mut store: impl FnMut() -> Result<Duration, Failure>,
    mut baseline: impl FnMut() -> Result<Duration, Failure>,
) -> Result<(Measured, Measured), Failure> {
    let (mut of_store, mut of_baseline) = (Vec::new(), Vec::new());
    let began = Instant::now();
    loop {
        of_baseline.push(baseline()?);
        of_store.push(store()?);
        let ran: Duration = of_store.iter().sum();
        if ran >= least || began.elapsed() >= 4 * least {
            return Ok((middle(count, of_store), middle(count, of_baseline)));
        }
    }
}

fn middle(count: u64, mut times: Vec<Duration>) -> Measured {
    times.sort_unstable();
    let elapsed = times.get(times.len() / 2).copied().unwrap_or_default();
    Measured { count, elapsed, latency: None }
}

/// The numbers below `most` in an order that jumps about, each once.
pub(crate) fn scattered(most: usize) -> impl Iterator<Item = usize> {
    // Any number that shares no divisor with `most` visits all of them.
    let divides = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a > 1
    };
    let mut stride = 7_919;
    while divides(stride, most) {
        stride += 1;
    }
    (0..most).scan(0, move |at, _| {
        *at = (*at + stride) % most;
        Some(*at)
    })
}
