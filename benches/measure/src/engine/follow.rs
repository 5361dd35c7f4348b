//! Subscriptions: how fast one catches up, and how long an event takes to reach a live one.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use annals::__internals::{Batch, Database, Packer, baseline};
use annals::{
    Delivery, Durability, EventStore, EventStoreExt, ExpectedVersion, Position, Store, Subscription,
};

use super::read::{SCANNING, is_all};
use super::{Base, Bench, Group, Shown};
use crate::Result;
use crate::measure::{Recorder, in_turn, timed};
use crate::source::Ready;

/// Events delivered to the subscriber one after the other before the baseline's turn.
const SLICE: usize = 500;

impl Bench<'_> {
    pub(super) fn follow(&mut self, base: &Base) -> Result<()> {
        let (store, below) = (&base.store, baseline(&base.store));
        let events = store.head()?.map_or(0, Position::get);
        let catch_up = || {
            let (took, seen) = timed(|| caught_up(store))?;
            is_all(seen, events)?;
            Ok(took)
        };
        let scan = || Ok(timed(|| Ok(below.scan_log()?))?.0);
        let sides = in_turn(events, self.args.seconds, catch_up, scan)?;
        let name = "catch up with the log".to_owned();
        self.add(Group::Follow, name, Shown::Rate("event"), sides, SCANNING);
        self.live()
    }

    fn live(&mut self) -> Result<()> {
        let Base { store, database } = self.pair("live", Durability::Buffered)?;
        let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
        let mut packer = Packer::default();
        let began = Instant::now();
        while began.elapsed() < 2 * self.args.seconds || of_store.elapsed.is_zero() {
            let head = store.head()?;
            let appends = self.source.appends(SLICE, 1)?;
            live_slice(&store, appends, &mut of_store)?;
            let (rows, _) = baseline(&store).appends(head, usize::MAX, &mut packer)?;
            baseline_slice(&database, rows, &mut of_baseline)?;
        }
        let name = "append, buffered, until a live subscriber has it".to_owned();
        let sides = [of_store.measured(), of_baseline.measured()];
        let baseline_is = "RocksDB writing the row, and a channel to the thread";
        self.add(Group::Follow, name, Shown::Median, sides, baseline_is);
        Ok(())
    }
}

/// How many events a subscription delivers until it has caught up.
fn caught_up(store: &Store) -> Result<u64> {
    let mut following = store.subscribe().start()?;
    let mut seen = 0;
    loop {
        match following.recv()? {
            Delivery::Event(event) => {
                black_box(event);
                seen += 1;
            }
            Delivery::CaughtUp(_) => return Ok(seen),
            _ => {}
        }
    }
}

/// When the event in flight was sent, in nanoseconds after `origin`.
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

/// Appends one event after the other, each once a subscriber on another thread has received the
/// previous one.
fn live_slice(store: &Store, appends: Vec<Ready>, recorder: &mut Recorder) -> Result<()> {
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
        // After a failure too: the subscriber would wait forever.
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

fn baseline_slice(database: &Database, rows: Vec<Batch>, recorder: &mut Recorder) -> Result<()> {
    let sent = Sent::new();
    let (arrived, arrivals) = sync_channel(1);
    let (there, comes) = sync_channel::<()>(1);
    let sent = &sent;
    // Its values are dropped when it ends, which ends the other thread.
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
            there.send(())?;
            note(&arrivals, recorder)
        })
    })
}

fn note(arrivals: &Receiver<Duration>, recorder: &mut Recorder) -> Result<()> {
    recorder.note(1, arrivals.recv()?);
    Ok(())
}
