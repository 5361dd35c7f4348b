//! [`ReadAhead`] reads ahead of a scan of the log, on a thread of its own. It only loads packs into
//! the block cache, where the scan then finds them decompressed: what the scan returns does not
//! depend on it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::error::Result;
use crate::event_store::Direction;
use crate::format::{log_key, parse_log_key};
use crate::model::Position;
use crate::storage::{Disk, Family, Storage};
use crate::sync::{Condvar, Mutex};

/// How many bytes of packs are loaded before the disk is released for a moment.
const STEP_LEN: usize = 512 * 1024;

/// Loads packs ahead of the newest scan.
pub(crate) struct ReadAhead {
    shared: Arc<Shared>,
    storage: Arc<Storage>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// How far ahead of the scan, in bytes of packs.
    window: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Where the scan reads next, and from where on nothing is loaded yet.
    scan: Position,
    ahead: Position,
    /// The packs between the two, in bytes.
    len: usize,
    /// Whether the thread waits for the scan to move.
    sleeps: bool,
    is_closed: bool,
}

impl ReadAhead {
    pub(crate) fn new(storage: Arc<Storage>, window: usize) -> Self {
        let (scan, ahead) = (Position::FIRST, Position::FIRST);
        let state = State { scan, ahead, len: 0, sleeps: false, is_closed: false };
        let shared = Shared { window, state: Mutex::new(state), changed: Condvar::new() };
        Self { shared: Arc::new(shared), storage, thread: Mutex::new(None) }
    }

    /// A scan has read a pack of this length, and continues at a position.
    pub(crate) fn scan_reached(&self, next: Position, len: usize) {
        let mut state = self.shared.state.lock();
        let is_same_scan = state.scan < next && next <= state.ahead;
        state.scan = next;
        if is_same_scan {
            state.len = state.len.saturating_sub(len);
        } else {
            (state.ahead, state.len) = (next, 0);
        }
        let has_room = state.len <= self.shared.window / 2;
        if has_room && !state.is_closed {
            if state.sleeps {
                self.shared.changed.notify_one();
            } else {
                drop(state);
                self.start();
            }
        }
    }

    /// Starts the thread, unless it runs. Without it, the scan loads its packs itself.
    fn start(&self) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (shared, storage) = (self.shared.clone(), self.storage.clone());
            let named = thread::Builder::new().name("annals-read-ahead".to_owned());
            *thread = named.spawn(move || shared.run(&storage)).ok();
        }
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.shared.state.lock().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, storage: &Storage) {
        while let Some(from) = self.next() {
            let loaded = storage.with(|disk| load(disk, from));
            let mut state = self.state.lock();
            // Meanwhile the scan may have gone elsewhere.
            if state.ahead == from {
                match loaded {
                    Ok(Some((next, len))) => (state.ahead, state.len) = (next, state.len + len),
                    // The end of the log, or damage, which the scan will find.
                    Ok(None) | Err(_) => state.len = self.window,
                }
            }
        }
    }

    /// Waits until there is room in the window. Returns where to continue; `None` at the end.
    fn next(&self) -> Option<Position> {
        let mut state = self.state.lock();
        while state.len >= self.window && !state.is_closed {
            state.sleeps = true;
            state = self.changed.wait(state);
            state.sleeps = false;
        }
        (!state.is_closed).then_some(state.ahead)
    }
}

/// Loads packs from a position on. Returns the position after them, and their length.
fn load(disk: &Disk, from: Position) -> Result<Option<(Position, usize)>> {
    let mut packs = disk.cursor_at(Family::Packs, &log_key(from), Direction::Forward);
    let (mut next, mut len) = (None, 0);
    while len < STEP_LEN
        && let Some((key, pack)) = packs.next()?
    {
        next = parse_log_key(key).map(Position::next);
        len += pack.len();
    }
    Ok(next.map(|next| (next, len)))
}
