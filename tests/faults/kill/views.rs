//! The process dies at a write of the write-ahead log while it changes a view: the view and its
//! checkpoint change together or not at all (G12).

use annals::prelude::*;
use annals::{Checkpoint, ViewChange, ViewCommit, ViewStore};

use crate::shim::{Blow, Call, Fault, NO_SHIM, Place, Watch, run};
use crate::support::memory;
use crate::support::skip::skipped;

const VIEW: &str = "counted";
const COMMITS: u8 = 3;

/// The child: each commit sets a value and the checkpoint to the same number.
pub(crate) fn child(place: &Place) {
    let store = Store::open(place.store()).unwrap();
    for n in 1..=COMMITS {
        let commit = ViewCommit {
            view: VIEW.to_owned(),
            expected: store.checkpoint(VIEW).unwrap(),
            changes: vec![ViewChange::Put { key: b"count".to_vec(), value: vec![n] }],
            checkpoint: Some(Checkpoint { position: None, state: vec![n] }),
            follows_other_log: true,
        };
        store.commit_view(&commit).unwrap();
    }
    store.close().unwrap();
}

#[test]
fn view_and_checkpoint_agree_after_death_at_each_write() {
    let mut found = Vec::new();
    for nth in 1.. {
        let directory = memory();
        let place = Place::new(directory.path());
        let fault =
            Fault { call: Call::Write, nth, for_ever: false, blow: Blow::Kill, only: ".log" };
        let watch = Watch { fault: Some(fault), sync_takes: Some(0), ..Watch::default() };
        if run("view 1", &place, watch).is_none() {
            return skipped("a view and its checkpoint", NO_SHIM);
        }
        let store = Store::open(place.store()).unwrap();
        let checkpoint = store.checkpoint(VIEW).unwrap().map(|checkpoint| checkpoint.state);
        assert_eq!(checkpoint, store.view_value(VIEW, b"count").unwrap(), "at write {nth}");
        found.push(checkpoint);
        if place.fired().is_none() {
            break;
        }
    }
    found.dedup();
    assert_eq!(found.len(), usize::from(COMMITS) + 1, "{found:?}");
}
