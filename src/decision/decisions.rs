//! [`Decisions`]: reads the models of decisions, and stores the resulting events.

use std::fmt;
use std::sync::Arc;

use super::boundary::Boundary;
use super::cache::CachePlace;
use super::reading::Reading;
use crate::aggregate::RETRIES;
use crate::error::Result;
use crate::event_store::EventStore;
use crate::options::Durability;
use crate::upcast::Upcasters;

/// Decides over tags in one store: reads the models of a decision, lets the application decide, and
/// appends the events only if the decision would be the same now (G16).
///
/// Any number of threads may share it, and clones are cheap. It does not keep the store open: once
/// the store is closed, its calls fail with [`Error::Closed`](crate::Error::Closed).
///
/// See [`DecisionModel`](crate::DecisionModel) for an example, and
/// [`DecisionScenario`](crate::testing::DecisionScenario) for tests without a store. An
/// [`Aggregate`](crate::Aggregate) is the same for the events of one stream, and also has snapshots.
#[derive(Clone)]
pub struct Decisions {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) upcasters: Upcasters,
    pub(super) retries: u32,
    pub(super) durability: Option<Durability>,
}

impl Decisions {
    /// Decisions over a store. Nothing is read yet.
    pub fn new(store: &(impl EventStore + ?Sized)) -> Self {
        let store = store.handle();
        Self { store, upcasters: Upcasters::none(), retries: RETRIES, durability: None }
    }

    /// Upcasts old events with these upcasters. The types under which old events are stored are
    /// part of the query of each model.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.upcasters = upcasters;
        self
    }

    /// Sets how often a decision is taken again after a conflict; 10 by default.
    ///
    /// After a conflict, the callers of this process take turns, for each combination of tags over
    /// which they met. Raise it if other code appends such events continuously and without
    /// decisions.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the durability of the appends, instead of the store's default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    pub(super) fn reading<B: Boundary>(
        &self,
        models: B,
        place: Option<Box<dyn CachePlace<B>>>,
    ) -> Result<Reading<B>> {
        Reading::new(models, place, &self.upcasters)
    }

    pub(super) fn read_with<B: Boundary>(
        &self,
        models: B,
        place: Option<Box<dyn CachePlace<B>>>,
    ) -> Result<B> {
        let mut reading = self.reading(models, place)?;
        reading.catch_up(&*self.store)?;
        Ok(reading.models)
    }

    /// The models in their current state, without a decision: for a form that shows how many places
    /// are left.
    ///
    /// ```
    /// # use annals::prelude::*;
    /// # use annals::{DecisionModel, Decisions, Query};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Liked {}
    /// # annals::domain_events! { tags |_| vec!["song:7".into()]; Liked => "SongLiked" }
    /// struct Likes(u32);
    /// impl DecisionModel for Likes {
    ///     type Event = Liked;
    ///     fn query(&self) -> Query { Query::tag("song:7") }
    ///     fn apply(&mut self, _: Liked) { self.0 += 1; }
    /// }
    /// let store = MemoryStore::new();
    /// store.append("song-7", ExpectedVersion::Any, [Liked {}.encode()?, Liked {}.encode()?])?;
    /// assert_eq!(Decisions::new(&store).read(Likes(0))?.0, 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument): there is no model, or the query
    /// of a model is invalid or matches none of its events.
    /// [`Error::Unreadable`](crate::Error::Unreadable), or any error of the store.
    ///
    /// # Cost
    /// Reads every event that a model depends on; with [`Decisions::cached`], only newer ones.
    pub fn read<B: Boundary>(&self, models: B) -> Result<B> {
        self.read_with(models, None)
    }
}

impl fmt::Debug for Decisions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decisions")
            .field("retries", &self.retries)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
