//! What a redaction reaches (G17): snapshots, states that were folded before it, and files of an
//! earlier redaction that could not be erased.

use std::num::NonZeroUsize;

use annals::prelude::*;
use annals::{
    Append, Deletion, Error, Repository, Snapshot, SnapshotPolicy, SnapshotStore, Store, Timestamp,
    UniqueValues,
};

use crate::support::bank::{Account, create, deposit};
use crate::support::files::contents;
use crate::support::{place, quick, version};

fn account(store: &Store) -> StreamId {
    Repository::<Account>::new(store).stream_id("1").unwrap()
}

/// The event of a version of the account.
fn event(store: &Store, number: u64) -> RecordedEvent {
    store.read_stream(account(store)).from(version(number)).first().unwrap().unwrap()
}

fn redaction(event: &RecordedEvent) -> Deletion {
    Deletion::redact(event.position(), event.id())
}

fn snapshot(store: &Store) -> Option<Snapshot> {
    store.load_snapshot(Account::SNAPSHOT_KIND, &account(store), version(99)).unwrap()
}

/// A state that was folded before a redaction is in memory. It must not come back as a snapshot.
#[test]
fn no_snapshot_is_taken_of_a_state_from_before_a_redaction() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let plain = Repository::<Account>::new(&store).on_unreadable(annals::OnUnreadable::Skip);
    let kept = plain.clone().snapshots(&store, SnapshotPolicy::every(1));
    let cached = kept.clone().cache(8);
    cached.execute("1", &create()).unwrap();
    for _ in 0..3 {
        cached.execute("1", &deposit(10)).unwrap();
    }
    let mut held = kept.load("1").unwrap();
    let done = store.delete(&redaction(&event(&store, 2)).clearing_snapshots()).unwrap();
    assert_eq!((done.events, done.snapshots > 0, snapshot(&store)), (1, true, None));

    // The cached state is not used, and no snapshot is taken of the held one.
    assert_eq!(cached.load("1").unwrap().state().balance, 20);
    held.decide(&deposit(1)).unwrap();
    kept.save(&mut held).unwrap();
    assert_eq!((held.state().balance, snapshot(&store)), (31, None));

    // After the store is opened again, its count of redactions is another one.
    store.close().unwrap();
    let store = quick().open(&path).unwrap();
    let again = Repository::<Account>::new(&store).snapshots(&store, SnapshotPolicy::every(1));
    held.decide(&deposit(1)).unwrap();
    again.save(&mut held).unwrap();
    assert_eq!((held.state().balance, snapshot(&store)), (32, None));

    // A redaction of another stream lets states be read again, and snapshots be taken again.
    store.append("b-1", ExpectedVersion::Any, [NewEvent::json("Came", &1).unwrap()]).unwrap();
    let other = store.read_stream("b-1").first().unwrap().unwrap();
    let strict = Repository::<Account>::new(&store).snapshots(&store, SnapshotPolicy::every(1));
    strict.clone().cache(8).execute("2", &create()).unwrap();
    let id = strict.stream_id("2").unwrap();
    store.delete(&redaction(&other)).unwrap();
    strict.clone().cache(8).execute("2", &deposit(5)).unwrap();
    let taken = store.load_snapshot(Account::SNAPSHOT_KIND, &id, version(99)).unwrap().unwrap();
    assert_eq!(taken.version, version(2));
}

/// A snapshot that is saved late does not outlive the events on which it rests.
#[test]
fn no_snapshot_is_saved_of_deleted_events() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let kept = Repository::<Account>::new(&store).snapshots(&store, SnapshotPolicy::every(1));
    kept.execute("1", &create()).unwrap();
    kept.execute("1", &deposit(1)).unwrap();
    let late = snapshot(&store).unwrap();
    store.delete(&Deletion::delete(&account(&store))).unwrap();
    assert_eq!(snapshot(&store), None);
    store.save_snapshot(&late, NonZeroUsize::MIN).unwrap();
    assert!(!store.save_snapshot_if(&late, NonZeroUsize::MIN, &|| true).unwrap());
    assert_eq!(snapshot(&store), None);

    // The next event begins the stream again.
    let newer = kept.execute("1", &create()).unwrap();
    assert_eq!(snapshot(&store).map(|it| it.version), newer.version());
    let newer = Snapshot { taken_at: Timestamp::from_micros(1), ..snapshot(&store).unwrap() };
    assert!(!store.save_snapshot_if(&newer, NonZeroUsize::MIN, &|| false).unwrap());
    assert!(store.save_snapshot_if(&newer, NonZeroUsize::MIN, &|| true).unwrap());
    assert_eq!(snapshot(&store), Some(newer));
}

/// Snapshots that a redaction has named can be cleared by repeating it.
#[test]
fn snapshots_of_a_redacted_event_can_be_cleared_later() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let kept = Repository::<Account>::new(&store).snapshots(&store, SnapshotPolicy::every(1));
    kept.execute("1", &create()).unwrap();
    kept.execute("1", &deposit(1)).unwrap();
    let redaction = redaction(&event(&store, 2));
    let done = store.delete(&redaction).unwrap();
    assert_eq!((done.events, done.snapshots, done.snapshots_with_it.len()), (1, 0, 1));
    assert_eq!(store.delete(&redaction).unwrap().number, None, "nothing is left to do");

    let clearing = redaction.clearing_snapshots();
    assert_eq!(store.preview(&clearing).unwrap().snapshots, 1);
    assert!(!store.lacks(&clearing).unwrap(), "snapshots may be newer than a redaction");
    let done = store.delete(&clearing).unwrap();
    assert_eq!((done.events, done.snapshots, snapshot(&store)), (0, 1, None));
    assert_eq!(store.delete(&clearing).unwrap().number, None);
    assert_eq!(store.deletions().unwrap().len(), 2);
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// A redaction whose bytes could not be erased is not forgotten.
#[test]
fn a_redaction_that_was_not_erased_is_continued() {
    let (_directory, path) = place();
    let secret = b"the secret of Ada";
    let is_there = || {
        let files = contents(&path).unwrap();
        files.values().any(|bytes| bytes.windows(secret.len()).any(|found| found == secret))
    };
    let store = quick().open(&path).unwrap();
    let said = NewEvent::bytes("Said", &secret[..]).unwrap().with_tag("by:ada");
    store.append("a-1", ExpectedVersion::Any, [said]).unwrap();
    store.append("a-2", ExpectedVersion::Any, [NewEvent::json("Came", &1).unwrap()]).unwrap();
    store.close().unwrap();

    // Nothing can be rewritten: the disk counts as full.
    let store = quick().disk_reserve_bytes(u64::MAX / 4).open(&path).unwrap();
    let said = store.read_stream("a-1").first().unwrap().unwrap();
    let redaction = redaction(&said).removing_tags(["by:ada"]);
    let other = Deletion::truncate(&StreamId::new("a-2").unwrap(), version(2));
    for deletion in [&redaction, &redaction, &other, &redaction] {
        let answer = store.delete(deletion);
        assert!(matches!(answer, Err(Error::DiskFull { .. })), "{answer:?}");
    }
    assert_eq!(store.deletions().unwrap().len(), 2);
    store.close().unwrap();
    assert!(is_there(), "the positive control");

    let store = quick().open(&path).unwrap();
    assert_eq!(store.delete(&redaction).unwrap().number, None);
    assert!(!is_there());
    let left = store.read_stream("a-1").first().unwrap().unwrap();
    assert_eq!((left.content_type().as_str(), left.tags().len()), (annals::REDACTED, 0));
}

/// A unique value whose stream was truncated is free.
#[test]
fn unique_value_can_be_claimed_after_its_events_are_deleted() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let names = UniqueValues::new(&store, "name", [7; 32]).unwrap();
    let ends: [fn(&StreamId) -> Deletion; 2] =
        [|stream| Deletion::truncate(stream, version(99)), Deletion::delete];
    let value = names.stream_of("ada");
    for (number, end) in (0..).zip(ends) {
        let owner = StreamId::new(format!("user-{number}")).unwrap();
        let claim = names.change_in(Append::new(), &owner, None, ["ada"]).unwrap();
        store.submit(claim).unwrap();
        assert_eq!(names.owner("ada").unwrap().as_ref(), Some(&owner));
        store.delete(&end(&value)).unwrap();
        assert_eq!(names.owner("ada").unwrap(), None);
    }
    let last = StreamId::new("user-9").unwrap();
    store.submit(names.change_in(Append::new(), &last, None, ["ada"]).unwrap()).unwrap();
    assert_eq!(names.owner("ada").unwrap(), Some(last));
}
