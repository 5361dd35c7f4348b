//! Opening, sharing and closing: which values keep a store open, and the errors that all others
//! return after it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::{Durability, Error, EventType, Position, Timestamp, ViewStore};

use crate::support::{events, log, place, position, quick, version};

#[test]
fn reopened_store_has_all_events() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let id = store.info().unwrap().store_id;
    for round in 0..30_usize {
        store
            .append(format!("s-{}", round % 7), ExpectedVersion::Any, events(1 + round % 3))
            .unwrap();
    }
    let (before, info) = (log(&store), store.info().unwrap());
    store.close().unwrap();
    for read_only in [true, false, true] {
        let store = quick().read_only(read_only).open(&path).unwrap();
        assert_eq!(log(&store), before);
        let now = store.info().unwrap();
        assert_eq!((now.store_id, now.head, now.streams), (id, info.head, info.streams));
        assert_eq!((now.created_at, &now.path), (info.created_at, &path));
        assert!(now.poisoned.is_none());
    }
}

/// After a close, every subscription has ended, whether it waits, reads or has not begun, and every
/// other call returns the reason.
#[test]
fn close_ends_subscriptions_and_refuses_later_calls() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    let mut waiting = store.subscribe().from_now().start().unwrap();
    assert!(matches!(waiting.recv().unwrap(), Delivery::CaughtUp(_)));
    let mut reading = store.subscribe().start().unwrap();
    let following = store.subscribe().start().unwrap().into_receiver(1).unwrap();
    let subscribe = store.subscribe();
    let mut iterator = store.read_log().into_iter();
    let (read, other) = (store.read_stream("a"), store.clone());
    let handle = store.handle();
    let is_waiting = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            is_waiting.store(true, Ordering::SeqCst);
            waiting.recv()
        });
        while !is_waiting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        store.close().unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), Delivery::Ended);
    });
    assert_eq!(waiting.recv_timeout(Duration::ZERO).unwrap(), Delivery::Ended);
    assert_eq!(reading.recv().unwrap(), Delivery::Ended);
    while following.recv().is_ok() {}

    let stream = StreamId::new("a").unwrap();
    let never = AtomicBool::new(false);
    let closed = |error: Option<Error>| assert!(matches!(error, Some(Error::Closed)), "{error:?}");
    closed(other.append("a", ExpectedVersion::Any, events(1)).err());
    closed(other.head().err());
    closed(other.stream_version(&stream).err());
    closed(other.sync().err());
    closed(other.info().err());
    closed(other.list_streams(&annals::StreamsRequest::default()).err());
    closed(handle.wait_past(None, None, &never).err());
    closed(subscribe.start().err());
    closed(iterator.next().and_then(Result::err));
    assert!(iterator.next().is_none());
    closed(read.first().err());
    other.close().unwrap();
    assert_eq!(log(&quick().open(&path).unwrap()).len(), 3);
}

/// Iterators and subscriptions do not own the store, so they do not hold the directory.
#[test]
fn dropping_the_last_store_releases_the_directory() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(3_000)).unwrap();
    let mut iterator = store.read_log().into_iter();
    assert_eq!(iterator.next().unwrap().unwrap().position(), position(1));
    let mut following = store.subscribe().start().unwrap();
    assert!(matches!(following.recv().unwrap(), Delivery::Event(_)));
    let channel = store.subscribe().start().unwrap().into_receiver(1).unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    drop(store);
    assert_eq!(shared.head().unwrap(), Some(position(3_000)), "a clone owns the store too");
    drop(shared);

    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    // The iterator may return events that it has already fetched, then reports the close, and never
    // returns an event of the new store.
    let rest: Vec<_> = iterator.collect();
    assert!(matches!(rest.last(), Some(Err(Error::Closed))));
    assert!(rest.len() < 3_000);
    let rest = following.map(|event| event.unwrap().position().get());
    assert!(rest.max() < Some(3_000));
    while channel.recv().is_ok() {}
    drop(channel);
    assert_eq!(store.head().unwrap(), Some(position(3_001)));
}

/// The last owner is dropped at a random moment, on its own thread or another, during all kinds of
/// work.
#[test]
fn dropped_store_ends_all_work_and_reopens_at_once() {
    let (_directory, path) = place();
    let mut before = 0;
    for round in 0..15_u64 {
        let store = quick().memtable_bytes(1).open(&path).unwrap();
        assert_eq!(store.head().unwrap().map_or(0, Position::get), before, "round {round}");
        let (log, views) = (store.handle(), store.view_handle());
        let acknowledged = thread::scope(|scope| {
            let writers = ["a", "b", "c"].map(|stream| {
                let log = log.clone();
                scope.spawn(move || {
                    let mut last = 0;
                    loop {
                        match log.append(stream, ExpectedVersion::Any, events(3)) {
                            Ok(appended) => last = appended.last_position().get(),
                            Err(Error::Closed) => return last,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            });
            scope.spawn(|| {
                loop {
                    match log.read_log().backward().limit(100).into_iter().last() {
                        Some(Err(Error::Closed)) => return,
                        Some(Err(other)) => panic!("{other}"),
                        Some(Ok(_)) | None => {}
                    }
                }
            });
            for place in 0..2 {
                let start = log.subscribe().after(Position::new(place)).wait_if_ahead();
                let following = start.start().unwrap();
                scope.spawn(move || following.for_each(|event| drop(event.unwrap())));
            }
            scope.spawn(|| {
                while let Ok(expected) = views.checkpoint("v") {
                    let at = expected.as_ref().and_then(|found| found.position);
                    let checkpoint = annals::Checkpoint {
                        position: Position::new(at.map_or(1, |at| at.get() + 1)),
                        state: Vec::new(),
                    };
                    let commit = annals::ViewCommit {
                        view: "v".to_owned(),
                        expected,
                        changes: Vec::new(),
                        checkpoint: Some(checkpoint),
                        follows_other_log: true,
                    };
                    match views.commit_view(&commit) {
                        Ok(()) => {}
                        Err(Error::Closed) => return,
                        Err(other) => panic!("{other}"),
                    }
                }
            });
            thread::sleep(Duration::from_micros(round * round * 100));
            if round % 2 == 0 {
                drop(store);
            } else {
                scope.spawn(|| drop(store));
            }
            writers.map(|writer| writer.join().unwrap()).into_iter().max().unwrap_or(0)
        });
        let store = quick().open(&path).unwrap();
        before = store.head().unwrap().map_or(0, Position::get);
        assert!(before >= acknowledged, "{acknowledged} was acknowledged, {before} is the head");
        assert!(store.verify(|_| {}).unwrap().is_sound());
    }
    assert!(before > 0);
}

#[test]
fn clones_are_one_store() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let other = store.clone();
    let mut following = other.subscribe().start().unwrap();
    let appended = store.append("a", ExpectedVersion::NoStream, events(1)).unwrap();
    assert_eq!(other.head().unwrap(), Some(appended.last_position()));
    assert!(matches!(following.recv().unwrap(), Delivery::Event(_)));
    drop(store);
    other.append("a", ExpectedVersion::Exact(version(1)), events(1)).unwrap();
    assert_eq!(log(&other).len(), 2);
}

/// A store that is open for reading only refuses writes, and readers do not exclude each other.
#[test]
fn read_only_store_refuses_appends() {
    let (_directory, path) = place();
    quick().open(&path).unwrap().append("a", ExpectedVersion::Any, events(2)).unwrap();
    let reader = quick().read_only(true).open(&path).unwrap();
    let second = quick().read_only(true).open(&path).unwrap();
    let refused = reader.append("a", ExpectedVersion::Any, events(1)).unwrap_err();
    assert!(matches!(refused, Error::ReadOnly));
    assert!(matches!(second.sync(), Err(Error::ReadOnly)));
    assert_eq!(log(&reader), log(&second));
    assert_eq!(reader.info().unwrap().streams, 1);
    assert!(matches!(Store::open(&path), Err(Error::AlreadyOpen { .. })));
    reader.close().unwrap();
    second.close().unwrap();
    quick().open(&path).unwrap().append("a", ExpectedVersion::Any, events(1)).unwrap();
}

/// Recorded times never decrease along the log, and the store reports that the clock was set back.
#[test]
fn clock_set_back_is_clamped_and_reported() {
    let (_directory, path) = place();
    let now = Arc::new(AtomicI64::new(5_000_000));
    let clock = now.clone();
    let options = quick().clock(move || Timestamp::from_micros(clock.load(Ordering::SeqCst)));
    let store = options.clone().open(&path).unwrap();
    assert_eq!(store.info().unwrap().clock_behind, None);
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    now.store(2_000_000, Ordering::SeqCst);
    store.append("b", ExpectedVersion::Any, events(2)).unwrap();
    drop(store);
    let store = options.clone().open(&path).unwrap();
    assert_eq!(store.info().unwrap().clock_behind, Some(Duration::from_secs(3)));
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    now.store(6_000_000, Ordering::SeqCst);
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    let times = log(&store);
    let times: Vec<_> = times.iter().map(|event| event.recorded_at().as_micros()).collect();
    assert_eq!(times, [5_000_000, 5_000_000, 5_000_000, 5_000_000, 6_000_000]);
    drop(store);
    assert_eq!(options.open(&path).unwrap().info().unwrap().clock_behind, None);
}

/// The limits of the store apply, and they may be lowered without hiding earlier events.
#[test]
fn lower_limits_refuse_appends_and_never_reads() {
    let (_directory, path) = place();
    quick().open(&path).unwrap().append("a", ExpectedVersion::Any, events(50)).unwrap();
    let limits = annals::Limits::default().with_append_events_max(10).with_payload_len_max(1);
    let store = quick().limits(limits).open(&path).unwrap();
    assert_eq!(log(&store).len(), 50);
    let refused = store.append("a", ExpectedVersion::Any, events(11)).unwrap_err();
    assert!(matches!(refused, Error::LimitExceeded(_)));
    store.append("a", ExpectedVersion::Any, events(9)).unwrap();
    let beyond = annals::Limits::default().with_payload_len_max(usize::MAX);
    let refused = quick().limits(beyond).open(path.with_extension("other"));
    assert!(matches!(refused, Err(Error::LimitExceeded(_))));
    assert!(!path.with_extension("other").exists());
}

/// The channel of a `SubscriptionReceiver` can be cloned: a clone that is never drained must not
/// block the feeding thread, nor the thread that drops the `SubscriptionReceiver`.
#[test]
fn subscription_ends_despite_a_clone_of_its_full_channel() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(10)).unwrap();
    let following = store.subscribe().start().unwrap().into_receiver(1).unwrap();
    let clone = following.receiver().clone();
    drop(following);
    assert!(clone.iter().count() <= 2, "the events in the channel, then its end");
}

/// G5: an acknowledgement guarantees the requested durability, even if the events were already
/// stored.
#[test]
fn sync_retry_of_buffered_append_moves_the_watermark() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let buffered = Append::new().to("a", ExpectedVersion::NoStream, events(1));
    store.submit(buffered.clone().with_durability(Durability::Buffered)).unwrap();
    let watermark = || std::fs::read(path.join("watermark")).unwrap();
    let before = watermark();
    assert!(store.submit(buffered.with_durability(Durability::Sync)).unwrap().is_retry());
    assert_ne!(watermark(), before, "the watermark moves with what is durable");
}

/// G9: if a leader panics, the result of its commit is unknown. Its followers get an error, and the
/// writer is poisoned.
#[test]
fn panic_in_a_commit_poisons_until_reopened() {
    let (_directory, path) = place();
    let panics = Arc::new(AtomicBool::new(false));
    let clock = panics.clone();
    let store = quick()
        .clock(move || {
            assert!(!clock.swap(false, Ordering::SeqCst), "the clock fails");
            Timestamp::from_micros(7)
        })
        .open(&path)
        .unwrap();
    store.append("a", ExpectedVersion::NoStream, events(1)).unwrap();
    panics.store(true, Ordering::SeqCst);
    let (again, other) = (store.clone(), store.clone());
    let panicked = thread::spawn(move || again.append("b", ExpectedVersion::Any, events(1))).join();
    assert!(panicked.is_err());
    let refused = thread::spawn(move || other.append("b", ExpectedVersion::Any, events(1))).join();
    assert!(matches!(refused.unwrap(), Err(Error::Poisoned { .. })));
    assert_eq!(log(&store).len(), 1);
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));

    let store = quick().open(&path).unwrap();
    let appended = store.append("b", ExpectedVersion::NoStream, events(1)).unwrap();
    assert_eq!((appended.last_position(), appended.last_version()), (position(2), version(1)));
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// A recorded time must be readable as text, or an export could not be imported.
#[test]
fn clock_out_of_range_is_clamped_and_reported() {
    let (_directory, path) = place();
    let store = quick().clock(|| Timestamp::from_micros(i64::MAX)).open(&path).unwrap();
    store.append("a", ExpectedVersion::Any, events(1)).unwrap();
    let time = log(&store)[0].recorded_at();
    assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
    store.close().unwrap();
    let store = quick().open(&path).unwrap();
    assert!(store.info().unwrap().clock_behind.is_some());
}

#[test]
fn empty_path_is_refused() {
    assert!(matches!(Store::open(""), Err(Error::InvalidArgument(_))));
    assert!(matches!(quick().read_only(true).open(""), Err(Error::InvalidArgument(_))));
}

/// For example, `current` links to a release and is then replaced by a link to the next one. The
/// same holds for a relative path if the process changes its working directory.
#[cfg(unix)]
#[test]
fn open_store_ignores_a_changed_symbolic_link() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["one", "two"] {
        std::fs::create_dir(at(name)).unwrap();
        let store = Store::open(at(name).join("store")).unwrap();
        store.append(name, ExpectedVersion::NoStream, events(1)).unwrap();
        store.close().unwrap();
    }
    symlink(at("one"), at("current")).unwrap();
    let options = Store::options().memtable_bytes(1);
    let store = options.open(at("current").join("store")).unwrap();
    symlink(at("two"), at("next")).unwrap();
    std::fs::rename(at("next"), at("current")).unwrap();
    // Enough to begin new log files and tables.
    let long = || NewEvent::new(EventType::new("Happened").unwrap(), vec![7; 100_000]);
    for _ in 0..20 {
        store.append("one", ExpectedVersion::Any, [long()]).unwrap();
    }
    store.close().unwrap();
    for (name, head) in [("one", 21), ("two", 1)] {
        let store = Store::open(at(name).join("store")).unwrap();
        assert_eq!(store.head().unwrap().map(Position::get), Some(head), "{name}");
        assert!(store.verify(|_| {}).unwrap().is_sound(), "{name}");
    }
}

#[test]
fn subscription_accepts_any_channel_capacity() {
    let store = MemoryStore::new();
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    for capacity in [0, 1, usize::MAX] {
        let following = store.subscribe().start().unwrap().into_receiver(capacity).unwrap();
        let got = following.recv().unwrap().unwrap();
        assert!(matches!(got, Delivery::Event(_)), "{got:?}");
    }
}

#[test]
fn thread_local_destructor_may_read() {
    struct ReadsLast(Store);
    impl Drop for ReadsLast {
        fn drop(&mut self) {
            assert_eq!(log(&self.0).len(), 3);
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<ReadsLast>> = const { std::cell::RefCell::new(None) };
    }
    let (_directory, path) = place();
    let store = quick().open(path).unwrap();
    store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    std::thread::spawn(move || {
        // Created before the thread-local of the reader, and so dropped after it.
        LAST.set(Some(ReadsLast(store.clone())));
        assert_eq!(log(&store).len(), 3);
    })
    .join()
    .unwrap();
}

#[test]
fn memory_store_has_the_limits_of_the_store_on_disk() {
    let limits = annals::Limits::default().with_payload_len_max(usize::MAX);
    let store = MemoryStore::with(limits, || Timestamp::from_micros(0));
    let long = vec![0; annals::limits::PAYLOAD_LEN_MAX + 1];
    let event = NewEvent::new(EventType::new("Happened").unwrap(), long);
    let refused = store.append("a", ExpectedVersion::Any, [event]).unwrap_err();
    assert!(matches!(refused, Error::LimitExceeded(_)), "{refused}");
}
