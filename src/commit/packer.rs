//! [`Packer`] puts the frames of the log into packs, as the leader stages them.

// Public only for the benchmarks: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs)]

use crate::format::{FrameHeader, Pack, TailRow, log_key, tail_key};
use crate::read::log::OpenPack;
use crate::store_options::PACK_BYTES;

/// The frames that are in no pack yet: those that are published, and those of the batch.
///
/// If a batch fails, the writer is poisoned, and its packer is never used again.
#[derive(Debug)]
pub struct Packer {
    /// A pack is full once its frames have this many bytes.
    pack_bytes: usize,
    pack: Pack,
    /// How many frames of `pack` are published.
    published: usize,
    /// How many rows name the published frames.
    rows: u32,
    /// The packs that this batch filled.
    filled: Vec<Pack>,
    /// Names the frames of the batch that are in no pack.
    row: TailRow,
    row_is_empty: bool,
    /// Whether `pack` has a hole.
    has_hole: bool,
}

/// The packer of an empty log.
impl Default for Packer {
    fn default() -> Self {
        Self::new(&OpenPack::default(), PACK_BYTES)
    }
}

impl Packer {
    /// Continues the open pack of a log.
    pub(crate) fn new(open: &OpenPack, pack_bytes: usize) -> Self {
        let pack = open.published().pack;
        Self {
            pack_bytes,
            published: pack.frames().len(),
            pack,
            rows: open.rows,
            filled: Vec::new(),
            row: TailRow::default(),
            row_is_empty: true,
            has_hole: false,
        }
    }

    /// Adds the next frame of the log. Returns key and value of the pack that it fills.
    pub fn add(&mut self, header: &FrameHeader<'_>, frame: &[u8]) -> Option<([u8; 8], &[u8])> {
        let last = header.last_position();
        self.pack.push(header.first_position, last, frame);
        if self.pack.bytes().len() >= self.pack_bytes {
            return self.end_pack();
        }
        if std::mem::take(&mut self.row_is_empty) {
            self.row.begin(header.first_position);
        }
        self.row.push(header.stream, header.first_version, frame);
        None
    }

    /// Adds a hole. No row can name it, so its pack ends with the batch at the latest.
    pub(crate) fn add_hole(
        &mut self,
        header: &FrameHeader<'_>,
        hole: &[u8],
    ) -> Option<([u8; 8], &[u8])> {
        self.pack.push(header.first_position, header.last_position(), hole);
        self.has_hole = true;
        if self.pack.bytes().len() >= self.pack_bytes { self.end_pack() } else { None }
    }

    /// Ends the open pack if it has a hole.
    pub(crate) fn end_pack_with_hole(&mut self) -> Option<([u8; 8], &[u8])> {
        if self.has_hole { self.end_pack() } else { None }
    }

    /// Ends the open pack. Returns its key and value; `None` if it is empty.
    pub fn end_pack(&mut self) -> Option<([u8; 8], &[u8])> {
        let last = self.pack.frames().last()?.last;
        (self.published, self.rows, self.row_is_empty) = (0, 0, true);
        self.has_hole = false;
        self.filled.push(self.pack.seal());
        self.filled.last().map(|pack| (log_key(last), pack.bytes()))
    }

    /// Ends a batch. Returns key and value of the row for those of its frames that are in no pack;
    /// `None` if all are.
    pub fn row(&mut self) -> Option<([u8; 4], &[u8])> {
        if std::mem::replace(&mut self.row_is_empty, true) {
            return None;
        }
        self.rows += 1;
        Some((tail_key(self.rows - 1), self.row.encode()))
    }

    /// Shows the frames of the batch, which is written, to readers.
    pub(crate) fn publish(&mut self, open: &OpenPack) {
        if !self.filled.is_empty() || self.published < self.pack.frames().len() {
            open.publish(self.filled.drain(..), &self.pack, self.published);
        }
        self.published = self.pack.frames().len();
    }
}
