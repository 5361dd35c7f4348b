//! The database's manifest, which lists its table files: which one counts, and how long it is known to be. The engine
//! cannot know that its manifest was longer.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::engine_log::{self, Extent};
use crate::error::{Error, Result};
use crate::format::Manifest;

/// Which manifest counts, and how long it is. `None` where that cannot be told: then the engine cannot either.
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

/// That the manifest is not shorter or older than it is known to have been.
pub(super) fn judge(db: &Path, known: Manifest) -> Result<()> {
    let Some((path, found)) = find(db) else { return Ok(()) };
    if found.number < known.number {
        let expected = format!("number {} or a later one", known.number);
        let found = format!("number {}", found.number);
        return Err(Error::corruption(path.display().to_string(), found, expected));
    }
    if found.number == known.number && found.len < known.len {
        let expected = format!("at least {}", known.len);
        let found = format!("{} bytes", found.len);
        return Err(Error::corruption(path.display().to_string(), found, expected));
    }
    Ok(())
}

/// How long the manifest is known to be: as `known` says, or, where it has changed since, as long as it is now, which
/// is made durable first. A failure tells nothing new.
pub(super) fn known(db: &Path, known: Option<Manifest>) -> Option<Manifest> {
    if let Some(known) = known {
        let path = db.join(format!("MANIFEST-{:06}", known.number));
        if fs::metadata(path).is_ok_and(|about| about.len() == known.len) {
            return Some(known);
        }
    }
    let newer = find(db).and_then(|(path, found)| {
        File::open(path).and_then(|file| file.sync_data()).is_ok().then_some(found)
    });
    newer.or(known)
}
