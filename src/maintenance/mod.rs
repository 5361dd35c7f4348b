//! Operations on a whole store: [`backup`], [`verify`], [`import`] and [`export`], with the
//! [line form](lines) of the last two, and the baseline that benchmarks compare a store with.
//!
//! Import uses the commit path, as every append does. Export reads through the
//! [`EventStore`](crate::EventStore) trait, as every reader does. [`export_placed`] and
//! [`import_placed`] keep the places of events, and those of deleted ones.

pub(crate) mod backup;
pub(crate) mod export;
pub(crate) mod export_placed;
#[cfg(feature = "__internals")]
pub(crate) mod baseline;
pub(crate) mod import;
pub(crate) mod import_placed;
pub(crate) mod lines;
mod placed;
pub(crate) mod verify;
