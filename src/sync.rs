//! The locks and atomics on which threads meet in the commit queue, the gate, the published head and the memory store.
//!
//! They are those of the standard library. They are named here, and nowhere else in those modules, so that the package
//! `tests/schedules` can put a model checker's in their place and try the same code under many orders of threads.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
