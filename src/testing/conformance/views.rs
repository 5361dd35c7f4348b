//! The contract of every [`ViewStore`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::position;
use crate::error::Error;
use crate::event_store::Direction;
use crate::model::limits;
use crate::view_store::{Checkpoint, ViewChange, ViewCommit, ViewEntry, ViewScan, ViewStore};

cases! { $ ViewStore
    /// Makes one `#[test]` of every rule in
    /// [`testing::conformance::views`](crate::testing::conformance::views).
    ///
    /// ```
    /// mod memory {
    ///     annals::view_store_conformance!((annals::MemoryStore::new(), ()));
    /// }
    /// ```
    view_store_conformance
    views: [
        view_without_writes_is_empty,
        values_and_checkpoint_are_committed_together,
        commit_with_a_wrong_checkpoint_changes_nothing,
        one_of_two_writers_at_a_checkpoint_succeeds,
        readers_see_whole_commits,
        last_change_of_a_key_wins,
        clear_removes_earlier_values_at_any_place_in_a_commit,
        view_pages_of_any_size_cover_the_whole_view,
        page_of_large_values_is_short_and_has_more,
        views_have_separate_keys,
        views_with_a_checkpoint_are_listed_in_order,
        removed_checkpoint_leaves_the_values,
        dropping_a_view_leaves_other_views,
        invalid_commit_is_refused_and_changes_nothing,
        longest_names_keys_and_states_are_accepted,
    ]
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { position: Some(position(number)), state: number.to_string().into_bytes() }
}

fn put(key: &[u8], value: &[u8]) -> ViewChange {
    ViewChange::Put { key: key.to_vec(), value: value.to_vec() }
}

fn delete(key: &[u8]) -> ViewChange {
    ViewChange::Delete { key: key.to_vec() }
}

/// A commit that expects the view's current checkpoint.
fn next(store: &Arc<dyn ViewStore>, view: &str, changes: Vec<ViewChange>, to: u64) -> ViewCommit {
    let expected = store.checkpoint(view).unwrap();
    ViewCommit {
        view: view.to_owned(),
        expected,
        changes,
        checkpoint: Some(checkpoint(to)),
        follows_other_log: true,
    }
}

fn scan(view: &str) -> ViewScan {
    ViewScan { view: view.to_owned(), entries_max: usize::MAX, ..ViewScan::default() }
}

/// Reads all entries of a scan, page by page.
fn entries(store: &Arc<dyn ViewStore>, mut scan: ViewScan) -> Vec<ViewEntry> {
    let mut found = Vec::new();
    loop {
        let page = store.scan_view(&scan).unwrap();
        assert!(page.entries.len() <= scan.entries_max);
        assert!(!page.has_more || !page.entries.is_empty(), "a page with more has no entries");
        found.extend(page.entries);
        if !page.has_more {
            return found;
        }
        scan.after = found.last().map(|(key, _)| key.clone());
    }
}

/// Reads the whole view, and checks that a scan and a read of each key agree.
fn contents(
    store: &Arc<dyn ViewStore>,
    view: &str,
) -> (Option<Checkpoint>, BTreeMap<Vec<u8>, Vec<u8>>) {
    let entries: BTreeMap<_, _> = entries(store, scan(view)).into_iter().collect();
    for (key, value) in &entries {
        assert_eq!(store.view_value(view, key).unwrap().as_ref(), Some(value));
    }
    (store.checkpoint(view).unwrap(), entries)
}

fn keys(contents: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<&str> {
    contents.keys().map(|key| str::from_utf8(key).unwrap()).collect()
}

/// It is not listed either.
pub fn view_without_writes_is_empty(store: &Arc<dyn ViewStore>) {
    assert_eq!(contents(store, "v"), (None, BTreeMap::new()));
    assert_eq!(store.view_value("v", b"k").unwrap(), None);
    assert!(store.list_views().unwrap().is_empty());
}

/// Includes a checkpoint before the first position.
pub fn values_and_checkpoint_are_committed_together(store: &Arc<dyn ViewStore>) {
    let before_the_first = Checkpoint { position: None, state: vec![0, 0xff] };
    let mut commit = next(store, "v", vec![put(b"a", b""), put(b"b", b"2")], 1);
    commit.checkpoint = Some(before_the_first.clone());
    store.commit_view(&commit).unwrap();
    let (found, values) = contents(store, "v");
    assert_eq!((found, keys(&values)), (Some(before_the_first), vec!["a", "b"]));
    store.commit_view(&next(store, "v", vec![delete(b"b"), put(b"a", b"1")], 7)).unwrap();
    let (found, values) = contents(store, "v");
    assert_eq!((found, values), (Some(checkpoint(7)), [(b"a".to_vec(), b"1".to_vec())].into()));
    assert_eq!(store.view_value("v", b"b").unwrap(), None);
    // A checkpoint may move alone.
    store.commit_view(&next(store, "v", vec![], 9)).unwrap();
    assert_eq!(store.checkpoint("v").unwrap(), Some(checkpoint(9)));
}

/// G13. No checkpoint, another position, and another state at the same position are all conflicts.
pub fn commit_with_a_wrong_checkpoint_changes_nothing(store: &Arc<dyn ViewStore>) {
    let commit = |expected| ViewCommit {
        view: "v".to_owned(),
        expected,
        changes: vec![ViewChange::Clear, put(b"other", b"2")],
        checkpoint: Some(checkpoint(6)),
        follows_other_log: true,
    };
    let refused = store.commit_view(&commit(Some(checkpoint(5)))).unwrap_err();
    let told = matches!(&refused, Error::CheckpointMoved { view, expected: Some(_), found: None } if view == "v");
    assert!(told, "{refused}");
    store.commit_view(&next(store, "v", vec![put(b"k", b"1")], 5)).unwrap();
    let before = contents(store, "v");
    let same_position = Some(Checkpoint { state: Vec::new(), ..checkpoint(5) });
    for wrong in
        [None, Some(checkpoint(4)), Some(checkpoint(6)), Some(Checkpoint::default()), same_position]
    {
        let refused = store.commit_view(&commit(wrong)).unwrap_err();
        let told =
            matches!(&refused, Error::CheckpointMoved { found, .. } if *found == Some(position(5)));
        assert!(told, "{refused}");
        assert_eq!(contents(store, "v"), before);
    }
}

/// Exactly one writer wins each round, and the view holds its changes.
pub fn one_of_two_writers_at_a_checkpoint_succeeds(store: &Arc<dyn ViewStore>) {
    for round in 1..=50 {
        let commit = next(store, "v", vec![], round);
        let winners = AtomicUsize::new(0);
        let barrier = std::sync::Barrier::new(2);
        let winner = std::thread::scope(|scope| {
            let rivals = [b"0", b"1"].map(|name| {
                let mut commit = commit.clone();
                commit.changes.push(put(b"winner", name));
                let (barrier, winners) = (&barrier, &winners);
                scope.spawn(move || {
                    barrier.wait();
                    match store.commit_view(&commit) {
                        Ok(()) => winners.fetch_add(1, Ordering::SeqCst),
                        Err(Error::CheckpointMoved { .. }) => return None,
                        Err(error) => panic!("{error}"),
                    };
                    Some(name)
                })
            });
            rivals.into_iter().find_map(|rival| rival.join().unwrap())
        });
        assert_eq!(winners.into_inner(), 1, "round {round}");
        let found = store.view_value("v", b"winner").unwrap();
        assert_eq!(found.as_deref(), winner.map(|name| &name[..]));
    }
}

/// Reads while another thread writes.
pub fn readers_see_whole_commits(store: &Arc<dyn ViewStore>) {
    const KEYS: u8 = 20;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=200 {
                let value = round.to_string();
                let mut changes: Vec<_> =
                    (1..=KEYS).map(|key| put(&[key], value.as_bytes())).collect();
                changes.insert(usize::from(KEYS) / 2, ViewChange::Clear);
                store.commit_view(&next(store, "v", changes, round)).unwrap();
            }
        });
        while !writer.is_finished() {
            let page = store.scan_view(&scan("v")).unwrap();
            let first = page.entries.first().map(|(_, value)| value.clone());
            assert!(page.entries.iter().all(|(_, value)| Some(value) == first.as_ref()));
            assert!(page.entries.is_empty() || page.entries.len() == usize::from(KEYS));
        }
    });
}

/// Within one commit, later changes of a key replace earlier ones.
pub fn last_change_of_a_key_wins(store: &Arc<dyn ViewStore>) {
    let changes = vec![
        put(b"a", b"1"),
        put(b"a", b"2"),
        put(b"b", b"1"),
        delete(b"b"),
        delete(b"c"),
        put(b"c", b"3"),
        delete(b"never"),
    ];
    store.commit_view(&next(store, "v", changes, 1)).unwrap();
    let expected = [(b"a".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"3".to_vec())];
    assert_eq!(contents(store, "v").1, expected.into());
}

/// Values that the same commit puts stay, before or after the clear, also under existing keys.
pub fn clear_removes_earlier_values_at_any_place_in_a_commit(store: &Arc<dyn ViewStore>) {
    let others = [put(b"k", b"1"), put(b"\xff", b"1"), put(b"\0", b"1")].to_vec();
    for view in ["u", "v", "v ", "vw", "w"] {
        store.commit_view(&next(store, view, others.clone(), 1)).unwrap();
    }
    for place in 0..=3 {
        let again = vec![put(b"old", b"1"), put(b"kept", b"1")];
        store.commit_view(&next(store, "v", again, 10 + place)).unwrap();
        let mut changes = vec![put(b"new", b"2"), put(b"kept", b"2"), delete(b"new")];
        changes.insert(usize::try_from(place).unwrap(), ViewChange::Clear);
        store.commit_view(&next(store, "v", changes, 20 + place)).unwrap();
        let expected = [(b"kept".to_vec(), b"2".to_vec())];
        assert_eq!(contents(store, "v").1, expected.into(), "clear at {place}");
    }
    store.commit_view(&next(store, "v", vec![ViewChange::Clear, ViewChange::Clear], 30)).unwrap();
    assert!(contents(store, "v").1.is_empty());
    for view in ["u", "v ", "vw", "w"] {
        assert_eq!(contents(store, view).1.len(), 3, "{view}");
    }
}

/// All keys of up to three bytes from the bytes that are edge cases.
fn nasty_keys() -> Vec<Vec<u8>> {
    let bytes = [0, 1, b'a', 0xfe, 0xff];
    let mut keys: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
    for at in 0..bytes.len() {
        let longer = bytes.iter().map(|byte| vec![bytes[at], *byte]);
        keys.extend(longer);
    }
    keys.extend([vec![0; 3], vec![0xff; 3], vec![b'a', 0, 0xff]]);
    keys.sort();
    keys
}

/// Checks both directions, after every key and between keys, under every prefix.
pub fn view_pages_of_any_size_cover_the_whole_view(store: &Arc<dyn ViewStore>) {
    let all: Vec<ViewEntry> =
        nasty_keys().into_iter().map(|key| (key.clone(), [b"of ", &key[..]].concat())).collect();
    for view in ["u", "v", "va", "v\u{a0}", "w"] {
        let changes = all.iter().map(|(key, value)| put(key, &[view.as_bytes(), value].concat()));
        let changes = if view == "v" {
            all.iter().map(|(key, value)| put(key, value)).collect()
        } else {
            changes.collect()
        };
        store.commit_view(&next(store, view, changes, 1)).unwrap();
    }
    let between: [&[u8]; 6] = [b"", b"\0\0\0\0", b"a", b"b", b"\xfe\xff\0", b"\xff\xff\xff\xff"];
    let after = all.iter().map(|(key, _)| key.as_slice()).chain(between);
    let after: Vec<Option<Vec<u8>>> = after.map(|key| Some(key.to_vec())).chain([None]).collect();
    let prefixes: [&[u8]; 8] =
        [b"", b"\0", b"a", b"a\xff", b"b", b"\xfe", b"\xff", b"\xff\xff\xff"];
    for direction in [Direction::Forward, Direction::Backward] {
        for prefix in prefixes {
            for after in &after {
                let mut expected: Vec<_> = all
                    .iter()
                    .filter(|(key, _)| key.starts_with(prefix))
                    .filter(|(key, _)| match (after, direction) {
                        (None, _) => true,
                        (Some(after), Direction::Forward) => key > after,
                        (Some(after), Direction::Backward) => key < after,
                    })
                    .cloned()
                    .collect();
                if direction == Direction::Backward {
                    expected.reverse();
                }
                for entries_max in [1, 2, 7, expected.len().max(1), usize::MAX] {
                    let (prefix, after) = (prefix.to_vec(), after.clone());
                    let scan = ViewScan { prefix, after, direction, entries_max, ..scan("v") };
                    assert_eq!(entries(store, scan.clone()), expected, "{scan:?}");
                }
            }
        }
    }
    let none = store.scan_view(&ViewScan { entries_max: 0, ..scan("v") }).unwrap();
    assert!(none.entries.is_empty() && none.has_more);
    let whole = store.scan_view(&ViewScan { entries_max: all.len(), ..scan("v") }).unwrap();
    assert!(!whole.has_more, "the last page has nothing more");
}

/// This holds for any requested page size, and every page has at least one entry.
pub fn page_of_large_values_is_short_and_has_more(store: &Arc<dyn ViewStore>) {
    let value = vec![7; 3 << 20];
    let changes = (1..=4).map(|key| put(&[key], &value)).collect();
    store.commit_view(&next(store, "v", changes, 1)).unwrap();
    let page = store.scan_view(&scan("v")).unwrap();
    assert!(page.has_more && page.entries.len() < 4, "memory does not grow with the view");
    assert_eq!(entries(store, scan("v")).len(), 4);
}

/// Includes names that are prefixes of each other, and keys that look like the end of a name.
pub fn views_have_separate_keys(store: &Arc<dyn ViewStore>) {
    let views = ["a", "a ", "ab", "ab c", "b"];
    for view in views {
        let changes =
            [&b"k"[..], b"b", b"\0", b"\0k", b"\xff\xff"].map(|key| put(key, view.as_bytes()));
        store.commit_view(&next(store, view, changes.to_vec(), 1)).unwrap();
    }
    for view in views {
        let (_, values) = contents(store, view);
        assert_eq!(values.len(), 5, "{view}");
        assert!(values.values().all(|value| value == view.as_bytes()), "{view}");
    }
    store.commit_view(&next(store, "a", vec![delete(b"b"), delete(b"bk")], 2)).unwrap();
    assert_eq!(contents(store, "a").1.len(), 4);
    assert_eq!(contents(store, "ab").1.len(), 5);
}

/// They are sorted by their bytes.
pub fn views_with_a_checkpoint_are_listed_in_order(store: &Arc<dyn ViewStore>) {
    for view in ["b", "日", "a", "a-1", "Z", "ab"] {
        store.commit_view(&next(store, view, vec![], 1)).unwrap();
    }
    let mut gone = next(store, "a-1", vec![], 1);
    gone.checkpoint = None;
    store.commit_view(&gone).unwrap();
    assert_eq!(store.list_views().unwrap(), ["Z", "a", "ab", "b", "日"]);
}

/// The view can then start over. If the same commit also clears, nothing is left.
pub fn removed_checkpoint_leaves_the_values(store: &Arc<dyn ViewStore>) {
    store.commit_view(&next(store, "v", vec![put(b"k", b"1")], 1)).unwrap();
    let mut gone = next(store, "v", vec![], 1);
    gone.checkpoint = None;
    store.commit_view(&gone).unwrap();
    let (found, values) = contents(store, "v");
    assert_eq!((found, keys(&values)), (None, vec!["k"]));
    assert!(matches!(store.commit_view(&gone), Err(Error::CheckpointMoved { .. })));
    store.commit_view(&next(store, "v", vec![put(b"l", b"2")], 3)).unwrap();
    let (found, values) = contents(store, "v");
    assert_eq!((found, keys(&values)), (Some(checkpoint(3)), vec!["k", "l"]));
    let mut all = next(store, "v", vec![ViewChange::Clear], 1);
    all.checkpoint = None;
    store.commit_view(&all).unwrap();
    assert_eq!(contents(store, "v"), (None, BTreeMap::new()));
    assert!(store.list_views().unwrap().is_empty());
}

/// Drops values and checkpoint, but nothing of other views, regardless of how their names sort.
pub fn dropping_a_view_leaves_other_views(store: &Arc<dyn ViewStore>) {
    for view in ["a", "ab", "b"] {
        store.commit_view(&next(store, view, vec![put(b"k", b"1")], 1)).unwrap();
    }
    store.drop_view("a").unwrap();
    store.drop_view("a").unwrap();
    assert_eq!(contents(store, "a"), (None, BTreeMap::new()));
    assert_eq!(store.list_views().unwrap(), ["ab", "b"]);
    assert_eq!(contents(store, "ab").1.len(), 1);
    store.commit_view(&next(store, "a", vec![], 2)).unwrap();
    assert_eq!(contents(store, "a"), (Some(checkpoint(2)), BTreeMap::new()));
}

/// G1, G13: one change that is too large or invalid makes the store refuse the whole commit.
pub fn invalid_commit_is_refused_and_changes_nothing(store: &Arc<dyn ViewStore>) {
    store.commit_view(&next(store, "v", vec![put(b"k", b"1")], 1)).unwrap();
    let before = contents(store, "v");
    let long = "v".repeat(limits::VIEW_NAME_LEN_MAX + 1);
    for view in ["", "two\nlines", "nul\0", &long] {
        let commit = ViewCommit { view: view.to_owned(), ..next(store, "v", vec![], 2) };
        let refused = [
            store.commit_view(&commit).err(),
            store.checkpoint(view).err(),
            store.view_value(view, b"k").err(),
            store.scan_view(&scan(view)).err(),
            store.drop_view(view).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(Error::InvalidArgument(_))), "{view:?}: {error:?}");
        }
    }
    let refuse = |bad: Vec<ViewChange>| {
        let changes = [vec![ViewChange::Clear, put(b"new", b"2")], bad].concat();
        let refused = store.commit_view(&next(store, "v", changes, 2)).unwrap_err();
        assert_eq!(contents(store, "v"), before);
        refused
    };
    for empty in [put(b"", b"1"), delete(b"")] {
        assert!(matches!(refuse(vec![empty]), Error::InvalidArgument(_)));
    }
    let large = vec![0; limits::VIEW_VALUE_LEN_MAX + 1];
    let key = vec![1; limits::VIEW_KEY_LEN_MAX + 1];
    for bad in [put(b"k", &large), put(&key, b""), delete(&key)] {
        assert!(matches!(refuse(vec![bad]), Error::LimitExceeded(_)));
    }
    let many = limits::VIEW_COMMIT_LEN_MAX / limits::VIEW_VALUE_LEN_MAX + 1;
    let large = put(b"k", &large[1..]);
    assert!(matches!(refuse(vec![large; many]), Error::LimitExceeded(_)));
    let mut commit = next(store, "v", vec![put(b"new", b"2")], 2);
    let state = vec![0; limits::CHECKPOINT_STATE_LEN_MAX + 1];
    commit.checkpoint = Some(Checkpoint { position: None, state });
    assert!(matches!(store.commit_view(&commit), Err(Error::LimitExceeded(_))));
    assert_eq!(contents(store, "v"), before);
    assert_eq!(store.view_value("v", b"").unwrap(), None, "no value has an empty key");
}

/// Names, keys and states at the limits are stored completely.
pub fn longest_names_keys_and_states_are_accepted(store: &Arc<dyn ViewStore>) {
    let view = "v".repeat(limits::VIEW_NAME_LEN_MAX);
    let key = vec![0xff; limits::VIEW_KEY_LEN_MAX];
    let value = vec![1; limits::VIEW_VALUE_LEN_MAX];
    let mut commit = next(store, &view, vec![put(&key, &value)], 1);
    let state = vec![0; limits::CHECKPOINT_STATE_LEN_MAX];
    commit.checkpoint = Some(Checkpoint { position: None, state });
    store.commit_view(&commit).unwrap();
    assert_eq!(contents(store, &view), (commit.checkpoint, [(key, value)].into()));
}
