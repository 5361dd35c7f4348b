//! [`Sweep`]: carries deletions out in the log, some packs at a time.
//!
//! `streams` is right from the moment of the decision. A sweep makes the packs follow it: events
//! below the end of their stream's hole become holes of the log, and other changed frames are copied
//! from `streams`. Their entries of the index go in the same batch.

use std::collections::{BTreeSet, HashMap};

use super::log_hole::LogHole;
use crate::commit::{IndexKinds, Rows};
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    Frame, Pack, PackedFrame, decode_pack, index_entries, index_key, log_key, parse_log_key,
    stream_key,
};
use crate::model::{EventRef, Position, StreamId, Version};
use crate::read::lookup::{decode_in_log, each_event, hole_of};
use crate::storage::{Disk, Family};

/// About how many bytes of packs one batch replaces.
const BATCH_LEN: usize = 48 << 10;
/// How many streams are remembered.
const STREAMS_MAX: usize = 100_000;

/// Goes through the packs in which something was deleted.
pub(super) struct Sweep<'s> {
    /// The number of the newest deletion.
    pub(super) deletion: Version,
    pub(super) kinds: IndexKinds,
    /// The positions of redacted events.
    pub(super) redacted: &'s BTreeSet<Position>,
    /// Where deleted events are; `None` if all packs must be looked at.
    pub(super) wanted: Option<&'s BTreeSet<Position>>,
    /// The last deleted version of each stream, as far as it is known.
    streams: HashMap<String, Option<Version>>,
    /// The last pack, if it is nothing but a hole: it can grow.
    hole: Option<HolePack>,
    /// Keys of packs that holes have replaced: from the first on and below the second.
    pub(super) replaced: Vec<(Position, Position)>,
    /// Keys of packs that the current batch replaces, which is not written yet.
    replaces: Vec<(Position, Position)>,
}

/// A pack that is nothing but a hole, and the packs that it replaces.
#[derive(Clone, Copy)]
struct HolePack {
    hole: LogHole,
    /// The key of the first pack that it replaces, and its own.
    keys: (Position, Position),
    is_written: bool,
}

/// The changes of one batch.
#[derive(Default)]
pub(super) struct Swept {
    pub(super) rows: Rows,
    /// The position to go on at; `None` at the end.
    pub(super) next: Option<Position>,
    pub(super) packs: u64,
}

/// One part of a pack that is put together again.
enum Part {
    Hole(LogHole),
    Frame(PackedFrame, Vec<u8>),
}

impl<'s> Sweep<'s> {
    pub(super) fn new(
        deletion: Version,
        kinds: IndexKinds,
        redacted: &'s BTreeSet<Position>,
        wanted: Option<&'s BTreeSet<Position>>,
    ) -> Self {
        Self {
            deletion,
            kinds,
            redacted,
            wanted,
            streams: HashMap::new(),
            hole: None,
            replaced: Vec::new(),
            replaces: Vec::new(),
        }
    }

    /// The changes of the next packs from a position on, up to another one.
    pub(super) fn batch(&mut self, disk: &Disk, from: Position, to: Position) -> Result<Swept> {
        let mut swept = Swept::default();
        if self.hole.is_none() {
            self.look_before(disk, from)?;
        }
        let mut cursor = disk.cursor_at(Family::Packs, &log_key(from), Direction::Forward);
        let (mut read, mut places) = (0, Vec::new());
        loop {
            let Some((key, value)) = cursor.next()? else { break };
            let last = parse_log_key(key).ok_or_else(|| Family::Packs.bad_key(key))?;
            decode_pack(last, value, &mut places)
                .map_err(|malformed| malformed.at(Location::log(last)))?;
            self.pack(disk, (last, value), &places, &mut swept)?;
            read += value.len();
            // A hole that follows one is joined with it, wanted or not.
            let wanted = self.wanted_after(last).filter(|next| *next <= to);
            let next = if self.hole.is_some() && last <= to { Some(last.next()) } else { wanted };
            let Some(next) = next else { break };
            if next <= to && (read >= BATCH_LEN || swept.rows.len() >= BATCH_LEN) {
                swept.next = Some(next);
                break;
            }
            if next > last.next() {
                self.put_hole(&mut swept.rows);
                self.hole = None;
                cursor.seek_at(&log_key(next));
            }
        }
        self.put_hole(&mut swept.rows);
        Ok(swept)
    }

    /// Notes that the last batch is written: only then the rows that it replaces are gone.
    pub(super) fn note_written(&mut self) {
        for (first, last) in self.replaces.drain(..) {
            match self.replaced.last_mut() {
                Some((_, end)) if *end == first => *end = last,
                _ => self.replaced.push((first, last)),
            }
        }
    }

    /// The next position to look at.
    fn wanted_after(&self, last: Position) -> Option<Position> {
        match self.wanted {
            None => Some(last.next()),
            Some(wanted) => wanted.range(last.next()..).next().copied(),
        }
    }

    /// Remembers the pack before a position if it is nothing but a hole.
    fn look_before(&mut self, disk: &Disk, from: Position) -> Result<()> {
        let mut packs = disk.range_cursor(Family::Packs, &[]..&log_key(from), Direction::Backward);
        let Some((key, value)) = packs.next()? else { return Ok(()) };
        let last = parse_log_key(key).ok_or_else(|| Family::Packs.bad_key(key))?;
        let mut places = Vec::new();
        decode_pack(last, value, &mut places)
            .map_err(|malformed| malformed.at(Location::log(last)))?;
        if let [place] = places.as_slice() {
            let bytes = value.get(place.bytes.clone()).unwrap_or_default();
            let hole = LogHole::of(&decode_in_log(place.first, bytes)?)?;
            self.hole = hole.map(|hole| HolePack { hole, keys: (last, last), is_written: true });
        }
        Ok(())
    }

    /// Puts the changed pack, if anything in it was deleted.
    fn pack(
        &mut self,
        disk: &Disk,
        (last, value): (Position, &[u8]),
        places: &[PackedFrame],
        swept: &mut Swept,
    ) -> Result<()> {
        let mut parts = Vec::with_capacity(places.len());
        let mut is_changed = false;
        for place in places {
            let bytes = value.get(place.bytes.clone()).unwrap_or_default();
            is_changed |= self.frame(disk, place, bytes, &mut parts, &mut swept.rows)?;
        }
        swept.packs += u64::from(is_changed);
        if let [Part::Hole(hole)] = parts.as_slice() {
            self.add_hole(*hole, last, is_changed, &mut swept.rows);
            return Ok(());
        }
        self.put_hole(&mut swept.rows);
        self.hole = None;
        if is_changed {
            swept.rows.put(Family::Packs, log_key(last).to_vec(), sealed(&parts));
        }
        Ok(())
    }

    /// Adds the parts that are left of a frame. Returns whether it has changed.
    fn frame(
        &mut self,
        disk: &Disk,
        place: &PackedFrame,
        bytes: &[u8],
        parts: &mut Vec<Part>,
        rows: &mut Rows,
    ) -> Result<bool> {
        let frame = decode_in_log(place.first, bytes)?;
        let header = frame.header;
        if let Some(hole) = LogHole::of(&frame)? {
            return Ok(add_hole_part(parts, hole));
        }
        let deleted = self.deleted_up_to(disk, header.stream)?;
        let redacted = self.redacted.range(place.first..=place.last).next();
        if deleted < Some(header.first_version) && redacted.is_none() {
            parts.push(Part::Frame(place.clone(), bytes.to_vec()));
            return Ok(false);
        }
        let mut kept = None;
        each_event(
            &frame,
            || Location::log(place.first),
            |event| {
                if Some(event.version()) <= deleted {
                    add_hole_part(parts, LogHole::of_event(&event, &header, self.deletion));
                    self.delete_entries(&event, rows);
                } else {
                    kept = kept.or(Some((event.version(), event.position())));
                }
            },
        )?;
        let Some((version, first)) = kept else { return Ok(true) };
        let copy = disk.get(Family::Streams, &stream_key(header.stream, version))?;
        let copy = copy.ok_or_else(|| {
            let location = Location::stream(&StreamId::trusted(header.stream), version);
            Error::corruption(location, "nothing", format!("the frame of position {first}"))
        })?;
        if redacted.is_some() {
            self.delete_removed(&frame, &decode_in_log(first, &copy)?, rows)?;
        }
        let is_changed = copy != bytes;
        parts.push(Part::Frame(PackedFrame { first, ..place.clone() }, copy));
        Ok(is_changed)
    }

    /// The last deleted version of a stream.
    fn deleted_up_to(&mut self, disk: &Disk, stream: &str) -> Result<Option<Version>> {
        if let Some(known) = self.streams.get(stream) {
            return Ok(*known);
        }
        let last = hole_of(disk, &StreamId::trusted(stream))?.map(|(last, _)| last);
        if self.streams.len() >= STREAMS_MAX {
            self.streams.clear();
        }
        self.streams.insert(stream.to_owned(), last);
        Ok(last)
    }

    fn delete_entries(&self, event: &EventRef<'_>, rows: &mut Rows) {
        entries(event, self.kinds, |key| rows.delete(Family::Index, key));
    }

    /// Deletes the entries of events of a frame that those of the new one do not have.
    fn delete_removed(&self, old: &Frame<'_>, new: &Frame<'_>, rows: &mut Rows) -> Result<()> {
        let location = || Location::log(old.header.first_position);
        let mut kept = BTreeSet::new();
        each_event(new, location, |event| {
            entries(&event, self.kinds, |key| {
                kept.insert(key);
            });
        })?;
        let first = new.header.first_version;
        each_event(old, location, |event| {
            if event.version() >= first {
                entries(&event, self.kinds, |key| {
                    if !kept.contains(&key) {
                        rows.delete(Family::Index, key);
                    }
                });
            }
        })
    }

    /// Adds a pack that is nothing but a hole: it replaces the one before, if that is one too.
    fn add_hole(&mut self, hole: LogHole, key: Position, is_changed: bool, rows: &mut Rows) {
        let join = |before: LogHole| {
            // A pack that was dropped and is here again is part of the hole that replaced it.
            if hole.first <= before.first { Some(hole) } else { before.and(hole) }
        };
        let joined = self.hole.and_then(|before| Some((before, join(before.hole)?)));
        let pack = if let Some((before, hole)) = joined {
            HolePack { hole, keys: (before.keys.0, key), is_written: false }
        } else {
            self.put_hole(rows);
            HolePack { hole, keys: (key, key), is_written: !is_changed }
        };
        self.hole = Some(pack);
    }

    /// Puts the pack that is nothing but a hole, in the place of those that it replaces.
    fn put_hole(&mut self, rows: &mut Rows) {
        let Some(pack) = self.hole.as_mut().filter(|pack| !pack.is_written) else { return };
        let (first, last) = pack.keys;
        if first < last {
            rows.delete_range(Family::Packs, log_key(first).to_vec(), log_key(last).to_vec());
            self.replaces.push((first, last));
        }
        rows.put(Family::Packs, log_key(last).to_vec(), sealed(&[Part::Hole(pack.hole)]));
        (pack.keys, pack.is_written) = ((last, last), true);
    }
}

/// Adds a hole to the one before it, if there is one. Returns whether it was added to one.
fn add_hole_part(parts: &mut Vec<Part>, hole: LogHole) -> bool {
    if let Some(Part::Hole(before)) = parts.last_mut()
        && let Some(joined) = before.and(hole)
    {
        *before = joined;
        return true;
    }
    parts.push(Part::Hole(hole));
    false
}

/// The keys of the entries of the index for an event.
fn entries(event: &EventRef<'_>, kinds: IndexKinds, mut visit: impl FnMut(Vec<u8>)) {
    let tags: Vec<_> = event.tags().iter().collect();
    let names = (event.event_type(), event.category());
    index_entries(names, &tags.into_iter(), |kind, text, _| {
        if kinds.has(kind) {
            visit(index_key(kind, text, event.position()));
        }
    });
}

fn sealed(parts: &[Part]) -> Vec<u8> {
    let mut pack = Pack::default();
    for part in parts {
        match part {
            Part::Hole(hole) => pack.push(hole.first, hole.last, &hole.encode()),
            Part::Frame(place, bytes) => pack.push(place.first, place.last, bytes),
        }
    }
    pack.seal().bytes().to_vec()
}
