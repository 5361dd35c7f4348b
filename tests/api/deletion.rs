//! Deletion from a store on disk (G17): what is gone is gone, and nothing else is.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;

use annals::prelude::*;
use annals::{
    Append, DELETIONS_STREAM, Deletion, Error, InvalidArgument, Position, Query, REDACTED,
    Retention, RetentionScope, ScavengeOptions, Store, StreamState, Version,
};
use proptest::prelude::*;

use crate::support::{place, position, quick, version};

const STREAMS: [&str; 4] = ["a-1", "a-2", "b-1", "c"];

/// An event as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    position: u64,
    version: u64,
    payload: Vec<u8>,
    tags: Vec<String>,
    id: annals::EventId,
}

/// What a store with these deletions must hold.
#[derive(Debug, Default)]
struct Model {
    streams: BTreeMap<&'static str, ModelStream>,
    head: u64,
    deletions: u64,
    retention: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct ModelStream {
    events: Vec<Known>,
    last: u64,
    state: StreamState,
}

#[derive(Debug, Clone)]
enum Op {
    Append { stream: usize, events: usize },
    AppendToTwo { events: usize },
    Truncate { stream: usize, keep: u64 },
    Delete { stream: usize },
    Tombstone { stream: usize },
    Redact { at: usize, tags: bool },
    Retain { category: bool, stream: usize, count: u64 },
    Scavenge,
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let stream = 0..STREAMS.len();
    let op = prop_oneof![
        6 => (stream.clone(), 1..6_usize).prop_map(|(stream, events)| Op::Append { stream, events }),
        1 => Just(Op::Append { stream: 0, events: 400 }),
        2 => (1..4_usize).prop_map(|events| Op::AppendToTwo { events }),
        4 => (stream.clone(), 0..12_u64).prop_map(|(stream, keep)| Op::Truncate { stream, keep }),
        1 => stream.clone().prop_map(|stream| Op::Delete { stream }),
        1 => (2..STREAMS.len()).prop_map(|stream| Op::Tombstone { stream }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, tags)| Op::Redact { at, tags }),
        1 => (any::<bool>(), stream, 1..6_u64)
            .prop_map(|(category, stream, count)| Op::Retain { category, stream, count }),
        2 => Just(Op::Scavenge),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..24)
}

fn id(stream: &str) -> StreamId {
    StreamId::new(stream).unwrap()
}

fn category(stream: &str) -> &str {
    stream.split('-').next().unwrap()
}

impl Model {
    fn new_events(&self, count: usize) -> Vec<NewEvent> {
        let next = usize::try_from(self.head).unwrap() + 1;
        let event = |number: usize| {
            let event = NewEvent::json("Happened", &number).unwrap();
            let event = event.with_tag(format!("n:{}", number % 3)).with_tag("all");
            if number.is_multiple_of(2) { event.with_metadata("by", "Ada") } else { event }
        };
        (next..next + count).map(event).collect()
    }

    fn add(&mut self, stream: &'static str, events: &[NewEvent]) {
        let known = self.streams.entry(stream).or_default();
        for event in events {
            self.head += 1;
            known.last += 1;
            known.events.push(Known {
                position: self.head,
                version: known.last,
                payload: event.payload().to_vec(),
                tags: event.tags().to_vec(),
                id: event.id(),
            });
        }
        known.state = StreamState::Live;
    }

    fn decided(&mut self) {
        self.head += 1;
        self.deletions += 1;
    }

    /// Keeps the events of a stream from a version on. Returns whether there was anything to do.
    fn truncate(&mut self, stream: &str, before: u64) -> bool {
        let known = self.streams.get_mut(stream);
        let Some(known) = known else { return false };
        let count = known.events.len();
        known.events.retain(|event| event.version >= before);
        count > known.events.len()
    }

    fn log(&self) -> Vec<Known> {
        let mut all: Vec<_> = self.streams.values().flat_map(|it| it.events.clone()).collect();
        all.sort_by_key(|event| event.position);
        all
    }
}

fn known(event: &RecordedEvent) -> Known {
    Known {
        position: event.position().get(),
        version: event.version().get(),
        payload: event.payload().to_vec(),
        tags: event.tags().to_vec(),
        id: event.id(),
    }
}

fn all(read: impl IntoIterator<Item = annals::Result<RecordedEvent>>) -> Vec<Known> {
    let events = read.into_iter().map(Result::unwrap);
    let of_users = events.filter(|event| event.stream().as_str() != DELETIONS_STREAM);
    of_users.map(|event| known(&event)).collect()
}

fn open(path: &Path) -> Store {
    quick().index_types(true).index_categories(true).pack_bytes(400).open(path).unwrap()
}

fn apply(store: &mut Store, path: &Path, model: &mut Model, op: &Op) {
    match *op {
        Op::Append { stream, events } => append(store, model, STREAMS[stream], events),
        Op::AppendToTwo { events } => {
            let (first, second) = (model.new_events(events), model.new_events(2 * events));
            let second = second[events..].to_vec();
            let append = Append::new().to("a-1", ExpectedVersion::Any, first.clone()).to(
                "a-2",
                ExpectedVersion::Any,
                second.clone(),
            );
            store.submit(append).unwrap();
            model.add("a-1", &first);
            model.add("a-2", &second);
        }
        Op::Truncate { stream, keep } => {
            let stream = STREAMS[stream];
            let last = model.streams.get(stream).map_or(0, |known| known.last);
            let before = (last + 1).saturating_sub(keep).max(1);
            let deleted = store.delete(&Deletion::truncate(&id(stream), version(before))).unwrap();
            let is_any = model.truncate(stream, before);
            assert_eq!(deleted.number.is_some(), is_any, "{deleted:?}");
            if is_any {
                model.decided();
            }
        }
        Op::Delete { stream } => end_stream(store, model, STREAMS[stream], StreamState::Deleted),
        Op::Tombstone { stream } => {
            end_stream(store, model, STREAMS[stream], StreamState::Tombstoned);
        }
        Op::Redact { at, tags } => redact(store, model, at, tags),
        Op::Retain { category: is_category, stream, count } => {
            let stream = STREAMS[stream];
            let scope = if is_category {
                RetentionScope::Category(category(stream).to_owned())
            } else {
                RetentionScope::Stream(id(stream))
            };
            let newest = Retention::newest(NonZeroU64::new(count).unwrap());
            store.set_retention(&scope, Some(newest)).unwrap();
            let name = if is_category { category(stream) } else { stream };
            model.retention.insert(format!("{is_category}{name}"), count);
        }
        Op::Scavenge => scavenge(store, model),
        Op::Reopen => {
            store.clone().close().unwrap();
            *store = open(path);
        }
    }
}

fn append(store: &Store, model: &mut Model, stream: &'static str, count: usize) {
    let events = model.new_events(count);
    let state = model.streams.get(stream).map(|known| known.state);
    let last = model.streams.get(stream).map(|known| known.last);
    let expected = match state {
        Some(StreamState::Live) => ExpectedVersion::Exact(version(last.unwrap())),
        Some(StreamState::Deleted) | None => ExpectedVersion::NoStream,
        Some(StreamState::Tombstoned) => {
            let refused = store.append(stream, ExpectedVersion::Any, events);
            assert!(matches!(refused, Err(Error::Tombstoned { .. })), "{refused:?}");
            return;
        }
    };
    if state == Some(StreamState::Deleted) {
        let exists = store.append(stream, ExpectedVersion::StreamExists, events.clone());
        assert!(matches!(exists, Err(Error::WrongExpectedVersion { actual: None, .. })));
    }
    let appended = store.append(stream, expected, events.clone()).unwrap();
    assert_eq!(appended.last_position().get(), model.head + u64::try_from(count).unwrap());
    model.add(stream, &events);
    // A retry is recognised while its events are there.
    let again = store.append(stream, expected, events).unwrap();
    assert!(again.is_retry());
}

fn end_stream(store: &Store, model: &mut Model, stream: &'static str, state: StreamState) {
    let deletion = match state {
        StreamState::Tombstoned => Deletion::tombstone(&id(stream)),
        _ => Deletion::delete(&id(stream)),
    };
    let deleted = store.delete(&deletion);
    let Some(known) = model.streams.get_mut(stream) else {
        match state {
            StreamState::Tombstoned => assert!(matches!(
                deleted,
                Err(Error::InvalidArgument(InvalidArgument::NothingToTombstone { .. }))
            )),
            _ => assert_eq!(deleted.unwrap().number, None),
        }
        return;
    };
    let is_news = match known.state {
        StreamState::Live => true,
        StreamState::Deleted => state == StreamState::Tombstoned,
        StreamState::Tombstoned => false,
    };
    let deleted = deleted.unwrap();
    assert_eq!(deleted.number.is_some(), is_news);
    if is_news {
        assert_eq!(deleted.events, u64::try_from(known.events.len()).unwrap());
        known.events.clear();
        known.state = state;
        model.decided();
    }
}

fn redact(store: &Store, model: &mut Model, at: usize, tags: bool) {
    let log = model.log();
    if log.is_empty() {
        return;
    }
    let event = log[at % log.len()].clone();
    let deletion = Deletion::redact(position(event.position), event.id);
    let deletion = if tags { deletion.removing_tags(["all"]) } else { deletion };
    let deleted = store.delete(&deletion).unwrap();
    let has_tag = tags && event.tags.iter().any(|tag| tag == "all");
    if !has_tag && event.payload.len() == 8 {
        assert_eq!(deleted.number, None, "it was redacted before");
        return;
    }
    model.decided();
    assert_eq!((deleted.events, deleted.number.unwrap().get()), (1, model.deletions));
    let known = model.streams.values_mut().flat_map(|known| &mut known.events);
    let known = known.into_iter().find(|known| known.id == event.id).unwrap();
    known.payload = model.deletions.to_be_bytes().to_vec();
    if tags {
        known.tags.retain(|tag| tag != "all");
    }
    let stored = store.read_log().from(position(event.position)).first().unwrap().unwrap();
    assert_eq!((stored.content_type().as_str(), stored.metadata().len()), (REDACTED, 0));
}

fn scavenge(store: &Store, model: &mut Model) {
    let mut expected = 0;
    for (stream, known) in &mut model.streams {
        let own = model.retention.get(&format!("false{stream}"));
        let count = own.or(model.retention.get(&format!("true{}", category(stream))));
        let Some(count) = count else { continue };
        let before = (known.last + 1).saturating_sub(*count).max(1);
        let events = known.events.len();
        known.events.retain(|event| event.version >= before);
        expected += events - known.events.len();
    }
    let preview = store.preview_scavenge().unwrap();
    let done = store.scavenge(&ScavengeOptions::new().unthrottled(), |_| {}).unwrap();
    assert_eq!((preview.events, preview.truncated_streams), (done.events, done.truncated_streams));
    assert_eq!(done.events, u64::try_from(expected).unwrap());
    let recorded = u64::try_from(store.deletions().unwrap().len()).unwrap();
    model.head += recorded - model.deletions;
    model.deletions = recorded;
    assert!(!done.is_incomplete);
}

/// Compares everything that a reader can see.
fn compare(store: &Store, model: &Model) {
    let log = model.log();
    assert_eq!(store.head().unwrap().map_or(0, Position::get), model.head);
    assert_eq!(all(store.read_log()), log);
    let mut backward = all(store.read_log().backward());
    backward.reverse();
    assert_eq!(backward, log);
    for tag in ["n:0", "all"] {
        let tagged: Vec<_> =
            log.iter().filter(|known| known.tags.iter().any(|it| it == tag)).cloned().collect();
        assert_eq!(all(store.read_log().tag(tag)), tagged);
    }
    for (stream, known) in &model.streams {
        let read = || store.read_stream(id(stream));
        if known.state == StreamState::Tombstoned {
            for read in [read(), read().backward(), read().from(version(known.last + 5))] {
                assert!(matches!(read.first(), Err(Error::Tombstoned { .. })));
            }
            continue;
        }
        assert_eq!(all(read()), known.events);
        let mut backward = all(read().backward());
        backward.reverse();
        assert_eq!(backward, known.events);
        let visible = Some(known.last).filter(|_| known.state == StreamState::Live);
        assert_eq!(store.stream_version(&id(stream)).unwrap().map(Version::get), visible);
        let by_query = || store.read_log().query(Query::stream(id(stream)));
        assert_eq!(all(by_query()), known.events);
        let mut backward = all(by_query().backward());
        backward.reverse();
        assert_eq!(backward, known.events);
        let middle = known.last / 2 + 1;
        let from: Vec<_> =
            known.events.iter().filter(|event| event.version >= middle).cloned().collect();
        assert_eq!(all(read().from(version(middle))), from);
        let holes: u64 =
            read().holes().unwrap().iter().map(|hole| hole.last - hole.first + 1).sum();
        let kept = u64::try_from(known.events.len()).unwrap();
        assert_eq!(holes + kept, known.last);
    }
    let listed: Vec<_> = store
        .streams()
        .into_iter()
        .map(|info| info.unwrap())
        .filter(|info| info.id.as_str() != DELETIONS_STREAM)
        .map(|info| (info.id.as_str().to_owned(), info.version.get()))
        .collect();
    let live = model.streams.iter().filter(|(_, known)| known.state == StreamState::Live);
    assert_eq!(listed, live.map(|(id, known)| ((*id).to_owned(), known.last)).collect::<Vec<_>>());
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:#?}", report.damage);
    let left = u64::try_from(log.len()).unwrap();
    assert_eq!(report.deleted_events + left + model.deletions, model.head);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// G17: whatever is deleted, in any order, all readers see what is left, and only that.
    #[test]
    fn readers_see_what_is_left(ops in ops()) {
        let (_directory, path) = place();
        let mut store = open(&path);
        let mut model = Model::default();
        for op in &ops {
            apply(&mut store, &path, &mut model, op);
            compare(&store, &model);
        }
    }
}

/// Events of a visitor, one append each.
fn visits(store: &Store, stream: &str, count: u64) {
    for number in 1..=count {
        let event = NewEvent::json("Came", &number).unwrap().with_tag("all");
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
}

fn came(number: u64) -> NewEvent {
    NewEvent::json("Came", &number).unwrap()
}

/// G4, G17: it cannot be known whether an append to a deleted place is a retry.
#[test]
fn an_append_to_a_deleted_place_is_refused() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 5);
    let done = [came(6)];
    store.append("a-1", version(5).into(), done.clone()).unwrap();
    visits(&store, "a-1", 1);
    assert!(store.append("a-1", version(5).into(), done.clone()).unwrap().is_retry());
    store.delete(&Deletion::truncate(&id("a-1"), version(7))).unwrap();

    for expected in [ExpectedVersion::Exact(version(5)), ExpectedVersion::NoStream] {
        let refused = store.append("a-1", expected, done.clone()).unwrap_err();
        assert!(matches!(refused, Error::Deleted { .. }) && refused.is_conflict(), "{refused}");
    }
    let refused = store.append("a-1", version(6).into(), [came(9)]).unwrap_err();
    assert!(matches!(refused, Error::WrongExpectedVersion { .. }));

    // After a deletion as a whole, the last event is still known.
    let last = [came(8)];
    store.append("a-1", version(7).into(), last.clone()).unwrap();
    store.delete(&Deletion::delete(&id("a-1"))).unwrap();
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Any] {
        let refused = store.append("a-1", expected, last.clone()).unwrap_err();
        assert!(matches!(refused, Error::Deleted { .. }), "{refused}");
    }
    let again = [came(1), came(2)];
    let appended = store.append("a-1", ExpectedVersion::NoStream, again.clone()).unwrap();
    assert_eq!(appended.last_version(), version(10));
    visits(&store, "a-1", 1);
    let retried = store.append("a-1", ExpectedVersion::NoStream, again).unwrap();
    assert!(retried.is_retry(), "a retry of the append that created it again");
}

/// G16, G17: a condition that continues an earlier read is refused if events after it were deleted.
#[test]
fn a_condition_does_not_miss_deleted_events() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 3);
    let append = |after: Option<u64>| {
        Append::of([came(9)]).fail_if(Query::tag("all")).after(after.map(position))
    };
    store.delete(&Deletion::truncate(&id("a-1"), version(3))).unwrap();
    let refused = store.submit(append(Some(1))).unwrap_err();
    assert!(matches!(refused, Error::Deleted { .. }) && refused.is_conflict(), "{refused}");
    assert!(matches!(store.submit(append(Some(2))), Err(Error::ConditionFailed { .. })));
    assert!(matches!(store.submit(append(None)), Err(Error::ConditionFailed { .. })));
    store.delete(&Deletion::delete(&id("a-1"))).unwrap();
    assert!(matches!(store.submit(append(Some(2))), Err(Error::Deleted { .. })));
    store.submit(append(Some(3))).unwrap();
    store.submit(append(None)).unwrap();
    // It is known after a restart, too.
    store.close().unwrap();
    assert!(matches!(open(&path).submit(append(Some(2))), Err(Error::Deleted { .. })));
}

/// G16, G17: an event that was kept in memory for conditions is forgotten once it is deleted.
#[test]
fn a_condition_does_not_see_a_deleted_event() {
    let (_directory, path) = place();
    let store = open(&path);
    let once = || {
        let event = came(1).with_tag("email:x");
        Append::new().to("user-1", ExpectedVersion::Any, [event]).fail_if(Query::tag("email:x"))
    };
    let first = store.submit(once()).unwrap();
    assert!(matches!(store.submit(once()), Err(Error::ConditionFailed { .. })));
    store.delete(&Deletion::delete(&id("user-1"))).unwrap();
    let again = store.submit(once()).unwrap();
    assert!(again.first_position() > first.first_position());
    let stored = store.read_log().tag("email:x").first().unwrap().unwrap();
    let redaction = Deletion::redact(stored.position(), stored.id());
    store.delete(&redaction.removing_tags(["email:x"])).unwrap();
    store.submit(once()).unwrap();
}

/// Only the store appends to the stream of deletions, and nothing is deleted from it.
#[test]
fn the_stream_of_deletions_is_protected() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 2);
    store.delete(&Deletion::truncate(&id("a-1"), version(2))).unwrap();
    let decision = store.read_log().backward().first().unwrap().unwrap();
    let stream = decision.stream();
    for deletion in [
        Deletion::delete(stream),
        Deletion::tombstone(stream),
        Deletion::truncate(stream, version(9)),
        Deletion::redact(decision.position(), decision.id()),
    ] {
        let refused = store.delete(&deletion).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument(InvalidArgument::Reserved { .. })));
    }
    let refused = store.append(stream, ExpectedVersion::Any, [came(1)]).unwrap_err();
    assert!(refused.is_invalid(), "{refused}");
    let newest = Retention::newest(NonZeroU64::MIN);
    assert!(store.set_retention(&RetentionScope::from(stream), Some(newest)).is_err());
    store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap();
    assert_eq!(store.deletions().unwrap().len(), 1);
}

/// G13: a deletion that is not possible changes nothing and says why.
#[test]
fn an_impossible_deletion_is_refused() {
    let (_directory, path) = place();
    let store = open(&path);
    visits(&store, "a-1", 2);
    let head = store.head().unwrap();
    let first = store.read_log().first().unwrap().unwrap();
    let other = Deletion::redact(position(2), first.id());
    let invalid = |deletion: &Deletion| match store.delete(deletion).unwrap_err() {
        Error::InvalidArgument(invalid) => invalid,
        error => panic!("{error}"),
    };
    assert!(matches!(invalid(&other), InvalidArgument::OtherEvent { .. }));
    let nothing = Deletion::tombstone(&id("b-1"));
    assert!(matches!(invalid(&nothing), InvalidArgument::NothingToTombstone { .. }));
    let long = Deletion::delete(&id("a-1")).because("x".repeat(1_025));
    assert!(matches!(invalid(&long), InvalidArgument::TooLong { .. }));
    let far = Deletion::redact(position(9), first.id());
    assert!(matches!(store.delete(&far), Err(Error::PositionAhead { .. })));
    let dashed = RetentionScope::Category("a-b".to_owned());
    let newest = Retention::newest(NonZeroU64::MIN);
    assert!(store.set_retention(&dashed, Some(newest)).unwrap_err().is_invalid());
    assert_eq!((store.head().unwrap(), store.deletions().unwrap().len()), (head, 0));
    assert_eq!(store.preview(&Deletion::delete(&id("a-1"))).unwrap().events, 2);
    assert_eq!(store.head().unwrap(), head);

    store.delete(&Deletion::truncate(&id("a-1"), version(2))).unwrap();
    let gone = Deletion::redact(first.position(), first.id());
    assert!(matches!(store.delete(&gone), Err(Error::Deleted { .. })));
    store.close().unwrap();
    let store = quick().read_only(true).open(&path).unwrap();
    assert!(matches!(store.delete(&gone), Err(Error::ReadOnly)));
    assert_eq!(store.read_stream("a-1").into_iter().count(), 1);
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// G17: holes that meet become one, whichever of them came first.
#[test]
fn neighbouring_holes_are_joined() {
    let (_directory, path) = place();
    let store = open(&path);
    // Each event fills a pack.
    let long = "x".repeat(500);
    for stream in ["a-1", "a-2", "a-3", "a-4"] {
        let event = NewEvent::json("Came", &long).unwrap();
        store.append(stream, ExpectedVersion::Any, [event]).unwrap();
    }
    for (stream, holes) in [("a-2", 1), ("a-4", 2), ("a-1", 2), ("a-3", 1)] {
        store.delete(&Deletion::delete(&id(stream))).unwrap();
        assert_eq!(store.read_log().holes().unwrap().len(), holes, "{stream}");
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
}
