//! [`Cache`]: recently used states in memory, so that loading reads only newer events.

use std::sync::Arc;

use super::Aggregate;
use super::root::{AggregateRoot, Provenance};
use crate::model::StreamId;
use crate::recent::Recent;
use crate::sync::Mutex;

/// A bounded cache of states that were loaded, or whose append was acknowledged. A load always
/// reads the events after a cached state, so one that is behind is harmless.
pub(super) struct Cache<A> {
    clone: fn(&A) -> A,
    states: Mutex<Recent<StreamId, Arc<(A, Provenance)>>>,
}

impl<A: Aggregate> Cache<A> {
    pub(super) fn new(states: usize) -> Self
    where
        A: Clone,
    {
        Self { clone: A::clone, states: Mutex::new(Recent::new(states)) }
    }

    /// An empty cache of the same size.
    pub(super) fn emptied(&self) -> Self {
        Self { clone: self.clone, states: Mutex::new(self.states.lock().emptied()) }
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<AggregateRoot<A>> {
        // The lock is released before the state is copied: it may be large.
        let kept = self.states.lock().get(stream)?;
        Some(AggregateRoot::at(stream.clone(), (self.clone)(&kept.0), kept.1))
    }

    /// Caches a stored state, unless an event was skipped for it: each load must report the skip.
    pub(super) fn put(&self, root: &AggregateRoot<A>) {
        if root.skipped.is_empty() && root.encoded().is_empty() {
            let kept = Arc::new(((self.clone)(&root.state), root.provenance));
            self.states.lock().insert(root.stream.clone(), kept);
        }
    }
}
