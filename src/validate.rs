//! Decides whether an append may be committed: a pure rule, shared by all stores of this crate.
//!
//! The rule needs to know only what is committed ([`Committed`]): the last event of a stream, the
//! ids at a place, and the events of a commit. From these it decides: append, acknowledge an
//! earlier append again, or refuse.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use smallvec::{SmallVec, smallvec};

use crate::error::{Error, Result};
use crate::event_store::{Append, AppendCondition, Appended, Conditions, Run};
use crate::model::{EventId, ExpectedVersion, Position, StreamId, StreamState, Version};

/// The last event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastEvent {
    pub(crate) version: Version,
    pub(crate) id: EventId,
    /// What has become of the stream after it.
    pub(crate) state: StreamState,
}

impl LastEvent {
    /// The last event of a stream that takes appends.
    pub(crate) fn new(version: Version, id: EventId) -> Self {
        Self { version, id, state: StreamState::Live }
    }

    /// The version that readers see; `None` if the stream was deleted.
    pub(crate) fn visible(self) -> Option<Version> {
        Some(self.version).filter(|_| self.state == StreamState::Live)
    }
}

/// What the rule reads from a store. Only committed events count.
pub(crate) trait Committed {
    fn last_event(&mut self, stream: &StreamId) -> Result<Option<LastEvent>>;

    /// The first version since the stream was created, or created again after it was deleted.
    fn beginning(&mut self, _stream: &StreamId) -> Result<Version> {
        Ok(Version::FIRST)
    }

    /// The ids and positions of at most `count` events of a stream from this version on.
    ///
    /// # Errors
    /// [`Error::Deleted`] if one of them was deleted.
    fn places(
        &mut self,
        stream: &StreamId,
        from: Version,
        count: usize,
    ) -> Result<Vec<(EventId, Position)>>;

    /// The first event that matches a condition, which has this number within the append.
    fn first_match(
        &mut self,
        number: usize,
        condition: &AppendCondition,
    ) -> Result<Option<Position>>;

    /// Checks that no event was deleted that may have matched a condition with a position.
    ///
    /// # Errors
    /// [`Error::Deleted`].
    fn check_nothing_deleted(&self, _condition: &AppendCondition) -> Result<()> {
        Ok(())
    }

    /// The whole commit that the event at this position was part of; `None` if it has another number
    /// of events than this.
    fn commit(&mut self, position: Position, events: usize) -> Result<Option<Commit>>;
}

/// A commit as it is in the log: its first position, and its events in order.
pub(crate) struct Commit {
    pub(crate) first: Position,
    pub(crate) events: Vec<(StreamId, Version, EventId)>,
}

/// What the rule needs to know of an append.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Each stream once.
    pub(crate) expectations: SmallVec<[(StreamId, ExpectedVersion); 1]>,
    /// For each expectation, the ids of the events for its stream, in order; empty if the stream is
    /// only checked.
    pub(crate) ids: SmallVec<[SmallVec<[EventId; 1]>; 1]>,
    /// Consecutive events of one stream: the index of its expectation, and the number of events.
    pub(crate) runs: SmallVec<[(usize, usize); 1]>,
    pub(crate) conditions: Conditions,
    /// Whether events that are already stored are acknowledged again instead of appended. This is
    /// false for an import, which tracks what it has added, and must be able to reproduce any log.
    pub(crate) may_be_retry: bool,
}

impl Shape {
    pub(crate) fn of(append: &Append) -> Self {
        let expectations: SmallVec<_> = append.expectations().iter().cloned().collect();
        let mut ids: SmallVec<[SmallVec<_>; 1]> = smallvec![SmallVec::new(); expectations.len()];
        let runs = append.runs();
        for Run { stream, events } in runs {
            if let Some(ids) = ids.get_mut(*stream) {
                ids.extend(events.iter().map(crate::model::NewEvent::id));
            }
        }
        let runs = runs.iter().map(|run| (run.stream, run.events.len())).collect();
        Self { expectations, ids, runs, conditions: append.shared_conditions(), may_be_retry: true }
    }
}

impl Shape {
    /// How many events it has.
    pub(crate) fn events(&self) -> usize {
        self.runs.iter().map(|(_, count)| count).sum()
    }
}

/// The version of each stream before an append, one for each expectation.
pub(crate) type Versions = SmallVec<[Option<Version>; 1]>;

/// The decision of the rule.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Append; these are the versions of the streams before it, one for each expectation.
    Append(Versions),
    /// The events are already stored: acknowledge them again.
    Retry(Appended),
}

/// Events of a stream that are already stored: their first version, and their positions.
type Retried = (Version, Vec<Position>);

/// How a stream compares with its expectation.
enum StreamCheck {
    Met,
    NotMet,
    Retry(Retried),
    /// Some of its events are already stored.
    Partial,
}

/// Decides about one append.
///
/// # Errors
/// [`Error::WrongExpectedVersion`] for the first stream that is not as expected,
/// [`Error::ConditionFailed`] for the first condition that does not hold,
/// [`Error::PartialRetry`], [`Error::Tombstoned`], [`Error::Deleted`] if a retry would find its
/// events where some were deleted, or an error of the store. Nothing is changed in any case.
pub(crate) fn validate(shape: &Shape, committed: &mut impl Committed) -> Result<Verdict> {
    let mut versions = Versions::new();
    let mut refused = None;
    let mut partial = None;
    let mut retried: SmallVec<[Option<Retried>; 1]> = SmallVec::new();
    let mut written = 0;
    for ((stream, expected), ids) in shape.expectations.iter().zip(&shape.ids) {
        let last = committed.last_event(stream)?;
        // The versions of a deleted stream go on.
        versions.push(last.map(|last| last.version));
        if last.is_some_and(|last| last.state == StreamState::Tombstoned) {
            let error = Error::Tombstoned { stream: stream.clone() };
            if !ids.is_empty() {
                return Err(error);
            }
            // A retry only checks it.
            refused = refused.or(Some(error));
            retried.push(None);
            continue;
        }
        let version = last.and_then(LastEvent::visible);
        written += usize::from(!ids.is_empty());
        let mut retry = None;
        // Without ids, no event is recognised as already stored.
        let ids = if shape.may_be_retry { ids.as_slice() } else { &[] };
        match check_stream(stream, *expected, ids, last, committed)? {
            StreamCheck::Met => {}
            StreamCheck::Retry(found) => retry = Some(found),
            StreamCheck::Partial => partial = partial.or(Some(stream)),
            StreamCheck::NotMet => {
                refused = refused.or_else(|| Some(conflict(stream, *expected, version)));
            }
        }
        retried.push(retry);
    }
    let found = retried.iter().flatten().count();
    let mut streams = shape.expectations.iter().zip(&retried);
    let found_in = streams.find_map(|((stream, _), retry)| retry.as_ref().map(|_| stream));
    // The expectations of streams that are only checked held when the events were first appended:
    // they need not hold again.
    if found == written && partial.is_none() {
        return Ok(Verdict::Retry(retry(shape, &retried)?));
    }
    // One stream has its events where a retry would find them, another has got newer events: the
    // commit itself shows whether it was this append.
    let first = retried.iter().flatten().find_map(|(_, positions)| positions.first());
    if let Some(position) = first {
        let commit = committed.commit(*position, shape.events())?;
        if let Some(appended) = commit.and_then(|commit| retry_of(shape, &commit)) {
            return Ok(Verdict::Retry(appended));
        }
    }
    if let Some(stream) = partial.or(found_in) {
        return Err(Error::PartialRetry { stream: stream.clone() });
    }
    if let Some(error) = refused {
        return Err(error);
    }
    check_conditions(shape, committed)
        .map(|retried| retried.map_or(Verdict::Append(versions), Verdict::Retry))
}

fn conflict(stream: &StreamId, expected: ExpectedVersion, actual: Option<Version>) -> Error {
    Error::WrongExpectedVersion { stream: stream.clone(), expected, actual, label: None }
}

/// Checks that no event matches a condition. If one does and its commit is this append, then the
/// condition held when it was first appended: returns its acknowledgement.
fn check_conditions(shape: &Shape, committed: &mut impl Committed) -> Result<Option<Appended>> {
    let mut refused = Ok(());
    for (number, condition) in shape.conditions.as_slice().iter().enumerate() {
        let found = committed.first_match(number, condition)?;
        if let Some(found) = found {
            let commit = committed.commit(found, shape.events())?;
            if let Some(appended) = commit.and_then(|commit| retry_of(shape, &commit)) {
                return Ok(Some(appended));
            }
        }
        // A later condition may still find this append.
        refused = refused.and_then(|()| {
            committed.check_nothing_deleted(condition)?;
            found.map_or(Ok(()), |found| Err(condition.failed_at(found)))
        });
    }
    refused.map(|()| None)
}

/// The error for an append that may have been done before, at a place that was deleted.
pub(crate) fn deleted(stream: &StreamId, version: Version) -> Error {
    Error::Deleted { what: format!("version {version} of stream {stream}") }
}

/// Checks one stream. It looks for `ids` where a retry would find them, following KurrentDB's rule
/// of idempotent appends.
fn check_stream(
    stream: &StreamId,
    expected: ExpectedVersion,
    ids: &[EventId],
    last: Option<LastEvent>,
    committed: &mut impl Committed,
) -> Result<StreamCheck> {
    let met = expected.is_met_by(last.and_then(LastEvent::visible));
    let plain = if met { StreamCheck::Met } else { StreamCheck::NotMet };
    let (Some(last), false) = (last, ids.is_empty()) else { return Ok(plain) };
    let count = ids.len();
    let from = match expected {
        ExpectedVersion::NoStream if met => {
            // Deleted: only the last of its events is known.
            return if ids.contains(&last.id) {
                Err(deleted(stream, last.version))
            } else {
                Ok(plain)
            };
        }
        ExpectedVersion::NoStream => committed.beginning(stream)?,
        ExpectedVersion::Exact(version) if version < last.version => version.next(),
        ExpectedVersion::Exact(_) => return Ok(plain),
        // At the very end: read it only if the last event of the stream is one of ours.
        ExpectedVersion::Any | ExpectedVersion::StreamExists => {
            if !ids.contains(&last.id) {
                return Ok(plain);
            }
            let before = u64::try_from(count).ok().and_then(|n| last.version.get().checked_sub(n));
            match before.and_then(|before| Version::new(before + 1)) {
                Some(from) => from,
                None => return Ok(StreamCheck::Partial),
            }
        }
    };
    let places = committed.places(stream, from, count)?;
    if places.iter().map(|(id, _)| id).eq(ids) {
        let positions = places.into_iter().map(|(_, place)| place).collect();
        return Ok(StreamCheck::Retry((from, positions)));
    }
    // A set, because comparing one by one could take 100,000 × 100,000 steps, and all other appends
    // wait.
    let ids: HashSet<&EventId> = ids.iter().collect();
    let ours = places.iter().any(|(id, _)| ids.contains(id));
    Ok(if ours { StreamCheck::Partial } else { plain })
}

/// The acknowledgement of a commit, if its events are those of this append, in order, each in its
/// stream.
fn retry_of(shape: &Shape, commit: &Commit) -> Option<Appended> {
    let mut ids: Vec<_> = shape.ids.iter().map(|ids| ids.iter()).collect();
    let mut wanted = Vec::with_capacity(commit.events.len());
    for (stream, count) in &shape.runs {
        let (id, _) = shape.expectations.get(*stream)?;
        wanted.extend(ids.get_mut(*stream)?.take(*count).map(|event| (id, event)));
    }
    let there = commit.events.iter().map(|(stream, _, id)| (stream, id));
    if !there.eq(wanted) {
        return None;
    }
    let mut spans: HashMap<&StreamId, (Version, Version)> = HashMap::new();
    for (stream, version, _) in &commit.events {
        spans.entry(stream).or_insert((*version, *version)).1 = *version;
    }
    let versions = shape.expectations.iter().filter_map(|(stream, _)| {
        let (first, last) = spans.get(stream)?;
        Some((stream.clone(), *first..=*last))
    });
    let more = u64::try_from(commit.events.len()).ok()?.checked_sub(1)?;
    Appended::new([commit.first..=commit.first.plus(more)], versions, true)
}

/// The acknowledgement that these events got originally.
fn retry(shape: &Shape, retried: &[Option<Retried>]) -> Result<Appended> {
    let mut taken = vec![0; retried.len()];
    let mut spans: Vec<RangeInclusive<Position>> = Vec::new();
    for (stream, count) in &shape.runs {
        let (Some(Some((_, positions))), Some(taken)) =
            (retried.get(*stream), taken.get_mut(*stream))
        else {
            continue;
        };
        for position in positions.iter().skip(*taken).take(*count) {
            match spans.last_mut() {
                Some(span) if span.end().next() == *position => *span = *span.start()..=*position,
                _ => spans.push(*position..=*position),
            }
        }
        *taken += count;
    }
    let versions = shape.expectations.iter().zip(retried);
    let versions = versions.filter_map(|((stream, _), retry)| {
        let (from, positions) = retry.as_ref()?;
        let more = u64::try_from(positions.len()).ok()?.checked_sub(1)?;
        Some((stream.clone(), *from..=from.plus(more)))
    });
    Appended::new(spans, versions, true)
        .ok_or(crate::model::InvalidArgument::Empty { what: "append" }.into())
}
