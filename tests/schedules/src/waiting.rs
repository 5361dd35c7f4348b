//! The published head: it never goes back, and every reason to wake a waiter wakes it (G6).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annals::__internals::Head;
use annals::{Error, Position};
use shuttle::thread;

use crate::check;

#[test]
fn waiter_never_misses_its_head() {
    check(|| {
        let head = Arc::new(Head::new(None));
        let waiters = [0_u64, 1, 2].map(|after| {
            let head = head.clone();
            thread::spawn(move || {
                let never = AtomicBool::new(false);
                let found = head.wait_past(Position::new(after), None, &never).unwrap();
                assert!(found > Position::new(after));
            })
        });
        for place in 1..=3 {
            head.publish(Position::new(place).unwrap());
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn closing_and_cancelling_wake_every_waiter() {
    check(|| {
        let (closed, cancelled) = (Arc::new(Head::new(None)), Arc::new(Head::new(None)));
        let flag = Arc::new(AtomicBool::new(false));
        let one = {
            let (head, never) = (closed.clone(), AtomicBool::new(false));
            thread::spawn(move || head.wait_past(None, None, &never))
        };
        let other = {
            let (head, flag) = (cancelled.clone(), flag.clone());
            thread::spawn(move || head.wait_past(None, None, &flag))
        };
        closed.close();
        flag.store(true, Ordering::SeqCst);
        cancelled.wake();
        assert!(matches!(one.join().unwrap(), Err(Error::Closed)));
        assert_eq!(other.join().unwrap().unwrap(), None);
    });
}

#[test]
fn head_never_goes_back_for_a_reader() {
    check(|| {
        let head = Arc::new(Head::new(None));
        let readers = [(); 2].map(|()| {
            let head = head.clone();
            thread::spawn(move || {
                let seen = [(); 4].map(|()| head.get().unwrap());
                assert!(seen.is_sorted(), "{seen:?}");
            })
        });
        for place in [1, 2, 5] {
            head.publish(Position::new(place).unwrap());
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
