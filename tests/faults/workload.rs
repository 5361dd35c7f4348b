//! The work of the children on a store: short, but with every kind of write running at once.
//! Several writers whose appends are committed in groups, appends to several streams, of all sizes;
//! aggregates with snapshots; read models that follow the log and rebuilds; flushes, since the
//! memtables are as small as possible.

use std::thread;

use annals::prelude::*;
use annals::{
    Durability, KeyedSubmission, Position, ProjectionError, ProjectionManager, ProjectionOptions,
    Query, Repository, SnapshotPolicy, Version,
};

use crate::account::{Account, AccountCommand};
use crate::deletions::STEPS;
use crate::read_models::{AccountBalances, TransactionHistory};
use crate::shim::{self, Place};
use crate::support::SOON;
use crate::support::promises::{Heard, event, heard, request_key};
use crate::{io_error, kill, power};

/// Not a test of its own: the child process.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let place = Place::of_child().unwrap();
    let plan = std::env::var(shim::PLAN).unwrap();
    match plan.split_once(' ') {
        Some(("errors", plan)) => io_error::child(&Plan::named(plan), &place),
        Some(("power", script)) => power::directed::child(script, &place),
        Some(("backup", _)) => kill::failed_backup::child(&place),
        Some(("deletions", _)) => kill::deletions::child(&place),
        Some(("view", _)) => kill::views::child(&place),
        _ => Plan::named(&plan).run(&place),
    }
}

/// Whether every case is tried, and not a sample.
pub(crate) fn is_everything() -> bool {
    std::env::var("ANNALS_TEST_FAULTS").is_ok_and(|wanted| wanted == "all")
}

/// How a child uses a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// The durability of the store; `mixed` appends set their own.
    pub(crate) durability: Durability,
    is_mixed: bool,
    pub(crate) writers: usize,
    pub(crate) rounds: usize,
    /// Length of the payloads.
    lens: &'static [usize],
    pub(crate) has_bank: bool,
    /// How often the store is opened.
    pub(crate) opens: usize,
    /// How many backups are made during the work.
    backups: usize,
    /// Whether the store is closed at the end; otherwise the process dies.
    pub(crate) closes: bool,
}

const SMALL: Plan = Plan {
    name: "small",
    durability: Durability::Sync,
    is_mixed: false,
    writers: 1,
    rounds: 3,
    lens: &[10, 700, 45_000],
    has_bank: false,
    opens: 2,
    backups: 0,
    closes: true,
};

const DELETIONS: &str = "deletions";

/// The plans whose power is cut.
pub(crate) const PLANS: [Plan; 9] = [
    SMALL,
    // Group commits, synced; with read models and snapshots, which are not.
    Plan {
        name: "synced",
        writers: 3,
        rounds: 5,
        lens: &[10, 9_000, 700, 45_000, 3_000],
        has_bank: true,
        opens: 1,
        ..SMALL
    },
    Plan {
        name: "buffered",
        durability: Durability::Buffered,
        writers: 3,
        rounds: 8,
        lens: &[700, 9_000, 10, 3_000],
        has_bank: true,
        opens: 1,
        ..SMALL
    },
    Plan {
        name: "mixed",
        is_mixed: true,
        writers: 3,
        rounds: 6,
        lens: &[10, 9_000, 700, 20_000],
        has_bank: true,
        opens: 2,
        ..SMALL
    },
    // Backups during all other work.
    Plan {
        name: "copied",
        is_mixed: true,
        writers: 2,
        rounds: 5,
        lens: &[9_000, 10, 700],
        opens: 1,
        backups: 3,
        ..SMALL
    },
    // Ends without closing: the next plan has a write-ahead log to recover.
    Plan {
        name: "killed",
        is_mixed: true,
        writers: 2,
        rounds: 4,
        lens: &[9_000, 10, 700],
        has_bank: true,
        opens: 1,
        closes: false,
        ..SMALL
    },
    // The next plan.
    Plan {
        name: "recovered",
        is_mixed: true,
        writers: 1,
        rounds: 2,
        lens: &[700, 9_000],
        has_bank: true,
        opens: 1,
        ..SMALL
    },
    Plan { name: DELETIONS, opens: 1, ..SMALL },
    // Appends while deletions are resumed.
    Plan { name: "resumed", rounds: 2, lens: &[10, 700], opens: 1, ..SMALL },
];

impl Plan {
    pub(crate) fn named(name: &str) -> Self {
        *PLANS.iter().find(|plan| plan.name == name).unwrap()
    }

    /// Whether it takes the steps of `deletions`, and does nothing else.
    pub(crate) fn deletes(&self) -> bool {
        self.name == DELETIONS
    }

    /// Uses the store as planned.
    pub(crate) fn run(&self, place: &Place) {
        for open in 0..self.opens {
            let options = Store::options()
                .durability(self.durability)
                .memtable_bytes(1)
                .disk_reserve_bytes(0)
                .pack_bytes(400);
            let store = options.open(place.store()).unwrap();
            let heard = heard(&store, self.durability, &place.book());
            if self.deletes() {
                for step in STEPS {
                    step.run(open, &store, &heard).unwrap();
                }
            } else {
                self.work(&store, &heard, place, open);
            }
            if !self.closes {
                std::process::abort();
            }
            store.close().unwrap();
        }
    }

    fn work(&self, store: &Store, heard: &Heard, place: &Place, open: usize) {
        let projections = self.has_bank.then(|| projections(store).unwrap());
        thread::scope(|scope| {
            for writer in 0..self.writers {
                scope.spawn(move || {
                    for round in 0..self.rounds {
                        let version = heard.stream_version(&own(writer)).unwrap();
                        let tip = (version, heard.head().unwrap());
                        if round % 2 == 1 {
                            self.submit_once(heard, (open, writer, round), tip);
                            continue;
                        }
                        let append = self.append(writer, round, tip, None);
                        heard.submit(append.clone()).unwrap();
                        if round % 4 == 2 {
                            // A retry acknowledged as `Sync` is synced, though nothing is written.
                            heard.submit(append.with_durability(Durability::Sync)).unwrap();
                        }
                        if writer == 0 && round == self.rounds / 2 {
                            heard.decorator().sync(store).unwrap();
                        }
                    }
                });
            }
            scope.spawn(move || {
                for number in 0..self.backups {
                    heard
                        .decorator()
                        .backup(store, &place.disk().join(format!("copy-{number}")))
                        .unwrap();
                }
            });
            if self.has_bank {
                scope.spawn(move || bank(store, heard, self.rounds));
            }
            if let Some(projections) = projections.as_ref().filter(|_| open == 0) {
                scope.spawn(|| projections.projections().for_each(|p| p.rebuild().unwrap()));
            }
        });
        if self.backups > 0 {
            heard.decorator().go_on_with_backup(&place.disk().join("copy-0")).unwrap();
        }
        if let (Some(projections), Some(head)) = (projections, store.head().unwrap()) {
            projections.projections().for_each(|p| p.wait_for(head, SOON).unwrap());
            projections.stop();
        }
    }

    /// Two requests with a key, each sent twice: one with events, which differ the second time, and
    /// one that records only its key.
    fn submit_once(
        &self,
        heard: &Heard,
        (open, writer, round): (usize, usize, usize),
        tip: (Option<Version>, Option<Position>),
    ) {
        let name = format!("{}-{open}-{writer}-{round}", self.name);
        let alone = format!("{name}-alone");
        for is_again in [false, true] {
            let append = self.append(writer, round, tip, Some(&name));
            let done = heard.submit_once(&request_key(&name), append.into()).unwrap();
            assert_eq!(done.is_retry, is_again);
            let refusal = match round % 4 {
                1 => KeyedSubmission::nothing(),
                _ => KeyedSubmission::rejection(vec![7; 700]),
            };
            let done = heard.submit_once(&request_key(&alone), refusal).unwrap();
            assert_eq!(done.is_retry, is_again);
        }
    }

    /// An append to the writer's stream, whose last version is `tip`, and to a shared stream, on the
    /// condition that the writer has appended nothing after the position `head`. Its events name the key of their request, if it has one.
    pub(crate) fn append(
        &self,
        writer: usize,
        round: usize,
        (tip, head): (Option<Version>, Option<Position>),
        key: Option<&str>,
    ) -> Append {
        let len = |n: usize| self.lens[n % self.lens.len()];
        let [a, b, c] = [0, 1, 2].map(|n| {
            let event = event("Happened", len(writer + round + n));
            key.into_iter().fold(event, |event, key| event.with_metadata("key", key))
        });
        // Exact, so that a retry is distinguishable from a new append.
        let expected = tip.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
        let shared = format!("shared-{}", round % 2);
        // Only this writer uses its tag, and it has read up to the head.
        let a = a.with_tag(own(writer).as_str());
        let append = Append::new().to(own(writer), expected, [a]);
        let append = append.fail_if(Query::tag(own(writer).as_str())).after(head);
        let append = match (writer + round) % 3 {
            0 => append,
            1 => append.to(shared, ExpectedVersion::Any, [b]),
            _ => append.to(shared, ExpectedVersion::Any, [b]).to(own(writer), expected, [c]),
        };
        match (self.is_mixed, (writer + round).is_multiple_of(3)) {
            (false, _) => append,
            (true, true) => append.with_durability(Durability::Sync),
            (true, false) => append.with_durability(Durability::Buffered),
        }
    }
}

/// The stream that only this writer writes.
pub(crate) fn own(writer: usize) -> StreamId {
    StreamId::new(format!("own-{writer}")).unwrap()
}

pub(crate) fn projections(store: &Store) -> Result<ProjectionManager, ProjectionError> {
    let small = ProjectionOptions::new().batch_events(7);
    let projections = ProjectionManager::new(store);
    let projections = projections
        .register_with(AccountBalances, small.clone())?
        .register_with(TransactionHistory, small.partitions(2))?;
    projections.start()?;
    Ok(projections)
}

fn bank(store: &Store, heard: &Heard, rounds: usize) {
    for answer in business(store, heard, rounds) {
        answer.unwrap();
    }
}

/// The commands of the bank's customers; some are refused, on purpose.
pub(crate) fn business(
    store: &Store,
    heard: &Heard,
    rounds: usize,
) -> impl Iterator<Item = annals::Result<()>> {
    let accounts =
        Repository::<Account>::new(heard).snapshots(store, SnapshotPolicy::every(3).keep(2));
    let commands = (0..rounds).flat_map(|round| {
        let create = AccountCommand::Create { owner_id: "owner-1".into(), name: "Ada".into() };
        let deposit = AccountCommand::Deposit { amount: 100, description: "in".into() };
        let withdraw = AccountCommand::Withdraw { amount: 30, description: "out".into() };
        [create, deposit, withdraw].map(|command| (round % 2, command))
    });
    commands.map(move |(id, command)| match accounts.execute(id, &command) {
        Ok(_) | Err(ExecuteError::Rejected(_)) => Ok(()),
        Err(ExecuteError::Store(error) | ExecuteError::Conflict { cause: error, .. }) => Err(error),
        Err(other) => panic!("{other}"),
    })
}
