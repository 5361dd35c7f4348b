//! [`CachedDecisions`]: decisions that keep the states of their models.

use std::error::Error as StdError;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use super::boundary::Boundary;
use super::builder::DecisionBuilder;
use super::cache::{Cache, Place};
use super::decisions::Decisions;
use crate::error::Result;
#[cfg(feature = "async")]
use crate::event_store::Async;
use crate::event_store::Blocking;
#[cfg(feature = "async")]
use crate::pool;

/// [`Decisions`] that keep recently used states of their models in memory, so that a decision reads
/// only newer events. [`Decisions::cached`] creates them, for one type of models `B`.
///
/// A decision always reads the events after a cached state, and is appended under the same
/// condition (G16), so it is never based on a stale state. A state from which an event was deleted
/// or redacted (G17) is not used again: each deletion and each step of a scavenge discards all
/// states. A panic in [`apply`](crate::DecisionModel::apply) changes no cached state.
///
/// The key of a state is the models as the caller gives them, before any event. So two values that
/// are equal must be the same in all their fields: derive `PartialEq`, `Eq` and `Hash`.
///
/// Any number of threads may share them; clones share the cache.
///
/// ```
/// use annals::prelude::*;
/// use annals::{DecisionModel, Decisions, Query};
/// use std::convert::Infallible;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct SeatReserved { train: u32 }
/// annals::domain_events! {
///     tags |reserved| vec![format!("train:{}", reserved.train)];
///     SeatReserved => "SeatReserved"
/// }
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Seats { train: u32, taken: u32 }
///
/// impl DecisionModel for Seats {
///     type Event = SeatReserved;
///     fn query(&self) -> Query {
///         Query::tag(format!("train:{}", self.train))
///     }
///     fn apply(&mut self, _: SeatReserved) {
///         self.taken += 1;
///     }
/// }
///
/// let store = MemoryStore::new();
/// let reservations = Decisions::new(&store).cached(10_000);
/// for _ in 0..500 {
///     // Reads the event of the last decision only.
///     reservations.decide(Seats { train: 7, taken: 0 }).run(|seats| {
///         Ok::<_, Infallible>(Some(SeatReserved { train: 7 }).filter(|_| seats.taken < 400))
///     })?;
/// }
/// assert_eq!(reservations.read(Seats { train: 7, taken: 0 })?.taken, 400);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// A decision copies the state twice if it was changed, and once if not. The states and their keys
/// are held in memory. This pays unless the models of nearly every decision are new, or depend on
/// hardly any event: docs/PERFORMANCE.md has figures.
pub struct CachedDecisions<B, D = Blocking> {
    decisions: Decisions,
    cache: Arc<Cache<B>>,
    api: PhantomData<fn() -> D>,
}

impl Decisions {
    /// Keeps about this many recently used states of the models `B` in memory: see
    /// [`CachedDecisions`].
    pub fn cached<B>(self, states: usize) -> CachedDecisions<B>
    where
        B: Boundary + Clone + Eq + Hash + Send + Sync + 'static,
    {
        CachedDecisions::new(self, states)
    }
}

impl<B, D> CachedDecisions<B, D>
where
    B: Boundary + Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(super) fn new(decisions: Decisions, states: usize) -> Self {
        Self { decisions, cache: Arc::new(Cache::new(states)), api: PhantomData }
    }

    /// The decisions without the cache.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// A decision that depends on these models, each in its state before any event: see
    /// [`Decisions::decide`].
    pub fn decide<'r, R: StdError>(&self, models: B) -> DecisionBuilder<'r, B, R, D> {
        let place = Place::new(self.cache.clone(), models.clone());
        DecisionBuilder::new(self.decisions.clone(), models).in_cache(place)
    }

    fn read_now(&self, models: B) -> Result<B> {
        let place = Place::new(self.cache.clone(), models.clone());
        self.decisions.read_with(models, Some(Box::new(place)))
    }
}

impl<B> CachedDecisions<B>
where
    B: Boundary + Clone + Eq + Hash + Send + Sync + 'static,
{
    /// The models in their current state, without a decision.
    ///
    /// # Errors
    /// Those of [`Decisions::read`].
    ///
    /// # Cost
    /// Reads the events after the cached state, or else every event that a model depends on.
    pub fn read(&self, models: B) -> Result<B> {
        self.read_now(models)
    }
}

/// Reads as a task.
#[cfg(feature = "async")]
impl<B> CachedDecisions<B, Async>
where
    B: Boundary + Clone + Eq + Hash + Send + Sync + 'static,
{
    /// The models in their current state, without a decision.
    ///
    /// # Errors
    /// Those of [`Decisions::read`].
    ///
    /// # Cost
    /// Reads the events after the cached state, or else every event that a model depends on.
    pub async fn read(&self, models: B) -> Result<B> {
        let this = self.clone();
        pool::run(move || this.read_now(models)).await
    }
}

impl<B, D> Clone for CachedDecisions<B, D> {
    fn clone(&self) -> Self {
        let (decisions, cache) = (self.decisions.clone(), self.cache.clone());
        Self { decisions, cache, api: PhantomData }
    }
}

impl<B, D> fmt::Debug for CachedDecisions<B, D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CachedDecisions")
            .field("decisions", &self.decisions)
            .finish_non_exhaustive()
    }
}
