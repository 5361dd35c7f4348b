//! An export with positions: the whole log, and what was deleted from it, so that a store can be
//! built from it that has every event at the same place.
//!
//! It begins with a line for each stream whose beginning was deleted. The log follows in order, with
//! a line for each event, those of the system stream included, and one for each hole.

use std::io::Write;

use super::export::{Exported, PROGRESS_EVENTS};
use super::lines::JsonLine;
use super::placed::HoleLine;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{Deletions, Frame, Pack, stream_key};
use crate::model::{Position, Version};
use crate::read::log::{Log, OpenPack};
use crate::read::lookup::{decode_in_log, decode_in_stream, each_event, next_stream};
use crate::storage::{Disk, Storage};

/// How many bytes of frames are read before the disk is released for a moment.
const PAGE_LEN_TARGET: usize = 256 << 10;
/// How many streams are looked at before that.
const PAGE_STREAMS: usize = 1_000;

/// The log to export, up to a position.
pub(crate) struct Source<'s> {
    pub(crate) storage: &'s Storage,
    pub(crate) open: &'s OpenPack,
    pub(crate) head: Option<Position>,
    /// How far deletions are carried out. None runs during the export.
    pub(crate) deletions: &'s Deletions,
}

/// Writes everything up to the head.
///
/// # Errors
/// [`Error::Storage`] if a decided deletion is not carried out yet; nothing was written.
pub(crate) fn export_with_positions(
    source: &Source<'_>,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(Exported),
) -> Result<Exported> {
    if source.deletions.pending.is_some() {
        let cause = std::io::Error::other(
            "a deletion was decided and is not carried out yet: open the store for writing, and wait for it",
        );
        return Err(Error::storage("exporting with positions", cause));
    }
    let mut lines = Lines { output, line: Vec::new(), done: Exported::default(), progress };
    let Some(head) = source.head else { return lines.end() };
    source.streams(&mut lines)?;
    source.log(head, &mut lines)?;
    lines.end()
}

impl Source<'_> {
    /// Writes a line for each stream that begins with a hole.
    fn streams(&self, lines: &mut Lines<'_>) -> Result<()> {
        if self.deletions.up_to.is_none() {
            return Ok(());
        }
        let mut next = Some(Vec::new());
        while let Some(start) = next.take() {
            let (holes, after) = self.storage.with(|disk| holes_of_streams(disk, start))?;
            for hole in &holes {
                lines.hole(hole)?;
            }
            next = after;
        }
        Ok(())
    }

    /// Writes the lines of the log.
    fn log(&self, head: Position, lines: &mut Lines<'_>) -> Result<()> {
        let mut next = Position::FIRST;
        while next <= head {
            let page = self.storage.with(|disk| self.page(disk, next, head))?;
            for place in page.frames() {
                let bytes = page.bytes().get(place.bytes.clone()).unwrap_or_default();
                lines.frame(&decode_in_log(place.first, bytes)?)?;
                next = place.last.next();
            }
            if page.frames().is_empty() {
                return Err(Error::corruption(Location::log(next), "nothing", "the next frame"));
            }
        }
        Ok(())
    }

    /// The next frames of the log.
    fn page(&self, disk: &Disk, next: Position, head: Position) -> Result<Pack> {
        let mut page = Pack::default();
        let mut cursor = Log::new(disk, self.open).cursor(next, Direction::Forward);
        while page.bytes().len() < PAGE_LEN_TARGET
            && let Some(frames) = cursor.next()?
        {
            for (place, bytes) in frames.from(next) {
                if place.first > head {
                    return Ok(page);
                }
                page.push(place.first, place.last, bytes);
            }
        }
        Ok(page)
    }
}

/// The holes of the next streams, and the key to continue at.
fn holes_of_streams(disk: &Disk, mut next: Vec<u8>) -> Result<(Vec<HoleLine>, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for _ in 0..PAGE_STREAMS {
        let Some(stream) = next_stream(disk, &next)? else { return Ok((found, None)) };
        let key = stream_key(stream.as_str(), Version::FIRST);
        if let Some(first) = disk.get(crate::storage::Family::Streams, &key)? {
            let frame = decode_in_stream(&stream, Version::FIRST, &first)?;
            let hole = HoleLine::of(&frame);
            found.extend(hole.map_err(|bad| bad.at(Location::stream(&stream, Version::FIRST)))?);
        }
        // Every key of a stream is between its id followed by 0 and its id followed by 1.
        next = [stream.as_str().as_bytes(), &[1]].concat();
    }
    Ok((found, Some(next)))
}

/// The lines that are written.
struct Lines<'o> {
    output: &'o mut dyn Write,
    /// Kept to reuse its allocation.
    line: Vec<u8>,
    done: Exported,
    progress: &'o mut dyn FnMut(Exported),
}

impl Lines<'_> {
    /// Writes the lines of a frame of the log.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let location = || Location::log(frame.header.first_position);
        if let Some(hole) = HoleLine::of(frame).map_err(|malformed| malformed.at(location()))? {
            return self.hole(&hole);
        }
        let mut written = Ok(());
        each_event(frame, location, |event| {
            if written.is_err() {
                return;
            }
            self.line.clear();
            written = JsonLine::new(event).with_places().write_to(&mut self.line);
            if written.is_ok() {
                written = self.write();
            }
            self.done.events += 1;
            if self.done.events.is_multiple_of(PROGRESS_EVENTS) {
                (self.progress)(self.done);
            }
        })?;
        written.map_err(|error| self.failed(error))
    }

    fn hole(&mut self, hole: &HoleLine) -> Result<()> {
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, hole).map_err(std::io::Error::from);
        written.and_then(|()| self.write()).map_err(|error| self.failed(error))
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.line.push(b'\n');
        self.output.write_all(&self.line)?;
        self.done.bytes += self.line.len() as u64;
        Ok(())
    }

    fn end(self) -> Result<Exported> {
        self.output.flush().map_err(|error| self.failed(error))?;
        (self.progress)(self.done);
        Ok(self.done)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::storage(format!("writing the export after event {}", self.done.events), error)
    }
}
