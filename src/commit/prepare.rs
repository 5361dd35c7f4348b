//! What a caller does before it enters the queue: everything that needs neither places nor the
//! disk.

// Public for the model checker alone: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc)]

use crate::event_store::Append;
use crate::format::FrameDraft;
use crate::model::limits::{FRAME_EVENTS_MAX, FRAME_LEN_TARGET};
use crate::model::{EventId, NewEvent, Timestamp};
use crate::options::Durability;
use crate::validate::Shape;

/// One unit of the queue: appends that are committed one after the other, all or none of them.
pub struct Submission {
    pub appends: Vec<Prepared>,
    pub durability: Durability,
    /// A record of the store itself, written with them.
    pub record: Option<(Vec<u8>, Vec<u8>)>,
}

/// One append, encoded but for its places.
pub struct Prepared {
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
    pub(crate) draft: FrameDraft,
    /// When the first event is to be recorded; `None` for now.
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) last_id: EventId,
}

impl Prepared {
    /// Encodes a validated append.
    pub fn new(append: &Append) -> Self {
        let shape = Shape::of(append);
        let mut frames: Vec<PreparedFrame> = Vec::with_capacity(append.runs().len());
        for run in append.runs() {
            let Some((stream, _)) = shape.expectations.get(run.stream) else {
                unreachable!("a run names one of its append's streams")
            };
            let mut len_left: usize = run.events.iter().map(encoded_len).sum();
            let mut starts_frame = true;
            for event in &run.events {
                match frames.last_mut() {
                    Some(frame) if !starts_frame && frame.has_room(event) => frame.push(event),
                    _ => {
                        let draft =
                            FrameDraft::new(stream.as_str(), len_left.min(FRAME_LEN_TARGET));
                        frames.push(PreparedFrame::new(run.stream, draft, event));
                    }
                }
                len_left -= encoded_len(event);
                starts_frame = false;
            }
        }
        let mut times = append.events().map(|(_, event)| event.recorded_at());
        let first = times.next().flatten();
        let recorded_at = first.map(|first| (first, times.last().flatten().unwrap_or(first)));
        let count = frames.iter().map(|frame| frame.count).sum();
        Self { shape, frames, count, recorded_at }
    }
}

/// About how many bytes an event takes: enough for most.
fn encoded_len(event: &NewEvent) -> usize {
    event.text_len() + 48
}

impl Submission {
    /// About how many bytes its changes take in a batch: each frame is there twice, with its keys.
    pub(crate) fn len_in_batch(&self) -> usize {
        let frames = self.appends.iter().flat_map(|append| &append.frames);
        frames.map(|frame| 2 * (frame.draft.events_len() + 192)).sum()
    }
}

impl PreparedFrame {
    fn new(stream: usize, mut draft: FrameDraft, first: &NewEvent) -> Self {
        draft.push(first, 0);
        Self { stream, count: 1, draft, recorded_at: first.recorded_at(), last_id: first.id() }
    }

    fn has_room(&self, next: &NewEvent) -> bool {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        count < FRAME_EVENTS_MAX && self.draft.events_len() + next.text_len() <= FRAME_LEN_TARGET
    }

    fn push(&mut self, event: &NewEvent) {
        // Validation saw to it that times within an append do not go back.
        let times = event.recorded_at().zip(self.recorded_at);
        let after = times.and_then(|(time, first)| time.since(first)).unwrap_or_default();
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.draft.push(event, after);
        self.count += 1;
        self.last_id = event.id();
    }
}
