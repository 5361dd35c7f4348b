//! The contenders, each in a file, and what must be known of each to compare it with the others.

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

/// Why it takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that the others are compared with.
    Annals,
    /// What one would pick instead.
    Peer,
    /// What can be had at all: it writes the same bytes, and checks nothing.
    Baseline,
}

/// What `Durability::Buffered` means where it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffered {
    /// What it says: acknowledged appends survive the end of the process.
    Kept,
    /// Less: they do not. Shown, marked, and not counted as like with like.
    Weaker,
    /// It has nothing of the kind.
    Unknown,
}

/// By what it refuses an append that was decided on an older state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// By the version of the stream, which must be the expected one.
    Versions,
    /// By events of the stream that stand after a position in the log.
    Positions,
    /// By nothing: it takes what it gets.
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

/// A contender, and what must be known of it.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub role: Role,
    pub open: fn(&Settings) -> Result<Box<dyn Contender>>,
    pub buffered: Buffered,
    /// Whether it is worth asking from many threads at once.
    pub concurrent: bool,
    /// Whether it can be read.
    pub readable: bool,
    pub checks: Checks,
    /// How it syncs, and what it does instead of syncing.
    pub durability: &'static str,
    /// How events lie in it.
    pub layout: &'static str,
}

/// All of them, in the order in which they take their turns.
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
    /// Whether it can be asked for this at all.
    pub fn offers(&self, durability: Durability) -> bool {
        durability == Durability::Sync || self.buffered != Buffered::Unknown
    }

    /// Whether what it does then is what was asked for.
    pub fn is_like(&self, durability: Durability) -> bool {
        durability == Durability::Sync || self.buffered == Buffered::Kept
    }
}
