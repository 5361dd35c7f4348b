//! What is done to a store as a whole: [`import`] and [`export`], and the [line form](lines) that both speak.
//!
//! Import goes through the commit path like every append; export reads through the seam like every reader.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod lines;
