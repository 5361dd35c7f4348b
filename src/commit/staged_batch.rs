//! [`Staged`]: a batch that the writer is filling.

use std::sync::Arc;

use super::packer::Packer;
use super::prepare::PreparedFrame;
use super::queue::{Outcome, Ticket};
use super::staged::StagedAppends;
use crate::format::{FrameHeader, Hole, checksum_of, encode_hole, stream_key};
use crate::model::Position;
use crate::options::Durability;
use crate::read::log_end::LogEnd;
use crate::storage::{Batch, Family};

/// A batch that is being filled, and the state once it is committed.
pub(super) struct Staged<'d> {
    pub(super) batch: Batch<'d>,
    pub(super) end: LogEnd,
    pub(super) durability: Durability,
    pub(super) appends: StagedAppends,
    /// Whether no other submission is in the batch, so that none has to see what this one stages.
    pub(super) is_alone: bool,
    pub(super) outcomes: Vec<(Arc<Ticket>, Outcome)>,
    pub(super) counts: Counts,
}

/// What a batch adds to the meters of the store once it is written.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) appends: u64,
    pub(super) frame_bytes: usize,
    pub(super) retries: u64,
}

impl Staged<'_> {
    /// Puts the frame into its stream and into the log.
    pub(super) fn put(
        &mut self,
        header: &FrameHeader<'_>,
        frame: &mut PreparedFrame,
        packer: &mut Packer,
    ) {
        let bytes = frame.draft.finish(header);
        self.counts.frame_bytes += bytes.len();
        let key = stream_key(header.stream, header.first_version);
        self.batch.put(Family::Streams, &key, bytes);
        if let Some((key, pack)) = packer.add(header, bytes) {
            self.batch.put(Family::Packs, &key, pack);
        }
        self.end.head = Some(header.last_position());
        self.end.recorded_at = Some(header.recorded_at);
        self.end.checksum = checksum_of(bytes);
    }

    /// Puts a hole into the log.
    pub(super) fn put_hole(&mut self, header: &FrameHeader<'_>, hole: &Hole, packer: &mut Packer) {
        let next = Position::after(self.end.head);
        assert_eq!(header.first_position, next, "positions are gapless (G2)");
        let bytes = encode_hole(header, hole);
        if let Some((key, pack)) = packer.add_hole(header, &bytes) {
            self.batch.put(Family::Packs, &key, pack);
        }
        self.end.head = Some(header.last_position());
        self.end.recorded_at = Some(hole.last_recorded_at);
        self.end.streams = header.streams_after;
        self.end.checksum = checksum_of(&bytes);
    }
}
