//! What is done to a store as a whole: [`backup`], [`verify`], [`import`] and [`export`], and the [line form](lines) of
//! the last two; and the [baseline] that benchmarks compare a store with.
//!
//! Import goes through the commit path like every append; export reads through the seam like every reader.

#[cfg(feature = "rocksdb")]
pub(crate) mod backup;
#[cfg(feature = "rocksdb")]
pub(crate) mod export;
#[cfg(feature = "rocksdb")]
pub mod baseline;
#[cfg(feature = "rocksdb")]
pub(crate) mod import;
pub(crate) mod lines;
#[cfg(feature = "rocksdb")]
pub(crate) mod verify;
