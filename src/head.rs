//! The published head: the last position that readers may see. Writers publish it, readers load it,
//! and subscriptions wait for it to move.
//!
//! It never goes back, and moves only after the events up to it are written with the requested
//! durability (G6).

// Public for the model checker alone: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, missing_debug_implementations)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc)]

use std::sync::atomic::{self, Ordering};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::model::Position;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex};

/// The published head of one store.
pub struct Head {
    /// 0 while the log is empty. Only here is "none" a number, because the head must be swapped in
    /// one step.
    published: AtomicU64,
    closed: AtomicBool,
    waiting: AtomicUsize,
    gate: Mutex<()>,
    moved: Condvar,
}

impl Head {
    pub fn new(published: Option<Position>) -> Self {
        Self {
            published: AtomicU64::new(published.map_or(0, Position::get)),
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            gate: Mutex::new(()),
            moved: Condvar::new(),
        }
    }

    pub fn current(&self) -> Option<Position> {
        Position::new(self.published.load(Ordering::SeqCst))
    }

    /// The head, unless the store is closed.
    pub fn get(&self) -> Result<Option<Position>> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        Ok(self.current())
    }

    /// Makes everything up to `head` visible, and wakes the callers that wait for it.
    pub fn publish(&self, head: Position) {
        let before = self.published.swap(head.get(), Ordering::SeqCst);
        assert!(before < head.get(), "the head would go back from {before} to {head}");
        // A waiter counts itself before it loads the head: either it sees the new head, or we see
        // it waiting.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// Makes every waiting caller check again.
    pub fn wake(&self) {
        // Taken so that no caller is between its check and its wait.
        drop(self.gate.lock());
        self.moved.notify_all();
    }

    /// From now on every call fails with [`Error::Closed`], including calls that wait.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Blocks until the head is past `after`, the deadline `until` is reached, or `cancelled` is
    /// set and [`Head::wake`] is called.
    pub fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &atomic::AtomicBool,
    ) -> Result<Option<Position>> {
        if self.get()? > after {
            return self.get();
        }
        let mut gate = self.gate.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let reached = loop {
            match self.get() {
                Ok(head) if head <= after && !cancelled.load(Ordering::SeqCst) => {}
                reached => break reached,
            }
            gate = match until {
                None => self.moved.wait(gate),
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    None => break self.get(),
                    Some(left) => self.moved.wait_timeout(gate, left),
                },
            };
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        reached
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    static NEVER: AtomicBool = AtomicBool::new(false);

    #[test]
    fn waiter_wakes_for_every_reason() {
        let head = Head::new(None);
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(head.wait_past(None, Some(soon), &NEVER).unwrap(), None);
        let cancelled = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| head.wait_past(None, None, &cancelled));
            cancelled.store(true, Ordering::SeqCst);
            head.wake();
            assert_eq!(waiter.join().unwrap().unwrap(), None);
            let waiter = scope.spawn(|| head.wait_past(None, None, &NEVER));
            head.publish(Position::FIRST);
            assert_eq!(waiter.join().unwrap().unwrap(), Some(Position::FIRST));
            let waiter = scope.spawn(|| head.wait_past(Some(Position::FIRST), None, &NEVER));
            head.close();
            assert!(matches!(waiter.join().unwrap(), Err(Error::Closed)));
        });
    }

    #[test]
    fn alternating_threads_lose_no_wake_up() {
        let (ping, pong) = (Head::new(None), Head::new(None));
        thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 1..=20_000 {
                    ping.wait_past(Position::new(turn - 1), None, &NEVER).unwrap();
                    pong.publish(Position::new(turn).unwrap());
                }
            });
            for turn in 1..=20_000 {
                ping.publish(Position::new(turn).unwrap());
                pong.wait_past(Position::new(turn - 1), None, &NEVER).unwrap();
            }
        });
    }
}
