//! The public formats: the line form of import and export, and the files of each released format
//! version.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixtures;
mod import_export;
mod positions;
#[path = "../support/mod.rs"]
mod support;
