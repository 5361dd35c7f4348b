//! The threads that read for tasks: those of the crate `blocking`, a few at a time.

use async_lock::Semaphore;

/// How many reads of tasks run at a time in this process. They bound the number of threads, however
/// many tasks read.
const READS_MAX: usize = 16;

static READS: Semaphore = Semaphore::new(READS_MAX);

/// Runs work that may block on the disk, but not on other tasks. If the future is dropped, work
/// that has begun is completed.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let permit = READS.acquire().await;
    let run = move || {
        let done = work();
        drop(permit);
        done
    };
    blocking::unblock(run).await
}
