//! Many writers at once, as threads or as tasks, for a set time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// More writers than this are tasks.
pub const THREADS_MAX: u64 = 64;
/// Threads of the executor that runs tasks.
const EXECUTOR_THREADS: usize = 2;

/// What a writer needs between two operations.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub writer: u64,
    pub round: u64,
    /// The position of its last event; 0 before the first.
    pub last: u64,
}

/// One operation after the other: returns the position of the event that was appended.
pub trait Writes: Send + Sync + 'static {
    fn write(&self, turn: Turn) -> Result<u64>;
    fn write_as_task(&self, turn: Turn) -> impl Future<Output = Result<u64>> + Send;
}

/// When to begin to count, and to end.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Instant,
    to: Instant,
}

/// Operations a second.
pub fn per_second<W: Writes>(target: &Arc<W>, writers: u64, seconds: f64) -> Result<f64> {
    let seconds = Duration::from_secs_f64(seconds);
    let from = Instant::now() + seconds / 4;
    let span = Span { from, to: from + seconds };
    let done = Arc::new(AtomicU64::new(0));
    if writers <= THREADS_MAX {
        threads(target, writers, span, &done)
    } else {
        tasks(target, writers, span, &done)
    }?;
    Ok(done.load(Ordering::Relaxed) as f64 / seconds.as_secs_f64())
}

/// Counts an operation that began then. Returns whether to go on.
fn note(span: Span, began: Instant, done: &AtomicU64) -> bool {
    let now = Instant::now();
    if began >= span.from && now <= span.to {
        done.fetch_add(1, Ordering::Relaxed);
    }
    now < span.to
}

fn threads<W: Writes>(
    target: &Arc<W>,
    writers: u64,
    span: Span,
    done: &Arc<AtomicU64>,
) -> Result<()> {
    let work = |writer| {
        let mut turn = Turn { writer, round: 0, last: 0 };
        loop {
            let began = Instant::now();
            turn.last = target.write(turn)?;
            turn.round += 1;
            if !note(span, began, done) {
                return Ok::<_, Failure>(());
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..writers).map(|writer| scope.spawn(move || work(writer))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| Failure::from("a writer panicked"))?)
    })
}

fn tasks<W: Writes>(
    target: &Arc<W>,
    writers: u64,
    span: Span,
    done: &Arc<AtomicU64>,
) -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(EXECUTOR_THREADS).build()?;
    let work = |writer| {
        let (target, done) = (target.clone(), done.clone());
        async move {
            let mut turn = Turn { writer, round: 0, last: 0 };
            loop {
                let began = Instant::now();
                turn.last = target.write_as_task(turn).await?;
                turn.round += 1;
                if !note(span, began, &done) {
                    return Ok::<_, Failure>(());
                }
            }
        }
    };
    let tasks: Vec<_> = (0..writers).map(|writer| runtime.spawn(work(writer))).collect();
    tasks.into_iter().try_for_each(|task| runtime.block_on(task)?)
}
