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
    /// The tags of its events, one bit each; the highest bit gives the first one twice.
    pub(crate) tags: u8,
}

/// The number of tags.
pub(crate) const TAGS_LEN: usize = 4;

/// An item of a query; it has at least one criterion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// One bit for each tag.
    pub(crate) tags: u8,
    /// How many of the types.
    pub(crate) types: usize,
    pub(crate) stream: Option<usize>,
    pub(crate) category: Option<&'static str>,
    pub(crate) prefix: Option<&'static str>,
}

impl Item {
    /// A valid item: if it has no criterion, or no index of tags or streams can answer it, it gets a
    /// tag.
    pub(crate) fn valid(self, for_condition: bool) -> Self {
        let is_indexed = self.tags != 0 || self.stream.is_some();
        let Self { types, category, prefix, .. } = self;
        let has_any = is_indexed || types > 0 || category.is_some() || prefix.is_some();
        let is_valid = if for_condition { is_indexed } else { has_any };
        if is_valid { self } else { Self { tags: 1, ..self } }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum After {
    Nothing,
    /// So many positions below the head: the place of a decision that others overtook, or not.
    BelowHead(u64),
    At(u64),
}

/// A condition of an append; without items, on everything.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) items: Vec<Item>,
    pub(crate) after: After,
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
    /// One bit for each tag.
    pub(crate) tags: u8,
    /// The items of the query, if it reads the log. An empty list selects every event.
    pub(crate) items: Vec<Item>,
}

/// A deletion. Places are relative to what is there, so that most deletions delete something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// The events of a stream but for the last ones.
    Truncate {
        stream: usize,
        keep: u64,
    },
    Delete {
        stream: usize,
    },
    Tombstone {
        stream: usize,
    },
    /// One event, as a fraction of 65536 of the log and the position after it. It loses the tags
    /// whose bits are set.
    Redact {
        at: u16,
        tags: u8,
        clears_snapshots: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// The parts, if the caller sets the time its offset from the clock, and the conditions.
    Append(Vec<Part>, Option<i64>, Vec<Condition>),
    /// The same append again, or without its last event, or with one more.
    Retry {
        back: usize,
        change: i8,
    },
    /// A request with one of [`KEYS`] keys and one of two digests; without events it records only
    /// the key.
    Keyed {
        parts: Vec<Part>,
        conditions: Vec<Condition>,
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
    Delete(Target),
    /// Sets the retention of a stream or of its category: how many events are kept, and for how
    /// long.
    Retain {
        stream: usize,
        of_category: bool,
        count: Option<u64>,
        age: Option<u64>,
    },
    Scavenge,
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
