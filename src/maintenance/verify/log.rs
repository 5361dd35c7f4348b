//! Walks the log: gapless positions (G2), whole commits (G1), times that never go back, and the
//! count of streams.

use super::state::{AsDecided, LogState};
use super::{PAGE_LEN_TARGET, Sum, Verifier};
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    Frame, FrameHeader, Pack, PackedFrame, TailEntry, checksum_of, decode_tail_row, tail_key,
};
use crate::model::{Position, Timestamp, Version};
use crate::read::log::{Log, Published};
use crate::read::log_end::last_packed;
use crate::read::lookup::decode_in_log;
use crate::storage::{Disk, Family};

/// Consecutive frames of the log.
#[derive(Default)]
pub(super) struct LogPage {
    frames: Pack,
    /// The damage that ended the page early.
    unreadable: Option<Error>,
}

impl LogPage {
    /// The frames in order, each with its bytes.
    pub(super) fn frames(&self) -> impl Iterator<Item = (&PackedFrame, &[u8])> {
        let bytes = self.frames.bytes();
        let frames = self.frames.frames().iter();
        frames.map(move |place| (place, bytes.get(place.bytes.clone()).unwrap_or_default()))
    }

    /// The position after the last frame; `None` if the page is empty.
    pub(super) fn next(&self) -> Option<Position> {
        self.frames.frames().last().map(|place| place.last.next())
    }
}

impl Verifier<'_> {
    /// Reads the next frames of the log up to the head, starting with the one at this position.
    pub(super) fn log_page(&self, from: Position) -> Result<LogPage> {
        let mut page = LogPage::default();
        let filled = self.storage.with(|disk| {
            let mut cursor = Log::new(disk, self.open)
                .with_read_ahead(self.ahead)
                .cursor(from, Direction::Forward);
            while page.frames.bytes().len() < PAGE_LEN_TARGET
                && let Some(frames) = cursor.next()?
            {
                for (place, bytes) in frames.from(from) {
                    if place.first > self.head {
                        return Ok(());
                    }
                    page.frames.push(place.first, place.last, bytes);
                }
            }
            Ok(())
        });
        match filled {
            Err(Error::Corruption { .. }) | Ok(()) => page.unreadable = filled.err(),
            Err(error) => return Err(error),
        }
        Ok(page)
    }

    pub(super) fn walk_log(&mut self) -> Result<Sum> {
        let mut sum = Sum::default();
        let mut state = LogState {
            next: Position::FIRST,
            recorded_at: Timestamp::from_micros(i64::MIN),
            streams: 0,
            commit: None,
            is_after_hole: false,
        };
        while state.next <= self.head {
            let page = self.log_page(state.next)?;
            let before = state.next;
            for (place, bytes) in page.frames() {
                self.log_frame(place, bytes, &mut state, &mut sum)?;
            }
            self.advance(state.next.get() - before.get());
            let is_empty = page.next().is_none();
            if let Some(error) = page.unreadable {
                self.note_error(error, Some(state.next))?;
                let readable = self.skip_unreadable(state.next)?;
                self.missing(&mut state, readable.unwrap_or(self.head.next()));
            } else if is_empty {
                self.missing(&mut state, self.head.next());
            }
        }
        self.report.streams = state.streams;
        sum.streams = state.streams;
        self.check_tail()?;
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
            let page = self.log_page(place)?;
            Ok(page.frames().next().map(|(found, _)| found.first.max(place)))
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
        place: &PackedFrame,
        bytes: &[u8],
        state: &mut LogState,
        sum: &mut Sum,
    ) -> Result<()> {
        let first = place.first;
        if first != state.next {
            let (found, expected) = (
                format!("a frame that begins at {first}"),
                format!("one that begins at {}", state.next),
            );
            self.note(Location::log(first), Some(first), found, expected);
        }
        state.next = place.last.next();
        let frame = match decode_in_log(first, bytes) {
            Ok(frame) => frame,
            Err(error) => {
                state.commit = None;
                return self.note_undecodable(error, Location::log(first), Some(first));
            }
        };
        let header = frame.header;
        if header.last_position() != place.last {
            let found = format!("a frame that ends at {}", header.last_position());
            let expected = format!("one that ends at {}, as its pack says", place.last);
            self.note(Location::log(first), Some(first), found, expected);
        }
        if frame.is_hole() {
            return self.hole_of_log(&frame, state, sum);
        }
        self.commit_of(&header, state);
        self.events_of(&frame, state)?;
        let is_new = header.first_version == Version::FIRST;
        let streams = state.streams + u64::from(is_new);
        if header.streams_after != streams && self.report.is_sound() {
            let found = format!("a count of streams after it of {}", header.streams_after);
            self.note(Location::log(first), Some(first), found, streams.to_string());
        }
        state.streams = header.streams_after;
        self.report.events += u64::from(header.count);
        self.report.frames += 1;
        match self.as_decided(place, bytes)? {
            AsDecided::Unchanged => sum.add(bytes),
            AsDecided::Changed { kept, deleted } => {
                if let Some(kept) = kept {
                    sum.add(&kept);
                }
                sum.deleted += deleted;
            }
        }
        Ok(())
    }

    fn commit_of(&mut self, header: &FrameHeader<'_>, state: &mut LogState) {
        let first = header.first_position;
        let claimed = (header.commit_first(), header.commit_len);
        let is_after_hole = std::mem::take(&mut state.is_after_hole);
        let alone = if is_after_hole { claimed } else { (first, header.commit_len) };
        let expected = state.commit.take().unwrap_or(alone);
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

    /// Checks the times of the events, and notes the entries of the index that they should have.
    fn events_of(&mut self, frame: &Frame<'_>, state: &mut LogState) -> Result<()> {
        let first = frame.header.first_position;
        for event in frame.events() {
            if let Ok(event) = &event {
                self.note_entries(event);
            }
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

    /// Checks that the rows of `tail` name the frames of the open pack, as the next open needs it.
    fn check_tail(&mut self) -> Result<()> {
        let Published { boundary, pack } = self.open.published();
        let checked = self.storage.with(|disk| match check_rows(disk, &pack) {
            // Meanwhile a batch has packed the frames, and has overwritten their rows.
            Err(Error::Corruption { .. }) if last_packed(disk)? > boundary => Ok(()),
            checked => checked,
        });
        match checked {
            Err(error @ Error::Corruption { .. }) => self.note_error(error, None),
            checked => checked,
        }
    }
}

fn check_rows(disk: &Disk, pack: &Pack) -> Result<()> {
    let mut frames = pack.frames().iter().peekable();
    let mut rows = disk.cursor_at(Family::Tail, &tail_key(0), Direction::Forward);
    let mut number = 0;
    while let Some(next) = frames.peek() {
        let key = tail_key(number);
        let location = Location::Key { family: Family::Tail.name(), key: key.to_vec() };
        let expected = format!("the row of position {}", next.first);
        let damaged = |found| Error::corruption(location.clone(), found, expected.clone());
        let row = rows.next()?.filter(|(found, _)| *found == key).ok_or_else(|| damaged("nothing"));
        let (first, entries) =
            decode_tail_row(row?.1).map_err(|malformed| malformed.at(location.clone()))?;
        if first != next.first {
            return Err(damaged("another row"));
        }
        for (entry, place) in entries.iter().zip(&mut frames) {
            let bytes = pack.bytes().get(place.bytes.clone()).unwrap_or_default();
            let FrameHeader { stream, first_version, .. } =
                decode_in_log(place.first, bytes)?.header;
            if *entry != (TailEntry { stream, first_version, checksum: checksum_of(bytes) }) {
                return Err(damaged("the names of other frames"));
            }
        }
        number += 1;
    }
    Ok(())
}
