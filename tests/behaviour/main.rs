//! x
#![expect(clippy::unwrap_used, reason = "x")]
mod verify;
