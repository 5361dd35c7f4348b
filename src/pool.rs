//! The threads that may block for tasks: those of the crate `blocking`.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_lock::Semaphore;
#[cfg(not(all(feature = "__schedules", not(feature = "rocksdb"))))]
use blocking::{Task, unblock as begin};

#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
use inline::{Task, begin};

/// How many reads of tasks run at a time in this process. They bound the number of threads, however
/// many tasks read.
const READS_MAX: usize = 16;

static READS: Semaphore = Semaphore::new(READS_MAX);

/// Runs work that may block on the disk, but not on other tasks, as soon as few others run. If the
/// future is dropped, work that has begun is completed.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let permit = READS.acquire().await;
    let run = move || {
        let done = work();
        drop(permit);
        done
    };
    unblock(run).await
}

/// Runs work that may take long or wait, on a thread of its own until it is done. It begins when the
/// future is first polled; if the future is dropped later, the work is completed all the same.
pub(crate) async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    Begun(Some(begin(work))).await
}

/// Runs work that nothing waits for.
pub(crate) fn detach(work: impl FnOnce() + Send + 'static) {
    begin(work).detach();
}

/// Work that was begun.
struct Begun<T>(Option<Task<T>>);

impl<T> Future for Begun<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().map_or(Poll::Pending, |task| Pin::new(task).poll(context))
    }
}

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        // A task that is dropped without this may never begin.
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// In the model checker, which knows no other threads than its own: runs the work at once.
#[cfg(all(feature = "__schedules", not(feature = "rocksdb")))]
mod inline {
    use std::future::{Future, Ready, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(super) struct Task<T>(Ready<T>);

    pub(super) fn begin<T>(work: impl FnOnce() -> T) -> Task<T> {
        Task(ready(work()))
    }

    impl<T> Task<T> {
        pub(super) fn detach(self) {}
    }

    impl<T> Future for Task<T> {
        type Output = T;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
            Pin::new(&mut self.0).poll(context)
        }
    }
}
