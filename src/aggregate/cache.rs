//! States that were used recently, as they are stored: loading then reads only what is new.

use std::sync::Arc;

use super::Aggregate;
use super::root::{AggregateRoot, Provenance};
use crate::model::StreamId;
use crate::recent::Recent;
use crate::sync::Mutex;

/// A bounded cache. A state is here because it was loaded, or because its append was acknowledged.
/// It is never the answer by itself: a load reads the events after it.
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
        // The state is copied while nothing is locked: it may be large.
        let kept = self.states.lock().get(stream)?;
        Some(AggregateRoot::at(stream.clone(), (self.clone)(&kept.0), kept.1))
    }

    /// Keeps a stored state, unless an event was skipped for it: every load reports that again.
    pub(super) fn put(&self, root: &AggregateRoot<A>) {
        if root.skipped.is_empty() && root.encoded().is_empty() {
            let kept = Arc::new(((self.clone)(&root.state), root.provenance));
            self.states.lock().insert(root.stream.clone(), kept);
        }
    }
}
