//! [`IndexDrafts`]: the entries of the index for one append, before its positions are known.

use smallvec::SmallVec;

use crate::event_store::Append;
use crate::format::{IndexKind, Indexed, POSITION_LEN, index_entries, push_index_prefix};
use crate::model::{EventType, Position};

/// The kinds of entries that a store has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexKinds([bool; IndexKind::ALL.len()]);

impl From<Indexed> for IndexKinds {
    fn from(indexed: Indexed) -> Self {
        Self(IndexKind::ALL.map(|kind| indexed.get(kind).is_some()))
    }
}

impl IndexKinds {
    pub(crate) fn has(self, kind: IndexKind) -> bool {
        IndexKind::ALL.into_iter().zip(self.0).any(|(known, is_on)| known == kind && is_on)
    }
}

/// The entries of the events of one append. Its caller prepares them; the writer adds positions.
#[derive(Debug, Default)]
pub(crate) struct IndexDrafts {
    /// The keys and values of all entries, one after the other.
    bytes: Vec<u8>,
    entries: SmallVec<[Draft; 2]>,
    /// The type of each event.
    pub(crate) types: SmallVec<[EventType; 1]>,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
struct Draft {
    /// The number of its event within the append, from 0.
    event: u32,
    key: u32,
    value: u32,
    end: u32,
}

impl IndexDrafts {
    pub(crate) fn of(append: &Append, kinds: IndexKinds) -> Self {
        let mut drafts = Self::default();
        for (event, (stream, new)) in (0_u32..).zip(append.events()) {
            drafts.types.push(new.event_type().clone());
            let names = (new.event_type().as_str(), stream.category());
            let tags = new.tags().iter().map(String::as_str);
            index_entries(names, &tags, |kind, text, value| {
                if kinds.has(kind) {
                    drafts.push(event, kind, text, value);
                }
            });
        }
        drafts
    }

    fn push(&mut self, event: u32, kind: IndexKind, text: &str, value: &str) {
        // An append is far shorter than 4 GiB.
        let at = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let key = at(&self.bytes);
        push_index_prefix(&mut self.bytes, kind, text);
        self.bytes.extend_from_slice(&[0; POSITION_LEN]);
        let end_of_key = at(&self.bytes);
        self.bytes.extend_from_slice(value.as_bytes());
        let end = at(&self.bytes);
        self.entries.push(Draft { event, key, value: end_of_key, end });
    }

    /// The length of all keys and values.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 24 * self.entries.len()
    }

    /// Passes the key and the value of each entry on. `first` is the position of the first event.
    pub(crate) fn each(&mut self, first: Position, mut put: impl FnMut(&[u8], &[u8])) {
        for draft in &self.entries {
            let position = first.plus(u64::from(draft.event));
            let (key, value) = parts_mut(&mut self.bytes, *draft);
            if let Some(end) = key.last_chunk_mut::<POSITION_LEN>() {
                *end = position.get().to_be_bytes();
            }
            put(key, value);
        }
    }

    /// The entries: the number of the event, the kind and text as in a key, and the value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8], &[u8])> {
        self.entries.iter().map(|draft| {
            let value = self.bytes.get(index(draft.value)..index(draft.end)).unwrap_or_default();
            (draft.event, self.name_of(draft), value)
        })
    }

    fn name_of(&self, draft: &Draft) -> &[u8] {
        let (from, to) = (index(draft.key), index(draft.value) - POSITION_LEN);
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// Whether an event has an entry for this kind and text.
    pub(crate) fn has(&self, event: u32, prefix: &[u8]) -> bool {
        let from = self.entries.partition_point(|draft| draft.event < event);
        let later = self.entries.get(from..).unwrap_or_default().iter();
        let of_event = later.take_while(|draft| draft.event == event);
        { of_event }.any(|draft| self.name_of(draft) == prefix)
    }
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// The key and the value of an entry.
fn parts_mut(bytes: &mut [u8], draft: Draft) -> (&mut [u8], &[u8]) {
    let entry = bytes.get_mut(index(draft.key)..index(draft.end)).unwrap_or_default();
    let (key, value) = entry.split_at_mut(index(draft.value - draft.key));
    (key, value)
}
