//! The behaviour of annals through its public API. One binary, so that RocksDB is linked once.
//!
//! Without the feature `rocksdb`, only the tests that need no disk are built: the memory store, the
//! testing kit and codecs. An application can build its unit tests this way.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod conformance;
mod event_unions;
mod decorated;
mod reactor_scenarios;
mod round_trips;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

/// Modules of the examples, which refer to each other from the crate root.
#[cfg(feature = "rocksdb")]
#[path = "../../examples/bank/account.rs"]
mod account;
#[cfg(feature = "rocksdb")]
#[path = "../../examples/loans/application.rs"]
mod application;
#[cfg(feature = "rocksdb")]
#[path = "../../examples/loans/calendar.rs"]
mod calendar;
#[cfg(feature = "rocksdb")]
#[path = "../../examples/courses/courses.rs"]
mod courses;
#[cfg(feature = "rocksdb")]
#[path = "../support/example_bank.rs"]
mod example_bank;
#[cfg(feature = "rocksdb")]
#[path = "../../examples/bank/read_models.rs"]
mod read_models;

#[cfg(feature = "rocksdb")]
mod aggregates;
#[cfg(all(feature = "async", feature = "rocksdb"))]
mod asynchronous;
#[cfg(feature = "rocksdb")]
mod audit;
#[cfg(feature = "rocksdb")]
mod backup;
#[cfg(feature = "rocksdb")]
mod bank;
#[cfg(feature = "rocksdb")]
mod commands;
#[cfg(feature = "rocksdb")]
mod committing;
#[cfg(all(feature = "async", feature = "rocksdb"))]
mod conditions;
#[cfg(all(feature = "async", feature = "rocksdb"))]
mod decision_cache;
#[cfg(feature = "rocksdb")]
mod decisions;
#[cfg(feature = "rocksdb")]
mod damaged_holes;
#[cfg(feature = "rocksdb")]
mod deleted_places;
#[cfg(feature = "rocksdb")]
mod deletion;
#[cfg(feature = "rocksdb")]
mod deletion_layers;
#[cfg(feature = "rocksdb")]
mod deletion_races;
#[cfg(feature = "rocksdb")]
mod derived;
#[cfg(feature = "rocksdb")]
mod disk_reserve;
#[cfg(feature = "rocksdb")]
mod epochs;
#[cfg(feature = "rocksdb")]
mod erasure;
#[cfg(feature = "rocksdb")]
mod evolution;
#[cfg(feature = "rocksdb")]
mod features;
#[cfg(feature = "rocksdb")]
mod frames;
#[cfg(feature = "rocksdb")]
mod index;
#[cfg(feature = "rocksdb")]
mod keys;
#[cfg(feature = "rocksdb")]
mod lifecycle;
#[cfg(feature = "rocksdb")]
mod loans;
#[cfg(feature = "rocksdb")]
mod metrics;
#[cfg(feature = "rocksdb")]
mod numbers;
#[cfg(all(feature = "rocksdb", feature = "metrics", feature = "tracing"))]
mod observability;
#[cfg(feature = "rocksdb")]
mod opening;
#[cfg(feature = "rocksdb")]
mod packs;
#[cfg(all(feature = "async", feature = "rocksdb"))]
mod parallel;
#[cfg(feature = "rocksdb")]
mod projections;
#[cfg(feature = "rocksdb")]
mod read_ahead;
#[cfg(feature = "rocksdb")]
mod redactions;
#[cfg(feature = "rocksdb")]
mod repositories;
#[cfg(feature = "rocksdb")]
mod snapshots;
#[cfg(feature = "rocksdb")]
mod stream_isolation;
#[cfg(feature = "rocksdb")]
mod subscriptions;
#[cfg(feature = "rocksdb")]
mod system_stream;
#[cfg(feature = "rocksdb")]
mod times;
#[cfg(feature = "rocksdb")]
mod typed_events;
#[cfg(feature = "rocksdb")]
mod verify;
