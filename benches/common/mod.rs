//! Shared by the benchmarks: realistic payloads, and stores in separate directories.

#![allow(dead_code, reason = "each bench is a program of its own, and uses a part of this")]

use annals::prelude::*;
use annals::{ContentType, Durability, EventType, StoreOptions};
use serde::Deserialize;
use tempfile::TempDir;

/// Payload sizes: a small fact, a text, a document.
pub(crate) const PAYLOADS: [usize; 3] = [100, 1_024, 16 * 1_024];
/// The payload size of a typical application.
pub(crate) const PAYLOAD: usize = 200;
const FRAME: (&[u8], &[u8]) = (br#"{"text":""#, br#""}"#);

/// The type that payloads are decoded to.
#[derive(Deserialize)]
pub(crate) struct Happened {
    pub(crate) text: String,
}

/// Generates events whose payloads have this length and compress like text, to about half.
pub(crate) struct Events {
    random: u64,
    letters: Vec<u8>,
    payload: usize,
}

impl Events {
    pub(crate) fn new(payload: usize) -> Self {
        let mut events = Self { random: 1, letters: Vec::new(), payload };
        for _ in 0..payload + (1 << 16) {
            let letter = b'a' + u8::try_from(events.below(16)).unwrap();
            events.letters.push(letter);
        }
        events
    }

    /// A pseudo-random number, the same in each run.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % most
    }

    pub(crate) fn next(&mut self, count: usize) -> Vec<NewEvent> {
        let text_len = self.payload - FRAME.0.len() - FRAME.1.len();
        let event_type = EventType::new("Happened").unwrap();
        let event = |_| {
            let begin = usize::try_from(self.below(1 << 16)).unwrap();
            let text = self.letters.get(begin..begin + text_len).unwrap();
            NewEvent::new(event_type.clone(), [FRAME.0, text, FRAME.1].concat())
                .with_content_type(ContentType::JSON)
        };
        (0..count).map(event).collect()
    }
}

/// A stream id of 24 bytes.
pub(crate) fn stream(number: u64) -> String {
    format!("account-{number:016}")
}

pub(crate) fn buffered() -> StoreOptions {
    Store::options().durability(Durability::Buffered)
}

/// A store with this many events of [`PAYLOAD`] bytes, in appends of 10, in streams of 30.
pub(crate) fn filled(events: u64) -> (Store, TempDir) {
    filled_with(PAYLOAD, events, 10)
}

/// A store with this many events. Consecutive appends go to distant streams; each stream gets 30
/// events.
pub(crate) fn filled_with(payload: usize, events: u64, append_len: u64) -> (Store, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = buffered().open(directory.path().join("bench")).unwrap();
    let streams = (events / 30).max(1);
    let mut source = Events::new(payload);
    for append in 0..events / append_len {
        let events = source.next(usize::try_from(append_len).unwrap());
        let stream = stream((append * 7_919) % streams);
        store.append(stream, ExpectedVersion::Any, events).unwrap();
    }
    (store, directory)
}

/// Closes and reopens a store: its events are then in table files, and cached only by the operating
/// system.
pub(crate) fn reopened(store: Store) -> Store {
    let path = store.info().unwrap().path;
    store.close().unwrap();
    buffered().open(path).unwrap()
}
