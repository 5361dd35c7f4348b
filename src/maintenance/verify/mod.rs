//! Verify checks on disk what annals promises, while the store is in use.
//!
//! The log up to the head never changes, so verify covers everything up to the head at its start.
//! It walks the log and `streams` once, in bounded pages. For every frame it checks the checksum and
//! the key, gapless positions (G2) and versions (G3), whole commits (G1), times that never go back,
//! and the count of streams, and that `tail` names the frames of the open pack. A sum over the
//! frames of each shows that the log and `streams` hold the same frames. If the sums differ, it
//! looks up frames one by one, to report the exact difference. The index is compared with the log in
//! the same way. Finally, it checks every record next
//! to the events separately.

mod holes;
mod index;
mod log;
mod records;
mod state;
mod streams;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{Deletions, Frame, Indexed, stream_key};
use crate::head::Head;
use crate::model::{Position, StreamId};
use crate::read::ahead::ReadAhead;
use crate::read::index::IndexedFrom;
use crate::read::log::{Log, OpenPack};
use crate::storage::{Family, Storage};
use state::AsDecided;

/// How many bytes of frames are read before the disk is released for a moment.
const PAGE_LEN_TARGET: usize = 256 * 1024;
/// The most places of damage that are described; all are counted.
const DAMAGE_DESCRIBED_MAX: usize = 1_000;

/// The result of [`Store::verify`](crate::Store::verify).
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// The head at the start: everything up to it was checked.
    pub head: Option<Position>,
    /// The number of intact events in the log.
    pub events: u64,
    /// The number of frames that hold these events.
    pub frames: u64,
    /// The number of streams.
    pub streams: u64,
    /// The number of events that were deleted: positions that no event has any more, or will not
    /// have once a decided deletion is carried out.
    pub deleted_events: u64,
    /// The number of intact snapshots.
    pub snapshots: u64,
    /// The number of views with an intact checkpoint. Each read model counts as two views: its
    /// directory and its build.
    pub views: u64,
    /// The number of intact view values.
    pub view_entries: u64,
    /// The number of intact entries of the index, up to the head.
    pub index_entries: u64,
    /// The number of intact idempotency keys, including expired ones that are still there.
    pub idempotency_keys: u64,
    /// The number of damaged places.
    pub damage_count: u64,
    /// The first 1,000 damaged places.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// Whether no damage was found.
    pub fn is_sound(&self) -> bool {
        self.damage_count == 0
    }
}

/// A difference between the data on disk and the expected data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged place.
    pub location: Location,
    /// The affected position of the log, if known.
    pub position: Option<Position>,
    /// A description of the data found.
    pub found: String,
    /// A description of the data expected.
    pub expected: String,
}

/// The progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Events checked, in both families.
    pub done: u64,
    /// Events to check, in both families.
    pub total: u64,
}

/// Verifies everything up to the head.
pub(crate) fn verify(
    storage: &Storage,
    (open, ahead): (&OpenPack, Option<&ReadAhead>),
    (head, indexed_from): (&Head, &IndexedFrom),
    deletions: &Deletions,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let head = head.get()?;
    // Before what is indexed: it may be reset in between.
    let resets = indexed_from.resets();
    let mut verifier = Verifier {
        storage,
        open,
        ahead,
        head: head.unwrap_or(Position::FIRST),
        progress,
        done: 0,
        indexed: indexed_from.get(),
        deletions,
        index_sum: Sum::default(),
        seen: HashSet::new(),
        gaps: Vec::new(),
        report: VerifyReport { head, ..VerifyReport::default() },
    };
    if head.is_some() {
        verifier.prove_events()?;
        verifier.prove_index(|| indexed_from.is_same_since(resets))?;
    }
    verifier.walk_records()?;
    Ok(verifier.report)
}
struct Verifier<'v> {
    storage: &'v Storage,
    open: &'v OpenPack,
    ahead: Option<&'v ReadAhead>,
    head: Position,
    progress: &'v mut dyn FnMut(VerifyProgress),
    done: u64,
    /// How far deletions are carried out. None runs during the verification.
    deletions: &'v Deletions,
    /// What is indexed at the start.
    indexed: Indexed,
    /// A sum over the entries that the events of the log should have.
    index_sum: Sum,
    /// Places already described, so that none is reported twice.
    seen: HashSet<Location>,
    /// Ranges of the log already reported as missing.
    gaps: Vec<RangeInclusive<Position>>,
    report: VerifyReport,
}

/// A sum over the frames of a family, independent of their order. Equal sums mean equal frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    frames: u64,
    hash: u64,
    /// Deleted events.
    deleted: u64,
    /// Streams, deleted ones included.
    streams: u64,
}

impl Sum {
    /// Adds a frame whose checksum was verified.
    fn add(&mut self, bytes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        self.frames += 1;
        self.hash = self.hash.wrapping_add(hasher.finish());
    }
}

/// Consecutive keys and values of a family.
struct Page {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// The damage that ended the page early.
    unreadable: Option<Error>,
    is_last: bool,
}

impl Verifier<'_> {
    fn prove_events(&mut self) -> Result<()> {
        let log = self.walk_log()?;
        let streams = self.walk_streams()?;
        if log != streams {
            self.compare_families()?;
            // The sums differ although the lookups found no difference: the store must not be
            // reported as sound.
            if self.report.is_sound() {
                let found = format!(
                    "frames: {} in the log, {} in streams; deleted events: {} and {}; streams: {} and {}",
                    log.frames,
                    streams.frames,
                    log.deleted,
                    streams.deleted,
                    log.streams,
                    streams.streams
                );
                self.note(Location::Families, None, found, "the same in both");
            }
        }
        Ok(())
    }

    fn note(
        &mut self,
        location: Location,
        position: Option<Position>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let (found, expected) = (found.into(), expected.into());
        let is_new = self.seen.len() >= DAMAGE_DESCRIBED_MAX || self.seen.insert(location.clone());
        self.report.damage_count += u64::from(is_new);
        if is_new && self.report.damage.len() < DAMAGE_DESCRIBED_MAX {
            self.report.damage.push(Damage { location, position, found, expected });
        }
    }

    /// Records an error that reports damage; returns every other error.
    fn note_error(&mut self, error: Error, position: Option<Position>) -> Result<()> {
        let Error::Corruption { location, found, expected } = error else { return Err(error) };
        self.note(location, position, found, expected);
        Ok(())
    }

    /// Records a frame or record that does not decode. Like [`Verifier::note_error`], but also
    /// records a format that is too new as damage.
    fn note_undecodable(
        &mut self,
        error: Error,
        location: Location,
        position: Option<Position>,
    ) -> Result<()> {
        let Error::UnsupportedFormat { found, supported, .. } = error else {
            return self.note_error(error, position);
        };
        let (found, expected) = (format!("format {found}"), format!("at most {supported}"));
        self.note(location, position, found, expected);
        Ok(())
    }

    fn advance(&mut self, events: u64) {
        self.done += events;
        let total = self.head.get().saturating_mul(2);
        (self.progress)(VerifyProgress { done: self.done.min(total), total });
    }

    /// Reads the next page of a family, starting at this key.
    fn page(&self, family: Family, from: &[u8]) -> Result<Page> {
        let mut page = Page { entries: Vec::new(), unreadable: None, is_last: true };
        let mut len = 0;
        let filled = self.storage.with(|disk| {
            let mut cursor = disk.cursor(family, from, Direction::Forward)?;
            while let Some((key, value)) = cursor.next()? {
                if key < from {
                    continue;
                }
                if len >= PAGE_LEN_TARGET {
                    page.is_last = false;
                    break;
                }
                len += value.len();
                page.entries.push((key.to_vec(), value.to_vec()));
            }
            Ok(())
        });
        match filled {
            Ok(()) => {}
            Err(error @ Error::Corruption { .. }) => page.unreadable = Some(error),
            Err(error) => return Err(error),
        }
        Ok(page)
    }

    /// Looks up each frame of the log in `streams`, and each frame of `streams` in the log.
    fn compare_families(&mut self) -> Result<()> {
        let mut next = Some(Position::FIRST);
        while let Some(from) = next {
            let page = self.log_page(from)?;
            next = page.next();
            for (place, bytes) in page.frames() {
                match self.as_decided(place, bytes)? {
                    AsDecided::Unchanged => self.compare_with_stream(bytes)?,
                    AsDecided::Changed { .. } => {}
                }
            }
        }
        let mut from = Vec::new();
        loop {
            let page = self.page(Family::Streams, &from)?;
            for (_, bytes) in &page.entries {
                self.compare_with_log(bytes)?;
            }
            match page.entries.last() {
                Some((key, _)) if !page.is_last && page.unreadable.is_none() => {
                    from.clone_from(key);
                    from.push(0);
                }
                _ => return Ok(()),
            }
        }
    }

    fn compare_with_stream(&mut self, bytes: &[u8]) -> Result<()> {
        // A frame that does not decode was already recorded by the walk.
        let Ok(frame) = Frame::decode(bytes) else { return Ok(()) };
        if frame.is_hole() {
            return Ok(());
        }
        let header = frame.header;
        let stream = StreamId::trusted(header.stream);
        let key = stream_key(header.stream, header.first_version);
        let found = self.storage.with(|disk| disk.get(Family::Streams, &key));
        let location = Location::stream(&stream, header.first_version);
        self.compare(bytes, found, location, header.first_position, "the log")
    }

    fn compare_with_log(&mut self, bytes: &[u8]) -> Result<()> {
        let Ok(frame) = Frame::decode(bytes) else { return Ok(()) };
        let first = frame.header.first_position;
        let is_pending = self.is_pending(first, frame.header.last_position());
        if frame.is_hole() || is_pending {
            return Ok(());
        }
        if first > self.head || self.gaps.iter().any(|gap| gap.contains(&first)) {
            return Ok(());
        }
        let found = self.storage.with(|disk| {
            let mut cursor = Log::new(disk, self.open).cursor(first, Direction::Forward);
            let frame = cursor.next()?.and_then(|frames| frames.at(first));
            Ok(frame.map(|(_, bytes)| bytes.to_vec()))
        });
        self.compare(bytes, found, Location::log(first), first, "streams")
    }

    /// Compares a frame with its copy, and records any difference.
    fn compare(
        &mut self,
        bytes: &[u8],
        found: Result<Option<Vec<u8>>>,
        location: Location,
        position: Position,
        origin: &str,
    ) -> Result<()> {
        let found = match found {
            Ok(Some(copy)) if copy == bytes => return Ok(()),
            Ok(Some(_)) => "other bytes".to_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(Error::Corruption { found, .. }) => found,
            Err(error) => return Err(error),
        };
        let expected = format!("the frame that is in {origin}");
        self.note(location, Some(position), found, expected);
        Ok(())
    }
}
