//! [`Scan`]: walks the lists of a plan, and yields the positions of the events.

use super::plan::{ItemPlan, Lists, Plan};
use super::posting::{Any, Posting, Sought, Steps, StreamPositions, is_before, seek_all, seek_any};
use crate::error::Result;
use crate::event_store::{Direction, Query};
use crate::format::IndexKind;
use crate::model::{EventRef, Position};
use crate::read::finder::FrameFinder;
use crate::read::log::Log;
use crate::storage::Disk;

/// Yields the positions that a plan finds, in order. It sees the index as of its creation, and streams as they grow.
pub(crate) struct Scan<'d> {
    items: Vec<ItemScan<'d>>,
    direction: Direction,
}

struct ItemScan<'d> {
    steps: Steps,
    lists: ScanLists<'d>,
    /// Where the item was found last, if that is still ahead.
    ahead: Option<Sought>,
}

enum ScanLists<'d> {
    All(Vec<Posting<'d>>),
    Any(Vec<Any<'d>>),
}

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// An event that matches, or may match.
    At(Position),
    /// Nothing before this position, so far.
    NothingBefore(Position),
    /// Nothing more.
    End,
}

impl<'d> Scan<'d> {
    pub(crate) fn new(disk: &'d Disk, plan: &Plan<'d>, direction: Direction) -> Self {
        let items = plan.items.iter().map(|item| ItemScan {
            steps: Steps::of_one_in(plan.items.len()),
            lists: ScanLists::of(disk, item, direction),
            ahead: None,
        });
        Self { items: items.collect(), direction }
    }

    /// The first event at or after a position, in the direction of the scan. Each position must not
    /// be before the one of the last call.
    pub(crate) fn seek(&mut self, to: Position) -> Result<Found> {
        let mut nearest = Found::End;
        for item in &mut self.items {
            let is_nearer = |at: Position, than: Found| match than {
                Found::End => true,
                Found::At(known) | Found::NothingBefore(known) => {
                    is_before(at, known, self.direction)
                }
            };
            match item.seek(to, self.direction)? {
                Sought::At(at) if is_nearer(at, nearest) => nearest = Found::At(at),
                Sought::Paused(at) if is_nearer(at, nearest) => nearest = Found::NothingBefore(at),
                Sought::At(_) | Sought::Paused(_) | Sought::End => {}
            }
        }
        Ok(nearest)
    }
}

impl ItemScan<'_> {
    fn seek(&mut self, to: Position, direction: Direction) -> Result<Sought> {
        match self.ahead {
            Some(Sought::At(at)) if !is_before(at, to, direction) => return Ok(Sought::At(at)),
            Some(Sought::End) => return Ok(Sought::End),
            _ => {}
        }
        let steps = &mut self.steps;
        let sought = match &mut self.lists {
            ScanLists::All(lists) => seek_all(lists, to, direction, steps)?,
            ScanLists::Any(lists) => seek_any(lists, to, direction, steps)?,
        };
        self.ahead = Some(sought);
        Ok(sought)
    }
}

impl<'d> ScanLists<'d> {
    fn of(disk: &'d Disk, plan: &ItemPlan<'d>, direction: Direction) -> Self {
        let item = plan.item;
        let types = item.type_names();
        let any = |kind, names: &'d [String], types: &'d [String]| {
            let lists = names.iter().map(|name| Posting::new(disk, (kind, name), types, direction));
            Self::Any(lists.map(Any::Posting).collect())
        };
        match plan.lists {
            Lists::AllTags => {
                let tags = item.tags().iter();
                let list = |tag| Posting::new(disk, (IndexKind::Tag, tag), types, direction);
                Self::All(tags.map(|tag| list(tag.as_str())).collect())
            }
            Lists::Streams => {
                let streams = item.streams().iter();
                let list = |stream: &String| StreamPositions::new(disk, stream, direction);
                Self::Any(streams.map(list).map(Any::Stream).collect())
            }
            Lists::Categories => any(IndexKind::Category, item.categories(), types),
            Lists::Types => any(IndexKind::Type, types, &[]),
        }
    }
}

/// How many events a search looks at before it pauses.
const EVENTS_MAX: usize = 1_024;

/// Searches for the first event after `after` and up to `up_to` that matches a query which this
/// plan answers, for a limited time: [`Found::NothingBefore`] is where to go on.
pub(crate) fn first_match(
    log: Log<'_>,
    (query, plan): (&Query, &Plan<'_>),
    from: Position,
    up_to: Position,
) -> Result<Found> {
    let mut scan = Scan::new(log.disk(), plan, Direction::Forward);
    let mut frames = FrameFinder::new(log, Direction::Forward);
    let (mut next, mut looked_at) = (from, 0);
    loop {
        match scan.seek(next)? {
            Found::At(at) if at > up_to => return Ok(Found::End),
            Found::At(at) => {
                let is_match = |event: EventRef<'_>| query.matches(&event);
                if plan.is_exact() || frames.event_at(at, is_match)? {
                    return Ok(Found::At(at));
                }
                next = at.next();
                looked_at += 1;
                if looked_at >= EVENTS_MAX {
                    return Ok(Found::NothingBefore(next));
                }
            }
            Found::NothingBefore(at) if at > up_to => return Ok(Found::End),
            paused => return Ok(paused),
        }
    }
}
