//! The targets that need no disk.

mod bank;
pub(crate) mod events;
mod frames;
mod keys;
mod lines;
mod payloads;
mod snapshots;
mod views;
mod watermark;

pub use frames::frames;
pub use keys::keys;
pub use lines::lines;
pub use payloads::payloads;
pub use snapshots::snapshots;
pub use views::views;
pub use watermark::watermark;

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of these targets.
pub const PURE: [Target; 7] = [
    ("frames", frames),
    ("keys", keys),
    ("lines", lines),
    ("payloads", payloads),
    ("snapshots", snapshots),
    ("views", views),
    ("watermark", watermark),
];
