//! The engine's logs, looked at before the engine reads them: its manifest, which lists the table files, and its
//! write-ahead logs.
//!
//! Two things are seen here that the engine does not see. It cannot know that its manifest was longer. And it reads on
//! for ever at a record of the kind that recycled logs have in a log that is none (RocksDB's issue 13333), or, where
//! that is the first, takes the log to be empty: one flipped bit is enough for either.
//!
//! Both are written in blocks of 32 KiB. A block holds records, none of which crosses its end: a checksum (4 bytes), a
//! length (2), a type (1), the content. What is left of a block that cannot hold a header is unused.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::Manifest;

const BLOCK_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 7;
/// The types of records that only recycled logs have. annals recycles none.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Refuses what the engine would read for ever, or pass over.
pub(super) fn judge(db: &Path) -> Result<()> {
    if let Some((path, _)) = manifest_of(db) {
        judge_records(&path)?;
    }
    // What cannot be listed, the engine cannot open.
    let Ok(entries) = fs::read_dir(db) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|error| failed(db, error))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            judge_records(&path)?;
        }
    }
    Ok(())
}

/// That the manifest is not shorter or older than it is known to have been.
pub(super) fn judge_manifest(db: &Path, known: Manifest) -> Result<()> {
    let Some((path, found)) = manifest_of(db) else { return Ok(()) };
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

/// Which manifest counts, and how long it is. `None` where that cannot be told: then the engine cannot either.
fn manifest_of(db: &Path) -> Option<(PathBuf, Manifest)> {
    let current = fs::read_to_string(db.join("CURRENT")).ok()?;
    let name = current.trim_end();
    let number = name.strip_prefix("MANIFEST-")?.parse().ok()?;
    let path = db.join(name);
    let len = fs::metadata(&path).ok()?.len();
    Some((path, Manifest { number, len }))
}

/// How long the manifest is known to be: as `known` says, or, where it has changed since, as long as it is now, which
/// is made durable first. A failure tells nothing new.
pub(super) fn manifest(db: &Path, known: Option<Manifest>) -> Option<Manifest> {
    if let Some(known) = known {
        let path = db.join(format!("MANIFEST-{:06}", known.number));
        if fs::metadata(path).is_ok_and(|about| about.len() == known.len) {
            return Some(known);
        }
    }
    let newer = manifest_of(db).and_then(|(path, found)| {
        File::open(path).and_then(|file| file.sync_data()).is_ok().then_some(found)
    });
    newer.or(known)
}

/// That no record has a type that the engine cannot bear. Whether it is whole, the engine says.
fn judge_records(path: &Path) -> Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, error)),
    };
    let (mut block, mut begin) = (vec![0; BLOCK_LEN], 0);
    loop {
        let len = fill(&mut file, &mut block).map_err(|error| failed(path, error))?;
        if let Some(at) = recycled_record(block.get(..len).unwrap_or_default()) {
            let place = format!("{}, byte {}", path.display(), begin + at);
            return Err(Error::corruption(place, "a record of a recycled log", "one of a new log"));
        }
        if len < BLOCK_LEN {
            return Ok(());
        }
        begin += len;
    }
}

/// Where in a block the first record of a recycled log begins.
fn recycled_record(block: &[u8]) -> Option<usize> {
    let mut rest = block;
    while let Some(([_, _, _, _, low, high, kind], content)) =
        rest.split_first_chunk::<HEADER_LEN>()
    {
        if RECYCLED.contains(kind) {
            return Some(block.len() - rest.len());
        }
        let len = usize::from(*low) | usize::from(*high) << 8;
        match content.get(len..) {
            // Space that was set aside, and not used.
            Some(_) if *kind == 0 && len == 0 => return None,
            Some(next) => rest = next,
            // Cut short: the engine says whether that may be.
            None => return None,
        }
    }
    None
}

fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = block.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::storage(format!("reading {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, len: usize) -> Vec<u8> {
        let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
        [&[9, 9, 9, 9, low, high, kind][..], &vec![7; len]].concat()
    }

    #[test]
    fn a_record_of_a_recycled_log_is_found_wherever_a_record_begins_and_nowhere_else() {
        let sound = [record(1, 300), record(2, 0), record(4, 5), vec![0; 900]].concat();
        assert_eq!(recycled_record(&sound), None);
        for kind in RECYCLED {
            for (before, at) in [(vec![], 0), (record(1, 300), 307), (record(4, 8), 15)] {
                let block = [before, record(kind, 1), sound.clone()].concat();
                assert_eq!(recycled_record(&block), Some(at));
            }
            // Not where a record is cut short, and not within its content.
            let content = [vec![9, 9, 9, 9, 7, 0, 1], record(kind, 0)].concat();
            assert_eq!(recycled_record(&content), None);
            assert_eq!(recycled_record(&record(1, 30)[..20]), None);
        }
    }
}
