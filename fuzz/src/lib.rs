//! Hostile input for annals: each target is a plain function of bytes, which panics if annals
//! breaks a promise.
//!
//! Targets that need RocksDB are in `full`, behind the feature `full`. The others build without it.

mod allocation;
mod input;
pub mod targets;
#[cfg(feature = "full")]
pub mod full;
