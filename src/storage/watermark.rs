//! The watermark file, which is written after every sync of the log and read at open. These writes
//! are not synced themselves.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Location, Result};
use crate::format::{SLOT_LEN, Slot, Watermark};

/// The open watermark file of a store that is open for writing.
pub(crate) struct WatermarkFile {
    path: PathBuf,
    file: File,
    newest: Slot,
}

impl WatermarkFile {
    /// Reads the watermark from the file.
    pub(crate) fn read(path: &Path) -> Result<Watermark> {
        Ok(read_newest(path)?.watermark)
    }

    /// Creates the file, or overwrites it while a store is being created.
    pub(crate) fn create(path: &Path, watermark: Watermark) -> Result<()> {
        let slot = Slot { number: 0, watermark };
        let failed = |error| Error::storage(format!("writing {}", path.display()), error);
        let mut file = File::create(path).map_err(failed)?;
        file.write_all(&slot.encode()).map_err(failed)?;
        file.write_all(&[0; SLOT_LEN]).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let newest = read_newest(path)?;
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|error| Error::storage(format!("opening {}", path.display()), error))?;
        Ok(Self { path: path.to_owned(), file, newest })
    }

    pub(crate) fn get(&self) -> Watermark {
        self.newest.watermark
    }

    /// Overwrites the older slot.
    pub(crate) fn set(&mut self, watermark: Watermark) -> Result<()> {
        let slot = Slot { number: self.newest.number + 1, watermark };
        let at = (slot.number % 2) * SLOT_LEN as u64;
        let failed = |error| Error::storage(format!("writing {}", self.path.display()), error);
        self.file.seek(SeekFrom::Start(at)).map_err(failed)?;
        self.file.write_all(&slot.encode()).map_err(failed)?;
        self.newest = slot;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        let failed = |error| Error::storage(format!("syncing {}", self.path.display()), error);
        self.file.sync_data().map_err(failed)
    }
}

fn read_newest(path: &Path) -> Result<Slot> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(2 * SLOT_LEN as u64).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::corruption(Location::file(path), "no file", "the watermark of the store")
            }
            _ => Error::storage(format!("reading {}", path.display()), error),
        })?;
    Slot::newest(&bytes).map_err(|malformed| malformed.at(Location::file(path)))
}
