//! [`Paths`]: the paths of the files in the directory of a store.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The paths within a store's directory.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) watermark: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) db: PathBuf,
    probe: PathBuf,
    pub(super) store: PathBuf,
    pub(super) store_new: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) db_new: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            watermark: root.join("watermark"),
            log: root.join("log"),
            db: root.join("db"),
            probe: root.join("probe"),
            store: root.join("STORE"),
            store_new: root.join("STORE.new"),
            lock: root.join("LOCK"),
            db_new: root.join("db.new"),
        }
    }

    /// The same paths, but with the database in the directory where a copy of it is checked.
    pub(crate) fn of_copy(&self) -> Self {
        Self { db: self.probe.clone(), ..self.clone() }
    }

    /// Removes the copy of the database, including one that an interrupted check left behind.
    pub(crate) fn remove_copy(&self) -> Result<()> {
        match fs::remove_dir_all(&self.probe) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::storage(format!("removing {}", self.probe.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the directory is marked as a store, or as the creation of one.
    #[cfg(feature = "__internals")]
    pub(crate) fn identifies_a_store(&self) -> bool {
        [&self.store, &self.store_new].iter().any(|file| fs::symlink_metadata(file).is_ok())
    }
}
