//! Feeds and reads of tasks: every event once and in order (G7), from memory or from disk, without a
//! thread each.

use annals::prelude::*;
use annals::{AsyncStore, Error, Position, Query, SubscriptionBuilder};
use futures_lite::{StreamExt, future};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use super::{event, on_each_runtime, threads};
use crate::support::{SOON, place, quick};

/// The positions that a feed delivers up to a head.
async fn positions(feed: &mut annals::AsyncSubscription, to: Position) -> Vec<u64> {
    let mut positions = Vec::new();
    while feed.checkpoint() < Some(to) {
        if let Delivery::Event(event) = feed.next().await.unwrap().unwrap() {
            positions.push(event.position().get());
        }
    }
    positions
}

#[test]
fn live_feeds_need_no_thread_each_and_miss_nothing() {
    on_each_runtime(|runtime, store, _| async move {
        let mut feeds = Vec::new();
        for _ in 0..300 {
            let mut feed = store.subscribe().from_now().start().await.unwrap();
            assert_eq!(feed.next().await.unwrap().unwrap(), Delivery::CaughtUp(None));
            feeds.push(feed);
        }
        store.append("first", ExpectedVersion::Any, [event("x")]).await.unwrap();
        let before = threads();
        let last = Position::new(2_001).unwrap();
        let followers: Vec<_> = feeds
            .into_iter()
            .map(|mut feed| runtime.spawn(async move { positions(&mut feed, last).await }))
            .collect();
        for number in 0..2_000 {
            let stream = format!("account-{}", number % 7);
            store.append(stream, ExpectedVersion::Any, [event("x")]).await.unwrap();
        }
        for follower in followers {
            assert!(follower.await.into_iter().eq(1..=2_001));
        }
        // Some of the pool may have been started to read for those that fell behind.
        assert!(threads() <= before + 20, "{} threads, {before} before", threads());
    });
}

/// A subscription that is behind by more than the store has in memory reads from disk, and then
/// continues live; so does one to a stream that begins in the middle.
#[test]
fn slow_feed_falls_back_to_reading() {
    on_each_runtime(|_, store, _| async move {
        let filter = || Query::category("account");
        let mut all = store.subscribe().start().await.unwrap();
        let mut of_category = store.subscribe().query(filter()).start().await.unwrap();
        let mut of_stream = store.subscribe().stream("account-3").start().await.unwrap();
        let large = "x".repeat(10_000);
        let mut appended = 0;
        // Less, and more, than the store keeps in memory; and few events at the head.
        for count in [3, 20, 500, 2, 700, 1, 1] {
            for number in 0..count {
                let name = if number % 3 == 0 { "account-3" } else { "loan-1" };
                store.append(name, ExpectedVersion::Any, [event(&large)]).await.unwrap();
            }
            let range = appended + 1..=appended + count;
            appended += count;
            let head = Position::new(appended).unwrap();
            let of_account = || range.clone().filter(|at| (at - range.start()).is_multiple_of(3));
            assert!(positions(&mut all, head).await.into_iter().eq(range.clone()));
            assert!(positions(&mut of_category, head).await.into_iter().eq(of_account()));
            assert!(positions(&mut of_stream, head).await.into_iter().eq(of_account()));
        }
    });
}

fn started(store: &impl EventStore, case: &Case) -> SubscriptionBuilder {
    let builder = store.subscribe();
    let builder = match case.stream {
        Some(stream) => builder.stream(format!("account-{stream}")),
        None => builder,
    };
    let builder = if case.types { builder.types(["Other"]) } else { builder };
    builder.after(Position::new(case.after))
}

#[derive(Debug, Clone)]
struct Case {
    stream: Option<u8>,
    types: bool,
    after: u64,
    /// How many events are appended between two reads.
    appends: Vec<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let stream = proptest::option::of(0..3_u8);
    let appends = proptest::collection::vec(0..60_u64, 1..6);
    (stream, any::<bool>(), 0..40_u64, appends).prop_map(|(stream, types, after, appends)| Case {
        stream,
        types,
        after,
        appends,
    })
}

/// A blocking and an async subscription deliver the same, on both stores.
#[test]
fn both_doors_deliver_the_same() {
    let config = Config { cases: 15, failure_persistence: None, ..Config::default() };
    proptest!(config, |(case in case())| {
        let (_directory, path) = place();
        // Small packs, so that little is in memory.
        follow_both(quick().pack_bytes(500).open(&path).unwrap(), &case)?;
        follow_both(MemoryStore::new(), &case)?;
    });
}

fn follow_both<S: EventStore + Clone + 'static>(
    store: S,
    case: &Case,
) -> Result<(), TestCaseError> {
    let tasks = AsyncStore::new(store.clone());
    let name = |number: u64| format!("account-{}", number % 4);
    let append = |number: u64| {
        let other = annals::EventType::new(if number.is_multiple_of(5) { "Other" } else { "Type" });
        let new = NewEvent::new(other.unwrap(), b"x".repeat(100));
        store.append(name(number), ExpectedVersion::Any, [new]).unwrap();
    };
    (0..40).for_each(append);
    let mut following = started(&store, case).start().unwrap();
    let mut feed = {
        let builder = tasks.subscribe().after(Position::new(case.after));
        let builder = match case.stream {
            Some(stream) => builder.stream(format!("account-{stream}")),
            None => builder,
        };
        let builder = if case.types { builder.types(["Other"]) } else { builder };
        future::block_on(builder.start()).unwrap()
    };
    prop_assert_eq!(feed.epoch(), following.epoch());
    let mut next = 40;
    for count in &case.appends {
        (next..next + count).for_each(append);
        next += count;
        loop {
            let delivery = following.recv_timeout(std::time::Duration::ZERO).unwrap();
            if delivery == Delivery::Idle {
                break;
            }
            let same = future::block_on(feed.next()).unwrap().unwrap();
            prop_assert_eq!(same, delivery);
            prop_assert_eq!(feed.checkpoint(), following.checkpoint());
        }
        let nothing = future::block_on(future::poll_once(feed.next()));
        prop_assert!(nothing.is_none(), "{:?}", nothing);
    }
    Ok(())
}

/// Reads pull pages, and end at the head at which they began.
#[test]
fn read_is_a_stream_of_the_events() {
    on_each_runtime(|_, store, _| async move {
        for number in 0..1_500_u32 {
            let stream = format!("account-{}", number % 3);
            store.append(stream, ExpectedVersion::Any, [event("x")]).await.unwrap();
        }
        let log: Vec<_> = store.read_log().events().try_collect().await.unwrap();
        let blocking = store.blocking().read_log();
        let blocking: Vec<_> = blocking.into_iter().collect::<Result<_, _>>().unwrap();
        assert!(log == blocking && log.len() == 1_500);
        let newest = store.read_stream("account-2").backward().limit(400).events();
        let newest: Vec<_> = newest.map(|event| event.unwrap().version().get()).collect().await;
        assert!(newest.into_iter().eq((101..=500).rev()));
        let mut events = store.read_log().events();
        events.next().await.unwrap().unwrap();
        store.append("late", ExpectedVersion::Any, [event("x")]).await.unwrap();
        assert_eq!(events.count().await, 1_499);
        let streams: Vec<_> =
            store.streams().prefix("account-").infos().try_collect().await.unwrap();
        assert_eq!(streams.len(), 3);
        let refused = store.read_stream("").events().next().await;
        assert!(matches!(refused, Some(Err(Error::InvalidArgument(_)))));
        assert!(store.read_stream("nothing").first().await.unwrap().is_none());
        let (first, last) = (store.read_log().first().await, store.read_log().last().await);
        assert_eq!(first.unwrap().unwrap().position().get(), 1);
        assert_eq!(last.unwrap().unwrap().position().get(), 1_501);
    });
}

/// Dropping `next` between deliveries loses none.
#[test]
fn dropped_next_loses_nothing() {
    on_each_runtime(|runtime, store, _| async move {
        let mut feed = store.subscribe().start().await.unwrap();
        let writer = {
            let store = store.clone();
            runtime.spawn(async move {
                for _ in 0..300 {
                    store.append("a", ExpectedVersion::Any, [event("x")]).await.unwrap();
                }
            })
        };
        let mut positions = Vec::new();
        while positions.len() < 300 {
            match future::poll_once(feed.next()).await {
                Some(Some(Ok(Delivery::Event(event)))) => positions.push(event.position().get()),
                Some(Some(Err(error))) => panic!("{error}"),
                _ => future::yield_now().await,
            }
        }
        assert!(positions.into_iter().eq(1..=300));
        writer.await;
    });
}

#[test]
fn invalid_subscription_is_refused() {
    on_each_runtime(|_, store, _| async move {
        let ahead = store.subscribe().after(Position::new(5)).start().await;
        assert!(matches!(ahead, Err(Error::PositionAhead { .. })));
        let invalid = store.subscribe().stream("").start().await;
        assert!(matches!(invalid, Err(Error::InvalidArgument(_))));
    });
}

/// A task that waits for something else does not poll its other futures meanwhile.
#[test]
fn reads_that_are_not_polled_do_not_delay_others() {
    on_each_runtime(|_, store, _| async move {
        store.append("a", ExpectedVersion::Any, [event("x")]).await.unwrap();
        let mut idle = Vec::new();
        while idle.len() < 100 {
            let mut read = Box::pin(store.read_log().first());
            if future::poll_once(&mut read).await.is_none() {
                idle.push(read);
            }
        }
        for _ in 0..20 {
            let read = store.read_stream("a").last();
            let late = async {
                smol::Timer::after(SOON).await;
                panic!("the read waits for those that are not polled");
            };
            assert!(future::or(read, late).await.unwrap().is_some());
        }
        for read in idle {
            assert!(read.await.unwrap().is_some());
        }
    });
}
