//! What may happen: the operations. Each generator mounts this file: `strategies` here, and
//! the fuzz targets.

/// What a stream is expected to be, in terms of what it is: so that many appends are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Any,
    NoStream,
    Exists,
    /// Exactly where it is (or absent, where it is).
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

/// One mention of a stream in an append; none of its events means that it is only checked.
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
    /// Before the clock.
    Time(i64),
}

/// What a read asks for. Numbers beyond the end are taken as they are.
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
    /// The parts, and where the caller gives the times, how far from the clock.
    Append(Vec<Part>, Option<i64>),
    /// The same append again; or without its last event, or with one more.
    Retry {
        back: usize,
        change: i8,
    },
    Read(Ask),
    List {
        prefix: &'static str,
        after: Option<usize>,
    },
    /// Goes on with one of the subscriptions for that many deliveries.
    Follow {
        which: usize,
        deliveries: usize,
    },
    Clock(i64),
    /// A write of derived data: of the view, or else of a snapshot.
    Keep {
        view: bool,
    },
    Sync,
    Reopen,
    /// The process dies. With a part of 255, the machine does: of what was not synced, that much of
    /// the newest write-ahead log is left.
    Crash {
        left: Option<u8>,
    },
    /// A bit flips in a copy of the files, in which one and where being parts of 65536.
    Damage {
        file: u16,
        at: u16,
        bit: u8,
    },
}
