//! Looking after a store, through the same doors as everyone else.

mod verify;

pub(crate) use verify::verify;
pub use verify::{Damage, VerifyProgress, VerifyReport};
