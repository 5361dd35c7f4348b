//! [`Reading`]: the models of a decision, and the position up to which they were read.

use std::ops::ControlFlow;

use super::boundary::sealed::Fold;
use super::boundary::union;
use super::cache::CachePlace;
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
    place: Option<Box<dyn CachePlace<B>>>,
    has_begun: bool,
}

impl<B: Fold> Reading<B> {
    /// Nothing is read yet.
    pub(super) fn new(
        models: B,
        place: Option<Box<dyn CachePlace<B>>>,
        upcasters: &Upcasters,
    ) -> Result<Self> {
        let members = models.members(upcasters)?;
        let query = union::<B>(&members)?;
        Ok(Self { models, members, query, up_to: None, place, has_begun: false })
    }

    /// Applies the events that were appended since. After an error, the models must not be used.
    pub(super) fn catch_up(&mut self, store: &dyn EventStore) -> Result<()> {
        if !std::mem::replace(&mut self.has_begun, true)
            && let Some((models, up_to)) = self.place.as_mut().and_then(|place| place.find(store))
        {
            (self.models, self.up_to) = (models, Some(up_to));
        }
        // The head is taken first: an event after it makes the condition of the append fail.
        let Some(head) = store.head()?.filter(|head| Some(*head) > self.up_to) else {
            return Ok(());
        };
        let read = store.read_log().query(self.query.clone()).after(self.up_to);
        let (mut applied, mut is_changed) = (Ok(()), false);
        read.as_of_position(head).for_each(|event| {
            is_changed = true;
            applied = self.models.apply_to(&self.members, event);
            if applied.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        applied?;
        self.up_to = Some(head);
        if let Some(place) = &mut self.place {
            place.keep(&self.models, head, is_changed);
        }
        Ok(())
    }
}
