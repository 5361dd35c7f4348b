//! The targets that need the whole crate.

mod arguments;
mod imports;
mod model;
mod operations;
mod stores;
mod template;

pub use arguments::arguments;
pub use imports::imports;
pub use operations::operations;
pub use stores::stores;

/// All of these targets.
pub const FULL: [crate::targets::Target; 4] = [
    ("arguments", arguments),
    ("imports", imports),
    ("operations", operations),
    ("stores", stores),
];
