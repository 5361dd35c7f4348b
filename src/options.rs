//! [`Durability`]: what an acknowledged append survives. [`Clock`]: the source of the time.

use std::sync::Arc;
use std::time::SystemTime;

use crate::model::Timestamp;

/// What an acknowledged append survives (G5).
///
/// | | the process is killed | the machine loses power |
/// |---|---|---|
/// | `Sync` | kept | kept |
/// | `Buffered` | kept | the newest events may be lost: always a suffix of the log, never a gap in it |
///
/// A `Sync` append makes all earlier `Buffered` ones durable too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Durability {
    /// Acknowledged after the write-ahead log was synced to the disk.
    #[default]
    Sync,
    /// Acknowledged after the operating system took the write.
    Buffered,
}

impl Durability {
    /// The stricter of two.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn stricter(self, other: Self) -> Self {
        if other == Self::Sync { other } else { self }
    }
}

/// The source of the time of a store.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The time of a clock, clamped to the years that can be recorded.
pub(crate) fn now(clock: &Clock) -> Timestamp {
    clock().clamp(Timestamp::RECORDED_MIN, Timestamp::RECORDED_MAX)
}

/// The clock of the system.
pub(crate) fn system_clock() -> Clock {
    Arc::new(|| Timestamp::from(SystemTime::now()))
}
