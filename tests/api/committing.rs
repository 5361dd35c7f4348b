//! Commits on disk: many callers in one write, streams that the version cache has dropped, and
//! retries after a restart.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use annals::{Durability, Error, Timestamp, Version};

use crate::support::{events, log, place, position, quick, version};

/// A retry is recognised from the data on disk, not from the memory of the process.
#[test]
fn retry_is_recognised_after_reopening() {
    let (_directory, path) = place();
    let given = [events(3), events(2), events(1_500), events(1)];
    let expected = [
        ExpectedVersion::NoStream,
        ExpectedVersion::Exact(version(3)),
        ExpectedVersion::StreamExists,
        ExpectedVersion::Any,
    ];
    let both = Append::new()
        .to("c", ExpectedVersion::NoStream, events(2))
        .to("b", ExpectedVersion::NoStream, events(1))
        .to("c", ExpectedVersion::NoStream, events(1));
    let mut first = Vec::new();
    for (given, expected) in given.iter().zip(expected) {
        let store = quick().open(&path).unwrap();
        first.push(store.append("a", expected, given.clone()).unwrap());
        store.close().unwrap();
        let store = quick().open(&path).unwrap();
        let again = store.append("a", expected, given.clone()).unwrap();
        assert!(again.is_retry());
        assert!(again.positions().eq(first.last().unwrap().positions()));
    }
    let store = quick().open(&path).unwrap();
    let appended = store.submit(both.clone()).unwrap();
    drop(store);
    let store = quick().open(&path).unwrap();
    let again = store.submit(both).unwrap();
    assert!(again.is_retry());
    assert_eq!(again.versions(), appended.versions());
    assert!(again.positions().eq(appended.positions()));
    for index in 0..2 {
        let again = store.append("a", expected[index], given[index].clone()).unwrap();
        assert!(again.is_retry() && again.positions().eq(first[index].positions()));
    }
    assert_eq!(store.head().unwrap(), Some(position(1_506 + 4)));
}

/// Each caller reads its own append at once, and a refused append affects no other in its group
/// (G1, G4, G6).
#[test]
fn appends_of_64_threads_share_writes_and_stay_isolated() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let (threads, rounds) = (64_u64, 12_u64);
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    thread::scope(|scope| {
        for caller in 0..threads {
            let (store, barrier) = (store.clone(), &barrier);
            scope.spawn(move || {
                let own = format!("own-{caller}");
                barrier.wait();
                for round in 0..rounds {
                    let refused = if caller % 4 == 0 {
                        store.append(own.as_str(), ExpectedVersion::Exact(version(999)), events(1))
                    } else {
                        let both = Append::new()
                            .to("shared", ExpectedVersion::Any, events(1))
                            .check("shared-too", ExpectedVersion::StreamExists);
                        store.submit(both)
                    };
                    assert!(refused.unwrap_err().is_conflict());
                    let expected = ExpectedVersion::from(Version::new(round * 2));
                    let given = events(2);
                    let appended = store.append(own.as_str(), expected, given.clone()).unwrap();
                    assert!(!appended.is_retry());
                    assert_eq!(appended.last_version(), version(round * 2 + 2));
                    assert!(store.head().unwrap() >= Some(appended.last_position()));
                    let newest: Vec<_> = store
                        .read_stream(own.as_str())
                        .from(version(round * 2 + 1))
                        .into_iter()
                        .collect::<Result<_, _>>()
                        .unwrap();
                    assert!(
                        newest.iter().map(RecordedEvent::id).eq(given.iter().map(NewEvent::id))
                    );
                    let retry = store.append(own.as_str(), expected, given).unwrap();
                    assert!(retry.is_retry());
                    assert!(retry.positions().eq(appended.positions()));
                }
            });
        }
    });
    let count = threads * rounds * 2;
    assert!(log(&store).iter().map(|event| event.position().get()).eq(1..=count));
    assert_eq!(store.info().unwrap().streams, threads);
    assert_eq!(store.streams().prefix("shared").into_iter().count(), 0);
}

/// In a group each append is as durable as it asked to be, regardless of the others (G5): the
/// durable watermark has reached a `Sync` append when it is acknowledged.
#[test]
fn sync_append_in_a_mixed_group_is_durable() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let durable = || {
        let bytes = std::fs::read(path.join("watermark")).unwrap();
        let slots = bytes.chunks(512).map(|slot| slot[32..40].try_into().unwrap());
        slots.map(u64::from_be_bytes).max().unwrap()
    };
    let (barrier, too_early) = (Barrier::new(16), AtomicUsize::new(0));
    thread::scope(|scope| {
        for caller in 0..16 {
            let (store, barrier) = (store.clone(), &barrier);
            let (durable, too_early) = (&durable, &too_early);
            scope.spawn(move || {
                let is_sync = caller % 4 == 0;
                let durability = if is_sync { Durability::Sync } else { Durability::Buffered };
                for _ in 0..30 {
                    barrier.wait();
                    let to = format!("own-{caller}");
                    let append = Append::new().to(to, ExpectedVersion::Any, events(1));
                    let appended = store.submit(append.with_durability(durability)).unwrap();
                    let is_early = is_sync && durable() < appended.last_position().get();
                    too_early.fetch_add(usize::from(is_early), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(too_early.into_inner(), 0, "acknowledged as `Sync` before it was durable");
}

/// A version that the cache has dropped is looked up, which is only slower.
#[test]
fn version_cache_of_one_stream_changes_no_answer() {
    let (_directory, path) = place();
    let store = quick().version_cache_streams(1).open(&path).unwrap();
    let streams = 50;
    for round in 0..20_u64 {
        for stream in 0..streams {
            let name = format!("s-{stream}");
            let stale = ExpectedVersion::from(Version::new(round + 1));
            assert!(store.append(name.as_str(), stale, events(1)).unwrap_err().is_conflict());
            let expected = ExpectedVersion::from(Version::new(round));
            let given = events(1);
            let appended = store.append(name.as_str(), expected, given.clone()).unwrap();
            assert_eq!(appended.last_version(), version(round + 1));
            assert!(store.append(name.as_str(), ExpectedVersion::Any, given).unwrap().is_retry());
        }
    }
    assert_eq!(store.info().unwrap().streams, streams);
    assert_eq!(store.head().unwrap(), Some(position(20 * streams)));
}

/// A store whose first commit takes so long that the callers that come meanwhile are one group.
fn with_slow_first_commit(path: &Path) -> Store {
    let is_slow = Arc::new(AtomicBool::new(false));
    let asked = is_slow.clone();
    let clock = move || {
        if asked.swap(false, Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(300));
        }
        Timestamp::from(std::time::SystemTime::now())
    };
    // With a cache of one stream, everything else is looked up.
    let store = quick().clock(clock).version_cache_streams(1).open(path).unwrap();
    is_slow.store(true, Ordering::SeqCst);
    store
}

/// Submits each append on a separate thread, all in one group if the machine allows.
fn submit_together(store: &Store, appends: Vec<Append>) -> Vec<annals::Result<Appended>> {
    thread::scope(|scope| {
        let leader = scope.spawn(|| store.append("leader", ExpectedVersion::Any, events(1)));
        thread::sleep(Duration::from_millis(50));
        let submit = |append| scope.spawn(move || store.submit(append));
        let callers: Vec<_> = appends.into_iter().map(submit).collect();
        leader.join().unwrap().unwrap();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

/// Appends to one stream share a batch, and each sees those before it.
#[test]
fn appends_to_one_stream_share_a_batch() {
    let (_directory, path) = place();
    let store = with_slow_first_commit(&path);
    let any = || Append::new().to("hot", ExpectedVersion::Any, events(3));
    let first = || Append::new().to("once", ExpectedVersion::NoStream, events(2));
    // The cache forgets the others for these.
    let own = |n: i32| Append::new().to(format!("own-{n}"), ExpectedVersion::NoStream, events(1));
    let appends = (0..24).map(|caller| match caller % 4 {
        0 => any(),
        2 => first(),
        _ => own(caller),
    });
    let appends = appends.collect();
    let (mut appended, mut refused) = (Vec::new(), 0);
    for outcome in submit_together(&store, appends) {
        match outcome {
            Ok(outcome) => appended.push(outcome),
            Err(Error::WrongExpectedVersion { actual, .. }) => {
                assert_eq!(actual, Some(version(2)));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((appended.len(), refused), (19, 5), "one of six creates the stream");
    assert_eq!(store.stream_version(&"hot".try_into().unwrap()).unwrap(), Some(version(18)));
    let log = log(&store);
    assert!(log.iter().map(|event| event.position().get()).eq(1..=1 + 18 + 2 + 12));
    for appended in appended {
        let (stream, versions) = &appended.versions()[0];
        let expected = (versions.start().get()..=versions.end().get()).map(version);
        let places = appended.positions().map(|at| &log[usize::try_from(at.get() - 1).unwrap()]);
        let places: Vec<_> = places.map(|event| (event.stream(), event.version())).collect();
        assert!(places.iter().copied().eq(expected.map(|version| (stream, version))));
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// A retry in the same batch as the first try is acknowledged with the same positions.
#[test]
fn retry_within_a_batch_is_recognised() {
    let retried = [
        Append::new().to("a", ExpectedVersion::NoStream, events(3)),
        Append::new().to("leader", ExpectedVersion::Exact(version(1)), events(2)),
        Append::new().to("b", ExpectedVersion::Any, events(1)),
        Append::new()
            .to("c", ExpectedVersion::NoStream, events(2))
            .to("d", ExpectedVersion::NoStream, events(1))
            .to("c", ExpectedVersion::NoStream, events(1)),
        Append::new().to("e", ExpectedVersion::NoStream, events(2_500)),
    ];
    for append in retried {
        let (_directory, path) = place();
        let store = with_slow_first_commit(&path);
        let outcomes = submit_together(&store, vec![append.clone(); 6]);
        let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes.iter().filter(|outcome| !outcome.is_retry()).count(), 1);
        for outcome in &outcomes {
            assert!(outcome.positions().eq(outcomes[0].positions()));
            assert_eq!(outcome.versions(), outcomes[0].versions());
        }
        let count = append.events().count() as u64 + 1;
        assert_eq!(store.head().unwrap(), Some(position(count)));
        assert!(store.submit(append).unwrap().is_retry());
    }
}

/// A retry over several streams is recognised even though another append to one of them came
/// between.
#[test]
fn retry_within_a_batch_is_recognised_after_another_append() {
    let (_directory, path) = place();
    let store = with_slow_first_commit(&path);
    let both = Append::new().to("c", ExpectedVersion::NoStream, events(2)).to(
        "d",
        ExpectedVersion::Any,
        events(1),
    );
    let other = || Append::new().to("d", ExpectedVersion::Any, events(1));
    let appends = (0..20).map(|caller| if caller % 2 == 0 { both.clone() } else { other() });
    let outcomes: Vec<_> =
        submit_together(&store, appends.collect()).into_iter().map(Result::unwrap).collect();
    let (both, other): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|outcome| outcome.versions().len() == 2);
    assert_eq!(both.iter().filter(|outcome| !outcome.is_retry()).count(), 1);
    for outcome in &both {
        assert!(outcome.positions().eq(both[0].positions()));
        assert_eq!(outcome.versions(), both[0].versions());
    }
    assert!(other.iter().all(|outcome| !outcome.is_retry()));
    assert_eq!(store.head().unwrap(), Some(position(1 + 3 + 10)));
}
