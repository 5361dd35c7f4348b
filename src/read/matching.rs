//! Reads a page of the log through the index: only the frames with events that match.

use std::ops::ControlFlow;

use super::finder::FrameFinder;
use super::frame_page::{FramePage, PAGE_LEN_TARGET};
use super::index::{Found, Plan, Scan, wrong_entry};
use super::log::Log;
use super::lookup::decode_in_log;
use crate::error::{Location, Result};
use crate::event_store::{Direction, PageRequest, Range, Visitor};
use crate::model::Position;

/// How many positions a page looks at, at most.
const POSITIONS_MAX: usize = 4_096;

/// The frames of a page, and the positions in them that may match.
pub(super) struct MatchingPage {
    pub(super) frames: FramePage,
    positions: Vec<Position>,
    /// The place to continue at; `None` at the end of the range.
    next: Option<u64>,
    is_exact: bool,
}

/// A range of the log, and the part of it for which the index is complete.
pub(super) struct Parts {
    pub(super) whole: Range,
    pub(super) indexed: Range,
}

impl Parts {
    /// `None` if the part to be read next is not indexed.
    pub(super) fn of(range: &Range, from: Position, direction: Direction) -> Option<Self> {
        let indexed = Range { from: range.from.max(from.get()), ..range.clone() };
        let is_next = direction == Direction::Backward || range.from >= from.get();
        let parts = Self { whole: range.clone(), indexed };
        Some(parts).filter(|parts| is_next && !parts.indexed.is_empty())
    }
}

/// Copies the frames with the events of a range that a plan finds, up to a full page.
pub(super) fn fetch_matching(
    log: Log<'_>,
    plan: &Plan<'_>,
    range: &Range,
    request: &PageRequest,
) -> Result<MatchingPage> {
    let direction = request.direction;
    let mut page = MatchingPage {
        frames: FramePage::spare(),
        positions: Vec::new(),
        next: None,
        is_exact: plan.is_exact(),
    };
    let start = match direction {
        Direction::Forward => range.from,
        Direction::Backward => range.to,
    };
    let Some(mut to) = Position::new(start) else { return Ok(page) };
    let is_past = |at: Position| match direction {
        Direction::Forward => at.get() > range.to,
        Direction::Backward => at.get() < range.from,
    };
    let positions_max = if page.is_exact { request.events_max } else { POSITIONS_MAX };
    let mut scan = Scan::new(log.disk(), plan, direction);
    let mut finder = FrameFinder::new(log, direction);
    loop {
        let at = match scan.seek(to)? {
            Found::End => return Ok(page),
            Found::At(at) | Found::NothingBefore(at) if is_past(at) => return Ok(page),
            Found::NothingBefore(at) => {
                page.next = Some(at.get());
                return Ok(page);
            }
            Found::At(at) => at,
        };
        let is_full = page.positions.len() >= positions_max.min(POSITIONS_MAX)
            || page.frames.bytes.len() >= PAGE_LEN_TARGET;
        if is_full || !page.add(at, &mut finder)? {
            page.next = Some(at.get());
            return Ok(page);
        }
        match direction {
            Direction::Forward => to = at.next(),
            Direction::Backward => match at.previous() {
                Some(previous) => to = previous,
                None => return Ok(page),
            },
        }
    }
}

impl MatchingPage {
    /// Adds a position, and its frame. Returns whether the page can be read on: damage ends it, if
    /// it has events before the damage.
    fn add(&mut self, at: Position, finder: &mut FrameFinder<'_>) -> Result<bool> {
        let (place, bytes) = match finder.frame_at(at) {
            Ok(found) => found,
            Err(_) if !self.positions.is_empty() => return Ok(false),
            Err(error) => return Err(error),
        };
        let first = place.first.get();
        if self.frames.frames.last().is_none_or(|(last, _)| *last != first) {
            let begin = self.frames.bytes.len();
            self.frames.bytes.extend_from_slice(bytes);
            self.frames.frames.push((first, begin..self.frames.bytes.len()));
        }
        self.positions.push(at);
        Ok(true)
    }

    /// Visits the events that match. Returns the place to continue at; `None` at the end.
    pub(super) fn visit(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<u64>> {
        let mut positions = self.positions.iter().copied().peekable();
        let mut left = request.events_max;
        for (first, bytes) in &self.frames.frames {
            let first = Position::new(*first).unwrap_or(Position::FIRST);
            let bytes = self.frames.bytes.get(bytes.clone()).unwrap_or_default();
            let frame = decode_in_log(first, bytes)?;
            let last = frame.header.last_position();
            let mut wanted = Vec::new();
            while let Some(at) = positions.next_if(|at| (first..=last).contains(at)) {
                wanted.push(at);
            }
            let mut events = Vec::with_capacity(wanted.len());
            for event in frame.events() {
                let event = event.map_err(|bad| bad.at(Location::log(first)))?;
                if wanted.contains(&event.position) {
                    events.push(event);
                }
            }
            if request.direction == Direction::Backward {
                events.reverse();
            }
            for event in events {
                let at = event.position;
                if !request.query.matches(&event) {
                    if self.is_exact {
                        return Err(wrong_entry(&request.query, at));
                    }
                    continue;
                }
                left -= 1;
                if visit(event) == ControlFlow::Break(()) || left == 0 {
                    return Ok(match request.direction {
                        Direction::Forward => at.get().checked_add(1),
                        Direction::Backward => Some(at.get() - 1),
                    });
                }
            }
        }
        Ok(self.next)
    }
}
