//! The contenders, one file each, and the properties that a comparison needs.

mod annals;
#[cfg(feature = "peers")]
mod fjall;
mod baseline;
mod frame;
#[cfg(feature = "peers")]
mod redb;
mod row;
#[cfg(feature = "peers")]
mod sqlite;
#[cfg(feature = "peers")]
mod tips;
#[cfg(feature = "peers")]
mod umadb;

#[cfg(test)]
pub use frame::{Place, encode as encode_frames};

use crate::peers::contender::{Contender, Durability, Result, Settings};

/// The role of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The store that the others are compared with.
    Annals,
    /// An alternative.
    Peer,
    /// The upper bound: it writes the same bytes, and checks nothing.
    Baseline,
}

/// The meaning of `Durability::Buffered` to a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffered {
    /// As documented: acknowledged appends survive the end of the process.
    Kept,
    /// Less: they do not. The figure is shown and marked, and not compared directly.
    Weaker,
    /// It has no such mode.
    Unknown,
}

/// The check that refuses an append decided on an older state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// The version of the stream must be the expected one.
    Versions,
    /// No event of the stream may follow a position in the log.
    Positions,
    /// None: it accepts every append.
    Nothing,
}

impl Checks {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Versions => "version",
            Self::Positions => "events after a position",
            Self::Nothing => "nothing",
        }
    }
}

/// A contender, and its properties.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub role: Role,
    pub open: fn(&Settings) -> Result<Box<dyn Contender>>,
    pub buffered: Buffered,
    /// Whether appends from many threads at once are worth measuring.
    pub concurrent: bool,
    /// Whether it can be read.
    pub readable: bool,
    pub checks: Checks,
    /// How it syncs, and what it does instead of syncing.
    pub durability: &'static str,
    /// How it stores events.
    pub layout: &'static str,
}

/// All contenders, in the order of their turns.
pub const ALL: &[Entry] = &[
    annals::ENTRY,
    #[cfg(feature = "peers")]
    sqlite::ENTRY,
    #[cfg(feature = "peers")]
    fjall::ENTRY,
    #[cfg(feature = "peers")]
    redb::ENTRY,
    #[cfg(feature = "peers")]
    umadb::ENTRY,
    baseline::ROCKSDB,
    baseline::FILE,
];

impl Entry {
    /// Whether it supports this durability at all.
    pub fn offers(&self, durability: Durability) -> bool {
        durability == Durability::Sync || self.buffered != Buffered::Unknown
    }

    /// Whether its behaviour then is as requested.
    pub fn is_like(&self, durability: Durability) -> bool {
        durability == Durability::Sync || self.buffered == Buffered::Kept
    }
}
