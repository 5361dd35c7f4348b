//! The disk: families of keys and values, atomic batches, checked scans. The only user of
//! `rocksdb`.
//!
//! The modules above see bytes and [`Error`](crate::Error)s, never a type of the engine. What a key
//! or a value means is not known here.

mod copy;
mod cursor;
mod directory;
mod disk;
mod durable;
mod engine_error;
mod engine_log;
mod family;
mod manifest;
mod paths;
mod tail;
mod tuning;
mod wal;
mod watermark;

pub(crate) use copy::{PartialCopy, copy_database};
pub(crate) use cursor::Cursor;
pub(crate) use directory::{Access, Claim};
pub(crate) use disk::{Batch, Disk, Storage};
pub(crate) use family::Family;
pub(crate) use paths::Paths;
pub(crate) use tail::Cut;
pub(crate) use watermark::WatermarkFile;
