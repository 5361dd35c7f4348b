//! One of the two stores under test: its calls take turns between the blocking and the async API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    AsyncStore, Error, IdempotencyKey, KeyedResult, KeyedSubmission, Position, Query, QueryItem,
    RequestDigest, Submitted, SubscriptionBuilder, Timestamp, Version,
};
use futures_lite::future::block_on;
use futures_lite::stream::StreamExt as _;

use super::ops::{AsOf, Ask, Item, Start};
use super::reference::{Answer, Call, Fact, Outcome, Reference};
use super::world::{FOLLOWS, STREAMS, TAGS, TYPES};

fn position(number: u64) -> Position {
    Position::new(number).unwrap()
}

pub(crate) fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

macro_rules! with {
    ($read:expr, $ask:expr, $clock:expr, $place:path) => {{
        let mut read = $read.types(TYPES[..$ask.types].iter().copied());
        for tag in tags_of($ask.tags) {
            read = read.tag(tag);
        }
        read = match $ask.start {
            Start::Beginning => read,
            Start::From(from) => read.from($place(from)),
            Start::After(after) => read.after($place(after)),
        };
        if $ask.backward {
            read = read.backward();
        }
        if let Some(limit) = $ask.limit {
            read = read.limit(limit);
        }
        match $ask.as_of {
            AsOf::Now | AsOf::Version(_) => read,
            AsOf::Position(up_to) => read.as_of_position(position(up_to)),
            AsOf::Time(before) => read.as_of_time(Timestamp::from_micros($clock - before)),
        }
    }};
}

/// The read of one API, with the method that ends its builder.
macro_rules! asked {
    ($store:expr, $ask:expr, $clock:expr, $end:ident) => {
        if let Some(stream) = $ask.stream {
            let mut read = with!($store.read_stream(STREAMS[stream]), $ask, $clock, version);
            if let AsOf::Version(last) = $ask.as_of {
                read = read.as_of_version(version(last));
            }
            read.$end()
        } else {
            let read = $store.read_log().query(query_of(&$ask.items));
            let mut read = with!(read, $ask, $clock, position);
            if let Some(category) = $ask.category {
                read = read.category(category);
            }
            if let Some(prefix) = $ask.prefix {
                read = read.stream_prefix(prefix);
            }
            read.$end()
        }
    };
}

/// The tags whose bits are set.
pub(crate) fn tags_of(bits: u8) -> impl Iterator<Item = &'static str> {
    TAGS.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, tag)| *tag)
}

fn query_of(items: &[Item]) -> Query {
    let item = |item: &Item| {
        let query = QueryItem::new().types(&TYPES[..item.types]);
        let query = tags_of(item.tags).fold(query, QueryItem::tag);
        let stream = item.stream.map(|stream| STREAMS[stream]);
        let query = stream.into_iter().fold(query, QueryItem::stream);
        let query = item.category.into_iter().fold(query, QueryItem::category);
        item.prefix.into_iter().fold(query, QueryItem::stream_prefix)
    };
    if items.is_empty() { Query::Everything } else { Query::any_of(items.iter().map(item)) }
}

/// Converts a call to an append.
pub(crate) fn request(call: &Call) -> Append {
    let mut append = Append::new();
    // First all expectations, in order; then the events, each with the expectation of its stream.
    for (stream, expected) in &call.expected {
        append = append.check(*stream, *expected);
    }
    for (stream, event) in &call.events {
        let (_, expected) = call.expected.iter().find(|(of, _)| of == stream).unwrap();
        append = append.to(*stream, *expected, [event.clone()]);
    }
    for (items, after) in &call.conditions {
        append = append.fail_if(query_of(items)).after(Position::new(*after));
    }
    append
}

fn refusal(error: Error) -> Outcome {
    match error {
        Error::WrongExpectedVersion { stream, actual, .. } => {
            Outcome::Conflict(stream.to_string(), actual.map(u64::from))
        }
        Error::PartialRetry { .. } => Outcome::Partial,
        Error::ConditionFailed { position, .. } => Outcome::ConditionFailed(position.get()),
        Error::RecordedAtBeforeHead { .. } => Outcome::TooEarly,
        Error::Deleted { .. } => Outcome::Deleted,
        Error::Tombstoned { stream } => Outcome::Tombstoned(stream.to_string()),
        Error::InvalidArgument(_) => Outcome::Invalid,
        error => panic!("{error}"),
    }
}

pub(crate) fn key_of(key: usize, other: bool) -> IdempotencyKey {
    let digest = RequestDigest::of(if other { "other" } else { "one" });
    IdempotencyKey::new("model", key.to_string(), digest).unwrap()
}

fn positions_of(result: &KeyedResult) -> Vec<u64> {
    match result {
        KeyedResult::Appended(appended) => appended.positions().map(u64::from).collect(),
        KeyedResult::Nothing => Vec::new(),
        KeyedResult::Rejected(_) => panic!("the model refuses nothing"),
    }
}

/// The subscription to one stream, and that stream.
const OF_STREAM: usize = 2;
const FOLLOWED: &str = "a-1";

/// The deliveries of a subscription, and its checkpoint.
type Delivered = Result<(Vec<Delivery>, Option<u64>), Error>;

/// The filters of the subscriptions; the reference implements the same filters independently.
fn filtered<D>(all: SubscriptionBuilder<D>, which: usize) -> SubscriptionBuilder<D> {
    match which {
        0 => all,
        1 => all.category("a"),
        OF_STREAM => all.stream(FOLLOWED),
        3 => all.tag(TAGS[1]).types(["Closed", "Opened"]),
        4 => all.query(Query::tag(TAGS[0]).or(Query::stream("b-1"))),
        _ => all.types(["Closed"]).stream_prefix("a"),
    }
}

fn is_followed(which: usize, fact: &Fact) -> bool {
    match which {
        0 => true,
        1 => ["a", "a-1", "a-10"].contains(&&*fact.stream),
        OF_STREAM => fact.stream == FOLLOWED,
        3 => fact.tags.iter().any(|tag| tag == TAGS[1]) && fact.event_type != "Changed",
        4 => fact.tags.iter().any(|tag| tag == TAGS[0]) || fact.stream == "b-1",
        _ => fact.event_type == "Closed" && fact.stream.starts_with('a'),
    }
}

/// One of the two stores, with the positions of its subscriptions.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn EventStore>,
    /// The async API to the same store. It does not keep the store open.
    tasks: AsyncStore<Arc<dyn EventStore>>,
    /// Whether calls go through the async API.
    pub(crate) by_task: bool,
    pub(crate) seen: [Option<u64>; FOLLOWS],
}

impl Subject {
    pub(crate) fn new(store: impl EventStore + 'static) -> Self {
        let tasks = AsyncStore::new(store.handle());
        Self { store: Arc::new(store), tasks, by_task: false, seen: [None; FOLLOWS] }
    }

    /// Continues with another store.
    pub(crate) fn replace(&mut self, store: impl EventStore + 'static) {
        self.tasks = AsyncStore::new(store.handle());
        self.store = Arc::new(store);
    }

    pub(crate) fn append(&self, call: &Call) -> Outcome {
        let append = request(call);
        let answer = if self.by_task {
            block_on(self.tasks.submit(append))
        } else {
            self.store.submit(append)
        };
        match answer {
            Ok(appended) => {
                let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
                for (stream, _) in &call.events {
                    *versions.entry(stream).or_default() += 1;
                }
                let told = appended.versions().iter().map(|(stream, versions)| {
                    (stream.as_str(), versions.end().get() - versions.start().get() + 1)
                });
                assert_eq!(told.collect::<BTreeMap<_, _>>(), versions);
                assert_eq!(Some(appended.last_position()), appended.positions().last());
                Outcome::Done(appended.positions().map(u64::from).collect(), appended.is_retry())
            }
            Err(error) => refusal(error),
        }
    }

    pub(crate) fn append_once(&self, call: &Call, key: &IdempotencyKey) -> Answer {
        let request =
            if call.events.is_empty() { KeyedSubmission::nothing() } else { request(call).into() };
        let answer = if self.by_task {
            block_on(self.tasks.submit_once(key, request))
        } else {
            self.store.submit_once(key, request)
        };
        match answer {
            Ok(Submitted { result, is_retry }) => Answer::Done(positions_of(&result), is_retry),
            Err(Error::IdempotencyKeyReused { .. }) => Answer::Reused,
            Err(error) => Answer::Refused(refusal(error)),
        }
    }

    pub(crate) fn read(&self, ask: &Ask, clock: i64) -> Result<Vec<Fact>, Error> {
        let events: Vec<_> = if self.by_task {
            block_on(asked!(self.tasks, ask, clock, events).collect())
        } else {
            asked!(self.store, ask, clock, into_iter).collect()
        };
        events.into_iter().map(|event| event.map(Fact::from)).collect()
    }

    /// The deleted places of a read.
    pub(crate) fn holes(&self, ask: &Ask, clock: i64) -> Result<BTreeSet<u64>, Error> {
        let holes = asked!(self.store, ask, clock, holes)?;
        let places: Vec<_> = holes.iter().flat_map(|hole| hole.first..=hole.last).collect();
        let holes: BTreeSet<_> = places.iter().copied().collect();
        assert_eq!(holes.len(), places.len(), "a place is in two holes: {places:?}");
        Ok(holes)
    }

    pub(crate) fn position_at(&self, time: i64) -> Option<u64> {
        let time = Timestamp::from_micros(time);
        let position = if self.by_task {
            block_on(self.tasks.position_at(time))
        } else {
            self.store.position_at(time)
        };
        position.unwrap().map(u64::from)
    }

    /// The streams with their versions.
    pub(crate) fn list(&self, prefix: &str, after: Option<StreamId>) -> Vec<(String, u64)> {
        let infos: Vec<_> = if self.by_task {
            block_on(self.tasks.streams().prefix(prefix).after(after).infos().collect())
        } else {
            self.store.streams().prefix(prefix).after(after).into_iter().collect()
        };
        let infos = infos.into_iter().map(Result::unwrap);
        infos.map(|info| (info.id.to_string(), info.version.get())).collect()
    }

    /// The deliveries of a subscription that continues where it stopped, and its checkpoint.
    fn deliveries(&self, which: usize, most: usize) -> Delivered {
        let after = self.seen[which].map(position);
        let mut deliveries = Vec::new();
        if self.by_task {
            return block_on(async {
                let started = filtered(self.tasks.subscribe().after(after), which).start();
                let mut following = started.await?;
                // Nothing comes after it has caught up, so a task would wait.
                while deliveries.len() < most
                    && !matches!(deliveries.last(), Some(Delivery::CaughtUp(_)))
                {
                    deliveries.push(following.next().await.unwrap()?);
                }
                Ok((deliveries, following.checkpoint().map(u64::from)))
            });
        }
        let started = filtered(self.store.subscribe().after(after), which).start();
        let mut following = started?;
        while deliveries.len() < most {
            match following.recv_timeout(Duration::ZERO)? {
                Delivery::Idle => break,
                delivery => deliveries.push(delivery),
            }
            if let Some(Delivery::Progress(position)) = deliveries.last() {
                assert_eq!(following.checkpoint(), Some(*position));
            }
        }
        Ok((deliveries, following.checkpoint().map(u64::from)))
    }

    /// Resumes a subscription, like a program that continues where it stopped.
    pub(crate) fn follow(&mut self, which: usize, most: usize, reference: &Reference) {
        let after = self.seen[which];
        let delivered = self.deliveries(which, most);
        if which == OF_STREAM && reference.is_tombstoned(FOLLOWED) {
            return assert!(matches!(delivered, Err(Error::Tombstoned { .. })), "{delivered:?}");
        }
        let (deliveries, now) = delivered.unwrap();
        let mut delivered = Vec::new();
        for delivery in deliveries {
            match delivery {
                Delivery::Event(event) => delivered.push(Fact::from(event)),
                Delivery::CaughtUp(head) => {
                    assert_eq!(head.map_or(0, u64::from), reference.log.len() as u64);
                }
                Delivery::Progress(_) => {}
                Delivery::Idle | Delivery::Ended => panic!("it ended by itself"),
            }
        }
        assert!(now >= after, "it went back from {after:?} to {now:?}");
        let expected: Vec<_> = reference
            .left()
            .filter(|fact| Some(fact.position) > after && Some(fact.position) <= now)
            .filter(|fact| is_followed(which, fact))
            .cloned()
            .collect();
        assert_eq!(delivered, expected, "subscription {which} after {after:?} up to {now:?}");
        self.seen[which] = now;
    }

    pub(crate) fn check_summary(&self, reference: &Reference) {
        let head = self.store.head().unwrap().map_or(0, u64::from);
        assert_eq!(head, reference.log.len() as u64);
        assert_eq!(self.tasks.head().unwrap().map_or(0, u64::from), head);
        for stream in STREAMS {
            let id = StreamId::new(stream).unwrap();
            let version = if self.by_task {
                block_on(self.tasks.stream_version(&id))
            } else {
                self.store.stream_version(&id)
            };
            if reference.is_tombstoned(stream) {
                assert!(matches!(version, Err(Error::Tombstoned { .. })), "{stream}: {version:?}");
                continue;
            }
            let version = version.unwrap().map(u64::from);
            assert_eq!(version, reference.stream_version(stream), "{stream}");
        }
        for known in &reference.keys {
            let key = key_of(known.key, known.other);
            let found = if self.by_task {
                block_on(self.tasks.find_submitted(&key))
            } else {
                self.store.find_submitted(&key)
            };
            let found = found.unwrap().as_ref().map(positions_of);
            assert_eq!(found, Some(known.result.clone()), "{known:?}");
        }
    }
}
