//! Disks that are really full: a small tmpfs, and a small ext4 that another file fills. An append
//! that finds no space reports it. Nothing is acknowledged after it, even when space is free again.
//! After a reopen, the store has everything that was acknowledged and continues (G9). Opening
//! without space reports it too, and loses nothing. Needs root.

use std::fs;
use std::path::Path;
use std::time::Instant;

use annals::prelude::*;
use annals::{Durability, Error, StoreOptions};

use crate::power::real_disks::{EXT4_SMALL, Mounted, command};
use crate::support::promises::{MayBeGone, Promises, event, heard};
use crate::support::skip::{say, skipped};

fn options() -> StoreOptions {
    Store::options().memtable_bytes(1 << 20)
}

/// Appends until the disk is full; returns the number of appends.
fn fill(store: &Store, book: &Path, durability: Durability) -> u64 {
    let heard = heard(store, durability, book);
    let append = || {
        let event = event("Happened", 5_000);
        let append = Append::new().to("a", ExpectedVersion::Any, [event]);
        heard.submit(append.with_durability(durability))
    };
    let mut done = 0;
    let failed = loop {
        match append() {
            Ok(_) => done += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, Error::Indeterminate { .. }), "{failed:?}");
    assert!(failed.to_string().contains("No space left on device"), "{failed}");
    assert!(matches!(append(), Err(Error::Poisoned { .. })));
    done
}

/// Fills a disk; `free` then makes room on it.
fn fills_up(disk: &Path, book: &Path, durability: Durability, free: impl FnOnce()) -> u64 {
    let path = disk.join("store");
    let store = options().open(&path).unwrap();
    let done = fill(&store, book, durability);
    assert!(done > 10, "{done} appends before the disk was full");
    // Opening needs space too: without it, it fails and removes nothing.
    let closed = store.close();
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
    if let Err(error) = options().open(&path) {
        assert!(matches!(error, Error::Storage { .. } | Error::Indeterminate { .. }), "{error:?}");
    }
    free();
    Promises::read(book).check_and_go_on(&path, MayBeGone::Nothing, |_| {});
    done
}

/// Space is freed while the poisoned store is open: it stays poisoned.
fn stays_poisoned(disk: &Path, book: &Path, free: impl FnOnce()) {
    let path = disk.join("store");
    let store = options().open(&path).unwrap();
    fill(&store, book, Durability::Buffered);
    free();
    let late = NewEvent::json("Late", &1).unwrap();
    let later = store.append("a", ExpectedVersion::Any, [late]);
    assert!(matches!(later, Err(Error::Poisoned { .. })), "{later:?}");
    assert!(store.info().unwrap().poisoned.is_some());
    drop(store);
    Promises::read(book).check_and_go_on(&path, MayBeGone::Nothing, |_| {});
}

/// An in-memory file system, mounted while this value lives.
struct Memory<'d>(&'d Path);

impl<'d> Memory<'d> {
    fn new(point: &'d Path) -> Result<Self, String> {
        fs::create_dir(point).unwrap();
        command("mount", &["-t", "tmpfs", "-o", "size=16m", "none"], &[point])?;
        Ok(Self(point))
    }

    fn grow(&self) {
        command("mount", &["-o", "remount,size=128m"], &[self.0]).unwrap();
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        let _ = command("umount", &["-l"], &[self.0]);
    }
}

#[test]
fn full_tmpfs_is_reported_and_the_store_recovers() {
    let began = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let mut appends = Vec::new();
    for (index, durability) in [Durability::Sync, Durability::Buffered].into_iter().enumerate() {
        let point = directory.path().join(format!("tmpfs-{index}"));
        let book = directory.path().join(format!("book-{index}"));
        match Memory::new(&point) {
            Ok(memory) => appends.push(fills_up(&point, &book, durability, || memory.grow())),
            Err(why) => return skipped("a full tmpfs", &why),
        }
    }
    let (point, book) = (directory.path().join("tmpfs"), directory.path().join("book"));
    let memory = Memory::new(&point).unwrap();
    stays_poisoned(&point, &book, || memory.grow());
    let seconds = began.elapsed().as_secs();
    say(&format!(
        "faults: full tmpfs: filled by {appends:?} appends and once more, 0 wrong, {seconds} s"
    ));
}

#[test]
fn full_ext4_is_reported_and_the_store_recovers() {
    let began = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let (point, book) = (directory.path().join("disk"), directory.path().join("book"));
    fs::create_dir(&point).unwrap();
    let _mounted = match Mounted::new(&EXT4_SMALL, directory.path(), &point) {
        Ok(mounted) => mounted,
        Err(why) => return skipped("a full ext4", &why),
    };
    let ballast = point.join("ballast");
    fs::write(&ballast, vec![1; 6 << 20]).unwrap();
    let appends = fills_up(&point, &book, Durability::Sync, || fs::remove_file(&ballast).unwrap());
    let seconds = began.elapsed().as_secs();
    say(&format!("faults: full ext4: filled by {appends} appends, 0 wrong, {seconds} s"));
}
