//! Damages stores: which files, and how. A case is one line of text, so that it can be passed to a
//! child process and repeated by hand.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::stores::Built;
use crate::support::files::{contents, names};

/// Length of the blocks that are zeroed.
const BLOCK: usize = 512;

/// How files are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A byte has one bit flipped, or all.
    Flip,
    /// A block reads as zeros.
    Zero,
    /// Everything from an offset on is missing.
    Cut,
    Delete,
    /// The file's earlier state.
    Older,
    /// The file of another store.
    Other,
}

pub(crate) const FAULTS: [Fault; 6] =
    [Fault::Flip, Fault::Zero, Fault::Cut, Fault::Delete, Fault::Older, Fault::Other];

/// Whether a file belongs to a set.
type IsIn = fn(&str) -> bool;

/// Several files that are replaced or lost together.
pub(crate) const SETS: [(&str, IsIn); 5] = [
    ("(db)", |name| name.starts_with("db/")),
    ("(write-ahead logs)", |name| kind_of(name) == "write-ahead log"),
    ("(manifest and CURRENT)", |name| matches!(kind_of(name), "manifest" | "CURRENT")),
    ("(STORE and watermark)", |name| matches!(name, "STORE" | "watermark")),
    ("(all but STORE and watermark)", |name| !matches!(name, "STORE" | "watermark")),
];

/// One damage to one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) shape: String,
    /// The path of a file within the store, or the name of a set.
    pub(crate) target: String,
    pub(crate) fault: Fault,
    /// An offset, the number of a block, a length, or the index of an older state.
    pub(crate) at: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}|{}|{:?}|{}", self.shape, self.target, self.fault, self.at)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('|').collect();
        let [shape, target, fault, at] = parts[..] else { return Err(text.to_owned()) };
        let fault = FAULTS.into_iter().find(|known| format!("{known:?}") == fault);
        Ok(Self {
            shape: shape.to_owned(),
            target: target.to_owned(),
            fault: fault.ok_or(text)?,
            at: at.parse().map_err(|_| text)?,
        })
    }
}

/// The kind of a file or of a set of files.
pub(crate) fn kind_of(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap();
    match file.split_once(['-', '.']) {
        _ if name.starts_with('(') => name,
        _ if name.starts_with("log/") => "log/",
        _ if name == "db/LOCK" => "db/LOCK",
        Some(("MANIFEST", _)) => "manifest",
        Some(("OPTIONS", _)) => "OPTIONS",
        Some((_, "sst")) => "table",
        Some((_, "log")) => "write-ahead log",
        _ => file,
    }
}

/// All cases that differ only in `at`.
pub(crate) struct Group {
    first: Case,
    pub(crate) count: usize,
    /// The distance from one `at` to the next.
    step: usize,
}

impl Group {
    pub(crate) fn case(&self, number: usize) -> Case {
        Case { at: number * self.step, ..self.first.clone() }
    }

    pub(crate) fn kind(&self) -> &str {
        kind_of(&self.first.target)
    }
}

/// All cases for a store.
pub(crate) fn groups(shape: &str, built: &Built) -> Vec<Group> {
    let mut groups = Vec::new();
    let sets = SETS.iter().map(|(name, _)| (*name).to_owned());
    for target in names(&built.path).into_iter().chain(sets) {
        let len = fs::read(built.path.join(&target)).map_or(0, |bytes| bytes.len());
        // RocksDB writes these files for people and tools and never reads them at open. They are
        // long and have no meaning here.
        let step = if matches!(kind_of(&target), "log/" | "OPTIONS") { 1_009 } else { 1 };
        let is_set = target.starts_with('(');
        for fault in FAULTS {
            let step = if matches!(fault, Fault::Flip | Fault::Cut) { step } else { 1 };
            let count = match fault {
                Fault::Flip | Fault::Cut => len.div_ceil(step),
                Fault::Zero => len.div_ceil(BLOCK),
                Fault::Older => built.older.len(),
                Fault::Delete | Fault::Other => 1,
            };
            // `opening` covers a store without its database or its identity.
            let is_told_elsewhere = is_set && fault == Fault::Delete && target != SETS[1].0;
            let first = Case { shape: shape.to_owned(), target: target.clone(), fault, at: 0 };
            if count > 0 && !is_told_elsewhere {
                groups.push(Group { first, count, step });
            }
        }
    }
    groups
}

impl Case {
    /// Damages a copy of the store. Returns `false` if that changes nothing.
    pub(crate) fn apply(&self, built: &Built, copied: &Path) -> bool {
        if let Some((_, is_in)) = SETS.iter().find(|(name, _)| *name == self.target) {
            return self.apply_to_set(built, copied, *is_in);
        }
        let path = copied.join(&self.target);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        match self.fault {
            // The bit depends on the offset, so that every bit is tried; every ninth byte is
            // inverted.
            Fault::Flip => {
                bytes[self.at] ^= if self.at % 9 == 8 { 0xff } else { 1 << (self.at % 9) }
            }
            Fault::Zero => {
                let end = bytes.len().min((self.at + 1) * BLOCK);
                bytes[self.at * BLOCK..end].fill(0);
            }
            Fault::Cut => bytes.truncate(self.at),
            Fault::Delete => {
                fs::remove_file(path).unwrap();
                return true;
            }
            Fault::Older | Fault::Other => match fs::read(self.source(built).join(&self.target)) {
                Ok(found) => bytes = found,
                Err(_) => return false,
            },
        }
        if bytes == whole {
            return false;
        }
        // Never in place: the file may be shared with the undamaged store.
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
        true
    }

    /// Removes the files of a set, and replaces them with those of another state or store.
    fn apply_to_set(&self, built: &Built, copied: &Path, is_in: IsIn) -> bool {
        let source = (self.fault != Fault::Delete).then(|| self.source(built));
        let before = contents(copied).unwrap();
        for name in names(copied).iter().filter(|name| is_in(name)) {
            fs::remove_file(copied.join(name)).unwrap();
        }
        if let Some(source) = source {
            for name in names(&source).iter().filter(|name| is_in(name)) {
                fs::create_dir_all(copied.join(name).parent().unwrap()).unwrap();
                fs::copy(source.join(name), copied.join(name)).unwrap();
            }
        }
        contents(copied).unwrap() != before
    }

    /// The directory that the replacement files come from.
    fn source(&self, built: &Built) -> PathBuf {
        if self.fault == Fault::Older { built.older[self.at].clone() } else { built.other.clone() }
    }

    /// Whether every case is tried: a sample suffices for cases that differ little.
    pub(crate) fn is_thorough(&self) -> bool {
        !matches!(self.fault, Fault::Flip | Fault::Cut) || self.at.is_multiple_of(8)
    }

    /// Whether this damage cannot be detected: a write-ahead log that continues another store just
    /// as it continued its own, and that is not the last one. The watermark identifies the last
    /// one.
    pub(crate) fn is_beyond_notice(&self, built: &Built) -> bool {
        let is_log = |name: &str| kind_of(name) == "write-ahead log";
        let last = names(&built.path).into_iter().rfind(|name| is_log(name));
        self.fault == Fault::Other && is_log(&self.target) && last != Some(self.target.clone())
    }
}

/// Copies an undamaged store quickly: tables are never changed in place, so they are shared.
pub(crate) fn copy(built: &Built, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to.join("db")).unwrap();
    for name in names(&built.path) {
        let (from, to) = (built.path.join(&name), to.join(&name));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if kind_of(&name) != "table" || fs::hard_link(&from, &to).is_err() {
            fs::copy(from, to).unwrap();
        }
    }
}
