//! Log epochs (G11, G14): a log that lost its end continues in another epoch, and positions in the
//! lost part are refused.

use std::fs;
use std::path::Path;

use annals::prelude::*;
use annals::{Epoch, Error, StoreOptions};

use crate::support::{copy, events, place, position, quick};

fn append(store: &Store, count: usize) {
    store.append("a", ExpectedVersion::Any, events(count)).unwrap();
}

fn epoch(store: &Store) -> Epoch {
    store.epochs().unwrap().current()
}

fn read_only() -> StoreOptions {
    quick().read_only(true)
}

/// Subscribes after a recorded position and epoch; returns the position of the next event.
fn resume(store: &Store, noted: Epoch, after: u64) -> Result<Option<u64>, Error> {
    let mut following = store.subscribe().after(position(after)).in_epoch(noted).start()?;
    match following.recv()? {
        Delivery::Event(event) => Ok(Some(event.position().get())),
        _ => Ok(None),
    }
}

/// Builds a store of ten events and a backup of its first three, and closes both; returns the
/// epoch.
fn store_and_backup(path: &Path, backup: &Path) -> Epoch {
    let store = quick().open(path).unwrap();
    append(&store, 3);
    store.backup(backup).unwrap();
    append(&store, 7);
    epoch(&store)
}

/// Asserts that the store left the recorded epoch after position 3. Its log then grows to 13 with
/// other events; the subscriber had followed the old log up to 10.
fn has_left_the_epoch_after_three(store: &Store, noted: Epoch) {
    assert_ne!(epoch(store), noted);
    assert_eq!(store.epochs().unwrap().shared_up_to(noted), Some(position(3)));
    let ahead = store.subscribe().after(position(10)).start();
    assert!(matches!(ahead, Err(Error::PositionAhead { .. })));
    append(store, 10);
    assert!(
        store.subscribe().after(position(10)).start().is_ok(),
        "without the epoch, the position is accepted"
    );
    let refused = resume(store, noted, 10).unwrap_err();
    assert!(matches!(refused, Error::OtherEpoch { shared, .. } if shared == Some(position(3))));
    assert!(resume(store, noted, 4).is_err());
    assert_eq!(resume(store, noted, 3).unwrap(), Some(4));
    assert_eq!(resume(store, epoch(store), 10).unwrap(), Some(11));
}

#[test]
fn backup_begins_an_epoch_when_opened_for_writing() {
    let (directory, path) = place();
    let backup = directory.path().join("backup");
    let noted = store_and_backup(&path, &backup);

    let store = quick().open(&path).unwrap();
    assert_eq!(
        (epoch(&store), store.info().unwrap().is_backup),
        (noted, false),
        "the original is unchanged"
    );
    for _ in 0..2 {
        let reader = read_only().open(&backup).unwrap();
        assert_eq!((epoch(&reader), reader.info().unwrap().is_backup), (noted, true));
        assert_eq!(resume(&reader, noted, 3).unwrap(), None);
    }
    let restored = quick().open(&backup).unwrap();
    assert!(!restored.info().unwrap().is_backup);
    has_left_the_epoch_after_three(&restored, noted);
    let begun = epoch(&restored);
    drop(restored);
    assert_eq!(epoch(&quick().open(&backup).unwrap()), begun, "an epoch begins only once");
}

#[test]
fn restore_begins_an_epoch_and_keeps_the_backup() {
    let (directory, path) = place();
    let [backup, restored, again] =
        ["backup", "restored", "again"].map(|name| directory.path().join(name));
    let noted = store_and_backup(&path, &backup);
    let reader = read_only().open(&backup).unwrap();
    assert_eq!(reader.restore_to(&restored).unwrap().head, Some(position(3)));
    reader.restore_to(&again).unwrap();
    assert!(matches!(reader.restore_to(&again), Err(Error::CopyRefused { .. })));
    assert_eq!((epoch(&reader), reader.info().unwrap().is_backup), (noted, true));
    let (restored, again) = (quick().open(&restored).unwrap(), quick().open(&again).unwrap());
    assert!(!restored.info().unwrap().is_backup);
    has_left_the_epoch_after_three(&restored, noted);
    has_left_the_epoch_after_three(&again, noted);
    assert!(resume(&again, epoch(&restored), 5).is_err(), "two restores are two histories");
}

#[test]
fn backup_of_a_restored_store_keeps_all_epochs() {
    let (directory, path) = place();
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let original = store_and_backup(&path, &first);
    let store = quick().open(&first).unwrap();
    let middle = epoch(&store);
    append(&store, 2);
    store.backup(&second).unwrap();
    let last = quick().open(&second).unwrap();
    assert_eq!(last.epochs().unwrap().shared_up_to(original), Some(position(3)));
    assert_eq!(last.epochs().unwrap().shared_up_to(middle), Some(position(5)));
}

#[test]
fn accepted_loss_begins_an_epoch() {
    let (directory, path) = place();
    let backup = directory.path().join("backup");
    let noted = store_and_backup(&path, &backup);
    fs::remove_dir_all(path.join("db")).unwrap();
    copy(&backup.join("db"), &path.join("db"));
    assert!(matches!(quick().open(&path), Err(Error::HistoryLost { .. })));

    let accepting = quick().accept_lost_history_after(Some(position(3)));
    let reader = accepting.clone().read_only(true).open(&path).unwrap();
    assert_eq!(epoch(&reader), noted, "reading changes nothing");
    drop(reader);
    let store = accepting.clone().open(&path).unwrap();
    has_left_the_epoch_after_three(&store, noted);
    let begun = epoch(&store);
    drop(store);
    assert_eq!(epoch(&accepting.open(&path).unwrap()), begun, "only a loss begins an epoch");
}

/// Nothing marks such a copy (docs/GUARANTEES.md, G11 and G14), but a restore begins an epoch.
#[test]
fn copy_by_another_tool_keeps_its_epoch_until_restored() {
    let (directory, path) = place();
    let [copied, restored] = ["copied", "restored"].map(|name| directory.path().join(name));
    let noted = store_and_backup(&path, &directory.path().join("backup"));
    copy(&path, &copied);
    let reader = read_only().open(&copied).unwrap();
    assert_eq!(epoch(&reader), noted);
    reader.restore_to(&restored).unwrap();
    drop(reader);
    assert_ne!(epoch(&quick().open(&restored).unwrap()), noted);
    assert_eq!(epoch(&quick().open(&copied).unwrap()), noted);
}

#[test]
fn import_into_a_new_store_is_another_history() {
    let (directory, path) = place();
    let noted = store_and_backup(&path, &directory.path().join("backup"));
    let store = quick().open(&path).unwrap();
    let mut lines = Vec::new();
    store.export(&mut lines, |_| {}).unwrap();
    let other = quick().open(directory.path().join("other")).unwrap();
    other.import(&*lines, annals::ImportOptions::default(), |_| {}).unwrap();
    assert_eq!(other.head().unwrap(), store.head().unwrap());
    let refused = resume(&other, noted, 3).unwrap_err();
    assert!(matches!(refused, Error::OtherEpoch { shared: None, .. }));
}
