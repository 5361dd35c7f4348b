//! Requests that a worker serves between two batches: retry parked events, discard one, or restore
//! a discarded one.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::builds::{Directory, discarded_key, parked_key, parked_prefix, skipped_prefix};
use super::discarded::{Discarded, decision};
use super::shared::Ask;
use super::status::ProjectionFailure;
use super::unhandled::{self, PAGE_ENTRIES, UnhandledEvent, parked_event, was_skipped};
use super::worker::Worker;
use super::writer::ViewWriter;
use crate::error::Result;
use crate::event_store::Query;
use crate::extension::EventStoreExt;
use crate::model::StreamId;
use crate::options::now;
use crate::view_store::ViewChange;

/// The reason recorded for an event that no longer matches when it is retried.
/// The reason for skipping a parked event that is gone.
const DELETED: &str = "the event was deleted";
const NO_LONGER_MATCHES: &str = "the projection's query and event types no longer select it";

impl Worker {
    pub(super) fn answer(&mut self, asked: Vec<Ask>) -> Result<(), ProjectionFailure> {
        asked.into_iter().try_for_each(|ask| {
            // The caller may no longer be waiting.
            match ask {
                Ask::Retry(reply) => return self.retry_parked(&reply),
                Ask::Discard { parked, reply } => _ = reply.send(self.discard(&parked)?),
                Ask::Restore { discarded, reply } => _ = reply.send(self.restore(&discarded)?),
            }
            Ok(())
        })
    }

    /// Retries all parked events: each stream in order, until one of its events fails again.
    fn retry_parked(&mut self, reply: &Sender<u64>) -> Result<(), ProjectionFailure> {
        self.reconcile()?;
        let query = self.job.handler.query();
        let streams: Vec<StreamId> = self.parked.keys().cloned().collect();
        for stream in streams {
            self.retry_stream(&stream, &query)?;
        }
        let mut left = None;
        self.tell(|run| left = Some(run.parked_events));
        // If the build was replaced meanwhile, the caller gets no answer.
        if let Some(left) = left {
            let _ = reply.send(left);
        }
        Ok(())
    }

    fn retry_stream(&mut self, stream: &StreamId, query: &Query) -> Result<(), ProjectionFailure> {
        let prefix = parked_prefix(Some(stream));
        let mut after = None;
        loop {
            let (views, view) = (&*self.job.views, &self.view);
            let page = unhandled::page(views, view, &prefix, after, PAGE_ENTRIES)?;
            for (key, note) in page.notes {
                let parked = note.event().ok_or_else(|| unhandled::no_note(&self.view, &key))?;
                if !self.retry(&parked, query)? {
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Retries one event; returns whether to continue with the next event of its stream.
    fn retry(&mut self, parked: &UnhandledEvent, query: &Query) -> Result<bool, ProjectionFailure> {
        // A replaced build is no longer written.
        if !self.job.shared.is_to_go_on(self.generation()) {
            return Ok(false);
        }
        let read = self.job.events.read_log().from(parked.position).limit(1);
        let event = read.first()?.map(Arc::new);
        let Some(event) = event else { return Ok(false) };
        let is_there = event.position() == parked.position;
        if is_there && event.id() != parked.id {
            return Ok(false);
        }
        let time = now(&self.job.clock);
        let why = if is_there { NO_LONGER_MATCHES } else { DELETED };
        if !is_there || !query.matches(&(*event).as_ref()) {
            let reason = match &parked.reason {
                None => why.to_owned(),
                Some(reason) => format!("{why}; it was parked for: {reason}"),
            };
            self.write(unhandled::unpark(parked, &reason, time), self.seen)?;
            return Ok(true);
        }
        let mut view = ViewWriter::new(self.stage());
        let refused = match self.setup().handle_one(&event, &mut view) {
            Ok(()) => self.job.handler.flush().err(),
            Err(refusal) if refusal.is_cancelled() => return Ok(false),
            Err(refusal) => Some(refusal.into_cause()),
        };
        if let Some(cause) = refused {
            self.write(unhandled::park_still(parked, &cause.to_string(), time), self.seen)?;
            return Ok(false);
        }
        view.stage.set(parked_key(&parked.stream, parked.position), None);
        view.stage.keep_event();
        self.write(view.stage.into_changes().collect(), self.seen)?;
        Ok(true)
    }

    /// Discards a parked event; returns whether it was parked.
    fn discard(&mut self, asked: &UnhandledEvent) -> Result<bool> {
        let place = (&asked.stream, asked.position);
        let parked = parked_event(&*self.job.views, &self.view, place)?;
        let Some(parked) = parked.filter(|parked| parked.id == asked.id) else {
            return Ok(false);
        };
        let time = now(&self.job.clock);
        let event = UnhandledEvent { at: time, ..parked.clone() };
        // Store the decision first: after a crash between the two writes, the next start applies
        // it.
        self.decide(decision(&event), |discarded| discarded.insert(event))?;
        self.write(unhandled::give_up(&parked, time), self.seen)?;
        Ok(true)
    }

    /// Parks a discarded event again; returns whether it was discarded.
    fn restore(&mut self, asked: &UnhandledEvent) -> Result<bool> {
        let find = |discarded: &Discarded| discarded.find(asked.position, asked.id).cloned();
        let Some(event) = self.job.shared.look(|state| find(&state.discarded)) else {
            return Ok(false);
        };
        // A build that handled the event before it was discarded must not handle it twice.
        if was_skipped(&*self.job.views, &self.view, &event)? {
            // Remove the decision last: after a crash between the two writes it still applies.
            self.write(unhandled::park_again(&event, now(&self.job.clock)), self.seen)?;
        }
        let key = discarded_key(event.position);
        self.decide(ViewChange::Delete { key }, |discarded| discarded.remove(event.position))?;
        Ok(true)
    }

    /// Stores a decision, then publishes it to the other builds.
    fn decide(&mut self, change: ViewChange, show: impl FnOnce(&mut Discarded)) -> Result<()> {
        let shared = self.job.shared.clone();
        let _alone = shared.directory();
        let was_reconciled = self.is_reconciled();
        let directory = Directory::read(&*self.job.views, &self.job.name)?;
        directory.change(&*self.job.views, &self.job.name, vec![change])?;
        let changed = shared.change(|state| {
            show(&mut state.discarded);
            state.discarded.changed()
        });
        if was_reconciled {
            // The caller applies the decision to this build.
            self.reconciled = Some(changed);
        }
        Ok(())
    }

    /// Whether the build has applied all decisions.
    pub(super) fn is_reconciled(&self) -> bool {
        self.reconciled == Some(self.job.shared.look(|state| state.discarded.changed()))
    }

    /// Applies decisions that this build has not applied yet: another build stored them, or a crash
    /// came before they were applied.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        if self.is_reconciled() {
            return Ok(());
        }
        let discarded = self.job.shared.look(|state| state.discarded.clone());
        let time = now(&self.job.clock);
        if discarded.len() > 0 && !self.parked.is_empty() {
            self.change_notes(&parked_prefix(None), |_, event| {
                let is_discarded = discarded.find(event.position, event.id).is_some();
                is_discarded.then(|| unhandled::give_up(event, time))
            })?;
        }
        self.change_notes(&skipped_prefix(), |was_discarded, event| {
            let is_restored = was_discarded && discarded.find(event.position, event.id).is_none();
            is_restored.then(|| unhandled::park_again(event, time))
        })?;
        self.reconciled = Some(discarded.changed());
        Ok(())
    }

    /// Makes the changes that `change` returns for each note, a page at a time. Its first argument
    /// is whether the event was skipped because it is discarded.
    fn change_notes(
        &mut self,
        prefix: &[u8],
        change: impl Fn(bool, &UnhandledEvent) -> Option<Vec<ViewChange>>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let (views, view) = (&*self.job.views, &self.view);
            let page = unhandled::page(views, view, prefix, after, PAGE_ENTRIES)?;
            let mut changes = Vec::new();
            for (key, note) in page.notes {
                let was_discarded = note.is_discarded();
                let event = note.event().ok_or_else(|| unhandled::no_note(&self.view, &key))?;
                changes.extend(change(was_discarded, &event).into_iter().flatten());
            }
            if !changes.is_empty() {
                self.write(changes, self.seen)?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
