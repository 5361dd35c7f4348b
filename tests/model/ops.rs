//! The operations. Every generator includes this file: `strategies` here, and the fuzz targets.

/// The expected version, relative to the actual one, so that many appends succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Any,
    NoStream,
    Exists,
    /// Exactly its current version, or no stream if it does not exist.
    Tip,
    /// Exactly at this version, right or wrong.
    At(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    Small,
    /// Payloads that fill a frame after a few events.
    Large,
    /// More events than a frame holds.
    Many,
}

/// The number of idempotency keys.
pub(crate) const KEYS: usize = 12;

/// One part of an append; without events, the stream is only checked.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) stream: usize,
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) size: Size,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    Beginning,
    From(u64),
    After(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum AsOf {
    Now,
    Position(u64),
    Version(u64),
    /// A time, as an offset before the clock.
    Time(i64),
}

/// The options of a read. Numbers beyond the end are used unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) stream: Option<usize>,
    pub(crate) start: Start,
    pub(crate) backward: bool,
    pub(crate) limit: Option<u64>,
    pub(crate) types: usize,
    pub(crate) category: Option<&'static str>,
    pub(crate) prefix: Option<&'static str>,
    pub(crate) as_of: AsOf,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// The parts and, if the caller sets the time, its offset from the clock.
    Append(Vec<Part>, Option<i64>),
    /// The same append again, or without its last event, or with one more.
    Retry {
        back: usize,
        change: i8,
    },
    /// A request with one of [`KEYS`] keys and one of two digests; without events it records only
    /// the key.
    Keyed {
        parts: Vec<Part>,
        key: usize,
        other: bool,
    },
    Read(Ask),
    List {
        prefix: &'static str,
        after: Option<usize>,
    },
    /// Resumes one of the subscriptions for this many deliveries.
    Follow {
        which: usize,
        deliveries: usize,
    },
    Clock(i64),
    /// A write of derived data: to the view, or of a snapshot.
    Keep {
        view: bool,
    },
    Sync,
    Reopen,
    /// The process dies. With `left`, the machine loses power, and `left`/255 of the unsynced part
    /// of the newest write-ahead log survives.
    Crash {
        left: Option<u8>,
    },
    /// A bit flips in a copy of the files. `file` and `at` select the file and the byte, as
    /// fractions of 65536.
    Damage {
        file: u16,
        at: u16,
        bit: u8,
    },
}
