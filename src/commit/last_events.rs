//! The tips of the streams that were lately written or asked for: a bounded cache over the disk.

use std::collections::HashMap;

use crate::model::StreamId;
use crate::validate::LastEvent;

/// What is known of a stream: its tip, or that it has no events.
pub(super) type Known = Option<LastEvent>;

/// A cache in two generations: what is used moves to the young one; when that is full, the old one is dropped. Each
/// operation takes constant time, and what was used within the last `capacity / 2` others is there.
pub(super) struct LastEvents {
    young: HashMap<StreamId, Known>,
    old: HashMap<StreamId, Known>,
    generation_len_max: usize,
}

impl LastEvents {
    pub(super) fn new(capacity: usize) -> Self {
        let generation_len_max = (capacity / 2).max(1);
        Self { young: HashMap::new(), old: HashMap::new(), generation_len_max }
    }

    /// What is known of a stream; `None` if nothing is.
    pub(super) fn get(&mut self, stream: &StreamId) -> Option<Known> {
        if let Some(tip) = self.young.get(stream) {
            return Some(*tip);
        }
        let tip = self.old.remove(stream)?;
        self.set(stream.clone(), tip);
        Some(tip)
    }

    pub(super) fn set(&mut self, stream: StreamId, tip: Known) {
        if self.young.len() >= self.generation_len_max && !self.young.contains_key(&stream) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, tip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, Version};

    #[test]
    fn it_stays_within_its_bound_and_never_gives_an_old_tip() {
        let mut tips = LastEvents::new(10);
        for round in 1..100_u64 {
            for stream in 0..20 {
                let id = StreamId::new(format!("s-{stream}")).unwrap();
                let tip = LastEvent {
                    version: Version::new(round).unwrap(),
                    id: EventId::from_bytes([u8::try_from(stream).unwrap(); 16]),
                };
                if let Some(known) = tips.get(&id) {
                    assert_eq!(known.map(|known| known.version.get()), Some(round - 1));
                }
                tips.set(id.clone(), Some(tip));
                assert_eq!(tips.get(&id), Some(Some(tip)));
                assert!(tips.young.len() + tips.old.len() <= 10);
            }
        }
    }
}
