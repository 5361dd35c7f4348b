//! Decisions over tags: small models, each rebuilt from the events that it depends on, form one
//! consistency boundary of any number of entities (dynamic consistency boundaries, DCB).

mod boundary;
mod cache;
mod decided;
mod reading;
mod decisions;
mod execution;
mod builder;
mod cached;
#[cfg(feature = "async")]
mod asynchronous;

#[cfg(feature = "async")]
pub use asynchronous::AsyncDecisions;
#[cfg(feature = "testing")]
pub(crate) use boundary::query_of;
pub use boundary::{Boundary, DecisionModel};
pub use builder::DecisionBuilder;
pub use cached::CachedDecisions;
pub use decided::Decided;
pub use decisions::Decisions;
