//! Deletion: each one is decided by an event of the stream `$deletions`, and then carried out.
//!
//! The batch of the event also changes `streams`: from then on, streams, expected versions and
//! retries know the hole. After it, [`Sweep`](sweep::Sweep) makes the packs and the index follow, some packs at a
//! time. The record `deletions` in `meta` says how far that is, so that it is continued after a
//! crash. What is deleted disappears from the files when they are compacted: at once after a
//! redaction, otherwise in a scavenge.
//!
//! One deletion is decided or carried out at a time. Before anything of the log is rewritten, the
//! watermark names a frame after it, which is never changed: that of the event of `$deletions`.

mod archive;
mod cut;
mod deleter;
mod log_hole;
mod plan;
mod redaction;
mod report;
mod scavenge;
mod sweep;
mod target;

pub(crate) use deleter::Deleter;
pub use report::{Deleted, RecordedDeletion, Scavenged};
pub use scavenge::ScavengeOptions;
pub(crate) use target::{Seen, Target};
