//! Prepares an append on the caller's thread, before it enters the queue: all work that needs
//! neither positions and versions nor the disk.

// Public only for the model checker: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc)]

use smallvec::SmallVec;

use super::index_drafts::{IndexDrafts, IndexKinds};
#[cfg(feature = "rocksdb")]
use super::rows::Decided;
use crate::event_store::{Append, KeyedResult};
use crate::format::FrameDraft;
#[cfg(feature = "rocksdb")]
use crate::format::{FrameHeader, Hole};
use crate::model::limits::{FRAME_EVENTS_MAX, FRAME_LEN_TARGET};
use crate::model::{EventId, IdempotencyKey, NewEvent, Position, Timestamp};
use crate::options::Durability;
use crate::validate::Shape;

/// One entry of the queue: appends that are committed in order, all of them or none.
pub struct Submission {
    pub appends: SmallVec<[Prepared; 1]>,
    pub durability: Durability,
    /// Key and value of a record in `meta`, written in the same batch.
    pub record: Option<(Vec<u8>, Vec<u8>)>,
    /// The idempotency key of the request that leads to this submission. It has one append, or
    /// none if only the key is recorded.
    pub key: Option<Box<PreparedKey>>,
    /// What its append, which records a deletion, decides to delete.
    #[cfg(feature = "rocksdb")]
    pub(crate) deletes: Option<Box<Decided>>,
}

/// An idempotency key, as its caller looked it up before it entered the queue.
#[derive(Clone)]
pub struct PreparedKey {
    pub(crate) key: IdempotencyKey,
    /// The result to record if there is no append: nothing happened, or a rejection.
    pub(crate) alone: KeyedResult,
    /// The number of the last key when the caller looked this one up.
    pub(crate) looked_up_at: u64,
    /// The result that the caller found.
    pub(crate) found: Option<KeyedResult>,
}

impl PreparedKey {
    /// Estimates the length of its record.
    fn len(&self) -> usize {
        let reason = match &self.alone {
            KeyedResult::Rejected(reason) => reason.len(),
            KeyedResult::Nothing | KeyedResult::Appended(_) => 0,
        };
        self.key.name().len() + reason + 512
    }
}

/// One append, encoded except for its positions, versions and times.
pub struct Prepared {
    pub(crate) shape: Shape,
    /// In order.
    pub(crate) frames: SmallVec<[PreparedFrame; 1]>,
    /// The number of events.
    pub(crate) count: u32,
    /// The times to record for its first and last event; `None` for the time of the commit.
    pub(crate) recorded_at: Option<(Timestamp, Timestamp)>,
    pub(crate) index: IndexDrafts,
    pub(crate) looked_up: LookedUp,
    /// How many events of its commit were before it, and how many the commit had, if it is only the
    /// part of a commit that was not deleted. `None` for an append that is a whole commit.
    pub(crate) part: Option<(u32, u32)>,
    /// Deleted events that come before it in the log of a store that is being built.
    #[cfg(feature = "rocksdb")]
    pub(crate) holes: Vec<(FrameHeader<'static>, Hole)>,
}

/// What the caller of an append found out about its conditions before it entered the queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookedUp {
    /// It looked at all events up to this position.
    pub(crate) up_to: Option<Position>,
    /// The first event that matches each condition.
    pub(crate) found: Vec<Option<Position>>,
}

/// Consecutive events of one stream that make one frame.
pub(crate) struct PreparedFrame {
    /// Index into the expectations.
    pub(crate) stream: usize,
    pub(crate) count: u32,
    pub(crate) draft: FrameDraft,
    /// The time to record for its first event; `None` for the time of the commit.
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) last_id: EventId,
}

impl Prepared {
    /// Encodes a validated append without conditions, for a store without an index.
    #[cfg(feature = "__internals")]
    pub fn new(append: &Append) -> Self {
        Self::indexed(append, IndexKinds::default(), LookedUp::default())
    }

    /// Encodes a validated append whose conditions were looked up, with these kinds of entries.
    pub(crate) fn indexed(append: &Append, kinds: IndexKinds, looked_up: LookedUp) -> Self {
        let shape = Shape::of(append);
        let mut frames: SmallVec<[PreparedFrame; 1]> = SmallVec::new();
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
        let index = IndexDrafts::of(append, kinds);
        Self {
            shape,
            frames,
            count,
            recorded_at,
            index,
            looked_up,
            part: None,
            #[cfg(feature = "rocksdb")]
            holes: Vec::new(),
        }
    }
}

/// Estimates the encoded length of an event: large enough for most.
fn encoded_len(event: &NewEvent) -> usize {
    event.text_len() + 48
}

impl Submission {
    /// These appends, and nothing else.
    pub fn of(appends: impl IntoIterator<Item = Prepared>, durability: Durability) -> Self {
        Self {
            appends: appends.into_iter().collect(),
            durability,
            record: None,
            key: None,
            #[cfg(feature = "rocksdb")]
            deletes: None,
        }
    }

    /// Estimates how many bytes it adds to the write-ahead log: its frames, and their packs.
    pub(crate) fn len_on_disk(&self) -> usize {
        2 * self.len_in_batch()
    }

    /// Estimates its length in a batch that fills no pack: each frame and its name in `tail`, and
    /// the idempotency key.
    pub(crate) fn len_in_batch(&self) -> usize {
        let frames = self.appends.iter().flat_map(|append| &append.frames);
        let frames = frames.map(|frame| frame.draft.events_len() + 320).sum::<usize>();
        let index = self.appends.iter().map(|append| append.index.len()).sum::<usize>();
        #[cfg(feature = "rocksdb")]
        let frames = frames + self.deletes.as_ref().map_or(0, |decided| decided.rows.len());
        frames + index + self.key.as_ref().map_or(0, |key| key.len())
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
        // Validation ensures that times within an append do not go back.
        let times = event.recorded_at().zip(self.recorded_at);
        let after = times.and_then(|(time, first)| time.since(first)).unwrap_or_default();
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.draft.push(event, after);
        self.count += 1;
        self.last_id = event.id();
    }
}
