//! What needs no disk: the memory store, the testing kit, codecs. Built without RocksDB too, as the unit tests of an
//! application may be.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../behaviour/bank.rs"]
mod bank;
mod conformance;
mod round_trips;
mod scenarios;
