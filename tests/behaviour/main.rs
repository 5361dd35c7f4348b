//! What annals does, seen from outside, through its public door. One binary, so that RocksDB is linked once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod aggregates;
mod stream_isolation;
mod audit;
mod backup;
mod bank;
mod derived;
mod committing;
mod conformance;
mod damage;
mod epochs;
mod evolution;
mod fixture;
mod following;
mod frames;
mod lifecycle;
mod numbers;
mod opening;
mod projections;
mod snapshots;
mod stores;
mod support;
mod times;
mod torn_logs;
mod typed_events;
mod verify;
