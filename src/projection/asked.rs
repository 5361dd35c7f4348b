//! What a worker does when it is asked to, between two batches: tries parked events again, or gives one up.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::names::parked_key;
use super::parked::{self, ParkedEvent, parked_events};
use super::shared::Ask;
use super::status::ProjectionFailure;
use super::worker::{Worker, count};
use super::writer::ViewWriter;
use crate::error::Result;
use crate::extension::EventStoreExt;
use crate::model::StreamId;
use crate::options::now;

impl Worker {
    pub(super) fn answer(&mut self, asked: Vec<Ask>) -> Result<(), ProjectionFailure> {
        asked.into_iter().try_for_each(|ask| match ask {
            Ask::Retry(reply) => self.retry_parked(&reply),
            Ask::Discard { parked, reply } => {
                let was_there = self.discard(&parked)?;
                let _ = reply.send(was_there);
                Ok(())
            }
        })
    }

    /// Takes up what was parked, stream by stream, each in order, until one fails again.
    fn retry_parked(&mut self, reply: &Sender<u64>) -> Result<(), ProjectionFailure> {
        for stream in self.parked.clone() {
            if self.retry_stream(&stream)? {
                self.parked.remove(&stream);
            }
        }
        let streams = count(self.parked.len());
        let mut left = None;
        self.tell(|run| {
            run.parked_streams = streams;
            left = Some(run.parked_events);
        });
        // Of a build that was replaced meanwhile nothing can be said: no answer is one too.
        let Some(left) = left else { return Ok(()) };
        // Whoever asked may have gone.
        let _ = reply.send(left);
        Ok(())
    }

    /// Says whether nothing of the stream is parked any more.
    fn retry_stream(&mut self, stream: &StreamId) -> Result<bool, ProjectionFailure> {
        loop {
            // Of a build that was replaced nothing is written any more: its notes would be taken up for ever.
            if !self.job.shared.is_to_go_on(self.generation()) {
                return Ok(false);
            }
            let parked = parked_events(&*self.job.views, &self.view, Some(stream), 1)?;
            let Some(parked) = parked.first() else { return Ok(true) };
            let read = self.job.events.read_log().from(parked.position).limit(1);
            let event = read.first()?.map(Arc::new);
            let Some(event) = event.filter(|event| event.position() == parked.position) else {
                return Ok(false);
            };
            let mut view = ViewWriter::new(self.stage());
            let refused = match self.setup().handle_one(&event, &mut view) {
                Ok(()) => self.job.handler.flush().err(),
                Err(refusal) => Some(refusal.into_cause()),
            };
            if let Some(cause) = refused {
                let mut stage = self.stage();
                parked::park(&mut stage, &event, Some(cause.to_string()), now(&self.job.clock));
                self.write(stage.into_changes().collect(), self.seen)?;
                // Its note was written again, not added.
                self.tell(|run| run.parked_events = run.parked_events.saturating_sub(1));
                return Ok(false);
            }
            view.stage.set(parked_key(stream, event.position()), None);
            view.stage.keep_event();
            self.write(view.stage.into_changes().collect(), self.seen)?;
        }
    }

    /// Gives a parked event up; says whether it was there.
    fn discard(&mut self, given_up: &ParkedEvent) -> Result<bool> {
        let (views, stream) = (&*self.job.views, &given_up.stream);
        let key = parked_key(stream, given_up.position);
        if views.view_value(&self.view, &key)?.is_none() {
            return Ok(false);
        }
        let mut stage = self.stage();
        stage.set(key, None);
        parked::give_up(&mut stage, given_up, now(&self.job.clock));
        self.write(stage.into_changes().collect(), self.seen)?;
        if parked_events(&*self.job.views, &self.view, Some(stream), 1)?.is_empty() {
            self.parked.remove(stream);
        }
        let streams = count(self.parked.len());
        self.tell(|run| run.parked_streams = streams);
        Ok(true)
    }
}
