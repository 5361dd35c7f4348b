//! Appends of many tasks, or of many threads.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annals::{
    AsyncStore, Durability, EventId, EventStoreExt, ExpectedVersion, NewEvent, Store, StreamId,
};

use super::{Case, Figures, executor, panicked, threads};
use crate::Result;
use crate::measure::{Recorder, cpu, cpu_since};
use crate::source::Source;

/// The workers share so many recorders: one for each of 10,000 tasks would be most of the memory.
const SHARDS: usize = 16;

/// When to begin, to measure, and to end.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Instant,
    to: Instant,
}

/// What all workers share.
struct Shared {
    event: NewEvent,
    span: Span,
    recorders: Vec<Mutex<Recorder>>,
}

impl Shared {
    /// Another event. It is made before the time of its append begins.
    fn event(&self) -> NewEvent {
        self.event.clone().with_id(EventId::random())
    }

    /// Records an append that began then. Returns whether to go on.
    fn note(&self, worker: u64, began: Instant) -> bool {
        let now = Instant::now();
        if began >= self.span.from && now <= self.span.to {
            let shard = &self.recorders[usize::try_from(worker).unwrap_or_default() % SHARDS];
            let mut recorder = shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            recorder.note(1, now - began);
        }
        now < self.span.to
    }
}

pub fn run(case: &Case, is_hot: bool, is_synced: bool, seconds: Duration) -> Result<Figures> {
    let durability = if is_synced { Durability::Sync } else { Durability::Buffered };
    let store = Store::options().durability(durability).open(&case.path)?;
    let mut ready = Source::new(1, case.payload)?.appends(1, 1)?;
    let event = ready.pop().and_then(|mut ready| ready.events.pop()).ok_or("no event")?;
    let from = Instant::now() + seconds / 4;
    let span = Span { from, to: from + seconds };
    let recorders = (0..SHARDS).map(|_| Mutex::new(Recorder::new())).collect();
    let shared = Arc::new(Shared { event, span, recorders });
    let stream =
        |worker: u64| StreamId::new(format!("account-{:016}", if is_hot { 0 } else { worker }));
    let streams = (0..case.workers).map(stream).collect::<Result<Vec<_>, _>>()?;
    let observed = if case.by_tasks {
        tasks(&store, streams, &shared)?
    } else {
        with_threads(&store, streams, &shared)?
    };
    store.close()?;
    let mut all = Recorder::new();
    for shard in &shared.recorders {
        all.append(&*shard.lock().map_err(panicked)?);
    }
    all.elapsed = seconds;
    let measured = all.measured();
    let (p50_us, p99_us) = measured.micros();
    let cpu_us = observed.cpu.as_secs_f64() * 1e6 / (measured.count as f64).max(1.0);
    let per_second = measured.per_second();
    let threads = observed.threads;
    Ok(Figures { per_second, p50_us, p99_us, cpu_us, threads, ..Figures::default() })
}

/// What is seen of the process while it appends.
struct Observed {
    threads: u64,
    cpu: Duration,
}

/// Sleeps until the workers end.
fn observe(span: Span) -> Result<Observed> {
    thread::sleep(span.from.saturating_duration_since(Instant::now()));
    let before = cpu()?;
    thread::sleep((span.to - span.from) / 2);
    let threads = threads();
    thread::sleep(span.to.saturating_duration_since(Instant::now()));
    Ok(Observed { threads, cpu: cpu_since(before)? })
}

async fn work_as_task(
    store: AsyncStore,
    (worker, stream): (u64, StreamId),
    shared: Arc<Shared>,
) -> annals::Result<()> {
    loop {
        let (event, began) = (shared.event(), Instant::now());
        store.append(&stream, ExpectedVersion::Any, [event]).await?;
        if !shared.note(worker, began) {
            return Ok(());
        }
    }
}

fn tasks(store: &Store, streams: Vec<StreamId>, shared: &Arc<Shared>) -> Result<Observed> {
    let (runtime, store) = (executor()?, AsyncStore::new(store.clone()));
    let spawn = |worker| runtime.spawn(work_as_task(store.clone(), worker, shared.clone()));
    let workers: Vec<_> = (0..).zip(streams).map(spawn).collect();
    let observed = observe(shared.span)?;
    for worker in workers {
        runtime.block_on(worker)??;
    }
    Ok(observed)
}

fn work(store: &Store, (worker, stream): (u64, StreamId), shared: &Shared) -> annals::Result<()> {
    loop {
        let (event, began) = (shared.event(), Instant::now());
        store.append(&stream, ExpectedVersion::Any, [event])?;
        if !shared.note(worker, began) {
            return Ok(());
        }
    }
}

fn with_threads(store: &Store, streams: Vec<StreamId>, shared: &Shared) -> Result<Observed> {
    thread::scope(|scope| {
        let spawn = |worker| scope.spawn(move || work(store, worker, shared));
        let workers: Vec<_> = (0..).zip(streams).map(spawn).collect();
        let observed = observe(shared.span)?;
        for worker in workers {
            worker.join().map_err(panicked)??;
        }
        Ok(observed)
    })
}
