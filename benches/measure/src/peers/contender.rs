//! The interface that every contender implements, independent of each one's terms.

use std::fmt;
use std::path::PathBuf;

pub use crate::{Failure, Result};

/// The only event type: each contender stores it with every event and returns it.
pub const EVENT_TYPE: &str = "Happened";

/// What an acknowledged append survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// The end of the process, but not of the machine.
    Buffered,
    /// A power loss.
    Sync,
}

impl fmt::Display for Durability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Buffered => "buffered",
            Self::Sync => "sync",
        })
    }
}

/// How a contender is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A separate directory, which exists.
    pub path: PathBuf,
    pub durability: Durability,
    /// Memory for reads, if the contender has such a cache.
    pub cache_bytes: usize,
    /// Memory for writes that are not yet sorted into place, if the contender has such a buffer.
    pub memtable_bytes: usize,
}

/// An event to append. Its payload is borrowed: a contender that needs its own copy pays for it, as
/// an application that encodes its events would.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    pub id: [u8; 16],
    pub payload: &'a [u8],
}

/// Events for one stream.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    pub stream: &'a str,
    /// The number of events that the caller believes the stream to have: its version.
    pub expected: u64,
    pub events: Vec<Event<'a>>,
}

/// One commit: all of its parts or none. Each stream occurs once.
#[derive(Debug, Clone)]
pub struct Append<'a> {
    pub parts: Vec<Part<'a>>,
    /// The log position up to which the caller has seen these streams: the condition for a
    /// contender without versions.
    pub as_of: u64,
    /// Whether the contender must check this. If not, `expected` is correct nevertheless, so a
    /// contender that looks the version up in any case may still compare it; `as_of` is ignored.
    pub is_conditional: bool,
}

/// An event that was read. All of it has to be decoded.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub position: u64,
    pub id: [u8; 16],
    pub event_type: &'a str,
    pub payload: &'a [u8],
}

/// Receives the events of a read one by one.
pub type Visit<'v> = dyn FnMut(Seen<'_>) + 'v;

/// A store of events, as an application sees it. It may be called from many threads.
pub trait Contender: Send + Sync {
    /// Appends, if each stream is as expected, and returns once the append is as durable as the
    /// settings require. Returns the position of the last event. Positions count from 1 without
    /// gaps.
    fn append(&self, append: &Append<'_>) -> Result<u64>;

    /// All events of a stream, in order.
    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()>;

    /// All events of all streams, in the order of their positions.
    fn replay(&self, visit: &mut Visit<'_>) -> Result<()>;

    /// Closes the contender cleanly: writes any data that this needs.
    fn close(self: Box<Self>) -> Result<()>;
}
