//! The disk: families of keys and values, atomic batches, checked scans. This is the only module
//! that uses `rocksdb`.
//!
//! The modules above see bytes and [`Error`](crate::Error)s, never a type of the engine. This
//! module does not know what a key or a value means.

mod copy;
mod cursor;
mod directory;
mod disk;
mod durable;
mod engine_error;
mod engine_log;
mod erase;
mod family;
mod free_space;
mod manifest;
mod paths;
mod row_filter;
mod space;
mod tail;
mod tuning;
mod wal;
mod watermark;

pub(crate) use copy::{PartialCopy, copy_database};
pub(crate) use cursor::Cursor;
pub(crate) use directory::{Access, Claim};
pub(crate) use disk::{Batch, Disk, Storage};
pub(crate) use durable::sync_directory;
pub(crate) use family::Family;
pub(crate) use paths::Paths;
pub(crate) use row_filter::RowFilter;
pub(crate) use space::Space;
pub(crate) use tail::Cut;
pub(crate) use watermark::WatermarkFile;
