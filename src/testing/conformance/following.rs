//! Rules for subscriptions: every event after the start is delivered once and in order, even to a
//! slow consumer (G7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::reading::{STREAMS, history};
use super::{event, events, log, position, stream, version};
use crate::error::Error;
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::memory::MemoryStore;
use crate::model::{EventId, ExpectedVersion, Position, RecordedEvent};
use crate::subscription::{Delivery, Subscription};

/// A timeout that is never reached if an event comes.
const LONG: Duration = Duration::from_secs(120);

/// Receives events until the subscription has caught up; returns them and the head.
fn until_caught_up(following: &mut Subscription) -> (Vec<RecordedEvent>, Option<Position>) {
    let mut events = Vec::new();
    loop {
        match following.recv_timeout(LONG).unwrap() {
            Delivery::Event(event) => events.push(event),
            Delivery::CaughtUp(head) => return (events, head),
            Delivery::Progress(_) => {}
            other => panic!("{other:?} before the subscription caught up"),
        }
    }
}

fn next_event(following: &mut Subscription) -> RecordedEvent {
    loop {
        match following.recv_timeout(LONG).unwrap() {
            Delivery::Event(event) => return event,
            Delivery::Progress(_) => {}
            other => panic!("{other:?} instead of an event"),
        }
    }
}

/// It begins at the start of the log, after any position, or at the current head; then it is live.
pub fn subscription_begins_at_the_requested_place(store: &Arc<dyn EventStore>) {
    let mut from_nothing = store.subscribe().start().unwrap();
    assert_eq!(from_nothing.recv().unwrap(), Delivery::CaughtUp(None));
    let log = history(store);
    let head = store.head().unwrap();
    let mut all: Vec<Subscription> = Vec::new();
    for after in 0..=log.len() {
        let mut following = store.subscribe().after(Position::new(after as u64)).start().unwrap();
        assert_eq!(until_caught_up(&mut following), (log[after..].to_vec(), head));
        assert_eq!(following.checkpoint(), head);
        all.push(following);
    }
    let mut from_now = store.subscribe().from_now().start().unwrap();
    assert_eq!(from_now.recv().unwrap(), Delivery::CaughtUp(head));
    store.append("a", ExpectedVersion::Any, [event("Live", 1), event("Live", 2)]).unwrap();
    for following in all.iter_mut().chain([&mut from_now]) {
        for _ in 0..2 {
            assert_eq!(next_event(following).event_type(), &"Live");
        }
        assert_eq!(following.recv_timeout(Duration::ZERO).unwrap(), Delivery::Idle);
    }
    let caught_up = log.iter().map(|_| next_event(&mut from_nothing)).collect::<Vec<_>>();
    assert_eq!(caught_up, log);
}

/// It begins at the first event, after a version, after a position, or past the last event; it
/// never delivers another stream.
pub fn stream_subscription_starts_by_version(store: &Arc<dyn EventStore>) {
    let log = history(store);
    for name in STREAMS {
        let events: Vec<_> =
            log.iter().filter(|event| event.stream().as_str() == name).cloned().collect();
        for after in 0..=events.len() {
            let after_version = (after > 0).then(|| version(after as u64));
            let mut following =
                store.subscribe().stream(name).after_version(after_version).start().unwrap();
            let expected = events.get(after..).unwrap_or_default();
            assert_eq!(until_caught_up(&mut following).0, expected, "{name} after {after}");
        }
        let mut following = store.subscribe().stream(name).after(position(30)).start().unwrap();
        let expected = events.iter().filter(|event| event.position() > position(30));
        assert!(until_caught_up(&mut following).0.iter().eq(expected));
    }
    let tip = stream(store, "a").len() as u64;
    let beyond = version(tip + 2);
    let ahead = store.subscribe().stream("a").after_version(beyond);
    let refused = ahead.clone().start().unwrap_err();
    assert!(
        matches!(refused, Error::VersionAhead { asked, actual, .. } if (asked, actual) == (beyond, Some(version(tip))))
    );
    let mut ahead = ahead.wait_if_ahead().start().unwrap();
    until_caught_up(&mut ahead);
    store.append("a-1", ExpectedVersion::Any, events(3)).unwrap();
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    assert_eq!(next_event(&mut ahead).version(), version(tip + 3));
}

/// A subscriber with such a position followed a log that has lost its end since, and would miss the
/// next events.
pub fn start_past_the_head_is_refused_unless_it_waits(store: &Arc<dyn EventStore>) {
    let refused = store.subscribe().after(Position::FIRST).start().unwrap_err();
    assert!(matches!(refused, Error::PositionAhead { asked: Position::FIRST, head: None }));
    store.append("a", ExpectedVersion::Any, events(2)).unwrap();
    let ahead = store.subscribe().after(position(5));
    let refused = ahead.clone().start().unwrap_err();
    assert!(
        matches!(refused, Error::PositionAhead { asked, head } if (asked, head) == (position(5), Some(position(2))))
    );
    assert!(refused.is_not_found());
    let stream = store.subscribe().stream("a").after(position(5)).start();
    assert!(matches!(stream, Err(Error::PositionAhead { .. })));
    let mut following = ahead.wait_if_ahead().start().unwrap();
    assert_eq!(following.recv().unwrap(), Delivery::CaughtUp(Some(position(2))));
    store.append("a", ExpectedVersion::Any, events(2)).unwrap();
    assert_eq!(following.recv_timeout(Duration::ZERO).unwrap(), Delivery::Idle);
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    assert_eq!(next_event(&mut following).position(), position(6));
    assert_eq!(next_event(&mut following).position(), position(7));
}

/// A position from another epoch is refused, whether the log has it or not; one from this epoch is
/// accepted.
pub fn position_of_another_epoch_is_refused(store: &Arc<dyn EventStore>) {
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    let own = store.epochs().unwrap().current();
    assert_eq!(store.subscribe().start().unwrap().epoch(), own);
    let other = MemoryStore::new().epochs().unwrap().current();
    let starts = [
        store.subscribe().after(position(2)),
        store.subscribe().stream("a").after(position(2)),
        store.subscribe().stream("a").after_version(version(2)),
    ];
    for start in starts {
        let mut following = start.clone().in_epoch(own).start().unwrap();
        assert_eq!(next_event(&mut following).position(), position(3));
        match start.in_epoch(other).start().unwrap_err() {
            Error::OtherEpoch { noted, current, shared, .. } => {
                assert_eq!((noted, current, shared), (other, own, None));
            }
            refused => panic!("{refused}"),
        }
    }
    store.subscribe().in_epoch(other).start().unwrap();
}

/// With a category, type or prefix filter, it delivers the matching events and reports how far it
/// has skipped others.
pub fn filtered_subscription_reports_its_progress(store: &Arc<dyn EventStore>) {
    let log = history(store);
    let head = store.head().unwrap();
    let matches = |event: &&RecordedEvent| {
        event.stream().category() == "a" && event.event_type().as_str() == "Closed"
    };
    let start = || store.subscribe().category("a").types(["Closed"]);
    let mut following = start().start().unwrap();
    let (events, caught_up) = until_caught_up(&mut following);
    assert!(events.iter().eq(log.iter().filter(matches)));
    assert_eq!((caught_up, following.checkpoint()), (head, head), "the checkpoint is the head");

    store.append("b-1", ExpectedVersion::Any, [event("Closed", 1)]).unwrap();
    let passed = store.head().unwrap().unwrap();
    assert_eq!(following.recv().unwrap(), Delivery::Progress(passed));
    assert_eq!(following.checkpoint(), Some(passed));
    store.append("a-1", ExpectedVersion::Any, [event("Closed", 2), event("Opened", 3)]).unwrap();
    let wanted = next_event(&mut following);
    assert_eq!(wanted.position(), passed.next());
    assert_eq!(following.recv().unwrap(), Delivery::Progress(passed.next().next()));
    // A subscriber can resume from a reported position.
    for after in 1..=head.unwrap().get() {
        let mut resumed = start().after(position(after)).start().unwrap();
        let expected = log.iter().filter(matches).filter(|event| event.position().get() > after);
        let (events, _) = until_caught_up(&mut resumed);
        assert!(events.iter().take(expected.clone().count()).eq(expected));
    }
    let mut prefix = store.subscribe().stream_prefix("a-1").start().unwrap();
    let expected = super::log(store);
    let expected = expected.iter().filter(|event| event.stream().as_str().starts_with("a-1"));
    assert!(until_caught_up(&mut prefix).0.iter().eq(expected));
}

/// A naive subscription limits its history and drops events that do not fit into its channel.
pub fn long_history_is_delivered_completely(store: &Arc<dyn EventStore>) {
    for _ in 0..25 {
        store.append("a", ExpectedVersion::Any, events(1_000)).unwrap();
    }
    let mut following = store.subscribe().start().unwrap();
    let (events, head) = until_caught_up(&mut following);
    assert!(events.iter().map(|event| event.position().get()).eq(1..=25_000));
    assert_eq!(head, Some(position(25_000)));
    let receiver = store.subscribe().stream("a").start().unwrap().into_receiver(4).unwrap();
    let mut next = 1;
    while next <= 25_000 {
        if let Delivery::Event(event) = receiver.recv().unwrap().unwrap() {
            assert_eq!(event.version().get(), next);
            next += 1;
        }
    }
}

/// Subscriptions that begin at any moment while a writer appends receive each event once.
pub fn catching_up_continues_live_without_a_gap(store: &Arc<dyn EventStore>) {
    let count: u64 = 3_000;
    thread::scope(|scope| {
        let follow = |after: Option<Position>| {
            let following = store.subscribe().after(after).start().unwrap();
            scope.spawn(move || {
                let mut next = Position::after(after).get();
                for event in following {
                    assert_eq!(event.unwrap().position().get(), next);
                    next += 1;
                    if next > count {
                        return;
                    }
                }
            })
        };
        let mut followers = vec![follow(None)];
        for round in 0..count / 3 {
            store.append("a", ExpectedVersion::Any, events(3)).unwrap();
            if round % 200 == 100 {
                let head = store.head().unwrap();
                followers.push(follow(None));
                followers.push(follow(head));
            }
        }
        for follower in followers {
            follower.join().unwrap();
        }
    });
}

/// Wherever it stopped, with and without a filter, no event is repeated or missing.
pub fn subscription_resumes_after_the_last_delivery(store: &Arc<dyn EventStore>) {
    let log = history(store);
    for category in [None, Some("a")] {
        let start = |after| {
            let subscribe = store.subscribe().after(after);
            let subscribe = match category {
                Some(category) => subscribe.category(category),
                None => subscribe,
            };
            subscribe.start().unwrap()
        };
        let expected: Vec<EventId> = log
            .iter()
            .filter(|event| category.is_none_or(|category| event.stream().category() == category))
            .map(RecordedEvent::id)
            .collect();
        let (mut seen, mut after) = (Vec::new(), None);
        while after != store.head().unwrap() {
            // Three deliveries, then a new subscription, as after a restart of the program.
            let mut following = start(after);
            for _ in 0..3 {
                if let Delivery::Event(event) = following.recv_timeout(Duration::ZERO).unwrap() {
                    seen.push(event.id());
                }
            }
            assert!(following.checkpoint() >= after);
            after = following.checkpoint();
        }
        assert_eq!(seen, expected);
    }
}

/// A cancel from another thread ends it, while it waits or before; it stays ended.
pub fn cancelled_subscription_ends_even_while_it_waits(store: &Arc<dyn EventStore>) {
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    let mut following = store.subscribe().start().unwrap();
    let cancel = following.cancel_handle();
    let waiting = AtomicBool::new(false);
    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            until_caught_up(&mut following);
            waiting.store(true, Ordering::SeqCst);
            let last = following.recv().unwrap();
            (last, following.recv().unwrap(), following.recv_timeout(LONG).unwrap())
        });
        while !waiting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        let ended = consumer.join().unwrap();
        assert_eq!(ended, (Delivery::Ended, Delivery::Ended, Delivery::Ended));
    });
    assert!(cancel.is_cancelled());
    let mut unread = store.subscribe().start().unwrap();
    unread.cancel_handle().cancel();
    assert_eq!(unread.recv().unwrap(), Delivery::Ended, "undelivered events are dropped");
    assert_eq!(unread.count(), 0);
}

/// Later events are still delivered.
pub fn timeout_without_events_is_idle_not_the_end(store: &Arc<dyn EventStore>) {
    let mut following = store.subscribe().start().unwrap();
    assert_eq!(following.recv().unwrap(), Delivery::CaughtUp(None));
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let begun = Instant::now();
        assert_eq!(following.recv_timeout(timeout).unwrap(), Delivery::Idle);
        assert!(begun.elapsed() >= timeout, "it returned before the timeout");
    }
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    assert_eq!(next_event(&mut following).position(), position(1));
    // A timeout too long to represent means no timeout: cancelling still ends it.
    let cancel = following.cancel_handle();
    let last = thread::scope(|scope| {
        let consumer = scope.spawn(|| following.recv_timeout(Duration::MAX).unwrap());
        cancel.cancel();
        consumer.join().unwrap()
    });
    assert_eq!(last, Delivery::Ended);
}

/// With a channel of capacity 1, history, the caught-up notice and live events all arrive in order.
pub fn slow_consumer_with_a_full_channel_loses_nothing(store: &Arc<dyn EventStore>) {
    store.append("a", ExpectedVersion::Any, events(500)).unwrap();
    let following = store.subscribe().start().unwrap().into_receiver(1).unwrap();
    assert_eq!(following.receiver().capacity(), Some(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                store.append("a", ExpectedVersion::Any, events(5)).unwrap();
            }
        });
        let (mut next, mut caught_up) = (1, 0);
        while next <= 1_000 {
            match following.recv_timeout(LONG).unwrap().unwrap() {
                Delivery::Event(event) => {
                    assert_eq!(event.position().get(), next);
                    next += 1;
                    if next % 100 == 0 {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
                Delivery::CaughtUp(_) => caught_up += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(caught_up <= 1_000);
    });
    following.cancel_handle().cancel();
    // Deliveries already in the channel still arrive; then it is disconnected.
    while following.recv_timeout(LONG).is_ok() {}
    assert!(following.try_recv().is_err_and(|error| error.is_disconnected()));
}

/// Its thread ends whether it waits for events or for room in the channel. The test is that this
/// returns.
pub fn dropping_the_channel_ends_its_thread(store: &Arc<dyn EventStore>) {
    let waiting = store.subscribe().start().unwrap().into_receiver(1).unwrap();
    assert_eq!(waiting.recv().unwrap().unwrap(), Delivery::CaughtUp(None));
    drop(waiting);
    store.append("a", ExpectedVersion::Any, events(5_000)).unwrap();
    for capacity in [0, 1, 100] {
        let full = store.subscribe().start().unwrap().into_receiver(capacity).unwrap();
        let first = full.recv().unwrap().unwrap();
        assert!(matches!(first, Delivery::Event(event) if event.position() == position(1)));
        drop(full);
    }
    assert_eq!(log(store).len(), 5_000);
}

/// The error comes before any delivery.
pub fn invalid_subscription_is_refused_at_start(store: &Arc<dyn EventStore>) {
    let bad = [
        store.subscribe().stream("$mine"),
        store.subscribe().types([""]),
        store.subscribe().after_version(version(1)),
    ];
    for subscribe in bad {
        assert!(matches!(subscribe.start(), Err(Error::InvalidArgument(_))));
    }
}

/// It returns if the head is already past the position, if the head passes it, after the timeout,
/// or when cancelled and woken.
pub fn wait_past_a_position_returns_for_every_reason(store: &Arc<dyn EventStore>) {
    let never = AtomicBool::new(false);
    let soon = || Some(Instant::now() + Duration::from_millis(2));
    assert_eq!(store.wait_past(None, soon(), &never).unwrap(), None);
    store.append("a", ExpectedVersion::Any, events(2)).unwrap();
    let head = Some(position(2));
    assert_eq!(store.wait_past(None, None, &never).unwrap(), head);
    assert_eq!(store.wait_past(Some(position(1)), None, &never).unwrap(), head);
    assert_eq!(store.wait_past(head, soon(), &never).unwrap(), head);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| store.wait_past(Some(position(4)), None, &never).unwrap());
        store.append("a", ExpectedVersion::Any, events(2)).unwrap();
        store.append("a", ExpectedVersion::Any, events(1)).unwrap();
        assert_eq!(waiter.join().unwrap(), Some(position(5)));
        let cancelled = AtomicBool::new(false);
        let cancelled = &cancelled;
        thread::scope(|scope| {
            let waiter =
                scope.spawn(move || store.wait_past(Some(position(5)), None, cancelled).unwrap());
            cancelled.store(true, Ordering::SeqCst);
            store.wake();
            assert_eq!(waiter.join().unwrap(), Some(position(5)));
        });
    });
}
