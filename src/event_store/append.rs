//! [`Append`]: events for one or several streams, all or nothing. [`Appended`]: its result.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::condition::{AppendCondition, Conditions};
use super::query::Query;
use crate::error::{Error, Result};
use crate::model::{
    ExpectedVersion, InvalidArgument, LimitExceeded, Limits, NewEvent, Position, StreamId, Version,
    limits::{APPEND_CONDITIONS_MAX, APPEND_STREAMS_MAX},
};
use crate::options::Durability;

/// This many streams are searched one by one; only further ones are indexed. Most appends have one
/// stream.
const STREAMS_FEW: usize = 8;

/// The stream of events that are appended without one: see [`Append::of`].
pub const DEFAULT_STREAM: &str = "events";

/// Events for one or several streams, appended all or nothing (G1), with an expectation for each
/// stream.
///
/// Events keep the order in which they are given, also across streams. [`Append::check`] adds a
/// stream that is only checked. All expectations are checked at the moment of the commit: they do
/// not see this append's own events.
///
/// ```
/// use annals::prelude::*;
/// use annals::Version;
/// let store = MemoryStore::new();
/// store.append("rate-eur", ExpectedVersion::NoStream, [NewEvent::json("RateSet", &1.1)?])?;
///
/// let transfer = Append::new()
///     .to("account-1", ExpectedVersion::NoStream, [NewEvent::json("Withdrawn", &200)?])
///     .to("account-2", ExpectedVersion::NoStream, [NewEvent::json("Deposited", &200)?])
///     .check("rate-eur", ExpectedVersion::Exact(Version::FIRST));
/// let appended = store.submit(transfer)?;
/// assert_eq!(appended.positions().count(), 2);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Append {
    expectations: SmallVec<[(StreamId, ExpectedVersion); 1]>,
    /// Index into the expectations, for each stream after the first few.
    index: HashMap<StreamId, usize>,
    runs: SmallVec<[Run; 1]>,
    durability: Option<Durability>,
    conditions: Conditions,
    /// What was given last.
    last: Option<Last>,
    labels: Vec<(StreamId, String)>,
    /// The error of the first invalid argument: submitting returns it.
    refused: Option<Error>,
}

/// What a label is for: an index into the expectations or the conditions of an append.
#[derive(Debug, Clone, Copy)]
enum Last {
    Expectation(usize),
    Condition(usize),
}

/// Consecutive events of one stream within an append.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Index into the append's expectations.
    pub(crate) stream: usize,
    pub(crate) events: Vec<NewEvent>,
}

impl Append {
    /// No events yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds events for a stream. A stream may be given again later, to put its events after those
    /// of another stream; its expectation must then be the same.
    pub fn to<S>(
        mut self,
        stream: S,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        if let Some(stream) = self.expect(stream, expected) {
            let events = events.into_iter();
            match self.runs.last_mut() {
                Some(run) if run.stream == stream => run.events.extend(events),
                _ => self.runs.push(Run { stream, events: events.collect() }),
            }
        }
        self
    }

    /// Adds an expectation for a stream without adding events to it.
    pub fn check<S>(mut self, stream: S, expected: ExpectedVersion) -> Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        self.expect(stream, expected);
        self
    }

    /// An append of events that have no stream of their own. They go to the stream
    /// [`DEFAULT_STREAM`], in any version. Find them by their tags, and protect them with
    /// [`Append::fail_if`].
    pub fn of(events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self::new().to(DEFAULT_STREAM, ExpectedVersion::Any, events)
    }

    /// Adds a condition (G16): the append fails with [`Error::ConditionFailed`] if an event matches
    /// this query at the moment of the commit, from any caller and in any stream. The
    /// events of this append do not count.
    ///
    /// Usually it is the query of a decision, with [`Append::after`] the position up to which the
    /// decision has read: [`Events::read_up_to`](super::Events::read_up_to). Then the append
    /// succeeds only if the decision would be the same now. Several conditions must all hold.
    ///
    /// If the first event that matches is from a commit of exactly these events, the call is a retry
    /// and is acknowledged again. So an append whose own events do not match is recognised as a
    /// retry only by its idempotency key, or by an expected version.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::{Append, Error, Query};
    /// let store = MemoryStore::new();
    /// let seats = || store.read_log().query(Query::tag("flight:7"));
    /// let mut taken = seats().into_iter();
    /// assert_eq!(taken.by_ref().count(), 0);
    /// let reserve = |seat: &str| {
    ///     let event = NewEvent::json("SeatReserved", &seat)?.with_tag("flight:7");
    ///     let append = Append::of([event]).fail_if(Query::tag("flight:7"));
    ///     store.submit(append.after(taken.read_up_to()))
    /// };
    /// reserve("1A")?;
    /// let refused = reserve("1B").unwrap_err();
    /// assert!(matches!(refused, Error::ConditionFailed { position, .. } if position.get() == 1));
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Cost
    /// From the first append with a condition on, the writer holds at least the last 16,384 events
    /// and entries of the index: if the condition begins among them, a few hash lookups. Otherwise,
    /// before it waits for its turn, one lookup in the index for each tag: the rarest tag of an
    /// item decides how many entries are read.
    pub fn fail_if(mut self, query: impl Into<Query>) -> Self {
        self.last = Some(Last::Condition(self.conditions().len()));
        self.conditions.to_mut().push(AppendCondition {
            query: query.into(),
            after: None,
            label: None,
        });
        self
    }

    /// Restricts the condition that [`Append::fail_if`] added last to events after this position;
    /// `None` stands for all events.
    ///
    /// The position may be past the head; then the condition holds until the log has grown past it.
    pub fn after(mut self, position: impl Into<Option<Position>>) -> Self {
        match self.last_condition() {
            Some(condition) => condition.after = position.into(),
            None => {
                self.refused.get_or_insert(InvalidArgument::AfterWithoutCondition.into());
            }
        }
        self
    }

    fn last_condition(&mut self) -> Option<&mut AppendCondition> {
        if self.conditions.is_empty() { None } else { self.conditions.to_mut().last_mut() }
    }

    /// The conditions that were added.
    pub fn conditions(&self) -> &[AppendCondition] {
        self.conditions.as_slice()
    }

    pub(crate) fn shared_conditions(&self) -> Conditions {
        self.conditions.clone()
    }

    /// Labels what was given last: the expectation of [`Append::to`] or [`Append::check`], or the
    /// condition of [`Append::fail_if`]; replaces the label that it has. If it is not met,
    /// [`Error::label`] returns the label.
    ///
    /// ```
    /// use annals::prelude::*;
    /// let store = MemoryStore::new();
    /// let claim = || {
    ///     let event = NewEvent::json("NameClaimed", &())?;
    ///     let append = Append::new().to("name-ada", ExpectedVersion::NoStream, [event]);
    ///     store.submit(append.label("name"))
    /// };
    /// claim()?;
    /// assert_eq!(claim().unwrap_err().label(), Some("name"));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn label(mut self, label: impl Into<String>) -> Self {
        match self.last {
            Some(Last::Expectation(last)) => {
                if let Some((stream, _)) = self.expectations.get(last) {
                    self.labels.retain(|(of, _)| of != stream);
                    self.labels.push((stream.clone(), label.into()));
                }
            }
            Some(Last::Condition(last)) => {
                if let Some(condition) = self.conditions.to_mut().get_mut(last) {
                    condition.label = Some(label.into());
                }
            }
            None => {}
        }
        self
    }

    /// Sets the durability of this append, instead of the store's own setting.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    fn expect<S>(&mut self, stream: S, expected: ExpectedVersion) -> Option<usize>
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        let stream = match stream.try_into() {
            Ok(stream) => stream,
            Err(error) => {
                self.refused.get_or_insert(error.into());
                return None;
            }
        };
        let found = self.find(&stream);
        self.last = Some(Last::Expectation(found.unwrap_or(self.expectations.len())));
        let Some(index) = found else {
            let next = self.expectations.len();
            if next >= STREAMS_FEW {
                self.index.insert(stream.clone(), next);
            }
            self.expectations.push((stream, expected));
            return Some(next);
        };
        if self.expectations.get(index).is_some_and(|(_, present)| *present != expected) {
            self.refused.get_or_insert(InvalidArgument::TwoExpectations { stream }.into());
        }
        Some(index)
    }

    fn find(&self, stream: &StreamId) -> Option<usize> {
        let few = self.expectations.iter().take(STREAMS_FEW).position(|(id, _)| id == stream);
        few.or_else(|| self.index.get(stream).copied())
    }

    /// The streams of this append with their expectations: each stream once, in the order of first
    /// mention.
    pub fn expectations(&self) -> &[(StreamId, ExpectedVersion)] {
        &self.expectations
    }

    /// The events in order, each with its stream.
    pub fn events(&self) -> impl Iterator<Item = (&StreamId, &NewEvent)> {
        self.runs.iter().flat_map(|run| {
            let stream = self.expectations.get(run.stream).map(|(stream, _)| stream);
            stream
                .into_iter()
                .flat_map(|stream| run.events.iter().map(move |event| (stream, event)))
        })
    }

    /// The setting of [`Append::with_durability`].
    pub fn durability(&self) -> Option<Durability> {
        self.durability
    }

    /// Takes the labels of the expectations, for the error of this append.
    pub(crate) fn take_labels(&mut self) -> Labels {
        Labels(std::mem::take(&mut self.labels))
    }

    /// The label of the expectation for a stream. A store puts it into
    /// [`Error::WrongExpectedVersion`].
    pub fn label_of(&self, stream: &StreamId) -> Option<&str> {
        label_of(&self.labels, stream)
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(crate) fn into_parts(self) -> (Vec<(StreamId, ExpectedVersion)>, Vec<Run>) {
        (self.expectations.into_vec(), self.runs.into_vec())
    }

    /// Checks everything that can be checked without reading the store. Every store calls this
    /// first.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] or [`Error::LimitExceeded`], for the first problem that is found.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        LimitExceeded::check("append_streams_max", APPEND_STREAMS_MAX, self.expectations.len())?;
        let count = self.runs.iter().map(|run| run.events.len()).sum();
        if count == 0 {
            return Err(InvalidArgument::Empty { what: "append" }.into());
        }
        LimitExceeded::check("append_events_max", limits.append_events_max(), count)?;
        LimitExceeded::check(
            "append_conditions_max",
            APPEND_CONDITIONS_MAX,
            self.conditions().len(),
        )?;
        self.conditions().iter().try_for_each(AppendCondition::check)?;
        for (stream, _) in self.runs.iter().filter_map(|run| self.expectations.get(run.stream)) {
            stream.check_own("stream of an append")?;
        }
        self.events().try_for_each(|(_, event)| event.check(limits))?;
        LimitExceeded::check("append_len_max", limits.append_len_max(), self.text_len())?;
        self.validate_times()?;
        self.validate_ids(count)
    }

    /// The length of all parts of variable length of its events, in bytes.
    pub(crate) fn text_len(&self) -> usize {
        self.events().map(|(_, event)| event.text_len()).fold(0, usize::saturating_add)
    }

    /// About how many bytes it takes in memory while it waits to be committed.
    #[cfg(feature = "async")]
    pub(crate) fn len_in_memory(&self) -> usize {
        let streams: usize =
            self.expectations.iter().map(|(stream, _)| stream.as_str().len() + 100).sum();
        let events: usize = self.events().map(|(_, event)| event.text_len() + 300).sum();
        500 + streams + events
    }

    fn validate_times(&self) -> Result<()> {
        let mut events = self.events().map(|(_, event)| event.recorded_at());
        let mut before = events.next().flatten();
        for time in events {
            match (before, time) {
                (None, None) => {}
                (Some(earlier), Some(later)) if earlier <= later => before = time,
                (Some(before), Some(given)) => {
                    return Err(InvalidArgument::RecordedAtGoesBack { given, before }.into());
                }
                _ => return Err(InvalidArgument::MixedRecordedAt.into()),
            }
        }
        Ok(())
    }

    fn validate_ids(&self, count: usize) -> Result<()> {
        // Ids from one source usually increase; then there are no duplicates.
        if self.events().map(|(_, event)| event.id()).is_sorted_by(|id, next| id < next) {
            return Ok(());
        }
        let mut ids = Vec::with_capacity(count);
        ids.extend(self.events().map(|(_, event)| event.id()));
        ids.sort_unstable();
        let twice = ids.iter().zip(ids.iter().skip(1)).find(|(id, next)| id == next);
        match twice {
            None => Ok(()),
            Some((id, _)) => Err(InvalidArgument::DuplicateEventId { id: *id }.into()),
        }
    }
}

/// The labels of an append's expectations.
#[derive(Default)]
pub(crate) struct Labels(Vec<(StreamId, String)>);

impl Labels {
    /// Adds its label to the error of an expectation that is not met.
    pub(crate) fn add_to(&self, mut error: Error) -> Error {
        if let Error::WrongExpectedVersion { stream, label, .. } = &mut error {
            *label = label_of(&self.0, stream).map(str::to_owned);
        }
        error
    }
}

fn label_of<'l>(labels: &'l [(StreamId, String)], stream: &StreamId) -> Option<&'l str> {
    labels.iter().find(|(of, _)| of == stream).map(|(_, label)| label.as_str())
}

/// The result of an append: the places of its events.
///
/// ```
/// use annals::prelude::*;
/// let store = MemoryStore::new();
/// let opened = NewEvent::json("Opened", &())?;
/// let first = store.append("a", ExpectedVersion::NoStream, [opened.clone()])?;
/// let retry = store.append("a", ExpectedVersion::NoStream, [opened])?;
/// assert!(!first.is_retry() && retry.is_retry());
/// assert_eq!(retry.last_position(), first.last_position());
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// In the order of the append's events; at least one, none empty.
    spans: SmallVec<[RangeInclusive<Position>; 1]>,
    /// In the order of their first mention; at least one.
    versions: SmallVec<[(StreamId, RangeInclusive<Version>); 1]>,
    is_retry: bool,
}

impl Appended {
    /// Creates a result; only implementations of a store need this. `spans` are ranges of
    /// consecutive positions, in the order of the append's events; `versions` are the versions that
    /// each stream got, in the order of the append. Returns `None` if either is empty.
    pub fn new(
        spans: impl IntoIterator<Item = RangeInclusive<Position>>,
        versions: impl IntoIterator<Item = (StreamId, RangeInclusive<Version>)>,
        is_retry: bool,
    ) -> Option<Self> {
        let spans: SmallVec<_> = spans.into_iter().collect();
        let versions: SmallVec<_> = versions.into_iter().collect();
        let complete = !spans.is_empty() && !versions.is_empty();
        complete.then_some(Self { spans, versions, is_retry })
    }

    /// The positions of the events, in the order in which they were given.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        let numbers = self.spans.iter().flat_map(|span| span.start().get()..=span.end().get());
        numbers.filter_map(Position::new)
    }

    /// The position of the first event.
    pub fn first_position(&self) -> Position {
        self.spans.first().map_or(Position::FIRST, |span| *span.start())
    }

    /// The position of the last event: a reader that has read up to it has read this append.
    pub fn last_position(&self) -> Position {
        self.spans.last().map_or(Position::FIRST, |span| *span.end())
    }

    /// The versions that each written stream got, in the order in which the streams were named.
    pub fn versions(&self) -> &[(StreamId, RangeInclusive<Version>)] {
        &self.versions
    }

    /// The version of the last event in the stream that was named first, which is the only stream
    /// of most appends.
    pub fn last_version(&self) -> Version {
        self.versions.first().map_or(Version::FIRST, |(_, versions)| *versions.end())
    }

    /// The positions, in ranges of consecutive ones.
    pub(crate) fn spans(&self) -> &[RangeInclusive<Position>] {
        &self.spans
    }

    /// The same result, with another [`Appended::is_retry`].
    pub(crate) fn with_retry(mut self, is_retry: bool) -> Self {
        self.is_retry = is_retry;
        self
    }

    /// Whether these events had been appended before, so that this call was a retry and wrote
    /// nothing.
    pub fn is_retry(&self) -> bool {
        self.is_retry
    }
}
