//! Deletion (G17) as aggregates, projections, subscriptions and reads at a time see it.

use std::sync::Mutex;
use std::time::Duration;

use annals::prelude::*;
use annals::testing::FixedClock;
use annals::{
    Aggregate, Deletion, Delivery, Error, Repository, Retention, RetentionScope, ScavengeOptions,
    SnapshotPolicy, SnapshotStore, Store, Timestamp, Undecodable,
};

use crate::support::bank::{Account, create, deposit};
use crate::support::{SOON, place, position, quick, version};

fn account(store: &Store) -> StreamId {
    Repository::<Account>::new(store).stream_id("1").unwrap()
}

/// An account with one event and nine deposits of 1.
fn deposits(repository: &Repository<Account>) {
    repository.execute("1", &create()).unwrap();
    for _ in 0..9 {
        repository.execute("1", &deposit(1)).unwrap();
    }
}

/// G12, G17: a state is never folded from the rest of a stream.
#[test]
fn an_aggregate_without_its_beginning_needs_a_snapshot() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let plain = Repository::<Account>::new(&store);
    let kept = plain.clone().snapshots(&store, SnapshotPolicy::every(5));
    let cached = plain.clone().cache(2);
    deposits(&kept);
    assert_eq!(cached.load("1").unwrap().state().balance, 9);
    let stream = account(&store);
    let truncate = |before| store.delete(&Deletion::truncate(&stream, version(before))).unwrap();

    assert_eq!(truncate(3).snapshots, 0);
    assert_eq!(kept.load("1").unwrap().state().balance, 9, "from the snapshot");
    for repository in [&plain, &plain.clone().cache(2)] {
        match repository.load("1").unwrap_err() {
            Error::HistoryTruncated { stream: lost, last, .. } => {
                assert_eq!((lost, last), (stream.clone(), version(2)));
            }
            error => panic!("{error}"),
        }
    }
    assert_eq!(cached.load("1").unwrap().state().balance, 9, "its state rests on what is left");
    assert!(plain.execute("1", &deposit(1)).is_err());
    assert_eq!(kept.execute("1", &deposit(1)).unwrap().state().balance, 10);
    assert!(matches!(
        plain.load_as_of_version("1", version(7)),
        Err(Error::HistoryTruncated { .. })
    ));
    assert!(kept.check_snapshots("1").unwrap().snapshots.iter().all(|it| it.fault.is_none()));

    // The snapshot is removed, because it rests on an event that is gone.
    assert_eq!(truncate(12).snapshots, 1);
    for repository in [&kept, &cached] {
        assert!(matches!(repository.load("1"), Err(Error::HistoryTruncated { .. })));
    }

    // A deleted stream begins again, and no cache keeps the old state.
    store.delete(&Deletion::delete(&stream)).unwrap();
    for repository in [&kept, &cached, &plain] {
        assert!(repository.find("1").unwrap().is_none());
    }
    cached.execute("1", &create()).unwrap();
    assert_eq!(kept.execute("1", &deposit(7)).unwrap().version(), Some(version(13)));
    for repository in [&kept, &cached, &plain] {
        assert_eq!(repository.load("1").unwrap().state().balance, 7);
    }
}

/// Deletes events while an aggregate is being loaded.
static WHILE_LOADING: Mutex<Option<(Store, Deletion)>> = Mutex::new(None);

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Visits(u64);

#[derive(serde::Serialize, serde::Deserialize)]
struct Visited(String);

annals::domain_events! { Visited => "Visited" }

impl Aggregate for Visits {
    const CATEGORY: &'static str = "visits";
    const SNAPSHOT_KIND: &'static str = "visits";
    type Event = Visited;
    type Command = ();
    type Error = std::convert::Infallible;

    fn apply(&mut self, _: Visited) {
        self.0 += 1;
        if self.0 == 20
            && let Some((store, deletion)) = WHILE_LOADING.lock().unwrap().take()
        {
            store.delete(&deletion).unwrap();
        }
    }

    fn handle(&self, (): &()) -> Result<Vec<Visited>, Self::Error> {
        Ok(vec![Visited("x".repeat(2_000))])
    }
}

/// G12, G17: a load that is overtaken by a deletion does not fold what is left.
#[test]
fn a_load_does_not_fold_around_a_hole_that_comes_meanwhile() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let visits = Repository::<Visits>::new(&store);
    let kept = visits.clone().snapshots(&store, SnapshotPolicy::every(10));
    for _ in 0..10 {
        kept.execute("1", &()).unwrap();
    }
    let stream = visits.stream_id("1").unwrap();
    let long = || annals::DomainEvent::encode(&Visited("x".repeat(2_000))).unwrap();
    // Several pages follow the snapshot.
    store.append(&stream, ExpectedVersion::Any, (0..600).map(|_| long())).unwrap();
    let truncation = Deletion::truncate(&stream, version(500));
    *WHILE_LOADING.lock().unwrap() = Some((store.clone(), truncation));
    let loading = visits.snapshots(&store, SnapshotPolicy::every(10));
    let answer = loading.load("1").map(|root| root.state().0);
    assert!(matches!(answer, Err(Error::HistoryTruncated { .. })), "{answer:?}");
    assert!(WHILE_LOADING.lock().unwrap().is_none());
}

/// A retention keeps the event on which the newest snapshot rests.
#[test]
fn a_retention_keeps_what_a_snapshot_needs() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let kept = Repository::<Account>::new(&store).snapshots(&store, SnapshotPolicy::every(5));
    deposits(&kept);
    let stream = account(&store);
    let newest = Retention::newest(std::num::NonZeroU64::MIN);
    store.set_retention(&RetentionScope::Stream(stream.clone()), Some(newest)).unwrap();
    kept.execute("1", &deposit(1)).unwrap();
    let snapshot = store.load_snapshot(Account::SNAPSHOT_KIND, &stream, version(99));
    let at = snapshot.unwrap().map(|snapshot| snapshot.version);
    let done = store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap();
    let first = store.read_stream(&stream).first().unwrap().unwrap().version();
    assert_eq!((done.events, Some(first)), (first.get() - 1, at));
    assert_eq!(kept.load("1").unwrap().state().balance, 10);
}

/// A redacted event is reported as such to typed readers.
#[test]
fn a_redacted_event_does_not_decode() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let repository = Repository::<Account>::new(&store);
    deposits(&repository);
    let event = store.read_stream(account(&store)).from(version(4)).first().unwrap().unwrap();
    store.delete(&Deletion::redact(event.position(), event.id())).unwrap();
    let Error::Unreadable { cause, .. } = repository.load("1").unwrap_err() else {
        panic!("it is unreadable")
    };
    assert!(cause.to_string().contains("redacted"), "{cause}");
    let skipping = repository.on_unreadable(annals::OnUnreadable::Skip);
    let root = skipping.load("1").unwrap();
    assert_eq!((root.state().balance, root.version()), (8, Some(version(10))));
    let redacted = store.read_log().from(event.position()).first().unwrap().unwrap();
    let read = redacted.json::<serde_json::Value>().unwrap_err();
    assert!(matches!(read, Error::Payload { .. }), "{read}");
    let _: fn() -> Undecodable = || Undecodable::Redacted;
}

/// Views of the past and times go past holes.
#[test]
fn past_views_and_times_go_past_holes() {
    let (_directory, path) = place();
    let clock = FixedClock::at(Timestamp::from_micros(1_000_000));
    let store = quick().clock(clock.clock()).pack_bytes(300).open(&path).unwrap();
    let streams = ["a", "b"];
    for number in 0..20_usize {
        let event = NewEvent::json("Came", &number).unwrap();
        store.append(streams[number % 2], ExpectedVersion::Any, [event]).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let at = |position: u64| Timestamp::from_micros(i64::try_from(position).unwrap() * 1_000_000);
    let all = StreamId::new("a").unwrap();
    store.delete(&Deletion::truncate(&all, version(8))).unwrap();
    store.delete(&Deletion::truncate(&StreamId::new("b").unwrap(), version(4))).unwrap();
    // Left: 7 or more in even positions (b), 15 or more in odd ones (a).
    let left: Vec<u64> =
        (1..=20).filter(|it| if it % 2 == 0 { *it >= 8 } else { *it >= 15 }).collect();
    for time in 1..=20 {
        let expected = left.iter().copied().filter(|it| *it <= time).max();
        assert_eq!(store.position_at(at(time)).unwrap().map(annals::Position::get), expected);
        let seen = store.read_log().as_of_time(at(time)).into_iter();
        let seen: Vec<u64> = seen.map(|event| event.unwrap().position().get()).collect();
        assert_eq!(seen, left.iter().copied().filter(|it| *it <= time).collect::<Vec<_>>());
        let of_b = store.read_stream("b").as_of_position(position(time)).into_iter();
        let expected = left.iter().filter(|it| *it % 2 == 0 && **it <= time).count();
        assert_eq!(of_b.map(annals::Result::unwrap).count(), expected);
    }
    let limited = store.read_log().from(position(3)).limit(2).into_iter();
    assert_eq!(limited.map(|event| event.unwrap().position().get()).collect::<Vec<_>>(), [8, 10]);
}

/// G7, G17: a subscription goes past holes, wherever it begins, and then follows live events.
#[test]
fn a_subscription_goes_past_holes() {
    let (_directory, path) = place();
    let store = quick().pack_bytes(300).open(&path).unwrap();
    for number in 0..40_usize {
        let stream = ["a-1", "a-2"][number % 2];
        store
            .append(stream, ExpectedVersion::Any, [NewEvent::json("Came", &number).unwrap()])
            .unwrap();
    }
    let stream = StreamId::new("a-1").unwrap();
    let mut behind = store.subscribe().after(position(5)).start().unwrap();
    let mut of_stream = store.subscribe().stream("a-1").after(position(3)).start().unwrap();
    store.delete(&Deletion::truncate(&stream, version(15))).unwrap();
    let next = |subscription: &mut annals::Subscription| loop {
        match subscription.recv_timeout(SOON).unwrap() {
            Delivery::Event(event) => return Some(event),
            Delivery::CaughtUp(_) => return None,
            Delivery::Progress(_) => {}
            ended => panic!("{ended:?}"),
        }
    };
    let mut seen = Vec::new();
    while let Some(event) = next(&mut behind) {
        seen.push(event.position().get());
    }
    let expected: Vec<u64> = (6..=41).filter(|it| it % 2 == 0 || *it >= 29).collect();
    assert_eq!(seen, expected);
    let mut versions = Vec::new();
    while let Some(event) = next(&mut of_stream) {
        versions.push(event.version().get());
    }
    assert_eq!(versions, (15..=20).collect::<Vec<_>>());
    store.append("a-1", ExpectedVersion::Any, [NewEvent::json("Came", &99).unwrap()]).unwrap();
    assert_eq!(next(&mut behind).unwrap().position(), position(42));
    assert_eq!(next(&mut of_stream).unwrap().version(), version(21));
}

/// G7, G17: a subscriber that has handled what is deleted goes on after it.
#[test]
fn a_subscription_begins_after_a_deleted_version() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let came = |number: u64| [NewEvent::json("Came", &number).unwrap()];
    for number in 1..=5 {
        store.append("a-1", ExpectedVersion::Any, came(number)).unwrap();
    }
    let stream = StreamId::new("a-1").unwrap();
    let epoch = store.epochs().unwrap().current();
    let start = |after| store.subscribe().stream("a-1").after_version(version(after));
    let ahead = |after| match start(after).start() {
        Err(Error::VersionAhead { actual, .. }) => actual.map(annals::Version::get),
        answer => panic!("{answer:?}"),
    };
    assert_eq!(ahead(6), Some(5));
    store.delete(&Deletion::truncate(&stream, version(6))).unwrap();
    assert_eq!(ahead(6), None);
    let mut started: Vec<_> =
        [2, 5].map(|after| start(after).in_epoch(epoch).start().unwrap()).into();
    store.delete(&Deletion::delete(&stream)).unwrap();
    started.push(start(5).in_epoch(epoch).start().unwrap());
    store.append("a-1", ExpectedVersion::Any, came(6)).unwrap();
    started.push(start(1).in_epoch(epoch).start().unwrap());
    for subscription in &mut started {
        let version_of = |received| match received {
            Delivery::Event(event) => Some(event.version()),
            _ => None,
        };
        let mut received = std::iter::repeat_with(|| subscription.recv_timeout(SOON).unwrap());
        assert_eq!(received.find_map(version_of), Some(version(6)));
    }
    assert_eq!(ahead(7), Some(6));
}
