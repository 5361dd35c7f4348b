//! The queue of the commit path and its gate, with a log in memory where the writer has the disk.

#[path = "../../../src/commit/gate.rs"]
mod gate;
#[path = "../../../src/commit/prepare.rs"]
mod prepare;
#[path = "../../../src/commit/queue.rs"]
mod queue;

#[path = "committing.rs"]
pub mod committing;
