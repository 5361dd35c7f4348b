//! Read models: for any contents of a projection's directory, values and parked events, a read
//! returns entries or an error.

use std::time::Duration;

use annals::{
    Checkpoint, Direction, HandlerError, MemoryStore, Position, Projection, ProjectionManager,
    TypedEvent, ViewChange, ViewCommit, ViewKey, ViewScan, ViewStore, ViewStoreExt, ViewWriter,
};
use serde_json::{Value, json};

use super::bank::BankEvent;
use crate::input::Input;

const NAME: &str = "p";

pub fn views(data: &[u8]) {
    let mut input = Input::new(data);
    let store = MemoryStore::new();
    let state = directory(&mut input);
    let discarded = changes(&mut input, b"d");
    commit(&store, NAME, state, discarded);
    let changes = changes(&mut input, b"vvvpps");
    for generation in 0..2 {
        commit(&store, &format!("$p@{generation}"), input.piece().to_vec(), changes.clone());
    }
    scan(&store, &mut input);
    let view = store.view(NAME);
    let _ = view.position();
    let (key, text) = (ViewKey::from_bytes(input.piece()), input.text());
    let Ok(key) = key else { return };
    let _ = view.get::<Value>(&key);
    let _ = view.get::<BankEvent>(text.as_str());
    let mut read = view.entries();
    match input.below(4) {
        0 => read = read.under(text.as_str()),
        1 => read = read.prefix(text.as_str()),
        2 => read = read.after(&key),
        _ => {}
    }
    if input.flag() {
        read = read.backward();
    }
    let met = read.limit(input.below(5)).iter::<Value>().filter(Result::is_err).count();
    assert!(met <= 1, "the read continues after an error");
    notes(&store);
}

/// The directory of a projection named `p`: any bytes, or a directory of valid form.
fn directory(input: &mut Input<'_>) -> Vec<u8> {
    if input.byte() < 32 {
        return input.piece().to_vec();
    }
    let mut build = || match input.byte() {
        0..100 => Value::Null,
        100..250 => json!({ "generation": input.below(3), "version": 1 }),
        _ => json!({ "generation": input.number(), "version": input.number() }),
    };
    let (serving, building) = (build(), build());
    let definitions = match input.byte() {
        0..100 => json!({}),
        100..200 => {
            json!({ "1": { "types": { input.text(): 1 }, "stored_types": [input.text()] } })
        }
        _ => json!({ input.text(): input.number() }),
    };
    json!({
        "serving": serving,
        "building": building,
        "newest": input.number() >> 1,
        "definitions": definitions,
    })
    .to_string()
    .into_bytes()
}

/// Changes of keys of these kinds.
fn changes(input: &mut Input<'_>, kinds: &[u8]) -> Vec<ViewChange> {
    let mut changes = Vec::new();
    for _ in 0..input.below(6) {
        let mut key = vec![input.of(kinds)];
        key.extend_from_slice(input.piece());
        let value = match input.byte() {
            0..128 => input.piece().to_vec(),
            _ => note(input).to_string().into_bytes(),
        };
        changes.push(ViewChange::Put { key, value });
    }
    changes
}

/// A parked event of valid form.
fn note(input: &mut Input<'_>) -> Value {
    json!({
        "position": input.number(),
        "stream": if input.flag() { "a-1".to_owned() } else { input.text() },
        "id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "event_type": if input.flag() { "Opened".to_owned() } else { input.text() },
        "reason": if input.flag() { Value::Null } else { json!(input.text()) },
        "at_micros": input.number().cast_signed(),
        "discarded": input.flag(),
    })
}

fn commit(store: &MemoryStore, view: &str, state: Vec<u8>, changes: Vec<ViewChange>) {
    let checkpoint = Some(Checkpoint { position: Position::new(1), state });
    let view = view.to_owned();
    // Of two changes of one key, only the last counts.
    store
        .commit_view(&ViewCommit {
            view,
            expected: None,
            changes,
            checkpoint,
            follows_other_log: true,
        })
        .unwrap();
}

/// Any scan equals a filter over all entries.
fn scan(store: &MemoryStore, input: &mut Input<'_>) {
    let all = ViewScan { view: "$p@1".to_owned(), entries_max: usize::MAX, ..ViewScan::default() };
    let all = store.scan_view(&all).unwrap().entries;
    let (prefix, backward) = (input.piece().to_vec(), input.flag());
    let after = input.flag().then(|| input.piece().to_vec());
    let direction = if backward { Direction::Backward } else { Direction::Forward };
    let entries_max = input.below(5);
    let is_behind = |key: &Vec<u8>| match &after {
        None => true,
        Some(after) => {
            if backward {
                key < after
            } else {
                key > after
            }
        }
    };
    let mut expected: Vec<_> =
        all.into_iter().filter(|(key, _)| key.starts_with(&prefix) && is_behind(key)).collect();
    if backward {
        expected.reverse();
    }
    let has_more = expected.len() > entries_max;
    expected.truncate(entries_max);
    let scan = ViewScan { view: "$p@1".to_owned(), prefix, after, direction, entries_max };
    let page = store.scan_view(&scan).unwrap();
    assert_eq!((page.entries, page.has_more), (expected, has_more));
}

/// Runs a projection with this name on the stored state.
fn notes(store: &MemoryStore) {
    struct Nothing;

    impl Projection for Nothing {
        type Event = BankEvent;

        fn name(&self) -> &str {
            NAME
        }

        fn handle(
            &self,
            _: &TypedEvent<BankEvent>,
            _: &mut ViewWriter,
        ) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    let manager = ProjectionManager::new(store).register(Nothing).unwrap();
    let projection = manager.projection(NAME).unwrap();
    let _ = (projection.parked(3), projection.skipped(3), projection.discarded(3));
    let _ = projection.status();
    if manager.start().is_ok() {
        let _ = projection.wait_for(Position::FIRST, Duration::ZERO);
        let _ = projection.rebuild();
        manager.stop();
    }
}
