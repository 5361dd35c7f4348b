//! What is done to a store as a whole: [`backup`], [`verify`], [`import`] and [`export`], and the
//! [line form](lines) of the last two; and the baseline that benchmarks compare a store with.
//!
//! Import goes through the commit path like every append; export reads through the seam like every
//! reader.

pub(crate) mod backup;
pub(crate) mod export;
#[cfg(feature = "__internals")]
pub(crate) mod baseline;
pub(crate) mod import;
pub(crate) mod lines;
pub(crate) mod verify;
