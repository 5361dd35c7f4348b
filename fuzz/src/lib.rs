//! Hostile input for annals: each target is a plain function of bytes, which panics where annals does not keep its
//! word.
//!
//! Most of annals knows nothing of RocksDB. Those modules are mounted here from `src/` as they are, private parts and
//! all, so that they are fuzzed without compiling RocksDB. The order is that of `src/lib.rs`; what is left out is what
//! stands on `storage`. Targets that need the whole crate lie in `full`, behind the feature of that name.

// What this crate does not use of the mounted modules is not dead there.
#![allow(dead_code, unused_imports)]

#[path = "../../src/sync.rs"]
mod sync;
#[path = "../../src/model/mod.rs"]
mod model;
#[path = "../../src/error/mod.rs"]
mod error;
#[path = "../../src/options.rs"]
mod options;
#[path = "../../src/event_store/mod.rs"]
mod event_store;
#[path = "../../src/snapshot_store.rs"]
mod snapshot_store;
#[path = "../../src/view_store.rs"]
mod view_store;
#[path = "../../src/subscription/mod.rs"]
mod subscription;
#[path = "../../src/extension.rs"]
mod extension;
#[path = "../../src/validate.rs"]
mod validate;
#[path = "../../src/format/mod.rs"]
mod format;
#[path = "../../src/head.rs"]
mod head;
/// Of import and export, what needs no disk.
#[path = "../../src/maintenance"]
mod maintenance {
    pub(crate) mod lines;
}
#[path = "../../src/memory/mod.rs"]
mod memory;
#[path = "../../src/codec/mod.rs"]
mod codec;
#[path = "../../src/upcast/mod.rs"]
mod upcast;
#[path = "../../src/audit/mod.rs"]
mod audit;
#[path = "../../src/aggregate/mod.rs"]
mod aggregate;
#[path = "../../src/projection/mod.rs"]
mod projection;

// What `domain_events!` names at the root.
use codec::{Bincode, DomainEvent, EventKind, Json, EncodedEvent, Undecodable};
use error::Result;
use model::NewEvent;

mod allocation;
mod input;
pub mod targets;
#[cfg(feature = "full")]
pub mod full;
