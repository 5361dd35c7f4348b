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
    if let Some((path, byte)) = damaged_block(&text) {
        let location = Location::byte_of_file(path, byte);
        return Error::corruption(
            location,
            "a block with a wrong checksum",
            "the block as written",
        );
    }
    if error.kind() == ErrorKind::Corruption || is_missing_file {
        return Error::corruption(Location::Database { doing }, text, "what was written");
    }
    Error::storage(doing, EngineFailure(text))
}

/// The table file and the byte in it that a text about a block checksum names: `Corruption: block
/// checksum mismatch: …  in PATH offset N size M  The file MANIFEST may be corrupted.`. The table is
/// damaged, not the manifest.
fn damaged_block(text: &str) -> Option<(&str, u64)> {
    let (_, place) = text.split_once("block checksum mismatch")?.1.split_once(" in ")?;
    let (path, place) = place.split_once(" offset ")?;
    let (byte, _) = place.split_once(' ')?;
    Some((path, byte.parse().ok()?))
}

/// The text of an engine error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct EngineFailure(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_block_is_found_in_the_text_of_the_engine() {
        let text = "Corruption: block checksum mismatch: stored(context removed) = 1, computed = 2, \
                    type = 4  in dir/db/000013.sst offset 134 size 60  The file dir/db/MANIFEST-000036 \
                    may be corrupted.";
        assert_eq!(damaged_block(text), Some(("dir/db/000013.sst", 134)));
        assert_eq!(damaged_block("Corruption: block checksum mismatch: no place"), None);
        assert_eq!(damaged_block("Corruption: file in a offset 1 size 2"), None);
    }
}
