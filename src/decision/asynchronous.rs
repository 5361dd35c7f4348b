//! [`AsyncDecisions`]: decisions for tasks.

use std::error::Error as StdError;
use std::hash::Hash;

use super::boundary::Boundary;
use super::builder::DecisionBuilder;
use super::cached::CachedDecisions;
use super::decisions::Decisions;
use super::execution::{DecisionExecution, Outcome, Step};
use crate::aggregate::Turn;
use crate::codec::DomainEvent;
use crate::error::Result;
use crate::event_store::Async;
use crate::pool;

/// [`Decisions`] for tasks. Models, events and errors must be `Send`.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use annals::prelude::*;
/// use annals::{AsyncDecisions, AsyncStore, DecisionModel, Decisions, Query};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Liked {}
/// # annals::domain_events! { tags |_| vec!["song:7".into()]; Liked => "SongLiked" }
/// # struct Likes(u32);
/// # impl DecisionModel for Likes {
/// #     type Event = Liked;
/// #     fn query(&self) -> Query { Query::tag("song:7") }
/// #     fn apply(&mut self, _: Liked) { self.0 += 1; }
/// # }
/// #[derive(Debug, thiserror::Error)]
/// #[error("it has its two likes")]
/// struct Enough;
///
/// let store = AsyncStore::new(MemoryStore::new());
/// let decisions = AsyncDecisions::new(Decisions::new(store.blocking()));
/// let like = || decisions.decide(Likes(0)).run(|likes| {
///     if likes.0 < 2 { Ok([Liked {}]) } else { Err(Enough) }
/// });
/// like().await?;
/// like().await?;
/// assert!(like().await.unwrap_err().is_rejected());
/// assert_eq!(decisions.read(Likes(0)).await?.0, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct AsyncDecisions {
    decisions: Decisions,
}

impl AsyncDecisions {
    /// Opens the async API to decisions.
    pub fn new(decisions: Decisions) -> Self {
        Self { decisions }
    }

    /// The decisions themselves, whose methods may block.
    pub fn blocking(&self) -> &Decisions {
        &self.decisions
    }

    /// A decision that depends on these models, each in its state before any event: see
    /// [`Decisions::decide`].
    pub fn decide<B: Boundary, R: StdError>(
        &self,
        models: B,
    ) -> DecisionBuilder<'static, B, R, Async> {
        DecisionBuilder::new(self.decisions.clone(), models)
    }

    /// Keeps about this many recently used states of the models `B` in memory: see
    /// [`CachedDecisions`].
    pub fn cached<B>(self, states: usize) -> CachedDecisions<B, Async>
    where
        B: Boundary + Clone + Eq + Hash + Send + Sync + 'static,
    {
        CachedDecisions::new(self.decisions, states)
    }

    /// The models in their current state, without a decision.
    ///
    /// # Errors
    /// Those of [`Decisions::read`].
    pub async fn read<B: Boundary + Send + 'static>(&self, models: B) -> Result<B> {
        let decisions = self.decisions.clone();
        pool::run(move || decisions.read(models)).await
    }
}

/// Takes a decision as a task.
impl<B, R> DecisionBuilder<'static, B, R, Async>
where
    B: Boundary + Send + 'static,
    R: StdError + Send + 'static,
{
    /// Reads the models, lets `decide` decide in their state, and appends the resulting events.
    ///
    /// They are appended only if no event that the models depend on was appended since it was read.
    ///
    /// `decide` and [`DecisionBuilder::also`] run on a thread of a pool. There `also` may read with
    /// blocking calls, but it must not wait for other tasks. No thread waits while the events are
    /// stored, or while other callers have their turn. Closures own what they use.
    ///
    /// If the future is dropped, the decision is stored whole or not at all. To find out, send it
    /// again with the same idempotency key.
    ///
    /// # Errors
    /// Those of `run` of the blocking API.
    ///
    /// # Cost
    /// That of `run` of the blocking API, and two hand-overs to the pool; three with a key.
    pub async fn run<E, I>(
        self,
        mut decide: impl FnMut(&B) -> Result<I, R> + Send + 'static,
    ) -> Outcome<E, R>
    where
        E: DomainEvent + Send + 'static,
        I: IntoIterator<Item = E>,
    {
        let mut decide =
            move |models: &B| decide(models).map(|events| events.into_iter().collect());
        let mut execution =
            DecisionExecution::new(self.request, self.stream?, self.models, self.place)?;
        let begin = move || {
            let step = execution.begin(&mut decide);
            (execution, decide, step)
        };
        let (mut execution, mut decide, mut step) = pool::run(begin).await;
        loop {
            (execution, decide, step) = match step {
                Step::Done(outcome) => return outcome,
                Step::Wait(line) => {
                    let turn = Turn::wait_as_task(line).await;
                    let resume = move || {
                        let step = execution.resume(&mut decide, turn);
                        (execution, decide, step)
                    };
                    pool::run(resume).await
                }
                Step::Submit(work, follow_up) => {
                    let answer = work.submit_async(execution.store()).await;
                    let conclude = move || {
                        let step = execution.conclude(&mut decide, follow_up, answer);
                        (execution, decide, step)
                    };
                    pool::run(conclude).await
                }
            };
        }
    }
}
