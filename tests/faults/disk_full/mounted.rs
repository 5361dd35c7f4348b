//! Disks that are really full: a small tmpfs, and a small ext4 that another file fills. Needs root.
//!
//! With a reserve, appends are refused before the disk is full, and work again once space is free,
//! without reopening. Without a reserve, an append that finds no space reports it. Nothing is
//! acknowledged after it, even when space is free again. After a reopen, the store has everything
//! that was acknowledged and continues (G9). Opening without space reports it too, and loses
//! nothing.

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{Durability, Error, Retention, RetentionScope, ScavengeOptions, StoreOptions};

use crate::power::real_disks::{EXT4_SMALL, Mounted, command};
use crate::support::promises::{MayBeGone, Promises, event, heard};
use crate::support::random::Random;
use crate::support::skip::{say, skipped};

/// Without a reserve, so that writes fail.
fn options() -> StoreOptions {
    Store::options().memtable_bytes(1 << 20).disk_reserve_bytes(0)
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

/// What is kept free on a disk of 16 MiB.
const RESERVE: u64 = 4 << 20;

/// How often the disk is full. In the end, a compaction needs more than the reserve.
const ROUNDS: u32 = 8;

/// Fills a disk up to the reserve, again and again; `free` makes room on it. The store is
/// opened once.
fn keeps_its_reserve(disk: &Path, book: &Path, mut free: impl FnMut()) -> u64 {
    let path = disk.join("store");
    let store = options().disk_reserve_bytes(RESERVE).open(&path).unwrap();
    let heard = heard(&store, Durability::Sync, book);
    // Many streams, so that compactions have something to merge, and need space for it.
    let mut random = Random(7);
    let mut append = || {
        let stream = format!("a-{}", random.next() % 500);
        heard.append(stream, ExpectedVersion::Any, [event("Happened", 5_000)])
    };
    let mut done = 0;
    for round in 0..ROUNDS {
        let mut in_round = 0;
        let refused = loop {
            match append() {
                Ok(_) => in_round += 1,
                Err(error) => break error,
            }
        };
        let Error::DiskFull { free: left, reserve: RESERVE, .. } = refused else {
            panic!("{refused:?}")
        };
        assert!(left < RESERVE + 20_000, "round {round}: refused with {left} bytes left");
        assert!(in_round > 10, "round {round}: {in_round} appends before the disk was full");
        done += in_round;
        // Nothing is written from here on, however often it is tried.
        let head = store.head().unwrap();
        for _ in 0..100 {
            assert!(matches!(append(), Err(Error::DiskFull { .. })));
        }
        assert_eq!(store.head().unwrap(), head);
        assert_eq!(store.info().unwrap().poisoned.map(|error| error.to_string()), None);
        assert!(store.read_log().into_iter().all(|event| event.is_ok()));
        free();
        std::thread::sleep(Duration::from_millis(150));
        append().unwrap();
        done += 1;
    }
    store.close().unwrap();
    done
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
        self.resize(128);
    }

    fn resize(&self, mebibytes: u64) {
        let options = format!("remount,size={mebibytes}m");
        command("mount", &["-o", &options], &[self.0]).unwrap();
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

#[test]
fn appends_are_refused_before_a_tmpfs_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let (point, book) = (directory.path().join("tmpfs"), directory.path().join("book"));
    let memory = match Memory::new(&point) {
        Ok(memory) => memory,
        Err(why) => return skipped("the reserve on a tmpfs", &why),
    };
    let mut mebibytes = 16;
    let appends = keeps_its_reserve(&point, &book, || {
        mebibytes += 3;
        memory.resize(mebibytes);
    });
    // The check appends without a reserve, and compactions may run then.
    memory.grow();
    Promises::read(&book).check_and_go_on(&point.join("store"), MayBeGone::Nothing, |_| {});
    say(&format!("faults: reserve of a tmpfs: {appends} appends, {ROUNDS} times full, 0 wrong"));
}

/// G17: a scavenge works although appends are refused, and gives space back, so that they work again.
#[test]
fn scavenge_frees_space_on_a_full_tmpfs() {
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().join("tmpfs");
    let _memory = match Memory::new(&point) {
        Ok(memory) => memory,
        Err(why) => return skipped("a scavenge on a full tmpfs", &why),
    };
    // Half of it is enough to rewrite all that fits beside it, however the engine has laid it out.
    let options = options().disk_reserve_bytes(9 << 20);
    let store = options.open(point.join("store")).unwrap();
    let newest = Retention::newest(NonZeroU64::new(3).unwrap());
    store.set_retention(&RetentionScope::Category("old".into()), Some(newest)).unwrap();
    let mut appends = 0;
    for _ in 0..3 {
        let fill = || store.append("old-1", ExpectedVersion::Any, [event("Happened", 5_000)]);
        let begun = appends;
        while fill().inspect_err(|error| assert!(is_full(error), "{error:?}")).is_ok() {
            appends += 1;
        }
        assert!(appends > begun + 100, "{appends} appends, {begun} before: {:?}", fill());
        let scavenge = || store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap();
        let done = scavenge();
        assert!(done.events > 100, "{done:?}");
        // What needed no space has made room for the rest, once its files are removed.
        let began = Instant::now();
        let mut last = done;
        while last.is_incomplete {
            assert!(began.elapsed() < Duration::from_secs(30), "{done:?} {last:?}");
            std::thread::sleep(Duration::from_millis(20));
            last = scavenge();
        }
        assert_eq!(store.read_stream("old-1").into_iter().flatten().count(), 3);
        assert!(store.verify(|_| {}).unwrap().is_sound());
        std::thread::sleep(Duration::from_millis(150));
    }
    store.close().unwrap();
    say(&format!("faults: full tmpfs, scavenged three times: {appends} appends, 0 wrong"));
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. })
}

#[test]
fn appends_are_refused_before_an_ext4_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let (point, book) = (directory.path().join("disk"), directory.path().join("book"));
    fs::create_dir(&point).unwrap();
    let _mounted = match Mounted::new(&EXT4_SMALL, directory.path(), &point) {
        Ok(mounted) => mounted,
        Err(why) => return skipped("the reserve on an ext4", &why),
    };
    let ballast = |part: u32| point.join(format!("ballast-{part}"));
    for part in 0..ROUNDS {
        fs::write(ballast(part), vec![1; 1 << 20]).unwrap();
    }
    let mut parts = 0..ROUNDS;
    let appends = keeps_its_reserve(&point, &book, || {
        if let Some(part) = parts.next() {
            fs::remove_file(ballast(part)).unwrap();
        }
    });
    Promises::read(&book).check_and_go_on(&point.join("store"), MayBeGone::Nothing, |_| {});
    say(&format!("faults: reserve of an ext4: {appends} appends, {ROUNDS} times full, 0 wrong"));
}
