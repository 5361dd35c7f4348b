//! Rules for queries: reads, pages and subscriptions return exactly the events that match, compared
//! with a naive scan that shares no code with [`Query`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::{contents, event, events, log, position};
use crate::error::Error;
use crate::event_store::{
    Append, Direction, EventStore, Events, PageRequest, Query, QueryItem, Range, Scope,
};
use crate::extension::EventStoreExt;
use crate::model::limits::{QUERY_ITEMS_MAX, QUERY_NAMES_MAX, TAG_LEN_MAX};
use crate::model::{
    ExpectedVersion, InvalidArgument, NewEvent, Position, RecordedEvent, StreamId, Version,
};
use crate::subscription::{Delivery, SubscriptionBuilder};

const STREAMS: [&str; 5] = ["a", "a-1", "ab", "b-1", "日本-1"];
const TYPES: [&str; 3] = ["Opened", "Changed", "Closed"];

/// Tags that are prefixes of each other, sort around each other's separators, hold spaces, or hold
/// more than ASCII.
pub(super) static TAGS: [&str; 9] = ["a", "a:", "a:1", "a:12", "ab", "a b", "ä:1", "日本:1", "b"];

/// The tags of the event with this number: none, one, several, or the same one twice.
fn tags_of(number: usize) -> Vec<&'static str> {
    let tag = |step: usize| TAGS[number * step % TAGS.len()];
    match number % 6 {
        0 => Vec::new(),
        1 => vec![tag(1), tag(1)],
        2 => TAGS.to_vec(),
        3 => vec![tag(1), tag(2), "a:1"],
        4 => vec![tag(5), "a"],
        _ => vec![tag(7)],
    }
}

pub(super) fn tagged(event_type: &str, number: usize, tags: &[&str]) -> NewEvent {
    tags.iter().fold(event(event_type, number), |event, tag| event.with_tag(*tag))
}

/// Appends one to three events at a time to one or two streams. Returns the log.
pub(super) fn tagged_history(store: &Arc<dyn EventStore>) -> Vec<RecordedEvent> {
    let mut number = 0;
    for round in 0..18_usize {
        let mut append = Append::new();
        for part in 0..=round % 2 {
            let stream = STREAMS[(round * 3 + part * 2) % STREAMS.len()];
            let run = (0..=(round + part) % 3).map(|_| {
                number += 1;
                tagged(TYPES[number * 2 % 5 % 3], number, &tags_of(number))
            });
            append = append.to(stream, ExpectedVersion::Any, run.collect::<Vec<_>>());
        }
        store.submit(append).unwrap();
    }
    let log = log(store);
    assert_eq!(log.len(), number);
    let tags = log.iter().map(|event| event.tags().to_vec());
    assert!(tags.eq((1..=number).map(tags_of)), "tags are kept in order, also twice");
    log
}

/// A query item as plain lists, with its own idea of what matches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) types: &'static [&'static str],
    pub(super) tags: &'static [&'static str],
    pub(super) streams: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) prefixes: &'static [&'static str],
}

impl Wanted {
    pub(super) fn item(&self) -> QueryItem {
        let item = QueryItem::new().types(self.types);
        let item = self.tags.iter().fold(item, |item, tag| item.tag(*tag));
        let item = self.streams.iter().fold(item, QueryItem::stream);
        let item = self.categories.iter().fold(item, |item, name| item.category(*name));
        self.prefixes.iter().fold(item, |item, prefix| item.stream_prefix(*prefix))
    }

    pub(super) fn selects(&self, event: &RecordedEvent) -> bool {
        let any = |names: &[&str], is: &dyn Fn(&str) -> bool| {
            names.is_empty() || names.iter().any(|name| is(name))
        };
        let stream = event.stream().as_str();
        let category = stream.split('-').next();
        any(self.types, &|name| event.event_type().as_str() == name)
            && self.tags.iter().all(|wanted| event.tags().iter().any(|tag| tag == wanted))
            && any(self.streams, &|name| name == stream)
            && any(self.categories, &|name| Some(name) == category)
            && any(self.prefixes, &|prefix| stream.get(..prefix.len()) == Some(prefix))
    }

    fn is_empty(&self) -> bool {
        let Self { types, tags, streams, categories, prefixes } = self;
        [types, tags, streams, categories, prefixes].iter().all(|names| names.is_empty())
    }
}

const NO_CRITERIA: Wanted =
    Wanted { types: &[], tags: &[], streams: &[], categories: &[], prefixes: &[] };

/// Every combination of tags, types and places, each as one item; then some of them together.
fn selections() -> Vec<Vec<Wanted>> {
    const TAG_SETS: [&[&str]; 8] = [
        &[],
        &["a"],
        &["a:1"],
        &["a:1", "a"],
        &["日本:1", "a b", "ä:1"],
        &["b", "b"],
        &["unused"],
        &["a", "unused"],
    ];
    const TYPE_SETS: [&[&str]; 3] = [&[], &["Closed"], &["Opened", "Changed", "Unused"]];
    const PLACES: [Wanted; 7] = [
        NO_CRITERIA,
        Wanted { streams: &["a-1"], ..NO_CRITERIA },
        Wanted { streams: &["b-1", "a", "none"], ..NO_CRITERIA },
        Wanted { categories: &["a"], ..NO_CRITERIA },
        Wanted { categories: &["日本", "b"], ..NO_CRITERIA },
        Wanted { prefixes: &["a", "日"], ..NO_CRITERIA },
        Wanted { categories: &["a"], prefixes: &["a-"], streams: &["a-1", "a"], ..NO_CRITERIA },
    ];
    let places = PLACES.into_iter();
    let with_types = places.flat_map(|place| TYPE_SETS.map(|types| Wanted { types, ..place }));
    let items = with_types.flat_map(|item| TAG_SETS.map(|tags| Wanted { tags, ..item }));
    let items: Vec<Wanted> = items.filter(|item| !item.is_empty()).collect();
    let step = |from: usize, step: usize| items.iter().skip(from).step_by(step).copied();
    let pairs = step(0, 7).zip(step(3, 11)).map(|(one, other)| vec![one, other]);
    let more = (0..5).map(|from| step(from, 13).take(4).collect());
    let alone = items.iter().map(|item| vec![*item]);
    alone.chain(pairs).chain(more).collect()
}

fn query_of(selection: &[Wanted]) -> Query {
    Query::any_of(selection.iter().map(Wanted::item))
}

fn matching(log: &[RecordedEvent], selection: &[Wanted]) -> Vec<RecordedEvent> {
    let is_selected = |event: &&RecordedEvent| selection.iter().any(|item| item.selects(event));
    log.iter().filter(is_selected).cloned().collect()
}

fn collect(events: impl Iterator<Item = Result<RecordedEvent, Error>>) -> Vec<RecordedEvent> {
    events.collect::<Result<_, _>>().unwrap()
}

/// Tags are AND-ed, the types, streams, categories and prefixes of an item OR-ed, and items OR-ed:
/// in both directions, after any place, with any limit, and as only the first or the last match.
pub fn read_with_a_query_equals_a_naive_scan(store: &Arc<dyn EventStore>) {
    let log = tagged_history(store);
    let places = [None, Some(1), Some(17), Some(log.len() as u64), Some(1_000)];
    let places = places.map(|place| place.map(position));
    let mut found = 0;
    for selection in selections() {
        let of_log = matching(&log, &selection);
        found += usize::from(!of_log.is_empty());
        let read = || store.read_log().query(query_of(&selection));
        for (after, backward) in places.iter().flat_map(|place| [(*place, false), (*place, true)]) {
            let read = if backward { read().backward() } else { read() }.after(after);
            let mut expected = of_log.clone();
            if backward {
                expected.reverse();
                expected.retain(|event| after.is_none_or(|after| event.position() < after));
            } else {
                expected.retain(|event| Some(event.position()) > after);
            }
            let about = format!("{selection:?} after {after:?}, backward: {backward}");
            assert_eq!(collect(read.clone().into_iter()), expected, "{about}");
            for limit in [0, 1, 3] {
                let limited = read.clone().limit(limit);
                let expected = expected.iter().take(usize::try_from(limit).unwrap());
                assert!(collect(limited.into_iter()).iter().eq(expected), "{about}, {limit}");
            }
            assert_eq!(read.clone().first().unwrap().as_ref(), expected.first(), "{about}");
            assert_eq!(read.clone().last().unwrap().as_ref(), expected.last(), "{about}");
            let mut visited = Vec::new();
            let visit = read.for_each(|event| {
                visited.push(event.to_owned());
                ControlFlow::Continue(())
            });
            visit.unwrap();
            assert_eq!(visited, expected, "{about}");
        }
    }
    assert!(found > 100, "only {found} queries match anything");
}

/// A tag matches only its whole text, and an event with the same tag twice is returned once.
pub fn tag_matches_only_its_whole_text(store: &Arc<dyn EventStore>) {
    for (number, tag) in TAGS.iter().enumerate() {
        let twice = tagged("Happened", number, &[tag, tag]);
        store.append("a", ExpectedVersion::Any, [twice, event("Happened", number)]).unwrap();
    }
    let longest = "x".repeat(TAG_LEN_MAX);
    store.append("a", ExpectedVersion::Any, [event("Long", 0).with_tag(&longest)]).unwrap();
    for (number, tag) in TAGS.iter().enumerate() {
        let found = collect(store.read_log().tag(*tag).into_iter());
        assert_eq!(found.len(), 1, "{tag:?}");
        assert_eq!(found[0].payload(), number.to_string().as_bytes());
        assert_eq!(found, collect(store.read_log().tag(*tag).backward().into_iter()));
        assert_eq!(found, collect(store.read_stream("a").tag(*tag).into_iter()));
    }
    assert_eq!(store.read_log().tag(&longest).into_iter().count(), 1);
    assert_eq!(store.read_log().tag(&longest[1..]).into_iter().count(), 0);
    for absent in ["a:2", "A", " a", "a ", "ä", "日本", "Happened"] {
        assert_eq!(store.read_log().tag(absent).into_iter().count(), 0, "{absent:?}");
    }
}

/// Criteria of a builder narrow the query, in whichever order they are set.
pub fn criteria_of_a_read_narrow_its_query(store: &Arc<dyn EventStore>) {
    let log = tagged_history(store);
    let read = store.read_log().tag("a").tag("a:1").types(["Closed"]).types(["Opened"]);
    let item = Wanted { tags: &["a", "a:1"], types: &["Closed", "Opened"], ..NO_CRITERIA };
    assert_eq!(collect(read.category("a").category("b").into_iter()), {
        matching(&log, &[Wanted { categories: &["a", "b"], ..item }])
    });
    let items = [
        Wanted { tags: &["a"], ..NO_CRITERIA },
        Wanted { tags: &["b"], types: &["Opened"], ..NO_CRITERIA },
    ];
    let criteria = Wanted { types: &["Opened", "Closed"], prefixes: &["a"], ..NO_CRITERIA };
    let mut expected = matching(&log, &items);
    expected.retain(|event| matching(&log, &[criteria]).contains(event));
    let read = || store.read_log().query(query_of(&items));
    let narrowed = read().types(["Opened", "Closed"]).stream_prefix("a");
    assert_eq!(collect(narrowed.into_iter()), expected);
    let narrowed = store.read_log().types(["Opened", "Closed"]).stream_prefix("a");
    assert_eq!(collect(narrowed.query(query_of(&items)).into_iter()), expected);
    let nothing = store.read_log().query(Query::types(["Opened"])).types(["Closed"]);
    assert_eq!(nothing.clone().first().unwrap(), None);
    assert_eq!(nothing.last().unwrap(), None);
    for stream in STREAMS {
        let read = store.read_stream(stream).tag("a").types(["Closed"]);
        let mut expected = log.clone();
        expected.retain(|event| {
            let has_tag = event.tags().iter().any(|tag| tag == "a");
            event.stream().as_str() == stream && event.event_type().as_str() == "Closed" && has_tag
        });
        assert_eq!(collect(read.clone().into_iter()), expected);
        assert_eq!(read.clone().last().unwrap().as_ref(), expected.last());
        expected.reverse();
        assert_eq!(collect(read.backward().into_iter()), expected);
    }
}

/// A query that says nothing is an error, never everything; so is a name that no event can have.
pub fn empty_query_is_refused(store: &Arc<dyn EventStore>) {
    tagged_history(store);
    let before = contents(store);
    let tag = || QueryItem::new().tag("a");
    let too_many_names = (0..=QUERY_NAMES_MAX).fold(QueryItem::new(), |item, _| item.tag("a"));
    let refused: [(Query, IsExpected); 9] = [
        (Query::any_of([]), |error| {
            matches!(error, Error::InvalidArgument(InvalidArgument::EmptyQuery))
        }),
        (QueryItem::new().into(), is_empty_item),
        (Query::any_of([tag(), QueryItem::new()]), is_empty_item),
        (Query::types([""; 0]), is_empty_item),
        (Query::tag(""), Error::is_invalid),
        (Query::tag("x".repeat(TAG_LEN_MAX + 1)), Error::is_invalid),
        (Query::category("a-1"), Error::is_invalid),
        (Query::any_of((0..=QUERY_ITEMS_MAX).map(|_| tag())), is_over_limit),
        (too_many_names.into(), is_over_limit),
    ];
    for (query, is_expected) in refused {
        let check = |error: Error| assert!(is_expected(&error), "{query:?}: {error}");
        let read = || store.read_log().query(query.clone());
        check(read().first().unwrap_err());
        check(read().last().unwrap_err());
        check(read().for_each(|_| panic!("an invalid read visits nothing")).unwrap_err());
        let mut events = read().into_iter();
        check(events.next().unwrap().unwrap_err());
        assert!(events.next().is_none() && events.read_up_to().is_none());
        check(store.subscribe().query(query.clone()).start().unwrap_err());
        let append = Append::of(super::events(1)).fail_if(query.clone());
        check(store.submit(append).unwrap_err());
    }
    assert_eq!(contents(store), before);
    assert_eq!(store.read_log().query(Query::Everything).into_iter().count(), before.1.len());
}

type IsExpected = fn(&Error) -> bool;

fn is_empty_item(error: &Error) -> bool {
    matches!(error, Error::InvalidArgument(InvalidArgument::EmptyQueryItem))
}

fn is_over_limit(error: &Error) -> bool {
    matches!(error, Error::LimitExceeded(_))
}

/// Queries for pages and subscriptions: by tag, by several criteria, and with several items.
fn some_selections() -> [Vec<Wanted>; 6] {
    let item = NO_CRITERIA;
    [
        vec![Wanted { tags: &["a"], ..item }],
        vec![Wanted { tags: &["a:1", "a"], types: &["Closed"], ..item }],
        vec![Wanted { tags: &["日本:1"], ..item }, Wanted { streams: &["b-1"], ..item }],
        vec![Wanted { tags: &["b"], prefixes: &["a"], ..item }, Wanted { tags: &["ab"], ..item }],
        vec![Wanted { tags: &["unused"], ..item }],
        vec![Wanted { categories: &["a"], types: &["Opened", "Closed"], ..item }],
    ]
}

/// Reading the rest until nothing is left returns each matching event of the range once, in order.
pub fn pages_with_a_query_cover_exactly_the_matching_events(store: &Arc<dyn EventStore>) {
    let log = tagged_history(store);
    let of_stream = |from: u64, to: u64| Range {
        scope: Scope::Stream(StreamId::new("a").unwrap()),
        from,
        to,
        up_to: Position::MAX,
    };
    let of_log = |from: u64, to: u64| Range::log(position(from), position(to));
    let ranges = [
        of_log(1, u64::MAX),
        of_log(7, 29),
        of_log(1, u64::MAX).up_to(position(23)),
        of_stream(1, u64::MAX),
        of_stream(2, 5).up_to(position(40)),
    ];
    let is_within = |range: &Range, event: &RecordedEvent| {
        let place = match &range.scope {
            Scope::Log => event.position().get(),
            Scope::Stream(stream) if event.stream() == stream => event.version().get(),
            Scope::Stream(_) => return false,
        };
        (range.from..=range.to).contains(&place) && event.position() <= range.up_to
    };
    for (selection, range) in
        some_selections().iter().flat_map(|one| ranges.iter().map(move |range| (one, range)))
    {
        let mut expected = matching(&log, selection);
        expected.retain(|event| is_within(range, event));
        for direction in [Direction::Forward, Direction::Backward] {
            for events_max in [1, 2, 5, 1_000] {
                let query = query_of(selection);
                let range = range.clone();
                let mut request = PageRequest { range, direction, query, events_max };
                let (mut read, mut pages) = (Vec::new(), 0);
                loop {
                    let before = read.len();
                    let mut visit = |event: crate::model::EventRef<'_>| {
                        read.push(event.to_owned());
                        ControlFlow::Continue(())
                    };
                    let end = store.read_page(&request, &mut visit).unwrap();
                    assert!(read.len() - before <= events_max, "the page is too long");
                    pages += 1;
                    assert!(pages <= 2 * log.len() + 2, "the pages do not end");
                    let Some(rest) = end.rest else { break };
                    request.range = rest;
                }
                assert_eq!(read, expected, "{request:?} of {selection:?}");
            }
            expected.reverse();
        }
    }
}

/// It never names a position before all matching events up to it were returned: that is what a
/// condition of an append relies on.
pub fn read_up_to_is_never_past_what_was_returned(store: &Arc<dyn EventStore>) {
    let mut nothing = store.read_log().tag("a").into_iter();
    assert_eq!((nothing.read_up_to(), nothing.next().is_none()), (None, true));
    assert_eq!(nothing.read_up_to(), None, "the log is empty");
    let log = tagged_history(store);
    let head = store.head().unwrap();
    let end = |mut events: Events| {
        assert!(events.by_ref().all(|event| event.is_ok()));
        events.read_up_to()
    };
    // Events above the place were not read.
    let backward = || store.read_log().backward();
    assert_eq!(end(backward().from(position(3)).into_iter()), Some(position(3)));
    assert_eq!(end(backward().after(position(3)).into_iter()), Some(position(2)));
    let as_of = store.read_log().as_of_position(position(4));
    assert_eq!(end(as_of.into_iter()), Some(position(4)));
    let stream = log[0].stream();
    let first = store.read_stream(stream).as_of_version(Version::FIRST);
    assert_eq!(end(first.into_iter()), Some(log[0].position()));
    assert_eq!(end(store.read_stream(stream).into_iter()), head);
    for selection in some_selections() {
        let of_log = matching(&log, &selection);
        let read = || store.read_log().query(query_of(&selection));
        for limit in [None, Some(0), Some(1), Some(3), Some(1_000)] {
            let read = || limit.map_or_else(read, |limit| read().limit(limit));
            let (mut forward, mut returned) = (read().into_iter(), 0);
            loop {
                let up_to = forward.read_up_to();
                let up_to_there = of_log.iter().filter(|event| Some(event.position()) <= up_to);
                assert!(up_to_there.count() <= returned, "{up_to:?} after {returned} events");
                assert!(up_to <= head);
                match forward.next() {
                    Some(event) => assert_eq!(event.unwrap(), of_log[returned]),
                    None => break,
                }
                returned += 1;
                assert!(forward.read_up_to() >= Some(of_log[returned - 1].position()));
            }
            let is_whole = limit.is_none_or(|limit| limit > of_log.len() as u64);
            assert!(!is_whole || forward.read_up_to() == head, "{limit:?}");
            let mut backward = read().backward().into_iter();
            let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
            for _ in 1..of_log.len().min(limit) {
                backward.next().unwrap().unwrap();
                assert_eq!(backward.read_up_to(), None, "older events are still to come");
            }
            assert!(backward.by_ref().count() <= 1);
            assert!(!is_whole || backward.read_up_to() == head);
        }
        let mut bounded = read().as_of_position(position(20)).into_iter();
        assert!(bounded.by_ref().all(|event| event.unwrap().position() <= position(20)));
        assert_eq!(bounded.read_up_to(), Some(position(20)));
    }
}

/// G6: also if the query makes the read skip most of a long log. The place to continue after does
/// not cover the later events either.
pub fn read_with_a_query_ends_at_the_head_of_its_creation(store: &Arc<dyn EventStore>) {
    let rare = |number: usize| if number % 700 == 3 { vec!["rare", "all"] } else { vec!["all"] };
    for chunk in 0..5 {
        let numbers = chunk * 1_000..(chunk + 1) * 1_000;
        let run = numbers.map(|number| tagged("Happened", number, &rare(number)));
        store.append("a", ExpectedVersion::Any, run.collect::<Vec<_>>()).unwrap();
    }
    let head = store.head().unwrap();
    let places: Vec<u64> = (0..5_000).filter(|number| number % 700 == 3).map(|n| n + 1).collect();
    let read = || store.read_log().tag("rare");
    let (mut forward, mut backward) = (read().into_iter(), read().backward().into_iter());
    let late = [tagged("Happened", 0, &["rare", "all"])];
    store.append("b", ExpectedVersion::Any, late.clone()).unwrap();
    let place = |event: Result<RecordedEvent, Error>| event.unwrap().position().get();
    assert_eq!(forward.next().map(place), places.first().copied());
    assert_eq!(backward.next().map(place), places.last().copied());
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    assert!(forward.by_ref().map(place).eq(places.iter().skip(1).copied()));
    assert!(backward.by_ref().map(place).eq(places.iter().rev().skip(1).copied()));
    assert_eq!((forward.read_up_to(), backward.read_up_to()), (head, head));
    let last = read().last().unwrap().unwrap();
    assert_eq!(last.id(), late[0].id());
    assert_eq!(read().backward().limit(3).into_iter().count(), 3);
    assert_eq!(store.read_log().tag("all").after(position(4_000)).into_iter().count(), 1_001);
}

/// Receives until the subscription has caught up; checks that its checkpoint follows.
fn until_caught_up(following: SubscriptionBuilder) -> (Vec<RecordedEvent>, Option<Position>) {
    let mut following = following.start().unwrap();
    let mut delivered = Vec::new();
    loop {
        let before = following.checkpoint();
        match following.recv_timeout(Duration::from_secs(120)).unwrap() {
            Delivery::Event(event) => {
                assert_eq!(following.checkpoint(), Some(event.position()));
                delivered.push(event);
            }
            Delivery::Progress(position) => {
                assert_eq!(following.checkpoint(), Some(position));
                assert!(Some(position) > before, "progress goes forward");
            }
            Delivery::CaughtUp(_) => return (delivered, following.checkpoint()),
            other => panic!("{other:?} before the subscription caught up"),
        }
    }
}

/// From any place, it delivers the events that a read returns, then continues live; its checkpoint
/// passes events that do not match.
pub fn subscription_with_a_query_delivers_the_same_events(store: &Arc<dyn EventStore>) {
    let log = tagged_history(store);
    let head = store.head().unwrap();
    for selection in some_selections() {
        let of_log = matching(&log, &selection);
        let subscribe = || store.subscribe().query(query_of(&selection));
        for after in [None, Some(9), Some(30), Some(log.len() as u64)] {
            let after = after.map(position);
            let (delivered, checkpoint) = until_caught_up(subscribe().after(after));
            let expected = of_log.iter().filter(|event| Some(event.position()) > after);
            assert!(delivered.iter().eq(expected), "{selection:?} after {after:?}");
            assert_eq!(checkpoint, head);
        }
        let (delivered, _) = until_caught_up(subscribe().stream("a"));
        let expected = of_log.iter().filter(|event| event.stream().as_str() == "a");
        assert!(delivered.iter().eq(expected), "{selection:?} in one stream");
    }
    let mut live = store.subscribe().tag("a:1").types(["Closed"]).from_now().start().unwrap();
    assert_eq!(live.recv().unwrap(), Delivery::CaughtUp(head));
    let other = [tagged("Closed", 1, &["a:12", "a"]), tagged("Opened", 2, &["a:1"])];
    let skipped = store.append("a", ExpectedVersion::Any, other).unwrap().last_position();
    assert_eq!(live.recv().unwrap(), Delivery::Progress(skipped));
    let wanted = tagged("Closed", 3, &["b", "a:1"]);
    store.append("b-1", ExpectedVersion::Any, [event("Closed", 4), wanted.clone()]).unwrap();
    assert!(matches!(live.recv().unwrap(), Delivery::Event(event) if event.id() == wanted.id()));
    assert_eq!(live.recv_timeout(Duration::ZERO).unwrap(), Delivery::Idle);
}
