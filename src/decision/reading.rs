//! [`Reading`]: the models of a decision, and the position up to which they were read.

use std::ops::ControlFlow;

use super::boundary::sealed::Fold;
use super::boundary::union;
use crate::error::Result;
use crate::event_store::{EventStore, Query};
use crate::extension::EventStoreExt;
use crate::model::Position;
use crate::upcast::Upcasters;

pub(super) struct Reading<B: Fold> {
    pub(super) models: B,
    members: B::Members,
    /// The events that at least one of the models depends on.
    pub(super) query: Query,
    /// Every event of the query up to this position is in the models.
    pub(super) up_to: Option<Position>,
}

impl<B: Fold> Reading<B> {
    /// Nothing is read yet.
    pub(super) fn new(models: B, upcasters: &Upcasters) -> Result<Self> {
        let members = models.members(upcasters)?;
        let query = union::<B>(&members)?;
        Ok(Self { models, members, query, up_to: None })
    }

    /// Applies the events that were appended since. After an error, the models must not be used.
    pub(super) fn catch_up(&mut self, store: &dyn EventStore) -> Result<()> {
        // The head is taken first: an event after it makes the condition of the append fail.
        let Some(head) = store.head()?.filter(|head| Some(*head) > self.up_to) else {
            return Ok(());
        };
        let read = store.read_log().query(self.query.clone()).after(self.up_to);
        let mut applied = Ok(());
        read.as_of_position(head).for_each(|event| {
            applied = self.models.apply_to(&self.members, event);
            if applied.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        applied?;
        self.up_to = Some(head);
        Ok(())
    }
}
