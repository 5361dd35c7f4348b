//! [`Histogram`]: how often values of each size occurred. [`Recorder`] counts them.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::sync::AtomicU64;

/// Each power of two is divided into this many buckets, so a bucket is at most a quarter wide.
const BUCKETS_PER_OCTAVE: u32 = 4;
const BUCKETS: usize = 252;

/// How often values of each size occurred, in buckets that are at most a quarter wide.
/// [`StoreMetrics`](crate::StoreMetrics) holds some.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many values each bucket has; shorter if the last ones are empty.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// The number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean of all values; `None` if there are none.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count())
    }

    /// A value that this share of all values does not exceed, from 0 to 1: the upper bound of a
    /// bucket, so it is at most a quarter too high. `None` if there are no values.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let count = self.count();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share between 0 and 1 of a count is a count"
        )]
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        self.buckets()
            .scan(0, |seen: &mut u64, (bound, count)| {
                *seen += count;
                Some((bound, *seen))
            })
            .find(|(_, seen)| *seen >= rank)
            .map(|(bound, _)| bound)
    }

    /// The buckets that are not empty, in order: the highest value that a bucket can hold, and how
    /// many values it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| (upper_bound(bucket), *count))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Histogram")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

/// Counts values for a [`Histogram`]. Any thread may read it, and one at a time may write it.
pub(crate) struct Recorder {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Recorder {
    /// Counts a value. Only one thread at a time may call it: see `Count::add_as_writer`.
    pub(crate) fn record(&self, value: u64) {
        let add = |count: &AtomicU64, more| {
            count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        if let Some(count) = self.counts.get(bucket_of(value)) {
            add(count, 1);
        }
        add(&self.sum, value);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let mut counts: Vec<u64> =
            self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        counts.truncate(used);
        Histogram { counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

/// Values below 4 have a bucket each; above, the two bits after the highest one select it.
fn bucket_of(value: u64) -> usize {
    let Some(octave) = value.checked_ilog2().filter(|octave| *octave >= 2) else {
        return usize::try_from(value).unwrap_or_default();
    };
    let part = (value >> (octave - 2)) & 3;
    let bucket = u64::from((octave - 1) * BUCKETS_PER_OCTAVE) + part;
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The highest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = u32::try_from(bucket).unwrap_or_default();
    if bucket < BUCKETS_PER_OCTAVE {
        return bucket.into();
    }
    let (octave, part) = (bucket / BUCKETS_PER_OCTAVE + 1, u64::from(bucket % BUCKETS_PER_OCTAVE));
    let width = 1_u64 << (octave - 2);
    ((4 + part) * width).saturating_add(width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_in_the_bucket_whose_bounds_enclose_it() {
        let around = |value: u64| [value.saturating_sub(1), value, value.saturating_add(1)];
        let values = (0..64).flat_map(|shift| around(1 << shift)).chain(0..2_000).chain([u64::MAX]);
        for value in values {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS && value <= upper_bound(bucket), "{value}");
            assert!(bucket == 0 || value > upper_bound(bucket - 1), "{value}");
            assert!(upper_bound(bucket) - value <= value / 4, "{value}");
        }
    }

    #[test]
    fn quantiles_are_at_most_a_quarter_too_high() {
        let recorder = Recorder::default();
        assert_eq!(recorder.snapshot().quantile(0.5), None);
        (1..=1_000).for_each(|value| recorder.record(value));
        let histogram = recorder.snapshot();
        assert_eq!((histogram.count(), histogram.sum()), (1_000, 500_500));
        for (share, exact) in [(0.0, 1), (0.001, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let found = histogram.quantile(share).unwrap();
            assert!((exact..=exact * 5 / 4).contains(&found), "{share}: {found}");
        }
    }
}
