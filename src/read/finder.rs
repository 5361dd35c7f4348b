//! [`FrameFinder`]: finds the frames of single positions.

use super::log::{Frames, Log, LogCursor};
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::PackedFrame;
use crate::model::{EventRef, Position};
use crate::read::lookup::{decode_in_log, each_event};

/// Finds the frames of single positions. Positions near one another cost little: a pack is read
/// once.
pub(crate) struct FrameFinder<'l> {
    log: Log<'l>,
    direction: Direction,
    cursor: Option<LogCursor<'l>>,
}

impl<'l> FrameFinder<'l> {
    /// In the direction in which most positions follow one another.
    pub(crate) fn new(log: Log<'l>, direction: Direction) -> Self {
        Self { log, direction, cursor: None }
    }

    /// The frame that holds the event at a position. Its bytes are not checked.
    ///
    /// # Errors
    /// It is missing, or its pack is damaged.
    pub(crate) fn frame_at(&mut self, position: Position) -> Result<(&PackedFrame, &[u8])> {
        let has_it =
            self.cursor.as_ref().is_some_and(|cursor| cursor.frames().at(position).is_some());
        if !has_it {
            let cursor = match self.cursor.take() {
                Some(cursor) => cursor.moved_to(position),
                None => self.log.cursor(position, self.direction),
            };
            self.cursor.insert(cursor).next()?;
        }
        let frames = self.cursor.as_ref().map(LogCursor::frames);
        let frame = frames.and_then(|frames: Frames<'_>| frames.at(position));
        frame.ok_or_else(|| {
            let location = Location::log(position);
            Error::corruption(location, "nothing", "the frame that holds it")
        })
    }

    /// The result of a question about the event at a position.
    pub(crate) fn event_at(
        &mut self,
        position: Position,
        ask: impl Fn(EventRef<'_>) -> bool,
    ) -> Result<bool> {
        let (place, bytes) = self.frame_at(position)?;
        let frame = decode_in_log(place.first, bytes)?;
        let mut answer = false;
        each_event(
            &frame,
            || Location::log(place.first),
            |event| answer |= event.position == position && ask(event),
        )?;
        Ok(answer)
    }
}
