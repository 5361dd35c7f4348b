//! Live subscribers, while one thread appends at a fixed pace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use annals::{
    AsyncStore, AsyncSubscription, Delivery, Durability, EventStore, EventStoreExt,
    ExpectedVersion, Position, Store, Subscription,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::counted::{Counted, Pages};
use super::{Case, Figures, executor, panicked, threads};
use crate::Result;
use crate::measure::{Recorder, cpu, cpu_since};
use crate::source::{Ready, Source};

/// Subscribers share so many recorders.
const SHARDS: u64 = 16;

/// When each event was acknowledged, and what its deliveries took.
struct Deliveries {
    origin: Instant,
    /// Nanoseconds after `origin`, by position after `before`; 0 until it was acknowledged.
    acknowledged: Vec<AtomicU64>,
    before: u64,
    recorders: Vec<Mutex<Recorder>>,
}

impl Deliveries {
    fn new(before: u64, events: u64) -> Self {
        let acknowledged = (0..events).map(|_| AtomicU64::new(0)).collect();
        let recorders = (0..SHARDS).map(|_| Mutex::new(Recorder::new())).collect();
        Self { origin: Instant::now(), acknowledged, before, recorders }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Records a delivery. Returns whether it was the last one of its subscriber.
    fn note(&self, subscriber: u64, position: Position) -> bool {
        let Some(at) = (position.get() - self.before).checked_sub(1) else { return false };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        // An event may be delivered before its writer has seen the acknowledgement.
        let acknowledged = match self.acknowledged[at].load(Ordering::SeqCst) {
            0 => u64::MAX,
            acknowledged => acknowledged,
        };
        let took = Duration::from_nanos(self.now().saturating_sub(acknowledged));
        let shard = usize::try_from(subscriber % SHARDS).unwrap_or_default();
        let mut recorder = self.recorders[shard].lock().unwrap_or_else(PoisonError::into_inner);
        recorder.note(1, took);
        at + 1 == self.acknowledged.len()
    }

    /// Appends all events at this pace.
    fn append(&self, store: &Store, ready: Vec<Ready>, pace: u64) -> Result<()> {
        let began = Instant::now();
        for ((number, ready), acknowledged) in (0_u32..).zip(ready).zip(&self.acknowledged) {
            let due = began + Duration::from_secs(1) * number / u32::try_from(pace)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            store.append(ready.stream, ExpectedVersion::Any, ready.events)?;
            acknowledged.store(self.now(), Ordering::SeqCst);
        }
        Ok(())
    }
}

pub fn run(case: &Case, events: u64, pace: u64) -> Result<Figures> {
    let store = Store::options().durability(Durability::Buffered).open(&case.path)?;
    let mut source = Source::new(100, case.payload)?;
    // Without subscribers, to subtract the processor time of appending.
    let alone = events.div_ceil(4);
    let ready = source.appends(usize::try_from(alone)?, 1)?;
    let before = cpu()?;
    Deliveries::new(0, alone).append(&store, ready, pace)?;
    let appending = cpu_since(before)?.as_secs_f64() / alone as f64 * events as f64;

    let pages = Arc::new(Pages::default());
    let counted = Counted { store: store.handle(), pages: pages.clone() };
    let ready = source.appends(usize::try_from(events)?, 1)?;
    let deliveries = Arc::new(Deliveries::new(alone, events));
    let write = || {
        for count in [&pages.read, &pages.in_memory] {
            count.store(0, Ordering::Relaxed);
        }
        let (threads, before) = (threads(), cpu()?);
        deliveries.append(&store, ready, pace)?;
        Ok((before, threads))
    };
    let (before, threads) = if case.by_tasks {
        tasks(case, counted, &deliveries, write)?
    } else {
        with_threads(case, &counted, &deliveries, write)?
    };
    let cpu = cpu_since(before)?.as_secs_f64();
    store.close()?;
    let mut all = Recorder::new();
    for shard in &deliveries.recorders {
        all.append(&*shard.lock().map_err(panicked)?);
    }
    all.elapsed = Duration::from_nanos(deliveries.now());
    let measured = all.measured();
    if measured.count != events * case.workers {
        return Err(format!("{} deliveries", measured.count).into());
    }
    let (p50_us, p99_us) = measured.micros();
    Ok(Figures {
        per_second: measured.per_second(),
        p50_us,
        p99_us,
        cpu_us: (cpu - appending).max(0.0) * 1e6 / measured.count as f64,
        disk_reads: pages.read.load(Ordering::Relaxed),
        pages_in_memory: pages.in_memory.load(Ordering::Relaxed),
        threads,
        ..Figures::default()
    })
}

/// Receives all events; calls `live` once it has caught up.
async fn receive_as_task(
    mut feed: AsyncSubscription,
    subscriber: u64,
    deliveries: Arc<Deliveries>,
    live: UnboundedSender<()>,
) -> annals::Result<()> {
    while let Some(delivery) = feed.next().await {
        match delivery? {
            Delivery::CaughtUp(_) => drop(live.send(())),
            Delivery::Event(event) if deliveries.note(subscriber, event.position()) => break,
            _ => {}
        }
    }
    Ok(())
}

/// Subscribers as tasks. `write` is called once all of them are live.
fn tasks<T>(
    case: &Case,
    counted: Counted,
    deliveries: &Arc<Deliveries>,
    write: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (runtime, store) = (executor()?, AsyncStore::new(counted));
    let (live, mut are_live) = unbounded_channel();
    let mut subscribers = Vec::new();
    for subscriber in 0..case.workers {
        let feed = runtime.block_on(store.subscribe().from_now().start())?;
        let (deliveries, live) = (deliveries.clone(), live.clone());
        subscribers.push(runtime.spawn(receive_as_task(feed, subscriber, deliveries, live)));
    }
    for _ in 0..case.workers {
        runtime.block_on(are_live.recv()).ok_or("a subscriber ended")?;
    }
    let written = write()?;
    for subscriber in subscribers {
        runtime.block_on(subscriber)??;
    }
    Ok(written)
}

/// Receives all events; waits at the barrier once it has caught up.
fn receive(
    mut following: Subscription,
    subscriber: u64,
    deliveries: &Deliveries,
    live: &Barrier,
) -> annals::Result<()> {
    let mut is_live = false;
    loop {
        match following.recv()? {
            Delivery::CaughtUp(_) if !is_live => {
                is_live = true;
                live.wait();
            }
            Delivery::Event(event) if deliveries.note(subscriber, event.position()) => {
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Subscribers as threads.
fn with_threads<T>(
    case: &Case,
    counted: &Counted,
    deliveries: &Deliveries,
    write: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let start = |_| counted.subscribe().from_now().start();
    let subscriptions = (0..case.workers).map(start).collect::<Result<Vec<_>, _>>()?;
    let live = &Barrier::new(subscriptions.len() + 1);
    thread::scope(|scope| {
        let spawn = |(subscriber, following)| {
            scope.spawn(move || receive(following, subscriber, deliveries, live))
        };
        let subscribers: Vec<_> = (0..).zip(subscriptions).map(spawn).collect();
        live.wait();
        let written = write()?;
        for subscriber in subscribers {
            subscriber.join().map_err(panicked)??;
        }
        Ok(written)
    })
}
