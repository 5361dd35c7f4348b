//! [`Cache`]: recently used states of models in memory, so that a decision reads only newer events.

use std::hash::Hash;
use std::sync::Arc;

use crate::event_store::EventStore;
use crate::model::Position;
use crate::recent::Recent;
use crate::sync::Mutex;

/// A bounded cache of states. The key of a state is the models before any event, so that models with
/// other parameters or another initial value never share a state. A decision always reads the events
/// after a cached state, so a stale one is harmless.
pub(super) struct Cache<B>(Mutex<Recent<B, Kept<B>>>);

#[derive(Clone)]
struct Kept<B> {
    models: Arc<B>,
    /// Every event up to this position is in the models.
    up_to: Position,
    /// The removals of the store before the first of these events was read: see
    /// [`EventStore::removals`].
    removals: u64,
}

impl<B: Clone + Eq + Hash> Cache<B> {
    pub(super) fn new(states: usize) -> Self {
        Self(Mutex::new(Recent::new(states)))
    }

    /// A state from which nothing was removed since.
    fn get(&self, key: &B, removals: u64) -> Option<Kept<B>> {
        // The lock is released before the state is copied: it may be large.
        self.0.lock().get(key).filter(|kept| kept.removals == removals)
    }

    /// Caches a state, unless a newer one is known.
    fn put(&self, key: &B, kept: Kept<B>) {
        let mut states = self.0.lock();
        let order = |kept: &Kept<B>| (kept.removals, kept.up_to);
        if states.get(key).is_none_or(|known| order(&known) < order(&kept)) {
            states.insert(key.clone(), kept);
        }
    }
}

/// The place of the models of one decision in a cache, of which a reader need not know the key.
pub(super) trait CachePlace<B>: Send {
    /// The cached state, and the position up to which it was read. It is asked for before anything
    /// is read.
    fn find(&mut self, store: &dyn EventStore) -> Option<(B, Position)>;

    /// Caches a state. `is_changed`: whether an event was applied since the last call.
    fn keep(&mut self, models: &B, up_to: Position, is_changed: bool);
}

pub(super) struct Place<B> {
    cache: Arc<Cache<B>>,
    key: B,
    /// The removals of the store before anything was read.
    removals: u64,
    /// The state in the cache.
    kept: Option<Arc<B>>,
}

impl<B> Place<B> {
    pub(super) fn new(cache: Arc<Cache<B>>, key: B) -> Self {
        Self { cache, key, removals: 0, kept: None }
    }
}

impl<B: Clone + Eq + Hash + Send + Sync> CachePlace<B> for Place<B> {
    fn find(&mut self, store: &dyn EventStore) -> Option<(B, Position)> {
        self.removals = store.removals();
        let kept = self.cache.get(&self.key, self.removals)?;
        let models = (*kept.models).clone();
        self.kept = Some(kept.models);
        Some((models, kept.up_to))
    }

    fn keep(&mut self, models: &B, up_to: Position, is_changed: bool) {
        let models = match &self.kept {
            Some(kept) if !is_changed => kept.clone(),
            _ => Arc::new(models.clone()),
        };
        self.kept = Some(models.clone());
        self.cache.put(&self.key, Kept { models, up_to, removals: self.removals });
    }
}
