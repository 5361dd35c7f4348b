//! [`FutureSet`]: futures that one task polls, each only after it was woken.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};

use crate::error::{Cause, guarded};
use crate::sync::{AtomicBool, Mutex, wake_task};

/// Futures, each with a value that is returned with its output.
pub(super) struct FutureSet<T, F> {
    slots: Vec<Slot<T, F>>,
    /// The slots without a future.
    free: Vec<usize>,
    woken: Arc<Woken>,
}

struct Slot<T, F> {
    value: Option<T>,
    /// The box is used again for the next future.
    future: Pin<Box<Option<F>>>,
    waking: Arc<Waking>,
    waker: Waker,
}

/// The slots whose futures were woken, and the task that polls them.
#[derive(Default)]
struct Woken(Mutex<(VecDeque<usize>, Option<Waker>)>);

/// Wakes the future of one slot.
struct Waking {
    slot: usize,
    is_queued: AtomicBool,
    woken: Arc<Woken>,
}

impl<T, F: Future> FutureSet<T, F> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), woken: Arc::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a future, which is polled by the next [`FutureSet::poll_next`].
    pub(super) fn push(&mut self, value: T, future: F) {
        let at = self.free.pop().unwrap_or(self.slots.len());
        if at == self.slots.len() {
            let woken = self.woken.clone();
            let waking = Arc::new(Waking { slot: at, is_queued: AtomicBool::new(false), woken });
            let waker = Waker::from(waking.clone());
            self.slots.push(Slot { value: None, future: Box::pin(None), waking, waker });
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.value = Some(value);
            slot.future.as_mut().set(Some(future));
            // The caller polls next, so its task need not be woken.
            slot.waking.queue();
        }
    }

    /// Polls the futures that were woken, each at most once, until one completes or panics. After
    /// `None`, the next one that is woken wakes the task.
    pub(super) fn poll_next(
        &mut self,
        what: &'static str,
        context: &Context<'_>,
    ) -> Option<(T, Result<F::Output, Cause>)> {
        for _ in 0..self.woken.len_for(context.waker()) {
            let slot = self.woken.next().and_then(|at| self.slots.get_mut(at));
            let Some(slot) = slot else { continue };
            // From here on, a wake queues it again. What was written before an earlier wake is seen.
            slot.waking.is_queued.swap(false, Ordering::SeqCst);
            let Some(future) = slot.future.as_mut().as_pin_mut() else { continue };
            let mut context = Context::from_waker(&slot.waker);
            let output = match guarded(what, || future.poll(&mut context)) {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(output)) => Ok(output),
                Err(panic) => Err(panic),
            };
            let dropped = guarded(what, || slot.future.as_mut().set(None));
            let output = dropped.and(output);
            self.free.push(slot.waking.slot);
            if let Some(value) = slot.value.take() {
                return Some((value, output));
            }
        }
        None
    }
}

impl Woken {
    /// The number of slots that were woken. Later ones wake this task.
    fn len_for(&self, waker: &Waker) -> usize {
        let waker = waker.clone();
        let mut woken = self.0.lock();
        let replaced = woken.1.replace(waker);
        let len = woken.0.len();
        drop(woken);
        // Dropped without the lock: a waker is code of an executor.
        drop(replaced);
        len
    }

    fn next(&self) -> Option<usize> {
        self.0.lock().0.pop_front()
    }
}

impl Waking {
    /// Returns the task to wake.
    fn queue(&self) -> Option<Waker> {
        if self.is_queued.swap(true, Ordering::SeqCst) {
            return None;
        }
        let mut woken = self.woken.0.lock();
        woken.0.push_back(self.slot);
        woken.1.take()
    }
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.queue().into_iter().for_each(wake_task);
    }
}

/// Leaves no waker behind.
impl<T, F> Drop for FutureSet<T, F> {
    fn drop(&mut self) {
        let waker = self.woken.0.lock().1.take();
        drop(waker);
    }
}
