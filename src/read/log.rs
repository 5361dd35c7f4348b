//! The log: packs on disk, and after them the open pack in memory.
//!
//! The commit path adds frames to the open pack. When it is full, the pack is written, and the next
//! one begins. So the newest frames are read from memory, and all others from few large rows. The
//! last packs stay in memory as well, for subscriptions that have caught up.

use std::collections::VecDeque;

use super::ahead::ReadAhead;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{Pack, PackedFrame, decode_pack, log_key, parse_log_key};
use crate::model::Position;
use crate::storage::{Cursor, Disk, Family};
use crate::sync::RwLock;

/// How many bytes of packs stay in memory: what a subscription may be behind without reading from
/// disk.
const RECENT_BYTES_MAX: usize = 1 << 20;

/// The frames that are in no pack yet, as readers see them, and the last packs.
///
/// They are added after they are written, but before the head is published. A reader takes the head
/// first, so that it finds every frame up to the head here or in a pack.
#[derive(Debug, Default)]
pub(crate) struct OpenPack {
    published: RwLock<Published>,
    recent: RwLock<RecentPacks>,
    /// How many rows of `tail` named its frames when the log was opened.
    pub(crate) rows: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The last position that is in a pack.
    pub(crate) boundary: Option<Position>,
    pub(crate) pack: Pack,
}

/// The last packs, in order.
#[derive(Debug, Default)]
struct RecentPacks {
    packs: VecDeque<Pack>,
    bytes: usize,
}

impl OpenPack {
    pub(crate) fn new(boundary: Option<Position>, pack: Pack, rows: u32) -> Self {
        let published = RwLock::new(Published { boundary, pack });
        Self { published, recent: RwLock::default(), rows }
    }

    /// A copy of the frames.
    pub(crate) fn published(&self) -> Published {
        let published = self.published.read();
        let mut pack = Pack::default();
        pack.extend(&published.pack, 0);
        Published { boundary: published.boundary, pack }
    }

    /// Adds the packs that were filled since the last call, and the frames of the open pack from an
    /// index on. If a pack was filled, these are all frames of the open pack.
    pub(crate) fn publish(
        &self,
        filled: impl ExactSizeIterator<Item = Pack>,
        pack: &Pack,
        from: usize,
    ) {
        if filled.len() == 0 {
            self.published.write().pack.extend(pack, from);
            return;
        }
        let mut recent = self.recent.write();
        filled.for_each(|pack| recent.add(pack));
        let boundary = recent.packs.back().and_then(|pack| pack.frames().last());
        let boundary = boundary.map(|frame| frame.last);
        // Both are locked, so that no frame is missing for a reader of both.
        let mut published = self.published.write();
        published.boundary = boundary.or(published.boundary);
        published.pack.clear();
        published.pack.extend(pack, from);
    }

    /// Visits the frames in memory from the one that contains a position on, while `visit` returns
    /// true. Returns false if that frame is not in memory.
    pub(crate) fn visit_recent(
        &self,
        position: Position,
        mut visit: impl FnMut(&PackedFrame, &[u8]) -> bool,
    ) -> bool {
        let recent = self.recent.read();
        let published = self.published.read();
        let packs = || recent.packs.iter().chain([&published.pack]);
        let first = packs().find_map(|pack| pack.frames().first());
        if first.is_none_or(|frame| frame.first > position) {
            return false;
        }
        let behind = |pack: &&Pack| pack.frames().last().is_none_or(|last| last.last < position);
        let frames = packs()
            .skip_while(behind)
            .flat_map(|pack| Frames { bytes: pack.bytes(), places: pack.frames() }.from(position));
        let _ = { frames }.all(|(place, frame)| visit(place, frame));
        true
    }

    /// Forgets the packs in memory that are on disk too, because some were changed there.
    pub(crate) fn forget_packs(&self) {
        *self.recent.write() = RecentPacks::default();
    }

    /// Copies the frames, forward only those from a position on. Returns whether that position is
    /// not in a pack; if it is, nothing is copied.
    fn copy(&self, position: Position, direction: Direction, to: &mut Published) -> bool {
        let published = self.published.read();
        if published.boundary >= Some(position) {
            return false;
        }
        let frames = published.pack.frames();
        let from = match direction {
            Direction::Forward => frames.partition_point(|frame| frame.last < position),
            Direction::Backward => 0,
        };
        to.boundary = published.boundary;
        to.pack.clear();
        to.pack.extend(&published.pack, from);
        true
    }
}

impl RecentPacks {
    fn add(&mut self, mut pack: Pack) {
        pack.shrink();
        self.bytes += pack.bytes().len();
        self.packs.push_back(pack);
        while self.bytes > RECENT_BYTES_MAX && self.packs.len() > 1 {
            self.bytes -= self.packs.pop_front().map_or(0, |oldest| oldest.bytes().len());
        }
    }
}

/// The log of an open store.
#[derive(Clone, Copy)]
pub(crate) struct Log<'l> {
    disk: &'l Disk,
    open: &'l OpenPack,
    ahead: Option<&'l ReadAhead>,
}

/// Consecutive frames of the log.
#[derive(Clone, Copy)]
pub(crate) struct Frames<'f> {
    bytes: &'f [u8],
    places: &'f [PackedFrame],
}

/// Iterates over the frames of the log, many at a time.
pub(crate) struct LogCursor<'l> {
    log: Log<'l>,
    direction: Direction,
    /// The position to continue at; `None` at the end.
    next: Option<Position>,
    packs: Option<Cursor<'l>>,
    /// Whether the frames that were returned last are those of the open pack.
    is_in_open: bool,
    /// The frames of the open pack, once the cursor has reached it.
    copied: Published,
    /// The frames of the current pack.
    places: Vec<PackedFrame>,
}

impl<'f> Frames<'f> {
    /// The frames in order, each with its bytes, without those that end before a position.
    pub(crate) fn from(
        self,
        position: Position,
    ) -> impl DoubleEndedIterator<Item = (&'f PackedFrame, &'f [u8])> {
        let index = self.places.partition_point(|place| place.last < position);
        Self { places: self.places.get(index..).unwrap_or_default(), ..self }.iter()
    }

    /// The frames in order, each with its bytes, without those that begin after a position.
    pub(crate) fn up_to(
        self,
        position: Position,
    ) -> impl DoubleEndedIterator<Item = (&'f PackedFrame, &'f [u8])> {
        let index = self.places.partition_point(|place| place.first <= position);
        Self { places: self.places.get(..index).unwrap_or_default(), ..self }.iter()
    }

    /// The frames in order, each with its bytes.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = (&'f PackedFrame, &'f [u8])> {
        let bytes = self.bytes;
        self.places.iter().map(move |place| (place, bytes_of(bytes, place)))
    }

    /// The frame that contains a position.
    pub(crate) fn at(self, position: Position) -> Option<(&'f PackedFrame, &'f [u8])> {
        self.from(position).next().filter(|(place, _)| place.first <= position)
    }
}

fn bytes_of<'f>(bytes: &'f [u8], place: &PackedFrame) -> &'f [u8] {
    bytes.get(place.bytes.clone()).unwrap_or_default()
}

impl<'l> Log<'l> {
    pub(crate) fn new(disk: &'l Disk, open: &'l OpenPack) -> Self {
        Self { disk, open, ahead: None }
    }

    /// The same log, read ahead of forward cursors.
    pub(crate) fn with_read_ahead(self, ahead: Option<&'l ReadAhead>) -> Self {
        Self { ahead, ..self }
    }

    pub(crate) fn disk(self) -> &'l Disk {
        self.disk
    }

    /// A cursor from the pack that contains a position.
    pub(crate) fn cursor(self, position: Position, direction: Direction) -> LogCursor<'l> {
        LogCursor {
            log: self,
            direction,
            next: Some(position),
            packs: None,
            is_in_open: false,
            copied: Published::default(),
            places: Vec::new(),
        }
    }
}

impl LogCursor<'_> {
    /// The frames that [`LogCursor::next`] returned last.
    pub(crate) fn frames(&self) -> Frames<'_> {
        if self.is_in_open {
            let pack = &self.copied.pack;
            return Frames { bytes: pack.bytes(), places: pack.frames() };
        }
        let bytes = self.packs.as_ref().map(Cursor::value).unwrap_or_default();
        Frames { bytes, places: &self.places }
    }

    /// The same cursor, to continue at another position.
    pub(crate) fn moved_to(mut self, position: Position) -> Self {
        self.next = Some(position);
        self.places.clear();
        self.is_in_open = false;
        if let Some(packs) = &mut self.packs {
            packs.seek_at(&log_key(position));
        }
        self
    }

    /// The frames that follow those returned before, or, backward, that precede them; `None` at the
    /// end of the log. The frames of one call are always in ascending order. The first call may
    /// return frames outside the direction as well.
    ///
    /// # Errors
    /// A pack is damaged or missing. The frames themselves are not checked.
    pub(crate) fn next(&mut self) -> Result<Option<Frames<'_>>> {
        let is_forward = self.direction == Direction::Forward;
        loop {
            let Some(next) = self.next else { return Ok(None) };
            let is_new = self.packs.is_none();
            if is_new {
                if self.log.open.copy(next, self.direction, &mut self.copied) {
                    self.next = self.copied.boundary.filter(|_| !is_forward);
                    if self.copied.pack.frames().is_empty() {
                        continue;
                    }
                    self.is_in_open = true;
                    return Ok(Some(self.frames()));
                }
                self.is_in_open = false;
                let key = log_key(next);
                let packs = self.log.disk.cursor_at(Family::Packs, &key, self.direction);
                self.packs = Some(packs);
            }
            match self.next_pack(next)? {
                Some((first, last)) if first <= next && next <= last => {
                    self.next = if is_forward { Some(last.next()) } else { first.previous() };
                    let bytes = self.packs.as_ref().map(Cursor::value).unwrap_or_default();
                    // A single pack is no scan.
                    if let Some(ahead) = self.log.ahead.filter(|_| is_forward && !is_new) {
                        ahead.scan_reached(last.next(), bytes.len());
                    }
                    return Ok(Some(self.frames()));
                }
                // Later frames are in the open pack, or in packs newer than the cursor.
                None if is_forward && !is_new => self.packs = None,
                found => return Err(missing(next, found)),
            }
        }
    }

    /// Moves to the next pack; returns its first and last position.
    fn next_pack(&mut self, next: Position) -> Result<Option<(Position, Position)>> {
        let Some(packs) = &mut self.packs else { return Ok(None) };
        let Some((key, value)) = packs.next()? else { return Ok(None) };
        let last = parse_log_key(key).ok_or_else(|| Family::Packs.bad_key(key))?;
        let decoded = decode_pack(last, value, &mut self.places);
        decoded.map_err(|malformed| malformed.at(Location::log(next)))?;
        Ok(self.places.first().map(|place| (place.first, last)))
    }
}

#[cold]
fn missing(next: Position, found: Option<(Position, Position)>) -> Error {
    let found = match found {
        None => "no pack".to_owned(),
        Some((first, last)) => format!("a pack of the positions {first} to {last}"),
    };
    Error::corruption(Location::log(next), found, format!("the pack that holds {next}"))
}
