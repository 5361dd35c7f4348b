//! Hostile input for annals: each target is a plain function of bytes, which panics where annals
//! does not keep its word.
//!
//! Targets that need RocksDB are in `full`, behind the feature of that name. The others build
//! without it.

mod allocation;
mod input;
pub mod targets;
#[cfg(feature = "full")]
pub mod full;
