//! The lane: each task gets the outcome of its own submission, once. A dropped future cancels
//! nothing. Tasks never take more room than there is, and no task waits forever.

use std::pin::pin;
use std::sync::{Arc, PoisonError};

use annals::Error;
use annals::__internals::{Room, Signal};
use futures_lite::future::{self, poll_once};
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::check;
use crate::committing::{Engine, Failure, all, submission};

/// An engine whose lane runs until it is ended.
struct Lane {
    engine: Arc<Engine>,
    room: Room,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Lane {
    fn start(fails: Option<Failure>) -> Arc<Self> {
        let engine = Engine::new(fails);
        let run = {
            let engine = engine.clone();
            move || {
                engine.queue.run_lane(|group| {
                    let mut writer = engine.writer.lock().unwrap_or_else(PoisonError::into_inner);
                    engine.commit(&mut writer, group);
                });
            }
        };
        let thread = Mutex::new(Some(thread::spawn(run)));
        Arc::new(Self { engine, room: Room::new(2), thread })
    }

    async fn submit(&self, name: u8) -> Result<u64, Error> {
        let room = self.room.take(1).await;
        let answer = self.engine.queue.enter_task(submission(name), room)?.await?;
        Ok(answer.appended[0].last_position().get())
    }

    fn end(&self) {
        self.engine.queue.end_lane();
        self.thread.lock().unwrap().take().unwrap().join().unwrap();
    }

    fn log(&self) -> Vec<u8> {
        let writer = self.engine.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.log.clone()
    }
}

#[test]
fn tasks_and_threads_get_their_own_places() {
    check(|| {
        let lane = Lane::start(None);
        let caller = |name: u8| {
            let lane = lane.clone();
            thread::spawn(move || {
                for round in 0..2 {
                    let name = name * 10 + round;
                    let place = if name < 30 {
                        block_on(lane.submit(name)).unwrap()
                    } else {
                        lane.engine.submit(name).unwrap().last_position().get()
                    };
                    let head = lane.engine.head.current().unwrap().get();
                    assert!(head >= place, "what is acknowledged is visible");
                    assert_eq!(lane.log()[usize::try_from(place - 1).unwrap()], name);
                }
            })
        };
        all((1..=4).map(caller).collect());
        lane.end();
        let mut log = lane.log();
        log.sort_unstable();
        assert_eq!(log, [10, 11, 20, 21, 30, 31, 40, 41], "each once, and no gap");
    });
}

#[test]
fn dropped_future_cancels_nothing_that_was_submitted() {
    check(|| {
        let lane = Lane::start(None);
        let caller = |name: u8| {
            let lane = lane.clone();
            thread::spawn(move || {
                block_on(async {
                    let mut submitting = pin!(lane.submit(name));
                    // Waits for room, or for its outcome, and is dropped.
                    let _ = poll_once(&mut submitting).await;
                });
                block_on(lane.submit(name * 10)).unwrap();
            })
        };
        all((1..=3).map(caller).collect());
        lane.end();
        let mut log = lane.log();
        log.sort_unstable();
        log.retain(|name| *name >= 10);
        assert_eq!(log, [10, 20, 30]);
        let mut once = lane.log();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), lane.log().len(), "none twice");
    });
}

#[test]
fn failed_write_wakes_every_task() {
    for fails in [Failure::Write(1), Failure::Write(2), Failure::Panic(1), Failure::Panic(2)] {
        check(move || {
            let lane = Lane::start(Some(fails));
            let caller = |name: u8| {
                let lane = lane.clone();
                thread::spawn(move || {
                    let first = block_on(lane.submit(name));
                    let second = block_on(lane.submit(name + 100));
                    assert!(first.is_ok() || second.is_err(), "acknowledged after a failure");
                    for error in [first.err(), second.err()].into_iter().flatten() {
                        let is_expected =
                            matches!(error, Error::Indeterminate { .. } | Error::Poisoned { .. });
                        assert!(is_expected, "{error}");
                    }
                })
            };
            all((1..=3).map(caller).collect());
            lane.end();
            assert!(matches!(lane.engine.gate.check(), Err(Error::Poisoned { .. })));
        });
    }
}

/// What was entered before the end gets its outcome, and what comes later is refused.
#[test]
fn lane_ends_after_the_tasks_that_wait() {
    check(|| {
        let lane = Lane::start(None);
        let caller = |name: u8| {
            let lane = lane.clone();
            thread::spawn(move || match block_on(lane.submit(name)) {
                Ok(place) => assert_eq!(lane.log()[usize::try_from(place - 1).unwrap()], name),
                Err(Error::Closed) => assert!(!lane.log().contains(&name)),
                Err(other) => panic!("{other}"),
            })
        };
        let callers = (1..=3).map(caller).collect();
        let thread = {
            let lane = lane.clone();
            thread::spawn(move || lane.engine.submit(9).unwrap())
        };
        lane.end();
        all(callers);
        thread.join().unwrap();
    });
}

#[test]
fn room_is_never_exceeded_and_serves_everyone() {
    check(|| {
        let (room, taken) = (Arc::new(Room::new(3)), Arc::new(Mutex::new(0)));
        let caller = |bytes: usize| {
            let (room, taken) = (room.clone(), taken.clone());
            thread::spawn(move || {
                block_on(async {
                    // One that gives up while it waits is no obstacle for the others.
                    let _ = poll_once(pin!(room.take(bytes))).await;
                    let permit = room.take(bytes).await;
                    let now = {
                        let mut taken = taken.lock().unwrap();
                        *taken += bytes.min(3);
                        *taken
                    };
                    assert!(now <= 3, "{now}");
                    future::yield_now().await;
                    *taken.lock().unwrap() -= bytes.min(3);
                    drop(permit);
                });
            })
        };
        all([1, 2, 3, 5].map(caller).into());
    });
}

/// A task may wait for something else before it polls such a future again.
#[test]
fn take_that_is_not_polled_does_not_delay_others() {
    check(|| {
        let room = Arc::new(Room::new(3));
        let held = block_on(room.take(2));
        let mut idle = pin!(room.take(2));
        assert!(block_on(poll_once(&mut idle)).is_none(), "it waits in line");
        let other = {
            let room = room.clone();
            thread::spawn(move || drop(block_on(room.take(1))))
        };
        drop(held);
        other.join().unwrap();
        drop(block_on(idle));
        drop(block_on(room.take(3)));
    });
}

#[test]
fn signal_wakes_everything_that_listened_before() {
    check(|| {
        let (signal, value) = (Arc::new(Signal::default()), Arc::new(Mutex::new(0)));
        let waiter = || {
            let (signal, value) = (signal.clone(), value.clone());
            thread::spawn(move || {
                block_on(async {
                    // Dropped after it was polled: it leaves nothing behind.
                    let _ = poll_once(signal.listen()).await;
                    loop {
                        let listener = signal.listen();
                        if *value.lock().unwrap() == 2 {
                            return;
                        }
                        listener.await;
                    }
                });
            })
        };
        let waiters = [(); 3].map(|()| waiter());
        for _ in 0..2 {
            *value.lock().unwrap() += 1;
            signal.raise();
        }
        all(waiters.into());
    });
}
