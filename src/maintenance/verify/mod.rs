//! Verify checks on disk what annals promises, while the store is in use.
//!
//! The log up to the head never changes, so verify covers everything up to the head at its start.
//! It walks both column families once, in bounded pages. For every frame it checks the checksum and
//! the key, gapless positions (G2) and versions (G3), whole commits (G1), times that never go back,
//! and the count of streams. A sum over the frames of each family shows that `streams` and `events`
//! hold the same frames. If the sums differ, it looks up frames one by one, to report the exact
//! difference. Finally, it checks every record next to the events separately.

mod records;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{Frame, FrameHeader, log_key, parse_log_key, stream_key, stream_of};
use crate::head::Head;
use crate::model::{Position, StreamId, Timestamp, Version};
use crate::read::lookup::{bad_key, check_key, decode_in_log};
use crate::storage::{Family, Storage};

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
    /// The number of intact snapshots.
    pub snapshots: u64,
    /// The number of views with an intact checkpoint. Each read model counts as two views: its
    /// directory and its build.
    pub views: u64,
    /// The number of intact view values.
    pub view_entries: u64,
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
    head: &Head,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let head = head.get()?;
    let mut verifier = Verifier {
        storage,
        head: head.unwrap_or(Position::FIRST),
        progress,
        done: 0,
        seen: HashSet::new(),
        gaps: Vec::new(),
        report: VerifyReport { head, ..VerifyReport::default() },
    };
    if head.is_some() {
        verifier.prove_events()?;
    }
    verifier.walk_records()?;
    Ok(verifier.report)
}
struct Verifier<'v> {
    storage: &'v Storage,
    head: Position,
    progress: &'v mut dyn FnMut(VerifyProgress),
    done: u64,
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

/// The state that the next frame of the log must continue.
struct LogState {
    next: Position,
    recorded_at: Timestamp,
    streams: u64,
    /// First position and length of the current commit, if it is not whole yet.
    commit: Option<(Position, u32)>,
    /// Whether the previous frame was damaged, so that its number of events is unknown.
    after_damage: bool,
}

/// The state that the next frame in `streams` must continue.
struct StreamState {
    stream: StreamId,
    /// `None` after a damaged frame, whose number of events is unknown.
    next: Option<Version>,
    last_position: Option<Position>,
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
                let found =
                    format!("frames: {} in events, {} in streams", log.frames, streams.frames);
                self.note(Location::Families, None, found, "the same frames in both");
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

    fn walk_log(&mut self) -> Result<Sum> {
        let mut sum = Sum::default();
        let mut state = LogState {
            next: Position::FIRST,
            recorded_at: Timestamp::from_micros(i64::MIN),
            streams: 0,
            commit: None,
            after_damage: false,
        };
        let mut from = log_key(state.next).to_vec();
        loop {
            let page = self.page(Family::Events, &from)?;
            let before = state.next;
            for (key, value) in &page.entries {
                match parse_log_key(key) {
                    Some(first) if first > self.head => {}
                    Some(first) => self.log_frame(first, value, &mut state, &mut sum)?,
                    None => self.note_error(bad_key(Family::Events, key), None)?,
                }
            }
            self.advance(state.next.get() - before.get());
            if let Some(error) = page.unreadable {
                self.note_error(error, Some(state.next))?;
                match self.skip_unreadable(state.next)? {
                    Some(readable) => {
                        self.missing(&mut state, readable);
                        from = log_key(readable).to_vec();
                        continue;
                    }
                    None => break,
                }
            }
            match page.entries.last() {
                Some((key, _)) if !page.is_last && state.next <= self.head => {
                    from.clone_from(key);
                    from.push(0);
                }
                _ => break,
            }
        }
        if state.next <= self.head && !state.after_damage {
            self.missing(&mut state, self.head.next());
        }
        self.report.streams = state.streams;
        Ok(sum)
    }

    /// Records that no readable frame was found from the next position up to before `found`.
    fn missing(&mut self, state: &mut LogState, found: Position) {
        let location = Location::log(state.next);
        let last = found.get() - 1;
        let expected = format!("the frames of positions {} to {last}", state.next);
        self.note(location, Some(state.next), "nothing readable", expected);
        if let Some(last) = found.previous() {
            self.gaps.push(state.next..=last);
        }
        state.next = found;
        state.commit = None;
    }

    /// Finds the first position after `bad` from which the log can be read again, by exponential
    /// and then binary search.
    fn skip_unreadable(&self, bad: Position) -> Result<Option<Position>> {
        let readable_at = |place: u64| -> Result<Option<Position>> {
            let Some(place) = Position::new(place) else { return Ok(None) };
            let page = self.page(Family::Events, &log_key(place))?;
            let first = page.entries.first().and_then(|(key, _)| parse_log_key(key));
            Ok(first.filter(|first| *first <= self.head))
        };
        let (mut low, mut step) = (bad.get(), 1);
        let mut found = None;
        while found.is_none() && low < self.head.get() {
            let probe = low.saturating_add(step).min(self.head.get());
            found = readable_at(probe)?.map(|first| (probe, first));
            if found.is_none() {
                low = probe;
                step *= 2;
            }
        }
        let Some((mut high, mut first)) = found else { return Ok(None) };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match readable_at(middle)? {
                Some(readable) => (high, first) = (middle, readable),
                None => low = middle,
            }
        }
        Ok(Some(first))
    }

    fn log_frame(
        &mut self,
        first: Position,
        bytes: &[u8],
        state: &mut LogState,
        sum: &mut Sum,
    ) -> Result<()> {
        let after_damage = std::mem::take(&mut state.after_damage);
        if first > state.next && !after_damage {
            self.missing(state, first);
        } else if first < state.next {
            let expected = format!("a frame that begins at {}", state.next);
            let found = "a frame that overlaps the one before";
            self.note(Location::log(first), Some(first), found, expected);
        }
        let frame = match decode_in_log(first, bytes) {
            Ok(frame) => frame,
            Err(error) => {
                state.next = first.next();
                (state.commit, state.after_damage) = (None, true);
                return self.note_undecodable(error, Location::log(first), Some(first));
            }
        };
        let header = frame.header;
        self.commit_of(&header, state);
        self.times_of(&frame, state)?;
        let is_new = header.first_version == Version::FIRST;
        let streams = state.streams + u64::from(is_new);
        if header.streams_after != streams && self.report.is_sound() {
            let found = format!("a count of streams after it of {}", header.streams_after);
            self.note(Location::log(first), Some(first), found, streams.to_string());
        }
        state.streams = header.streams_after;
        state.next = header.last_position().next();
        self.report.events += u64::from(header.count);
        self.report.frames += 1;
        sum.add(bytes);
        Ok(())
    }

    fn commit_of(&mut self, header: &FrameHeader<'_>, state: &mut LogState) {
        let first = header.first_position;
        let claimed = (header.commit_first(), header.commit_len);
        let expected = state.commit.take().unwrap_or((first, header.commit_len));
        // After damage, the beginning of the commit may be missing.
        if claimed != expected && self.report.is_sound() {
            let found = format!("part of a commit of {} events from {}", claimed.1, claimed.0);
            let expected = format!("part of a commit of {} events from {}", expected.1, expected.0);
            self.note(Location::log(first), Some(first), found, expected);
        }
        let is_whole = header.last_position() >= header.commit_last();
        state.commit = if is_whole { None } else { Some(claimed) };
        if header.last_position() == self.head && !is_whole {
            let found = "the end of the log within a commit";
            self.note(Location::log(first), Some(first), found, "whole commits");
        }
    }

    fn times_of(&mut self, frame: &Frame<'_>, state: &mut LogState) -> Result<()> {
        let first = frame.header.first_position;
        for event in frame.events() {
            match event {
                Ok(event) if event.recorded_at >= state.recorded_at => {
                    state.recorded_at = event.recorded_at;
                }
                Ok(event) => {
                    let found = format!("recorded at {}", event.recorded_at);
                    let expected = format!("not before {}", state.recorded_at);
                    self.note(Location::log(first), Some(event.position), found, expected);
                }
                Err(malformed) => {
                    self.note_error(malformed.at(Location::log(first)), Some(first))?;
                }
            }
        }
        Ok(())
    }

    fn walk_streams(&mut self) -> Result<Sum> {
        let mut sum = Sum::default();
        let mut current: Option<StreamState> = None;
        let mut from = Vec::new();
        loop {
            let page = self.page(Family::Streams, &from)?;
            let mut events = 0;
            for (key, value) in &page.entries {
                events += self.stream_frame(key, value, &mut current, &mut sum)?;
            }
            self.advance(events);
            if let Some(error) = page.unreadable {
                // The comparison looks up each frame of the log, which finds the affected frames.
                self.note_error(error, None)?;
                return Ok(Sum::default());
            }
            match page.entries.last() {
                Some((key, _)) if !page.is_last => {
                    from.clone_from(key);
                    from.push(0);
                }
                _ => return Ok(sum),
            }
        }
    }

    /// Checks one frame in `streams`; returns how many events it has.
    fn stream_frame(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        current: &mut Option<StreamState>,
        sum: &mut Sum,
    ) -> Result<u64> {
        let Some((id, first)) = stream_of(key) else {
            self.note_error(bad_key(Family::Streams, key), None)?;
            return Ok(0);
        };
        let stream = StreamId::trusted(id);
        let location = || Location::stream(&stream, first);
        let before = current.take().filter(|before| before.stream == stream);
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(malformed) => {
                let error = malformed.at(location());
                let last_position = before.and_then(|before| before.last_position);
                *current = Some(StreamState { stream: stream.clone(), next: None, last_position });
                self.note_undecodable(error, location(), None)?;
                return Ok(0);
            }
        };
        let header = frame.header;
        if header.first_position > self.head {
            *current = before;
            return Ok(0);
        }
        let (expected, last_position) = match before {
            None => (Some(Version::FIRST), None),
            Some(before) => (before.next, before.last_position),
        };
        let position = Some(header.first_position);
        let found_under = (header.stream, header.first_version);
        if let Err(error) = check_key(location, (id, first), found_under) {
            self.note_error(error, position)?;
        } else if let Some(expected) = expected.filter(|expected| *expected != first) {
            let found = format!("a frame that begins at version {first}");
            self.note(location(), position, found, format!("one that begins at {expected}"));
        } else if last_position >= position {
            let found = format!("position {}", header.first_position);
            self.note(location(), position, found, "a later one than the version before");
        }
        *current = Some(StreamState {
            next: Some(header.last_version().next()),
            last_position: Some(header.last_position()),
            stream: stream.clone(),
        });
        sum.add(bytes);
        Ok(u64::from(header.count))
    }

    /// Looks up each frame of one family in the other.
    fn compare_families(&mut self) -> Result<()> {
        for family in [Family::Events, Family::Streams] {
            let mut from = Vec::new();
            loop {
                let page = self.page(family, &from)?;
                for (_, value) in &page.entries {
                    self.compare_frame(family, value)?;
                }
                match page.entries.last() {
                    Some((key, _)) if !page.is_last && page.unreadable.is_none() => {
                        from.clone_from(key);
                        from.push(0);
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    fn compare_frame(&mut self, family: Family, bytes: &[u8]) -> Result<()> {
        // A frame that does not decode was already recorded by the walk.
        let Ok(frame) = Frame::decode(bytes) else { return Ok(()) };
        let header = frame.header;
        let first = header.first_position;
        let is_told = family == Family::Streams && self.gaps.iter().any(|gap| gap.contains(&first));
        if first > self.head || is_told {
            return Ok(());
        }
        let stream = StreamId::trusted(header.stream);
        let in_log = log_key(header.first_position).to_vec();
        let in_stream = stream_key(header.stream, header.first_version);
        let (other, key, location) = if family == Family::Events {
            (Family::Streams, in_stream, Location::stream(&stream, header.first_version))
        } else {
            (Family::Events, in_log, Location::log(first))
        };
        let position = Some(header.first_position);
        let expected = format!("the frame that is in {}", family.name());
        match self.storage.with(|disk| disk.get(other, &key)) {
            Ok(Some(copy)) if copy == bytes => Ok(()),
            Ok(Some(_)) => {
                self.note(location, position, "other bytes", expected);
                Ok(())
            }
            Ok(None) => {
                self.note(location, position, "nothing", expected);
                Ok(())
            }
            Err(Error::Corruption { found, .. }) => {
                self.note(location, position, found, expected);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
