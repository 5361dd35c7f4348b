//! States that were lately used, as they are stored: so that loading need only read what is new.

use std::collections::HashMap;
use std::sync::Arc;

use super::Aggregate;
use super::root::{AggregateRoot, Standing};
use crate::model::StreamId;
use crate::sync::{Mutex, MutexGuard};

/// A bounded cache in two generations, like that of tips in the commit path: what is used moves to the young one; when
/// that is full, the old one is dropped.
///
/// What is here was loaded, or its append was acknowledged. It is never the answer by itself: a caller that
/// takes a state reads what the stream holds behind it.
pub(super) struct Cache<A> {
    clone: fn(&A) -> A,
    generations: Mutex<Generations<A>>,
    generation_len_max: usize,
}

type Kept<A> = Arc<(A, Standing)>;

struct Generations<A> {
    young: HashMap<StreamId, Kept<A>>,
    old: HashMap<StreamId, Kept<A>>,
}

impl<A: Aggregate> Cache<A> {
    pub(super) fn new(states: usize) -> Self
    where
        A: Clone,
    {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self {
            clone: A::clone,
            generations: Mutex::new(generations),
            generation_len_max: (states / 2).max(1),
        }
    }

    /// One of the same size in which nothing is kept.
    pub(super) fn emptied(&self) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self { generations: Mutex::new(generations), ..*self }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<A>> {
        self.generations.lock()
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<AggregateRoot<A>> {
        let mut generations = self.lock();
        let kept = if let Some(kept) = generations.young.get(stream) {
            kept.clone()
        } else {
            let kept = generations.old.remove(stream)?;
            self.keep(&mut generations, stream, kept.clone());
            kept
        };
        // The state is copied while nothing is locked: it may be large.
        drop(generations);
        Some(AggregateRoot::at(stream.clone(), (self.clone)(&kept.0), kept.1))
    }

    /// Keeps a stored state. One from which something was skipped is not kept: every load shall say so again.
    pub(super) fn put(&self, root: &AggregateRoot<A>) {
        if root.skipped.is_empty() && root.encoded().is_empty() {
            let kept = Arc::new(((self.clone)(&root.state), root.standing));
            self.keep(&mut self.lock(), &root.stream, kept);
        }
    }

    fn keep(&self, generations: &mut Generations<A>, stream: &StreamId, kept: Kept<A>) {
        let Generations { young, old } = generations;
        if young.len() >= self.generation_len_max && !young.contains_key(stream) {
            *old = std::mem::take(young);
        }
        young.insert(stream.clone(), kept);
    }
}
