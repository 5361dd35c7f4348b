//! [`Backfill`] adds entries of the index for events that were appended before there was one.
//!
//! It works downwards from the first event that is indexed, on a thread of its own. After each batch
//! it rests for as long as the batch took, at most 100 ms. New events are indexed by the writer, so the two never write
//! the same entry. Each batch also records how far the index reaches now, so that it goes on there
//! when the store is opened again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::derived::{DerivedWriter, Entries};
use crate::error::{Error, Result};
use crate::event_store::Direction;
use crate::format::{IndexKind, Indexed, index_entries, index_key};
use crate::model::Position;
use crate::read::index::IndexedFrom;
use crate::read::log::{Log, OpenPack};
use crate::read::lookup::{decode_in_log, each_event};
use crate::storage::Storage;
use crate::sync::{AtomicBool, Mutex};
use crate::trace;

/// How many events one batch covers.
const BATCH_EVENTS: u64 = 1_000;
/// How long it waits when the disk is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two batches.
const PAUSE_MAX: Duration = Duration::from_millis(100);

pub(super) struct Backfill {
    storage: Arc<Storage>,
    open: Arc<OpenPack>,
    derived: Arc<DerivedWriter>,
    indexed_from: Arc<IndexedFrom>,
    ends: AtomicBool,
    state: Mutex<State>,
    /// Held while what is indexed changes.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    is_running: bool,
    failure: Option<Error>,
}

impl Backfill {
    pub(super) fn new(
        (storage, open): (Arc<Storage>, Arc<OpenPack>),
        derived: Arc<DerivedWriter>,
        indexed_from: Arc<IndexedFrom>,
    ) -> Self {
        let (ends, state) = (AtomicBool::new(false), Mutex::new(State::default()));
        Self { storage, open, derived, indexed_from, ends, state, changing: Mutex::new(()) }
    }

    /// Starts the thread, if anything is left to do and it does not run.
    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_running || next_part(self.indexed_from.get()).is_none() {
            return Ok(());
        }
        let this = self.clone();
        let started = thread::Builder::new().name("annals-index".to_owned()).spawn(move || {
            let mut running = Running { backfill: &this, failure: None };
            loop {
                running.failure = this.run().err();
                let mut state = this.state.lock();
                // A reset may have come after the last look.
                let is_done = next_part(this.indexed_from.get()).is_none();
                if is_done || running.failure.is_some() || this.ends.load(Ordering::Relaxed) {
                    running.end(&mut state);
                    return;
                }
            }
        });
        started.map_err(|error| Error::storage("starting the thread of the index", error))?;
        *state = State { is_running: true, failure: None };
        Ok(())
    }

    /// Ends the thread soon.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Whether the thread runs, and why it ended early.
    pub(super) fn state(&self) -> (bool, Option<Error>) {
        let state = self.state.lock();
        (state.is_running, state.failure.clone())
    }

    /// Changes what is indexed while nothing is being added.
    pub(super) fn change(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let _changing = self.changing.lock();
        change()
    }

    fn run(&self) -> Result<()> {
        while !self.ends.load(Ordering::Relaxed) {
            let began = Instant::now();
            match self.index_some() {
                Ok(true) => thread::sleep(began.elapsed().min(PAUSE_MAX)),
                Ok(false) | Err(Error::Closed) => return Ok(()),
                Err(Error::DiskFull { .. }) => thread::sleep(FULL_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds the entries of some events. Returns whether there were any.
    fn index_some(&self) -> Result<bool> {
        let _changing = self.changing.lock();
        let Some(part) = next_part(self.indexed_from.get()) else { return Ok(false) };
        let entries = self.storage.with(|disk| entries(Log::new(disk, &self.open), &part))?;
        self.derived.write_index(&entries, part.then)?;
        self.indexed_from.set(part.then);
        Ok(true)
    }
}

/// The thread; it ends even by a panic.
struct Running<'b> {
    backfill: &'b Backfill,
    failure: Option<Error>,
}

impl Running<'_> {
    fn end(&mut self, state: &mut State) {
        if self.failure.is_some() {
            trace::event!(warn, failure = ?self.failure, "building the index ended early");
        }
        *state = State { is_running: false, failure: self.failure.take() };
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut state = self.backfill.state.lock();
            self.end(&mut state);
        }
    }
}

/// Events to be indexed.
struct Part {
    from: Position,
    /// The first position after them.
    end: Position,
    kinds: Vec<IndexKind>,
    /// What is indexed then.
    then: Indexed,
}

/// The next events to be indexed: the newest ones for which a kind of entry is missing.
fn next_part(indexed: Indexed) -> Option<Part> {
    let is_incomplete = |kind: &IndexKind| indexed.get(*kind) > Some(Position::FIRST);
    let incomplete = || IndexKind::ALL.into_iter().filter(is_incomplete);
    let end = incomplete().filter_map(|kind| indexed.get(kind)).max()?;
    let others = incomplete().filter_map(|kind| indexed.get(kind)).filter(|from| *from < end);
    let far = Position::new(end.get().saturating_sub(BATCH_EVENTS)).unwrap_or(Position::FIRST);
    let from = far.max(others.max().unwrap_or(Position::FIRST));
    let kinds: Vec<_> = incomplete().filter(|kind| indexed.get(*kind) == Some(end)).collect();
    let mut then = indexed;
    for kind in &kinds {
        then.set(*kind, Some(from));
    }
    Some(Part { from, end, kinds, then })
}

fn entries(log: Log<'_>, part: &Part) -> Result<Entries> {
    let mut entries = Entries::new();
    let mut cursor = log.cursor(part.from, Direction::Forward);
    while let Some(frames) = cursor.next()? {
        for (place, bytes) in frames.from(part.from) {
            if place.first >= part.end {
                return Ok(entries);
            }
            let frame = decode_in_log(place.first, bytes)?;
            let location = || crate::error::Location::log(place.first);
            each_event(&frame, location, |event| {
                if (part.from..part.end).contains(&event.position) {
                    let names = (event.event_type, event.category());
                    let tags = event.tags.iter().collect::<Vec<_>>();
                    index_entries(names, &tags.into_iter(), |kind, text, value| {
                        if part.kinds.contains(&kind) {
                            let key = index_key(kind, text, event.position);
                            entries.push((key, value.as_bytes().to_vec()));
                        }
                    });
                }
            })?;
        }
    }
    Ok(entries)
}
