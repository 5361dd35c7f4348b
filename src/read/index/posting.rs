//! [`Posting`]: the positions of the events of one list, in order.

use std::collections::VecDeque;

use crate::error::{Error, Location, Result};
use crate::event_store::{Direction, Query, QueryItem};
use crate::format::{IndexKind, POSITION_LEN, index_key, index_prefix, position_of};
use crate::model::{Position, StreamId};
use crate::read::lookup::positions_in_stream;
use crate::storage::{Cursor, Disk, Family};

/// How many entries are walked one by one before the list jumps.
const STEPS_BEFORE_SEEK: usize = 4;

/// The list of the events with one tag, of one type, or of one category.
pub(super) struct Posting<'d> {
    cursor: Cursor<'d>,
    /// Key of the next entry; the last bytes are the position.
    key: Vec<u8>,
    direction: Direction,
    /// Where the list is.
    at: At,
    /// The types that count; empty for any.
    types: &'d [String],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Unset,
    Entry(Position),
    End,
}

/// How many entries one item of a scan may still read, so that it pauses from time to time.
#[derive(Debug)]
pub(super) struct Steps(usize);

/// A scan pauses after about this many entries: some ten milliseconds.
const STEPS_MAX: usize = 16_384;
/// One of many items pauses after this many: it should not be opened again for a few entries.
const STEPS_MIN: usize = 256;

impl Steps {
    /// The part of one of several items. Each has its own: the scan goes on where the first one
    /// pauses, so an item without any steps left would keep the others from getting on.
    pub(super) fn of_one_in(items: usize) -> Self {
        Self((STEPS_MAX / items.max(1)).max(STEPS_MIN))
    }

    fn take(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    fn are_used_up(&self) -> bool {
        self.0 == 0
    }
}

impl<'d> Posting<'d> {
    pub(super) fn new(
        disk: &'d Disk,
        (kind, text): (IndexKind, &str),
        types: &'d [String],
        direction: Direction,
    ) -> Self {
        let mut key = index_prefix(kind, text);
        key.extend_from_slice(&[0; POSITION_LEN]);
        Self { cursor: disk.index_cursor(direction), key, direction, at: At::Unset, types }
    }

    /// Moves to the first entry at or after a position, in the direction of the list. Each position
    /// must not be before the one of the last call.
    pub(super) fn seek(&mut self, to: Position, steps: &mut Steps) -> Result<Option<Position>> {
        let is_there = |at: Position, direction| match direction {
            Direction::Forward => at >= to,
            Direction::Backward => at <= to,
        };
        match self.at {
            At::End => return Ok(None),
            At::Entry(at) if is_there(at, self.direction) => return Ok(Some(at)),
            At::Entry(_) => {
                for _ in 0..STEPS_BEFORE_SEEK {
                    match self.step(steps)? {
                        None => return Ok(None),
                        Some(at) if is_there(at, self.direction) => return Ok(Some(at)),
                        Some(_) => {}
                    }
                }
            }
            At::Unset => {}
        }
        if let Some(end) = self.key.last_chunk_mut::<POSITION_LEN>() {
            *end = to.get().to_be_bytes();
        }
        self.cursor.seek(&self.key);
        self.step(steps)
    }

    /// Whether the type of the entry counts.
    pub(super) fn is_of_type(&self) -> bool {
        let value = self.cursor.value();
        self.types.is_empty() || self.types.iter().any(|wanted| wanted.as_bytes() == value)
    }

    /// Moves to the next entry.
    fn step(&mut self, steps: &mut Steps) -> Result<Option<Position>> {
        steps.take();
        let Some((key, _)) = self.cursor.next()? else {
            self.at = At::End;
            return Ok(None);
        };
        let position = position_of(key).ok_or_else(|| Family::Index.bad_key(key))?;
        self.at = At::Entry(position);
        Ok(Some(position))
    }
}

/// The positions of the events of one stream.
pub(super) struct StreamPositions<'d> {
    disk: &'d Disk,
    stream: StreamId,
    direction: Direction,
    /// The events of the current frames.
    positions: VecDeque<Position>,
    is_at_end: bool,
}

impl<'d> StreamPositions<'d> {
    pub(super) fn new(disk: &'d Disk, stream: &str, direction: Direction) -> Self {
        let stream = StreamId::trusted(stream);
        Self { disk, stream, direction, positions: VecDeque::new(), is_at_end: false }
    }

    /// Moves to the first event at or after a position, in this direction.
    pub(super) fn seek(&mut self, to: Position, steps: &mut Steps) -> Result<Option<Position>> {
        loop {
            while let Some(at) = self.positions.front().copied() {
                let is_there = match self.direction {
                    Direction::Forward => at >= to,
                    Direction::Backward => at <= to,
                };
                if is_there {
                    return Ok(Some(at));
                }
                self.positions.pop_front();
                steps.take();
            }
            if self.is_at_end {
                return Ok(None);
            }
            let found = positions_in_stream(self.disk, &self.stream, to, self.direction)?;
            steps.take();
            self.is_at_end = found.is_empty();
            self.positions = found.into();
        }
    }
}

/// The lists of an item of which any counts.
pub(super) enum Any<'d> {
    Posting(Posting<'d>),
    Stream(StreamPositions<'d>),
}

impl Any<'_> {
    fn seek(&mut self, to: Position, steps: &mut Steps) -> Result<Option<Position>> {
        match self {
            Self::Posting(posting) => posting.seek(to, steps),
            Self::Stream(positions) => positions.seek(to, steps),
        }
    }

    fn is_of_type(&self) -> bool {
        match self {
            Self::Posting(posting) => posting.is_of_type(),
            Self::Stream(_) => true,
        }
    }
}

/// Where a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// At an event.
    At(Position),
    /// After too many steps: nothing was found before this position.
    Paused(Position),
    /// At the end of the lists.
    End,
}

/// The events that are in any of these lists: the first one at or after a position.
pub(super) fn seek_any(
    lists: &mut [Any<'_>],
    mut to: Position,
    direction: Direction,
    steps: &mut Steps,
) -> Result<Sought> {
    loop {
        let mut nearest: Option<(Position, bool)> = None;
        for list in &mut *lists {
            let Some(at) = list.seek(to, steps)? else { continue };
            let is_of_type = list.is_of_type();
            nearest = Some(match nearest {
                Some((known, counts)) if known == at => (at, counts || is_of_type),
                Some(known) if is_before(known.0, at, direction) => known,
                _ => (at, is_of_type),
            });
        }
        match nearest {
            None => return Ok(Sought::End),
            Some((at, true)) => return Ok(Sought::At(at)),
            Some((at, false)) => match past(at, direction) {
                None => return Ok(Sought::End),
                Some(next) if steps.are_used_up() => return Ok(Sought::Paused(next)),
                Some(next) => to = next,
            },
        }
    }
}

/// The events that are in all of these lists: the first one at or after a position.
///
/// All entries of an event have its type. A list skips entries of other types by itself, but only so
/// many in each round, and twice as many in the next one: so a long list is not walked to its end
/// while a short one would show that nothing is left.
pub(super) fn seek_all(
    lists: &mut [Posting<'_>],
    mut to: Position,
    direction: Direction,
    steps: &mut Steps,
) -> Result<Sought> {
    let mut skips_max = 4_usize;
    loop {
        let mut agreed = true;
        for list in &mut *lists {
            let Some(mut at) = list.seek(to, steps)? else { return Ok(Sought::End) };
            agreed &= at == to;
            let mut skipped = 0;
            while !list.is_of_type() && skipped < skips_max {
                let Some(next) = list.step(steps)? else { return Ok(Sought::End) };
                (at, agreed) = (next, false);
                skipped += 1;
            }
            to = at;
            if !list.is_of_type() {
                let Some(next) = past(at, direction) else { return Ok(Sought::End) };
                (to, agreed) = (next, false);
            }
        }
        if agreed {
            return Ok(Sought::At(to));
        }
        if steps.are_used_up() {
            return Ok(Sought::Paused(to));
        }
        skips_max = (2 * skips_max).min(STEPS_MAX);
    }
}

/// Whether `a` comes before `b` in this direction.
pub(super) fn is_before(a: Position, b: Position, direction: Direction) -> bool {
    match direction {
        Direction::Forward => a < b,
        Direction::Backward => a > b,
    }
}

/// The position after this one in this direction.
pub(super) fn past(position: Position, direction: Direction) -> Option<Position> {
    match direction {
        Direction::Forward => Some(position.next()),
        Direction::Backward => position.previous(),
    }
}

/// The error for an entry of the index whose event does not have what the entry says.
pub(crate) fn wrong_entry(query: &Query, position: Position) -> Error {
    let items = || query.items().iter();
    let kinds = [
        (IndexKind::Tag, items().flat_map(QueryItem::tags).next()),
        (IndexKind::Category, items().flat_map(QueryItem::categories).next()),
        (IndexKind::Type, items().flat_map(QueryItem::type_names).next()),
    ];
    let named = kinds.into_iter().find_map(|(kind, name)| Some((kind, name?)));
    let key = named.map(|(kind, name)| index_key(kind, name, position));
    let location = Location::Key { family: Family::Index.name(), key: key.unwrap_or_default() };
    Error::corruption(
        location,
        format!("an entry for position {position}"),
        "none: its event differs",
    )
}
