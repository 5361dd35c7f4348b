//! [`FramePage`]: a page of frames that are copied out of the engine.

use std::cell::Cell;

use crate::event_store::{Direction, PageRequest, Range};

/// A page is full once it holds this many bytes of frames, which fit in a processor's cache.
pub(super) const PAGE_LEN_TARGET: usize = 256 * 1024;
/// A page buffer that grew beyond this many bytes is freed instead of kept for the next page.
const PAGE_LEN_KEPT: usize = 1024 * 1024;

thread_local! {
    /// The buffers of this thread's last page, reused for the next one. While a visitor runs they
    /// are in use, so a nested read allocates new ones.
    static SPARE: Cell<FramePage> = const { Cell::new(FramePage::new()) };
}

impl FramePage {
    const fn new() -> Self {
        Self { bytes: Vec::new(), frames: Vec::new(), end: PageEnded::Scope }
    }
}

impl Default for FramePage {
    fn default() -> Self {
        Self::new()
    }
}

/// Frames copied out of the engine, each with the position or version in its key.
pub(super) struct FramePage {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<(u64, std::ops::Range<usize>)>,
    pub(super) end: PageEnded,
}

/// Why a page holds no more frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PageEnded {
    /// The page is full; more frames follow.
    Full,
    /// The next frame is beyond the range.
    Range,
    /// The log or the stream has no further frame.
    Scope,
}

impl FramePage {
    /// An empty page, with the buffers of this thread's last one.
    pub(super) fn spare() -> Self {
        let mut page = SPARE.try_with(Cell::take).unwrap_or_default();
        page.bytes.clear();
        page.frames.clear();
        page.end = PageEnded::Scope;
        page
    }

    /// Keeps the buffers for this thread's next page.
    pub(super) fn give_back(self) {
        if self.bytes.capacity() <= PAGE_LEN_KEPT {
            // A thread that is exiting may still read, but its thread-local storage may be gone.
            let _ = SPARE.try_with(|spare| spare.set(self));
        }
    }
}

/// A page that is being filled.
pub(super) struct Copying<'p> {
    pub(super) page: &'p mut FramePage,
    range: &'p Range,
    pub(super) direction: Direction,
    frames_max: usize,
}

impl<'p> Copying<'p> {
    pub(super) fn new(page: &'p mut FramePage, range: &'p Range, request: &PageRequest) -> Self {
        // Each frame has at least one event. Events of the first frame may be before the range.
        let frames_max =
            if request.query.is_everything() { request.events_max } else { usize::MAX };
        Self { page, range, direction: request.direction, frames_max }
    }

    /// The place at which to begin reading.
    pub(super) fn start(&self) -> u64 {
        match self.direction {
            Direction::Forward => self.range.from,
            Direction::Backward => self.range.to,
        }
    }

    /// Whether the page is full; if so, it ends here.
    pub(super) fn is_full(&mut self) -> bool {
        let is_full =
            self.page.frames.len() >= self.frames_max || self.page.bytes.len() >= PAGE_LEN_TARGET;
        if is_full {
            self.page.end = PageEnded::Full;
        }
        is_full
    }

    /// Adds the frame of a place, unless the page is full or the range ends before it. Returns
    /// whether to go on.
    pub(super) fn add(&mut self, place: u64, frame: &[u8]) -> bool {
        if self.direction == Direction::Forward && place > self.range.to {
            self.page.end = PageEnded::Range;
            return false;
        }
        if self.is_full() {
            return false;
        }
        let page = &mut *self.page;
        let begin = page.bytes.len();
        page.bytes.extend_from_slice(frame);
        page.frames.push((place, begin..page.bytes.len()));
        if self.direction == Direction::Backward && place <= self.range.from {
            page.end = PageEnded::Range;
            return false;
        }
        true
    }
}
