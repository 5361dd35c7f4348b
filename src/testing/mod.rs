//! Test support: [`Scenario`] tests an aggregate, [`DecisionScenario`] tests a decision,
//! [`ProjectionScenario`] tests a read model or a reactor, [`FixedClock`] and [`SequentialIds`] make
//! runs deterministic, [`Decorated`] makes a store fail, and [`conformance`] holds the rules that
//! every [`EventStore`](crate::EventStore) must follow.

#![allow(clippy::panic, reason = "a test fails by panicking")]

mod clock;
pub mod conformance;
mod decision;
mod decorated;
mod projection;
mod reactor;
mod scenario;
mod scenario_diff;
mod story;

pub use clock::{FixedClock, SequentialIds};
pub use decision::{DecisionOutcome, DecisionScenario};
pub use decorated::{Decorated, Decorator};
pub use projection::ProjectionScenario;
#[cfg(feature = "async")]
pub use projection::driven;
pub use reactor::Handled;
pub use scenario::{Outcome, Scenario};
