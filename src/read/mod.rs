//! Reads up to the head, one bounded page at a time.
//!
//! A page's frames are copied out of the engine, all engine resources are released, and then the
//! frames are checked and visited. So a reader holds no lock and no engine resource while the
//! visitor runs, and closing a store never waits for a visitor. Either the requested events are
//! visited in order without a gap, or an error reports where they are damaged (G8).

pub(crate) mod ahead;
pub(crate) mod deletions;
pub(crate) mod derived;
pub(crate) mod finder;
mod frame_page;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod log_end;
pub(crate) mod lookup;
mod matching;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Error, Location, Result};
use crate::event_store::{
    Direction, Hole, PageEnd, PageRequest, Query, Range, Scope, StreamInfo, StreamsRequest, Visitor,
};
use crate::format::{Frame, Known, PackedFrame, parse_log_key, stream_key, stream_prefix};
use crate::head::Head;
use crate::model::{EventRef, Position, StreamId, StreamState, Version};
use crate::storage::{Disk, Family, Storage};
use ahead::ReadAhead;
use frame_page::{Copying, FramePage, PageEnded};
use index::{Found, IndexedFrom, Plan, first_match};
use log::{Log, OpenPack};
use lookup::{check_key, next_stream, version_and_state_at, version_at};
use matching::{MatchingPage, Parts, fetch_matching};

/// Reads a store up to its head.
pub(crate) struct Reader {
    storage: Arc<Storage>,
    open: Arc<OpenPack>,
    ahead: Option<ReadAhead>,
    head: Arc<Head>,
    indexed_from: Arc<IndexedFrom>,
}

impl Reader {
    /// `read_ahead_bytes` is 0 to read nothing ahead.
    pub(crate) fn new(
        (storage, open): (Arc<Storage>, Arc<OpenPack>),
        head: Arc<Head>,
        indexed_from: Arc<IndexedFrom>,
        read_ahead_bytes: usize,
    ) -> Self {
        let ahead =
            (read_ahead_bytes > 0).then(|| ReadAhead::new(storage.clone(), read_ahead_bytes));
        Self { storage, open, ahead, head, indexed_from }
    }

    pub(crate) fn ahead(&self) -> Option<&ReadAhead> {
        self.ahead.as_ref()
    }

    pub(crate) fn read_page(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        let nothing = Ok(PageEnd::new(None));
        let Some(head) = self.head.get()? else { return nothing };
        if request.range.is_empty() || request.events_max == 0 {
            let rest = Some(request.range.clone()).filter(|range| !range.is_empty());
            return Ok(PageEnd::new(rest));
        }
        let up_to = request.range.up_to.min(head);
        let mut range = Range { up_to, ..request.range.clone() };
        // Places count from 1.
        range.from = range.from.max(1);
        match (&range.scope, request.direction) {
            (Scope::Log, _) => range.to = range.to.min(up_to.get()),
            (Scope::Stream(stream), Direction::Backward) => {
                let to = Version::new(range.to).unwrap_or(Version::FIRST);
                let last = self.storage.with(|disk| version_at(disk, stream, to, up_to))?;
                range.to = last.map_or(0, Version::get);
            }
            (Scope::Stream(_), Direction::Forward) => {}
        }
        if range.is_empty() {
            return nothing;
        }
        loop {
            let resets = self.indexed_from.resets();
            let Some(plan) = self.plan(&range, request) else {
                return self.scan(&range, request, visit);
            };
            let Some(parts) = Parts::of(&range, plan.from, request.direction) else {
                return self.scan_below(range, plan.from, request, visit);
            };
            let page = self.storage.with(|disk| {
                fetch_matching(Log::new(disk, &self.open), &plan, &parts.indexed, request)
            })?;
            if self.indexed_from.is_same_since(resets) {
                return visit_matching(page, parts, request, visit);
            }
        }
    }

    /// Reads a page by going through all its events.
    fn scan(
        &self,
        range: &Range,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        let page = self.storage.with(|disk| {
            let log = Log::new(disk, &self.open).with_read_ahead(self.ahead.as_ref());
            fetch(log, range, request)
        })?;
        visit_page(page, range, request, visit)
    }

    /// How the index answers a request; `None` if it does not.
    fn plan<'r>(&self, range: &Range, request: &'r PageRequest) -> Option<Plan<'r>> {
        if range.scope != Scope::Log || request.query.is_everything() {
            return None;
        }
        Plan::of(&request.query, self.indexed_from.get()).ok()
    }

    /// Reads a page of the part of a range for which the index is not complete, by going through all
    /// its events.
    fn scan_below(
        &self,
        range: Range,
        from: Position,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        let below = Range { to: range.to.min(from.get() - 1), ..range.clone() };
        let end = self.scan(&below, request, visit)?;
        let PageEnd { rest, holes } = end;
        let rest = match (request.direction, rest) {
            (Direction::Backward, rest) => rest,
            (Direction::Forward, Some(rest)) => Some(Range { to: range.to, ..rest }),
            (Direction::Forward, None) => range.rest(from.get(), Direction::Forward),
        };
        Ok(PageEnd { rest, holes })
    }

    /// Reads a page of the log, forward, if all its frames are in memory.
    pub(crate) fn read_page_in_memory(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<PageEnd>> {
        let Some(head) = self.head.get()? else { return Ok(Some(PageEnd::new(None))) };
        let is_of_log =
            request.range.scope == Scope::Log && request.direction == Direction::Forward;
        let range = request.range.clone().up_to(head);
        let range = Range { to: range.to.min(range.up_to.get()), ..range };
        let Some(start) = Position::new(range.from).filter(|_| is_of_log && request.events_max > 0)
        else {
            return Ok(None);
        };
        if range.is_empty() {
            return Ok(Some(PageEnd::new(None)));
        }
        let mut page = FramePage::spare();
        let mut copying = Copying::new(&mut page, &range, request);
        let add = |place: &PackedFrame, frame: &[u8]| {
            !copying.is_full() && copying.add(place.first.get(), frame)
        };
        if !self.open.visit_recent(start, add) {
            page.give_back();
            return Ok(None);
        }
        visit_page(page, &range, request, visit).map(Some)
    }

    /// Checks that an index answers a query for the events after a position.
    pub(crate) fn check_indexed(&self, query: &Query, after: Option<Position>) -> Result<()> {
        Plan::check(query, self.indexed_from.get(), Position::after(after))
    }

    /// The first event after a position and up to another one that matches a query.
    ///
    /// # Errors
    /// [`Error::NotIndexed`] if no index answers the query for these events.
    pub(crate) fn first_match(
        &self,
        query: &Query,
        after: Option<Position>,
        up_to: Option<Position>,
    ) -> Result<Option<Position>> {
        let mut from = Position::after(after);
        if query.is_everything() {
            return up_to.map_or(Ok(None), |up_to| self.first_left(from, up_to));
        }
        loop {
            let resets = self.indexed_from.resets();
            let plan = Plan::of(query, self.indexed_from.get());
            let plan = plan.map_err(|(item, missing)| missing.refuses(item))?;
            let Some(up_to) = up_to.filter(|up_to| *up_to >= from) else { return Ok(None) };
            plan.check_from(from)?;
            let found = self.storage.with(|disk| {
                first_match(Log::new(disk, &self.open), (query, &plan), from, up_to)
            })?;
            if !self.indexed_from.is_same_since(resets) {
                continue;
            }
            match found {
                Found::At(position) => return Ok(Some(position)),
                Found::End => return Ok(None),
                Found::NothingBefore(position) => from = position,
            }
        }
    }

    /// The first event from a position on and up to another one.
    fn first_left(&self, from: Position, up_to: Position) -> Result<Option<Position>> {
        let (direction, query) = (Direction::Forward, Query::Everything);
        let mut request =
            PageRequest { range: Range::log(from, up_to), direction, query, events_max: 1 };
        let mut found = None;
        loop {
            let page = self.read_page(&request, &mut |event| {
                found = Some(event.position());
                ControlFlow::Break(())
            })?;
            match page.rest.filter(|_| found.is_none()) {
                Some(rest) => request.range = rest,
                None => return Ok(found),
            }
        }
    }

    pub(crate) fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        let Some(head) = self.head.get()? else { return Ok(None) };
        self.storage.with(|disk| match version_and_state_at(disk, stream, Version::MAX, head)? {
            Some((version, StreamState::Live)) => Ok(Some(version)),
            Some((_, StreamState::Tombstoned)) => Err(Error::Tombstoned { stream: stream.clone() }),
            Some((_, StreamState::Deleted)) | None => Ok(None),
        })
    }

    pub(crate) fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        let Some(head) = self.head.get()? else { return Ok(Vec::new()) };
        let mut streams = Vec::new();
        // Every key of a stream is between its id followed by 0 and its id followed by 1.
        let mut behind = request.after.as_ref().map(|stream| past_stream(stream.as_str()));
        while streams.len() < request.streams_max {
            let start = match &behind {
                Some(behind) if behind.as_slice() > request.prefix.as_bytes() => behind.as_slice(),
                _ => request.prefix.as_bytes(),
            };
            let info = self.storage.with(|disk| {
                let Some(id) = next_stream(disk, start)? else { return Ok(None) };
                let last = version_and_state_at(disk, &id, Version::MAX, head)?;
                let live = last.filter(|(_, state)| *state == StreamState::Live);
                Ok(Some((id, live.map(|(version, _)| version))))
            })?;
            match info {
                Some((id, version)) if id.as_str().starts_with(&request.prefix) => {
                    behind = Some(past_stream(id.as_str()));
                    // A stream whose first append is not published yet, or that was deleted, is not
                    // visible.
                    streams.extend(version.map(|version| StreamInfo { id, version }));
                }
                _ => break,
            }
        }
        Ok(streams)
    }
}

fn past_stream(id: &str) -> Vec<u8> {
    let mut key = id.as_bytes().to_vec();
    key.push(1);
    key
}

/// Visits the events of a page that was read through the index.
fn visit_matching(
    page: MatchingPage,
    parts: Parts,
    request: &PageRequest,
    visit: &mut Visitor<'_>,
) -> Result<PageEnd> {
    let next = page.visit(request, visit);
    page.frames.give_back();
    let rest = match (next?, request.direction) {
        (Some(next), Direction::Forward) => parts.indexed.rest(next, Direction::Forward),
        (Some(next), Direction::Backward) => parts.whole.rest(next, Direction::Backward),
        (None, Direction::Forward) => None,
        (None, Direction::Backward) => {
            let below = parts.indexed.from - 1;
            parts.whole.rest(below, Direction::Backward)
        }
    };
    Ok(PageEnd::new(rest))
}

/// Visits the events of a page of this range.
fn visit_page(
    page: FramePage,
    range: &Range,
    request: &PageRequest,
    visit: &mut Visitor<'_>,
) -> Result<PageEnd> {
    let mut walk = Walk { range, request, left: request.events_max, holes: Vec::new() };
    let rest = walk.page(&page, visit);
    page.give_back();
    let rest = rest?.and_then(|next| range.clone().rest(next, request.direction));
    Ok(PageEnd { rest, holes: walk.holes })
}

/// Copies frames of a range, up to a full page.
fn fetch(log: Log<'_>, range: &Range, request: &PageRequest) -> Result<FramePage> {
    let mut page = FramePage::spare();
    let copying = Copying::new(&mut page, range, request);
    match &range.scope {
        Scope::Log => fetch_log(log, copying)?,
        Scope::Stream(stream) => fetch_stream(log.disk(), stream, copying)?,
    }
    Ok(page)
}

fn fetch_log(log: Log<'_>, mut copying: Copying<'_>) -> Result<()> {
    let start = Position::new(copying.start()).unwrap_or(Position::FIRST);
    let mut cursor = log.cursor(start, copying.direction);
    while !copying.is_full() {
        let frames = match cursor.next() {
            Ok(Some(frames)) => frames,
            Ok(None) => break,
            // The request may end within the frames before the damage; if not, the next page begins
            // at it.
            Err(_) if !copying.page.frames.is_empty() => {
                copying.page.end = PageEnded::Full;
                break;
            }
            Err(error) => return Err(error),
        };
        let direction = copying.direction;
        let mut add = |(place, frame): (&PackedFrame, _)| copying.add(place.first.get(), frame);
        let goes_on = match direction {
            Direction::Forward => frames.from(start).all(&mut add),
            Direction::Backward => frames.up_to(start).rev().all(&mut add),
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

fn fetch_stream(disk: &Disk, stream: &StreamId, mut copying: Copying<'_>) -> Result<()> {
    let prefix = stream_prefix(stream.as_str());
    let start = Version::new(copying.start()).unwrap_or(Version::FIRST);
    let start = stream_key(stream.as_str(), start);
    let mut cursor = disk.stream_cursor(&start, copying.direction)?;
    while let Some((key, value)) = cursor.next()? {
        let place = key.strip_prefix(prefix.as_slice()).and_then(parse_log_key);
        let place = place.ok_or_else(|| Family::Streams.bad_key(key))?;
        if !copying.add(place.get(), value) {
            break;
        }
    }
    Ok(())
}

/// The state of a pass over the frames of a page.
struct Walk<'q> {
    range: &'q Range,
    request: &'q PageRequest,
    left: usize,
    holes: Vec<Hole>,
}

/// How to continue after a frame.
enum AfterFrame {
    /// Continue with the next frame.
    On,
    /// The range ends within or before this frame.
    EndOfView,
    /// The page is full, or the visitor stopped: the next place to read.
    Stop(Option<u64>),
}

impl Walk<'_> {
    /// Visits the frames. Returns the next place to read, or `None` at the end of the range.
    fn page(&mut self, page: &FramePage, visit: &mut Visitor<'_>) -> Result<Option<u64>> {
        let forward = self.request.direction == Direction::Forward;
        let is_stream = self.range.scope != Scope::Log;
        // The place that the next frame must hold, so that no frame is missing in between.
        let mut next = if forward { self.range.from } else { self.range.to };
        let mut known = Known::default();
        for (index, (key_place, range)) in page.frames.iter().enumerate() {
            let bytes = page.bytes.get(range.clone()).unwrap_or_default();
            let frame = Frame::decode_knowing(known, bytes);
            let frame = frame.map_err(|bad| bad.at(self.range.scope.location(*key_place)))?;
            known.stream = frame.header.stream;
            let (first, last) = self.range.scope.extent(&frame, *key_place)?;
            let is_tip = page.frames.len() == 1 && page.end == PageEnded::Scope;
            if last < next && is_tip && is_stream {
                // The stream ends before the range.
                self.end_of_stream(&frame, first)?;
                return Ok(None);
            }
            // The first frame may begin or end outside the range. Each further frame must be
            // adjacent to the previous one.
            // A hole may have grown to both sides meanwhile.
            let joins = if index == 0 || frame.is_hole() {
                first <= next && next <= last
            } else {
                next == if forward { first } else { last }
            };
            if !joins {
                return Err(self.missing(next, Some(*key_place)));
            }
            match self.frame(&frame, (first, last), &mut known, visit)? {
                AfterFrame::On => {}
                AfterFrame::EndOfView => return Ok(None),
                AfterFrame::Stop(next) => return Ok(next),
            }
            match if forward { last.checked_add(1) } else { first.checked_sub(1) } {
                Some(place) => next = place,
                None => return Ok(None),
            }
        }
        let is_over = if forward { next > self.range.to } else { next < self.range.from };
        // Only a stream may end before the range does.
        let may_end_early = forward && is_stream && page.end == PageEnded::Scope;
        match page.end {
            PageEnded::Full => Ok(Some(next)),
            _ if is_over || may_end_early => Ok(None),
            _ => Err(self.missing(next, None)),
        }
    }

    /// Visits the events of one frame that are in the range and match the query.
    fn frame<'p>(
        &mut self,
        frame: &Frame<'p>,
        (first, last): (u64, u64),
        known: &mut Known<'p>,
        visit: &mut Visitor<'_>,
    ) -> Result<AfterFrame> {
        if frame.is_hole() {
            return self.hole(frame, (first, last));
        }
        let header = &frame.header;
        let ends_view = header.last_position() > self.range.up_to;
        if header.first_position > self.range.up_to {
            return Ok(AfterFrame::EndOfView);
        }
        let forward = self.request.direction == Direction::Forward;
        let matches_stream = self.request.query.matches_stream(header.stream);
        if forward {
            let mut place = first;
            let mut events = frame.events();
            while let Some(flow) = events.next_with(|event| {
                known.event_type = event.event_type;
                if matches_stream {
                    self.event(place, event, visit)
                } else {
                    ControlFlow::Continue(())
                }
            }) {
                if flow.map_err(|bad| bad.at(self.range.scope.location(first)))?.is_break() {
                    return Ok(AfterFrame::Stop(place.checked_add(1)));
                }
                place += 1;
            }
            let is_end = ends_view || last >= self.range.to;
            return Ok(if is_end { AfterFrame::EndOfView } else { AfterFrame::On });
        }
        let events: Result<Vec<_>, _> = frame.events().collect();
        let events = events.map_err(|bad| bad.at(self.range.scope.location(first)))?;
        let places = (first..=last).rev();
        for (place, event) in places.zip(events.into_iter().rev()).filter(|_| matches_stream) {
            if self.event(place, event, visit).is_break() {
                return Ok(AfterFrame::Stop(place.checked_sub(1)));
            }
        }
        Ok(if first <= self.range.from { AfterFrame::EndOfView } else { AfterFrame::On })
    }

    /// Notes that the stream was deleted, if it ends before the range with a hole in the view.
    fn end_of_stream(&mut self, frame: &Frame<'_>, first: u64) -> Result<()> {
        self.refuse_tombstoned(frame, first)?;
        let hole = frame.hole().map_err(|bad| bad.at(self.range.scope.location(first)))?;
        let end = hole.and_then(|hole| hole.end);
        let seen = end.filter(|end| end.position <= self.range.up_to);
        if let Some(state) = seen.map(|end| end.state).filter(|it| *it == StreamState::Deleted) {
            self.holes.push(Hole { first, last: frame.header.last_version().get(), state });
        }
        Ok(())
    }

    /// Refuses to read a stream that was deleted for good.
    fn refuse_tombstoned(&self, frame: &Frame<'_>, first: u64) -> Result<()> {
        let hole = frame.hole().map_err(|bad| bad.at(self.range.scope.location(first)))?;
        match (&self.range.scope, hole.and_then(|hole| hole.end)) {
            (Scope::Stream(stream), Some(end)) if end.state == StreamState::Tombstoned => {
                Err(Error::Tombstoned { stream: stream.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Goes past deleted events. A view that ends between them shows none of them.
    #[cold]
    fn hole(&mut self, frame: &Frame<'_>, (first, last): (u64, u64)) -> Result<AfterFrame> {
        self.refuse_tombstoned(frame, first)?;
        let hole = frame.hole().map_err(|bad| bad.at(self.range.scope.location(first)))?;
        let end = hole.and_then(|hole| hole.end);
        let forward = self.request.direction == Direction::Forward;
        let ends_view =
            end.map_or(frame.header.first_position, |end| end.position) > self.range.up_to;
        if !ends_view {
            let last = if end.is_none() { last.min(self.range.up_to.get()) } else { last };
            let (first, last) = (first.max(self.range.from), last.min(self.range.to));
            let state = end.map_or(StreamState::Live, |end| end.state);
            if first <= last {
                self.holes.push(Hole { first, last, state });
            }
        }
        let is_end =
            if forward { ends_view || last >= self.range.to } else { first <= self.range.from };
        Ok(if is_end { AfterFrame::EndOfView } else { AfterFrame::On })
    }

    #[inline]
    fn event(
        &mut self,
        place: u64,
        event: EventRef<'_>,
        visit: &mut Visitor<'_>,
    ) -> ControlFlow<()> {
        let is_within = self.range.from <= place && place <= self.range.to;
        if !is_within
            || event.position > self.range.up_to
            || !self.request.query.matches_in_stream(&event)
        {
            return ControlFlow::Continue(());
        }
        self.left -= 1;
        visit(event)?;
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn missing(&self, next: u64, found: Option<u64>) -> Error {
        let found = match found {
            None => "no frame".to_owned(),
            Some(found) => format!("a frame that begins at {found}"),
        };
        let expected = format!("the frame that holds {next}");
        Error::corruption(self.range.scope.location(next), found, expected)
    }
}

impl Scope {
    /// The location of a place, for an error.
    #[cold]
    fn location(&self, place: u64) -> Location {
        match self {
            Self::Log => Location::log(Position::new(place).unwrap_or(Position::FIRST)),
            Self::Stream(stream) => {
                Location::stream(stream, Version::new(place).unwrap_or(Version::FIRST))
            }
        }
    }

    /// The first and last place of a frame, after a check that they match its key.
    fn extent(&self, frame: &Frame<'_>, place: u64) -> Result<(u64, u64)> {
        let header = &frame.header;
        let location = || self.location(place);
        match self {
            Self::Log => {
                check_key(location, place, header.first_position.get())?;
                Ok((header.first_position.get(), header.last_position().get()))
            }
            Self::Stream(stream) => {
                let found = (header.stream, header.first_version.get());
                check_key(location, (stream.as_str(), place), found)?;
                Ok((header.first_version.get(), header.last_version().get()))
            }
        }
    }
}
