//! [`Archive`]: the file to which events are written before a scavenge deletes them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{stream_key, stream_of};
use crate::maintenance::lines::JsonLine;
use crate::model::{StreamId, Version};
use crate::read::lookup::{decode_in_stream, each_event, hole_of};
use crate::storage::{Disk, Storage, sync_directory};

/// About how many bytes are written at once.
const PART_LEN: usize = 4 << 20;

/// A file of lines, one for each event.
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Archive {
    /// Creates the file.
    ///
    /// # Errors
    /// [`Error::Storage`]: it exists already, or cannot be created.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| failed("creating", path, error))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        sync_directory(directory).map_err(|error| failed("syncing the name of", path, error))?;
        Ok(Self { path: path.to_owned(), file, len: 0 })
    }

    /// Adds the events of streams below these versions, syncs them and reads them again.
    pub(super) fn add(&mut self, storage: &Storage, streams: &[(StreamId, Version)]) -> Result<()> {
        let mut part = Vec::new();
        for (stream, before) in streams {
            storage.with(|disk| self.add_stream(disk, stream, *before, &mut part))?;
        }
        self.write(&part)
    }

    /// Writes lines, syncs them and reads them again.
    fn write(&mut self, part: &[u8]) -> Result<()> {
        let path = &self.path;
        self.file.seek(SeekFrom::Start(self.len)).map_err(|e| failed("writing", path, e))?;
        self.file.write_all(part).map_err(|error| failed("writing", path, error))?;
        self.file.sync_all().map_err(|error| failed("syncing", path, error))?;
        self.file.seek(SeekFrom::Start(self.len)).map_err(|e| failed("reading", path, e))?;
        let mut written = Vec::with_capacity(part.len());
        BufReader::new(&self.file)
            .read_to_end(&mut written)
            .map_err(|error| failed("reading", path, error))?;
        if written != part {
            return Err(failed("reading", path, std::io::Error::other("it holds other bytes")));
        }
        self.len += part.len() as u64;
        Ok(())
    }

    /// Adds a line for each event of a stream that is left below a version. Writes them when they
    /// are many.
    fn add_stream(
        &mut self,
        disk: &Disk,
        stream: &StreamId,
        before: Version,
        lines: &mut Vec<u8>,
    ) -> Result<()> {
        let first = Version::after(hole_of(disk, stream)?.map(|(last, _)| last));
        let start = stream_key(stream.as_str(), first);
        let mut cursor = disk.stream_cursor(&start, Direction::Forward)?;
        while let Some((key, value)) = cursor.next()? {
            let Some((id, at)) = stream_of(key) else { break };
            if id != stream.as_str() || at >= before {
                break;
            }
            let frame = decode_in_stream(stream, at, value)?;
            let mut written = Ok(());
            each_event(
                &frame,
                || Location::stream(stream, at),
                |event| {
                    if event.version() < before && written.is_ok() {
                        written = JsonLine::new(event).write_to(&mut *lines);
                        lines.push(b'\n');
                    }
                },
            )?;
            written.map_err(|error| Error::storage("writing a line of the archive", error))?;
            if lines.len() >= PART_LEN {
                self.write(lines)?;
                lines.clear();
            }
        }
        Ok(())
    }
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::storage(format!("{doing} the archive {}", path.display()), error)
}
