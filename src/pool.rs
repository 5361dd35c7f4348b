//! The threads that may block for tasks: those of the crate `blocking`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::task::{Context, Poll, Waker};
use std::thread;

#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
use blocking::unblock as begin;

use crate::sync::{Mutex, wake_task};

/// How many reads of tasks run at a time in this process. They bound the number of threads, however
/// many tasks read.
const READS_MAX: usize = 16;

static READS: Mutex<Reads> = Mutex::new(Reads { running: 0, waiting: VecDeque::new() });

/// The reads that wait. They wait here and not in their futures: a future that is not polled does
/// not hold up the others.
struct Reads {
    running: usize,
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
}

/// Runs work that may block on the disk, but not on other tasks, as soon as few others run. It is
/// entered when the future is first polled; if the future is dropped later, the work is completed
/// all the same, unless it has not begun.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let reply = Reply::new();
    let read = {
        let reply = Arc::downgrade(&reply.0);
        move || {
            // Nothing waits for it any more.
            let Some(reply) = reply.upgrade() else { return };
            Reply(reply).send(catch_unwind(AssertUnwindSafe(work)));
        }
    };
    enter(Box::new(read));
    reply.await.unwrap_or_else(|panic| resume_unwind(panic))
}

fn enter(read: Box<dyn FnOnce() + Send>) {
    let starts = {
        let mut reads = READS.lock();
        reads.waiting.push_back(read);
        let starts = reads.running < READS_MAX;
        reads.running += usize::from(starts);
        starts
    };
    if starts {
        detach(run_reads);
    }
}

/// Runs the reads that wait, until none does.
fn run_reads() {
    loop {
        let next = {
            let mut reads = READS.lock();
            let next = reads.waiting.pop_front();
            reads.running -= usize::from(next.is_none());
            next
        };
        match next {
            Some(read) => read(),
            None => return,
        }
    }
}

/// Runs work that may take long or wait, on a thread of its own until it is done. It begins when the
/// future is first polled; if the future is dropped later, the work is completed all the same.
pub(crate) async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let reply = Reply::new();
    let sender = Reply(reply.0.clone());
    detach(move || sender.send(catch_unwind(AssertUnwindSafe(work))));
    reply.await.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs work that nothing waits for now, but that must not be running while the process exits: this
/// thread waits for it when it ends.
pub(crate) fn finish(work: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel::<()>();
    // Without this, a program that drops a store and returns from `main` at once would exit while
    // the engine writes, which aborts it.
    let _ = AT_THE_END.try_with(|at_the_end| {
        if let Some(ends) = &mut *at_the_end.borrow_mut() {
            ends.retain(|Ending(end)| end.try_recv() == Err(TryRecvError::Empty));
            ends.push(Ending(end));
        }
    });
    detach(move || {
        work();
        drop(ended);
    });
}

/// Lets this thread not wait for what it finishes, because that may wait for this thread.
pub(crate) fn wait_for_nothing_at_the_end() {
    let _ = AT_THE_END.try_with(|at_the_end| at_the_end.replace(None));
}

thread_local! {
    static AT_THE_END: RefCell<Option<Vec<Ending>>> = const { RefCell::new(Some(Vec::new())) };
}

/// Waits for the end of work when it is dropped.
struct Ending(Receiver<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Nothing is sent: this returns when the sender is dropped.
        let _ = self.0.recv();
    }
}

/// Runs work that nothing waits for.
pub(crate) fn detach(work: impl FnOnce() + Send + 'static) {
    begin(work).detach();
}

/// The result of work on another thread, or its panic.
struct Reply<T>(Arc<Mutex<Replied<T>>>);

struct Replied<T> {
    result: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

impl<T> Reply<T> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Replied { result: None, waker: None })))
    }

    fn send(&self, result: thread::Result<T>) {
        let waker = {
            let mut replied = self.0.lock();
            replied.result = Some(result);
            replied.waker.take()
        };
        waker.into_iter().for_each(wake_task);
    }
}

impl<T> Future for Reply<T> {
    type Output = thread::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<thread::Result<T>> {
        let waker = context.waker().clone();
        let mut replied = self.0.lock();
        if let Some(result) = replied.result.take() {
            return Poll::Ready(result);
        }
        let replaced = replied.waker.replace(waker);
        drop(replied);
        drop(replaced);
        Poll::Pending
    }
}

/// In the model checker, which knows no other threads than its own: runs the work at once.
#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
fn begin(work: impl FnOnce()) -> Done {
    work();
    Done
}

#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
struct Done;

#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
impl Done {
    fn detach(self) {}
}
