//! [`unblock`]: runs a blocking call on the thread pool of the crate `blocking`.

use std::pin::Pin;
use std::task::{Context, Poll};

use blocking::Task;

/// Runs a blocking call on another thread. The call begins when the future is first polled. If the
/// future is dropped later, the call is completed all the same.
pub(super) async fn unblock<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    Begun(Some(blocking::unblock(call))).await
}

/// A call that was begun.
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
