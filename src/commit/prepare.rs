//! What a caller does before it enters the queue: everything that needs neither places nor the disk.

use super::validate::Shape;
use crate::event_store::Append;
use crate::format::encode_event;
use crate::model::limits::{FRAME_EVENTS_MAX, FRAME_LEN_TARGET};
use crate::model::{EventId, NewEvent, Timestamp};
use crate::options::Durability;

/// One unit of the queue: appends that are committed one after the other, all or none of them.
pub(crate) struct Submission {
    pub(crate) appends: Vec<Prepared>,
    pub(crate) durability: Durability,
    /// A record of the store itself, written with them.
    pub(crate) record: Option<(Vec<u8>, Vec<u8>)>,
}

/// One append, encoded but for its places.
pub(crate) struct Prepared {
    pub(crate) shape: Shape,
    /// In order.
    pub(crate) frames: Vec<PreparedFrame>,
    /// How many events there are.
    pub(crate) count: u32,
    /// When its first and its last event are to be recorded; `None` for now.
    pub(crate) recorded_at: Option<(Timestamp, Timestamp)>,
}

/// Consecutive events of one stream: as many as make a frame.
pub(crate) struct PreparedFrame {
    /// Index into the expectations.
    pub(crate) stream: usize,
    pub(crate) count: u32,
    pub(crate) events: Vec<u8>,
    /// When the first event is to be recorded; `None` for now.
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) last_id: EventId,
}

impl Prepared {
    /// Encodes a validated append.
    pub(crate) fn new(append: &Append) -> Self {
        let shape = Shape::of(append);
        let mut frames: Vec<PreparedFrame> = Vec::new();
        for run in append.runs() {
            let mut starts_frame = true;
            for event in &run.events {
                match frames.last_mut() {
                    Some(frame) if !starts_frame && frame.has_room(event) => frame.push(event),
                    _ => frames.push(PreparedFrame::new(run.stream, event)),
                }
                starts_frame = false;
            }
        }
        let mut times = append.events().map(|(_, event)| event.get_recorded_at());
        let first = times.next().flatten();
        let recorded_at = first.map(|first| (first, times.last().flatten().unwrap_or(first)));
        let count = frames.iter().map(|frame| frame.count).sum();
        Self { shape, frames, count, recorded_at }
    }
}

impl PreparedFrame {
    fn new(stream: usize, first: &NewEvent) -> Self {
        let mut events = Vec::with_capacity(first.text_len() + 64);
        encode_event(first, 0, &mut events);
        let recorded_at = first.get_recorded_at();
        Self { stream, count: 1, events, recorded_at, last_id: first.id() }
    }

    fn has_room(&self, next: &NewEvent) -> bool {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        count < FRAME_EVENTS_MAX && self.events.len() + next.text_len() <= FRAME_LEN_TARGET
    }

    fn push(&mut self, event: &NewEvent) {
        // Validation saw to it that times within an append do not go back.
        let times = event.get_recorded_at().zip(self.recorded_at);
        let after = times.and_then(|(time, first)| time.since(first)).unwrap_or_default();
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        encode_event(event, after, &mut self.events);
        self.count += 1;
        self.last_id = event.id();
    }
}
