//! Converts errors of the engine to errors of this crate.

use rocksdb::ErrorKind;

use super::family::Family;
use crate::error::{Error, Location};

pub(super) fn read_error(family: Family, error: &rocksdb::Error) -> Error {
    engine_error(format!("reading {}", family.name()), error)
}

/// Converts an error of the engine. Its text is all that the engine provides.
pub(super) fn engine_error(doing: impl Into<String>, error: &rocksdb::Error) -> Error {
    let (doing, text) = (doing.into(), error.to_string());
    // RocksDB reports a table or log that the manifest names but that is missing as an I/O error.
    let is_missing_file =
        error.kind() == ErrorKind::IOError && text.contains("No such file or directory");
    if error.kind() == ErrorKind::Corruption || is_missing_file {
        return Error::corruption(Location::Database { doing }, text, "what was written");
    }
    Error::storage(doing, EngineFailure(text))
}

/// The text of an engine error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct EngineFailure(String);
