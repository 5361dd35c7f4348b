//! Subscriptions: how fast one catches up, and how long an event takes to one that is live.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use annals::baseline::{Batch, Database};
use annals::{
    Delivery, Durability, EventStore, EventStoreExt, ExpectedVersion, Position, Store, Subscription,
};

use super::super::shell::Failure;
use super::measure::{Figure, Recorder, Shown, in_turn, timed};
use super::reading::caught_up;
use super::source::Ready;
use super::{Base, Bench, Group};

/// So many events go to the subscriber, one after the other, before the baseline has its turn.
const SLICE: usize = 500;

impl Bench<'_> {
    pub(super) fn follow(&mut self, base: &Base) -> Result<(), Failure> {
        let name = "catch up with the log".to_owned();
        self.begin(&name);
        let (store, below) = (&base.store, base.store.baseline());
        let events = store.head()?.map_or(0, Position::get);
        let (of_store, of_baseline) = in_turn(
            events,
            self.args.seconds,
            || caught_up(store),
            || Ok(timed(|| Ok(below.scan_log()?))?.0),
        )?;
        self.add(Figure {
            group: Group::Follow,
            name,
            unit: "event",
            shown: Shown::Rate,
            store: of_store,
            baseline: of_baseline,
            baseline_is: "RocksDB scanning the same rows",
        });
        self.live()
    }

    fn live(&mut self) -> Result<(), Failure> {
        let name = "append, buffered, until a live subscriber has it".to_owned();
        self.begin(&name);
        let Base { store, database } = self.pair("live", Durability::Buffered)?;
        let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
        let began = Instant::now();
        while began.elapsed() < 2 * self.args.seconds || of_store.elapsed.is_zero() {
            let head = store.head()?;
            let appends = self.source.appends(SLICE, 1)?;
            live_slice(&store, appends, &mut of_store)?;
            let (rows, _) = store.baseline().appends(head, usize::MAX)?;
            baseline_slice(&database, rows, &mut of_baseline)?;
        }
        self.add(Figure {
            group: Group::Follow,
            name,
            unit: "event",
            shown: Shown::Median,
            store: of_store.measured(),
            baseline: of_baseline.measured(),
            baseline_is: "RocksDB writing the row, and a channel to the thread",
        });
        Ok(())
    }
}

/// When the event on its way was sent, in nanoseconds after `origin`.
struct Sent {
    origin: Instant,
    at: AtomicU64,
}

impl Sent {
    fn new() -> Self {
        Self { origin: Instant::now(), at: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn send(&self) {
        self.at.store(self.now(), Ordering::SeqCst);
    }

    fn took(&self) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(self.at.load(Ordering::SeqCst)))
    }
}

/// Appends one event after the other, each when a subscriber on another thread has the one before.
fn live_slice(store: &Store, appends: Vec<Ready>, recorder: &mut Recorder) -> Result<(), Failure> {
    let sent = Sent::new();
    let (arrived, arrivals) = sync_channel(1);
    let following = store.subscribe().from_now().start()?;
    let cancel = following.cancel_handle();
    thread::scope(|scope| {
        let (sent, following) = (&sent, following);
        scope.spawn(move || receive(following, sent, &arrived));
        let appended = appends.into_iter().try_for_each(|Ready { stream, events }| {
            sent.send();
            store.append(stream, ExpectedVersion::Any, events)?;
            note(&arrivals, recorder)
        });
        // Also after a failure: the subscriber would wait forever.
        cancel.cancel();
        appended
    })
}

fn receive(mut following: Subscription, sent: &Sent, arrived: &SyncSender<Duration>) {
    loop {
        match following.recv() {
            Ok(Delivery::Event(_)) => {
                if arrived.send(sent.took()).is_err() {
                    return;
                }
            }
            Ok(Delivery::Ended) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn baseline_slice(
    database: &Database,
    rows: Vec<Batch>,
    recorder: &mut Recorder,
) -> Result<(), Failure> {
    let sent = Sent::new();
    let (arrived, arrivals) = sync_channel(1);
    let (there, comes) = sync_channel::<()>(1);
    let sent = &sent;
    // What it takes with it is gone when it ends, and so the other thread ends.
    thread::scope(move |scope| {
        scope.spawn(move || {
            while comes.recv().is_ok() {
                if arrived.send(sent.took()).is_err() {
                    return;
                }
            }
        });
        rows.into_iter().try_for_each(|batch| {
            sent.send();
            database.write(&batch, Durability::Buffered)?;
            let is_there = there.send(());
            is_there.map_err(|_| Failure::Measuring("the other thread is gone".to_owned()))?;
            note(&arrivals, recorder)
        })
    })
}

fn note(arrivals: &Receiver<Duration>, recorder: &mut Recorder) -> Result<(), Failure> {
    let took = arrivals
        .recv()
        .map_err(|_| Failure::Measuring("the subscription ended before its event".to_owned()))?;
    recorder.note(1, took);
    recorder.elapsed += took;
    Ok(())
}
