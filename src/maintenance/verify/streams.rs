//! Walks the family `streams`: gapless versions (G3), in the order of the log.

use super::{Sum, Verifier};
use crate::error::{Location, Result};
use crate::format::{Frame, stream_of};
use crate::model::{Position, StreamId, Version};
use crate::read::lookup::check_key;
use crate::storage::Family;

/// The state that the next frame in `streams` must continue.
struct StreamState {
    stream: StreamId,
    /// `None` after a damaged frame, whose number of events is unknown.
    next: Option<Version>,
    last_position: Option<Position>,
}

impl Verifier<'_> {
    pub(super) fn walk_streams(&mut self) -> Result<Sum> {
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
            self.note_error(Family::Streams.bad_key(key), None)?;
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
        sum.streams += u64::from(before.is_none());
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
        let end = self.hole_of_stream(&frame, &location())?;
        *current = Some(StreamState {
            next: Some(header.last_version().next()),
            last_position: Some(end.unwrap_or(header.last_position())),
            stream: stream.clone(),
        });
        if end.is_some() {
            sum.deleted += u64::from(header.count);
            return Ok(0);
        }
        sum.add(bytes);
        Ok(u64::from(header.count))
    }
}
