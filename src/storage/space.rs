//! [`Space`]: refuses writes before the disk is full, so that no write fails halfway (G9).
//!
//! Appends and compactions keep their distance from the end of the disk; what is left is for what
//! must not fail: flushes of memtables, the manifest and the watermark.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::free_space::{fits_compaction, free_bytes};
use crate::error::{Error, Result};
use crate::sync::Mutex;

/// The file system is asked again after this many bytes, even if much more is free.
const ASK_BYTES_MAX: u64 = 1 << 20;

/// An older answer does not count: other programs fill the disk too.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// After a refusal, the file system is asked at most this often.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Watches the free space of the file system that holds a store.
pub(crate) struct Space {
    path: PathBuf,
    watch: Option<Mutex<Watch>>,
}

impl Space {
    /// Keeps `reserve` bytes free on the file system of this directory; 0 turns it off.
    pub(crate) fn new(path: &Path, reserve: u64) -> Self {
        let watch = (reserve > 0).then(|| Mutex::new(Watch::new(reserve)));
        Self { path: path.to_owned(), watch }
    }

    /// Checks that there is space for a write of about `len` bytes, and counts it as written.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    ///
    /// # Cost
    /// A lock and the time. The file system is asked once per [`ASK_BYTES_MAX`] or
    /// [`ANSWER_AGE_MAX`], and more often only while little space is left.
    pub(crate) fn check(&self, disk: &Disk, len: usize) -> Result<()> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let mut watch = watch.lock();
        let now = Instant::now();
        let mut next = watch.next(len, now);
        if next == Next::Ask {
            let free = free_bytes(&self.path);
            disk.pause_compactions(!fits_compaction(free, watch.reserve, || disk.table_bytes()));
            next = watch.answered(free, len, now);
        }
        match next {
            Next::Refuse { free } => {
                Err(Error::DiskFull { path: self.path.clone(), free, reserve: watch.reserve })
            }
            Next::Write | Next::Ask => {
                watch.written = watch.written.saturating_add(len);
                Ok(())
            }
        }
    }
}

/// Decides when to ask for the free space, and what to refuse.
struct Watch {
    reserve: u64,
    /// What the file system last answered.
    free: u64,
    asked: Option<Instant>,
    /// What was written since.
    written: u64,
    is_refusing: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Write,
    Ask,
    Refuse { free: u64 },
}

impl Watch {
    fn new(reserve: u64) -> Self {
        Self { reserve, free: 0, asked: None, written: 0, is_refusing: false }
    }

    /// What to do about a write of `len` bytes.
    fn next(&self, len: u64, now: Instant) -> Next {
        let Some(asked) = self.asked else { return Next::Ask };
        let age = now.saturating_duration_since(asked);
        if !self.fits(len) {
            let is_recent = self.is_refusing && age < REFUSAL_PAUSE;
            return if is_recent { Next::Refuse { free: self.left() } } else { Next::Ask };
        }
        // Others write to the disk too, so only a half counts as ours.
        let budget = (self.free.saturating_sub(self.reserve) / 2).min(ASK_BYTES_MAX);
        let is_within = self.written.saturating_add(len) <= budget;
        if is_within && age < ANSWER_AGE_MAX { Next::Write } else { Next::Ask }
    }

    /// Takes the answer of the file system, and decides about the write.
    fn answered(&mut self, free: u64, len: u64, now: Instant) -> Next {
        (self.free, self.written, self.asked) = (free, 0, Some(now));
        self.is_refusing = !self.fits(len);
        if self.is_refusing { Next::Refuse { free } } else { Next::Write }
    }

    fn fits(&self, len: u64) -> bool {
        self.left() >= self.reserve.saturating_add(len)
    }

    fn left(&self) -> u64 {
        self.free.saturating_sub(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 64 << 20;
    const MIB: u64 = 1 << 20;

    /// A watch that has been answered, and the time of the answer.
    fn answered(free: u64, len: u64) -> (Watch, Instant, Next) {
        let (mut watch, now) = (Watch::new(RESERVE), Instant::now());
        assert_eq!(watch.next(len, now), Next::Ask, "nothing is known yet");
        let next = watch.answered(free, len, now);
        (watch, now, next)
    }

    #[test]
    fn asks_again_after_one_mib_while_much_is_free() {
        let (mut watch, now, next) = answered(1 << 40, 100);
        assert_eq!(next, Next::Write);
        watch.written = MIB - 100;
        assert_eq!(watch.next(100, now), Next::Write);
        assert_eq!(watch.next(101, now), Next::Ask);
    }

    #[test]
    fn asks_again_after_half_of_what_is_left_above_the_reserve() {
        let (mut watch, now, next) = answered(RESERVE + 1_000, 100);
        assert_eq!(next, Next::Write);
        watch.written = 400;
        assert_eq!(watch.next(100, now), Next::Write);
        assert_eq!(watch.next(101, now), Next::Ask);
    }

    #[test]
    fn asks_again_after_a_second() {
        let (watch, now, _) = answered(1 << 40, 100);
        assert_eq!(watch.next(100, now + Duration::from_millis(999)), Next::Write);
        assert_eq!(watch.next(100, now + Duration::from_secs(1)), Next::Ask);
    }

    #[test]
    fn refuses_what_would_use_the_reserve() {
        assert_eq!(answered(RESERVE + 100, 100).2, Next::Write);
        let free = RESERVE + 99;
        assert_eq!(answered(free, 100).2, Next::Refuse { free });
        assert_eq!(answered(0, 0).2, Next::Refuse { free: 0 });
    }

    #[test]
    fn asks_at_most_every_tenth_of_a_second_after_a_refusal() {
        let free = RESERVE - 1;
        let (mut watch, now, _) = answered(free, 100);
        assert_eq!(watch.next(100, now + Duration::from_millis(99)), Next::Refuse { free });
        let later = now + Duration::from_millis(100);
        assert_eq!(watch.next(100, later), Next::Ask);
        assert_eq!(watch.answered(RESERVE + MIB, 100, later), Next::Write);
        assert_eq!(watch.next(100, later), Next::Write, "space was freed");
    }

    #[test]
    fn a_refused_large_write_does_not_stop_small_ones() {
        let (watch, now, next) = answered(RESERVE + MIB, 2 * MIB);
        assert_eq!(next, Next::Refuse { free: RESERVE + MIB });
        assert_eq!(watch.next(1_000, now), Next::Write);
    }
}
