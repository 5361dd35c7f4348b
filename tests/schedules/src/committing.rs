//! The commit queue: each caller gets the outcome of its own submission, once. An acknowledged
//! event is visible, at its place, in a log without gaps (G2, G6). After a failure nothing is
//! acknowledged (G9). No caller waits forever, even if a leader panics.

use std::sync::{Arc, PoisonError};

use annals::__internals::{Answer, Gate, Head, Prepared, Queue, Submission, Ticket, settle};
use annals::{
    Append, Appended, Cause, Durability, Error, EventType, ExpectedVersion, NewEvent, Position,
    StreamId, Version,
};
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::check;

/// The committer without a disk.
pub(crate) struct Engine {
    pub(crate) queue: Queue,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) head: Head,
    pub(crate) gate: Gate,
}

#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) log: Vec<u8>,
    /// The number of writes so far, and which one fails.
    writes: usize,
    fails: Option<Failure>,
}

#[derive(Clone, Copy)]
pub(crate) enum Failure {
    Write(usize),
    Panic(usize),
}

impl Engine {
    pub(crate) fn new(fails: Option<Failure>) -> Arc<Self> {
        let writer = Mutex::new(Writer { fails, ..Writer::default() });
        Arc::new(Self { queue: Queue::new(), writer, head: Head::new(None), gate: Gate::new() })
    }

    pub(crate) fn submit(&self, name: u8) -> Result<Appended, Error> {
        let outcome = self.queue.submit(submission(name), |group| {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            self.commit(&mut writer, group);
        });
        outcome.map(|answer| answer.appended.into_iter().next().unwrap())
    }

    /// The writer's protocol: check the gate, stage, write, publish, acknowledge.
    pub(crate) fn commit(&self, writer: &mut Writer, group: &[Arc<Ticket>]) {
        let mut staged = Vec::new();
        for ticket in group {
            let submission = ticket.take().expect("a ticket is committed once");
            if let Err(refused) = self.gate.check() {
                ticket.set(Err(refused));
                continue;
            }
            staged.push((ticket, submission));
        }
        if staged.is_empty() {
            return;
        }
        let mut outcomes = Vec::new();
        let written = self.gate.attempt(|| {
            for (_, submission) in &staged {
                let name = submission.record.as_ref().unwrap().0[0];
                // The first submission with a name takes it, in this batch or an earlier one.
                outcomes.push(if name >= NAMES && writer.log.contains(&name) {
                    Err(taken())
                } else {
                    writer.log.push(name);
                    let place = Position::new(writer.log.len() as u64).unwrap();
                    let appended = [appended(place)].into_iter().collect();
                    Ok(Answer { appended, ..Answer::default() })
                });
            }
            writer.writes += 1;
            match writer.fails {
                Some(Failure::Write(at)) if at == writer.writes => {
                    let cause = Cause::new(std::io::Error::other("the disk is gone"));
                    return Err(Error::Indeterminate { cause });
                }
                Some(Failure::Panic(at)) if at == writer.writes => {
                    panic!("in the middle of a commit")
                }
                _ => {}
            }
            self.gate.check_sound()?;
            let head = Position::new(writer.log.len() as u64);
            if head > self.head.current() {
                self.head.publish(head.unwrap());
            }
            Ok(())
        });
        for ((ticket, _), outcome) in staged.iter().zip(outcomes) {
            ticket.set(settle(outcome, &written));
        }
    }
}

/// After this, a name can be taken only once.
const NAMES: u8 = 200;

fn taken() -> Error {
    Error::PartialRetry { stream: StreamId::new("taken").unwrap() }
}

pub(crate) fn submission(name: u8) -> Submission {
    let event = NewEvent::new(EventType::new("Happened").unwrap(), vec![name]);
    let append = Append::new().to("a-1", ExpectedVersion::Any, [event]);
    let record = Some((vec![name], Vec::new()));
    Submission { record, ..Submission::of([Prepared::new(&append)], Durability::Sync) }
}

fn appended(place: Position) -> Appended {
    let version = Version::new(place.get()).unwrap();
    let versions = vec![(StreamId::new("a-1").unwrap(), version..=version)];
    Appended::new(vec![place..=place], versions, false).unwrap()
}

pub(crate) fn all<T: Send + 'static>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn caller_gets_its_own_place_and_sees_it_at_once() {
    check(|| {
        let engine = Engine::new(None);
        let caller = |name: u8| {
            let engine = engine.clone();
            thread::spawn(move || {
                for round in 0..2 {
                    let name = name * 10 + round;
                    let place = engine.submit(name).unwrap().last_position();
                    assert!(
                        engine.head.current() >= Some(place),
                        "what is acknowledged is visible"
                    );
                    let index = usize::try_from(place.get() - 1).unwrap();
                    assert_eq!(engine.writer.lock().unwrap().log[index], name);
                }
            })
        };
        all((1..=4).map(caller).collect());
        let mut log = engine.writer.lock().unwrap().log.clone();
        assert_eq!(engine.head.current(), Position::new(8));
        log.sort_unstable();
        assert_eq!(log, [10, 11, 20, 21, 30, 31, 40, 41], "each once, and no gap");
    });
}

#[test]
fn single_caller_commits_in_the_order_of_its_calls() {
    check(|| {
        let engine = Engine::new(None);
        let callers = [1_u8, 2, 3].map(|name| {
            let engine = engine.clone();
            thread::spawn(move || {
                let first = engine.submit(name).unwrap().last_position();
                let second = engine.submit(name).unwrap().last_position();
                assert!(first < second);
            })
        });
        all(callers.into());
    });
}

#[test]
fn failed_write_acknowledges_nothing_and_wakes_every_caller() {
    for fails in [Failure::Write(1), Failure::Write(2), Failure::Panic(1), Failure::Panic(2)] {
        check(move || {
            let engine = Engine::new(Some(fails));
            let caller = |name: u8| {
                let engine = engine.clone();
                thread::spawn(move || {
                    let outcomes = [(); 2].map(|()| {
                        let submitted = || engine.submit(name);
                        // The panic unwinds the leader's own call, but not the calls of its
                        // followers.
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(submitted)).ok()
                    });
                    let head = engine.head.current();
                    let mut has_failed = false;
                    for outcome in outcomes {
                        match outcome {
                            Some(Ok(appended)) => {
                                assert!(!has_failed, "acknowledged after a failure");
                                assert!(head >= Some(appended.last_position()));
                            }
                            Some(Err(Error::Indeterminate { .. } | Error::Poisoned { .. }))
                            | None => {
                                has_failed = true;
                            }
                            Some(Err(other)) => panic!("{other}"),
                        }
                    }
                })
            };
            all((1..=3).map(caller).collect());
            assert!(matches!(engine.gate.check(), Err(Error::Poisoned { .. })));
            let published = engine.head.current().map_or(0, Position::get);
            let writer = engine.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let log = writer.log.len();
            assert!(published < log as u64, "what failed is not published");
        });
    }
}

/// A refusal may depend on earlier staged submissions of its batch: it is returned only if those
/// are published.
#[test]
fn refusal_is_returned_only_once_its_cause_is_published() {
    for fails in [None, Some(Failure::Write(1)), Some(Failure::Write(2)), Some(Failure::Panic(1))] {
        check(move || {
            let engine = Engine::new(fails);
            let caller = |name: u8| {
                let engine = engine.clone();
                thread::spawn(move || {
                    let submitted = || engine.submit(name);
                    let outcome =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(submitted)).ok();
                    if let Some(Err(Error::PartialRetry { .. })) = outcome {
                        let published = engine.head.current().map_or(0, Position::get);
                        let writer = engine.writer.lock().unwrap_or_else(PoisonError::into_inner);
                        let at = writer.log.iter().position(|taken| *taken == name).unwrap();
                        assert!((at as u64) < published, "refused for what is not published");
                    }
                })
            };
            all([NAMES, NAMES, 1, NAMES].map(caller).into());
        });
    }
}
