//! What the process uses, as Linux tells.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// In microseconds.
pub(crate) fn percentile(taken: &[Duration], percent: usize) -> f64 {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    let at = taken.get(taken.len() * percent / 100).copied().unwrap_or_default();
    at.as_secs_f64() * 1e6
}

/// Waits until no thread works any more, compaction above all; at most ten minutes.
pub(crate) fn settle() -> Duration {
    let began = Instant::now();
    let mut quiet = began;
    let mut before = worked();
    while quiet.elapsed() < Duration::from_millis(1_500) && began.elapsed().as_secs() < 600 {
        thread::sleep(Duration::from_millis(250));
        let now = worked();
        // A tick of the clock is 10 ms.
        if now - before > 2 {
            quiet = Instant::now();
        }
        before = now;
    }
    quiet - began
}

/// Ticks of processor time.
fn worked() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold spaces; after it stand the state and 10 numbers, then user and system time.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Bytes that were written to the disk, or will be.
pub(crate) fn written() -> u64 {
    number_of("/proc/self/io", "write_bytes:")
}

/// Bytes that are in memory.
pub(crate) fn memory() -> u64 {
    number_of("/proc/self/status", "VmRSS:") * 1024
}

fn number_of(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

pub(crate) fn bytes_below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            about if about.is_dir() => bytes_below(&entry.path()),
            about => about.len(),
        })
        .sum()
}
