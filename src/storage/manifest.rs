//! The database's manifest, which lists its table files: which one is current, and its known
//! length. The engine itself cannot detect that its manifest was longer.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::engine_log::{self, Extent};
use crate::error::{Error, Location, Result};
use crate::format::Manifest;

/// Finds the current manifest and its length. Returns `None` if that fails, in which case the
/// engine cannot find it either.
pub(super) fn find(db: &Path) -> Option<(PathBuf, Manifest)> {
    let current = fs::read_to_string(db.join("CURRENT")).ok()?;
    let name = current.trim_end();
    let number = name.strip_prefix("MANIFEST-")?.parse().ok()?;
    let path = db.join(name);
    let len = fs::metadata(&path).ok()?.len();
    Some((path, Manifest { number, len }))
}

/// Reads a manifest to its end.
pub(super) fn read(path: &Path) -> io::Result<Extent> {
    File::open(path).and_then(|file| engine_log::read(file, |_| Ok(())))
}

/// Checks that the manifest is not shorter or older than `known`.
pub(super) fn check(db: &Path, known: Manifest) -> Result<()> {
    let Some((path, found)) = find(db) else { return Ok(()) };
    if found.number < known.number {
        let expected = format!("number {} or a later one", known.number);
        let found = format!("number {}", found.number);
        return Err(Error::corruption(Location::file(path), found, expected));
    }
    if found.number == known.number && found.len < known.len {
        let expected = format!("at least {}", known.len);
        let found = format!("{} bytes", found.len);
        return Err(Error::corruption(Location::file(path), found, expected));
    }
    Ok(())
}

/// The durable length of the manifest: `known`, or, if the manifest has changed since, the end of
/// its last entry, which is synced first.
///
/// An entry that is still being written does not count: if that write fails, for example on a full
/// disk, RocksDB removes the entry. If this function fails to read or sync, it returns `known`.
pub(super) fn known(db: &Path, known: Option<Manifest>) -> Option<Manifest> {
    if let Some(known) = known {
        let path = db.join(format!("MANIFEST-{:06}", known.number));
        if fs::metadata(path).is_ok_and(|about| about.len() == known.len) {
            return Some(known);
        }
    }
    let newer = find(db).and_then(|(path, found)| {
        let of_this = known.filter(|known| known.number == found.number && known.len <= found.len);
        let mut file = File::open(path).ok()?;
        let len = engine_log::end_behind(&mut file, of_this.map_or(0, |known| known.len)).ok()?;
        file.sync_data().ok()?;
        Some(Manifest { len, ..found })
    });
    newer.or(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A regression test: such an entry was counted, its write failed on a full disk, and the store
    /// was then rejected because the entry was missing.
    #[test]
    fn unfinished_entry_is_not_known() {
        let db = tempfile::tempdir().unwrap();
        let path = db.path().join("MANIFEST-000005");
        fs::write(db.path().join("CURRENT"), "MANIFEST-000005\n").unwrap();
        let entries = [&[1; 300][..], &[2; 50], &[3; 90]];
        let files = [1, 2, 3].map(|count| engine_log::tests::file(entries[..count].to_vec()));
        let mut so_far = None;
        for (whole, more) in files.iter().zip(files.iter().skip(1)) {
            for cut in [whole.len(), whole.len() + 3, more.len() - 1] {
                fs::write(&path, &more[..cut]).unwrap();
                let expected = Manifest { number: 5, len: whole.len() as u64 };
                assert_eq!(known(db.path(), None), Some(expected));
                so_far = known(db.path(), so_far);
                assert_eq!(so_far, Some(expected));
                // RocksDB truncates the manifest to this when the write fails.
                fs::write(&path, whole).unwrap();
                check(db.path(), expected).unwrap();
            }
        }
    }
}
