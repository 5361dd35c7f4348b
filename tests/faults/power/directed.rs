//! Power cuts at the points where omitting one step would lose data. The disk holds the least that
//! a power cut may leave, or one name more, so the result does not depend on chance (G5, G10, G11,
//! G14).

use std::path::Path;

use annals::prelude::*;
use annals::{Durability, KeyedResult, KeyedSubmission};

use super::check;
use super::disk::{Bytes, Disk, Image, Names};
use crate::shim::{Event, NO_SHIM, Place, Watch, read_trace, run};
use crate::support::memory;
use crate::support::promises::{Promises, event, heard, request_key};
use crate::support::random::Random;
use crate::support::skip::skipped;

/// What a child does; each script ends with a closed store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    SyncAppends,
    SyncRetry,
    KeyRetry,
    StoreSync,
    Close,
    Backup,
}

const SCRIPTS: [Script; 6] = [
    Script::SyncAppends,
    Script::SyncRetry,
    Script::KeyRetry,
    Script::StoreSync,
    Script::Close,
    Script::Backup,
];

/// The child whose plan is `power NAME`.
pub(crate) fn child(name: &str, place: &Place) {
    let script = SCRIPTS.into_iter().find(|script| format!("{script:?}") == name).unwrap();
    let store = Store::options().durability(Durability::Buffered).open(place.store()).unwrap();
    let heard = heard(&store, Durability::Buffered, &place.book());
    let append = |len: usize, durability: Durability| {
        let append = Append::new().to("a", ExpectedVersion::Any, [event("Happened", len)]);
        append.with_durability(durability)
    };
    match script {
        Script::SyncAppends => {
            for len in [10, 700, 45_000] {
                heard.submit(append(len, Durability::Sync)).unwrap();
            }
        }
        Script::SyncRetry => {
            let append = append(10, Durability::Buffered);
            heard.submit(append.clone()).unwrap();
            let again = heard.submit(append.with_durability(Durability::Sync)).unwrap();
            assert!(again.is_retry());
        }
        Script::KeyRetry => {
            let key = request_key("alone");
            heard.submit_once(&key, KeyedSubmission::nothing()).unwrap();
            let again = heard.submit_once(&key, append(10, Durability::Sync).into()).unwrap();
            assert!(again.is_retry && again.result == KeyedResult::Nothing);
        }
        Script::StoreSync => {
            heard.submit(append(10, Durability::Buffered)).unwrap();
            heard.decorator().sync(&store).unwrap();
        }
        Script::Close => {
            heard.submit(append(10, Durability::Buffered)).unwrap();
            let head = store.head().unwrap();
            store.close().unwrap();
            return heard.decorator().promise(head);
        }
        Script::Backup => {
            heard.submit(append(10, Durability::Buffered)).unwrap();
            let copy = place.disk().join("copy-0");
            heard.decorator().backup(&store, &copy).unwrap();
            heard.decorator().go_on_with_backup(&copy).unwrap();
        }
    }
    store.close().unwrap();
}

/// Runs a script, and passes `point` the disk after each event of its trace, with the promises made
/// by then.
///
/// Returns whether that is possible on this machine.
fn at_each_event(script: Script, mut point: impl FnMut(&Disk, &Event, &Promises)) -> bool {
    let directory = memory();
    let place = Place::new(directory.path());
    let (mut disk, mut promises) = (Disk::of(&place.disk()), Promises::default());
    let watch = Watch { trace: true, fault: None, sync_takes: Some(0) };
    let Some(output) = run(&format!("power {script:?}"), &place, watch) else {
        skipped(&format!("power cuts at each step of {script:?}"), NO_SHIM);
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for event in read_trace(&place) {
        disk.apply(&event);
        if let Event::Noted(lines) = &event {
            promises.add(lines);
        }
        point(&disk, &event, &promises);
    }
    let is_something_promised =
        promises.durable() > 0 || promises.durable_keys() > 0 || promises.backups() > 0;
    assert!(is_something_promised, "nothing was promised");
    true
}

/// The image with only the synced bytes, and with these names.
fn synced(disk: &Disk, names: Names) -> Image {
    disk.cut(Bytes::Synced, names, &mut Random(0))
}

/// Cuts the power at each promise, and leaves only what was synced.
fn promises_are_kept(script: Script) {
    at_each_event(script, |disk, event, promises| {
        if let Event::Noted(lines) = event {
            let kept = check(&synced(disk, Names::Synced), promises, false);
            assert_eq!(kept, Ok(()), "after {lines}");
        }
    });
}

/// Cuts the power at each rename. The medium has all names, or only the renamed one in addition to
/// what was synced.
fn renames_are_safe(script: Script) {
    let mut renames = 0;
    let is_run = at_each_event(script, |disk, event, promises| {
        if let Event::Rename { .. } = event {
            renames += 1;
            for names in [Names::Last, Names::All] {
                let kept = check(&synced(disk, names), promises, false);
                assert_eq!(kept, Ok(()), "{names:?} after {event:?}");
            }
        }
    });
    assert!(renames > 2 || !is_run, "{renames} renames");
}

#[test]
fn acknowledged_sync_append_is_on_the_medium() {
    promises_are_kept(Script::SyncAppends);
}

#[test]
fn sync_retry_of_a_buffered_append_syncs_the_log() {
    promises_are_kept(Script::SyncRetry);
}

/// A request that recorded only its key is sent again, to be durable.
#[test]
fn sync_retry_of_a_buffered_key_syncs_the_log() {
    promises_are_kept(Script::KeyRetry);
}

#[test]
fn store_sync_syncs_the_log() {
    promises_are_kept(Script::StoreSync);
}

#[test]
fn closed_store_is_on_the_medium() {
    promises_are_kept(Script::Close);
}

#[test]
fn finished_backup_and_its_new_epoch_are_on_the_medium() {
    promises_are_kept(Script::Backup);
}

#[test]
fn new_store_is_valid_after_each_rename_of_its_creation() {
    renames_are_safe(Script::SyncAppends);
}

#[test]
fn backup_is_whole_or_absent_after_each_rename() {
    renames_are_safe(Script::Backup);
}

/// The watermark has two slots, so that one survives a torn write.
#[test]
fn torn_write_of_the_watermark_leaves_the_older_slot() {
    let name = Path::new("store/watermark");
    let (mut before, mut torn) = (Image::new(), 0);
    let is_run = at_each_event(Script::SyncAppends, |disk, event, promises| {
        let whole = disk.cut(Bytes::All, Names::All, &mut Random(0));
        let is_written = |old: &Vec<u8>| whole.get(name) != Some(&Some(old.clone()));
        if let (Event::Write { at, data, .. }, Some(Some(old))) = (event, before.get(name))
            && is_written(old)
        {
            // Within the fields of a slot: the rest of its sector is zeros.
            let (at, part) = (usize::try_from(*at).unwrap(), 24);
            let mut bytes = old.clone();
            bytes.resize(bytes.len().max(at + part), 0);
            bytes[at..at + part].copy_from_slice(&data[..part]);
            let mut image = whole.clone();
            image.insert(name.to_owned(), Some(bytes));
            assert_eq!(check(&image, promises, false), Ok(()), "after {torn} writes");
            torn += 1;
        }
        before = whole;
    });
    assert!(torn > 3 || !is_run, "{torn} writes");
}
