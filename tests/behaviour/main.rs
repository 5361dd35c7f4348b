//! What annals does, seen from outside, through its public door. One binary, so that RocksDB is linked once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod committing;
mod conformance;
mod damage;
mod fixture;
mod following;
mod frames;
mod lifecycle;
mod opening;
mod support;
mod verify;
