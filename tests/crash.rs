//! A process that uses a store is killed without warning, again and again, at random moments. Whatever the moment, the
//! next open must find every acknowledged event at its place with its bytes, a log and streams without a gap, and go on
//! (G1, G2, G3, G5 for a process crash, G10, and G11: none of these opens may take an ordinary crash for lost history).
//! A creation that was cut short at any of its steps must be finishable. And after a failed write the store must say so
//! (G9).
//!
//! The child is this test binary itself, told by an environment variable to write. What is acknowledged to it is written
//! down in a file beside the store: to that the parent holds the store.

#![expect(clippy::unwrap_used, reason = "a test that fails should stop")]

#[path = "support/promises.rs"]
mod promises;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use promises::{Heard, MayBeGone, Promises, event};

const DIRECTORY: &str = "ANNALS_TEST_CHILD_DIRECTORY";
const WRITERS: usize = 4;

/// Not a test of its own: what the child does.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = PathBuf::from(directory);
    // Small memtables, so that flushes and compactions are under way too.
    let store = Store::options().memtable_bytes(1).open(directory.join("store")).unwrap();
    let store = &Heard::new(&store, Durability::Sync, &directory.join("acknowledged"));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for round in 0_usize.. {
                    append(store, writer, round);
                }
            });
        }
    });
}

fn append(store: &Heard, writer: usize, round: usize) {
    let [a, b] = ["A", "B"].map(|name| event(name, round % 3_000));
    let durability = if round.is_multiple_of(7) { Durability::Sync } else { Durability::Buffered };
    let request = Append::new()
        .to(format!("own-{writer}"), ExpectedVersion::Any, [a])
        .to(format!("shared-{}", round % 5), ExpectedVersion::Any, [b])
        .durability(durability);
    store.submit(request).unwrap();
}

fn start_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn whatever_the_moment_of_the_kill_everything_acknowledged_is_found_again() {
    let kills: u64 = std::env::var("ANNALS_TEST_KILLS").map_or(12, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut head_before = 0;
    for kill in 0..kills {
        let mut child = start_child(directory.path());
        // The first kills come while the store is being created, the later ones while it is in use.
        let delay = if kill < 4 { kill * 9 } else { 40 + noise() % 360 };
        thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let promises = Promises::read(&directory.path().join("acknowledged"));
        let path = directory.path().join("store");
        let head = promises.check_and_go_on(&path, MayBeGone::Nothing, |_| {});
        assert!(head >= head_before, "kill {kill}: the log went from {head_before} to {head}");
        head_before = head;
    }
    assert!(head_before > 100, "the child got something done: {head_before} events");
}

/// The random part of a fresh event id, as a number.
fn noise() -> u64 {
    u64::from_be_bytes(*EventId::random().as_bytes().last_chunk().unwrap()) & 0xffff_ffff
}

const FULL: &str = "ANNALS_TEST_FULL_DIRECTORY";

/// Not a test of its own: appends until the file system takes no more, and looks at what the store then says.
#[test]
fn child_with_a_full_disk() {
    let Ok(directory) = std::env::var(FULL) else { return };
    let store = Store::open(Path::new(&directory).join("store")).unwrap();
    let event = || NewEvent::bytes("Happened", vec![7; 10_000]).unwrap();
    let append = || store.append("a", ExpectedVersion::Any, [event()]);
    let mut acknowledged = 0;
    let failed = loop {
        match append() {
            Ok(appended) => acknowledged = appended.last_position().get(),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, Error::Indeterminate { .. }), "{failed}");
    let later = append().unwrap_err();
    assert!(matches!(later, Error::Poisoned { .. }), "{later}");
    assert!(later.needs_reopen());
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    assert!(store.info().unwrap().poisoned.is_some());
    // What was acknowledged can still be read; the failed append is not seen.
    assert_eq!(store.head().unwrap().map(Position::get), Some(acknowledged));
    assert_eq!(store.read_log().iter().flatten().count() as u64, acknowledged);
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    fs::write(Path::new(&directory).join("acknowledged"), acknowledged.to_string()).unwrap();
}

/// G9. The shell bounds the length of any file, so that a write in the middle of the write-ahead log fails.
#[test]
fn after_a_failed_write_nothing_is_acknowledged_until_the_store_is_reopened() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 2000; exec "$0" --exact child_with_a_full_disk"#])
        .arg(std::env::current_exe().unwrap())
        .env(FULL, directory.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let acknowledged = fs::read_to_string(directory.path().join("acknowledged")).unwrap();
    let acknowledged: u64 = acknowledged.parse().unwrap();
    assert!(acknowledged > 10);
    let store = Store::open(directory.path().join("store")).unwrap();
    assert!(store.verify(|_| {}).unwrap().is_sound());
    let head = store.head().unwrap().unwrap().get();
    // The append that failed may be there or not.
    assert!(head == acknowledged || head == acknowledged + 1, "{head} for {acknowledged}");
    let event = NewEvent::json("Again", &()).unwrap();
    let appended = store.append("a", ExpectedVersion::Any, [event]).unwrap();
    assert_eq!(appended.last_position().get(), head + 1);
}

/// Undoes what a creation did after one of its steps.
type Undo = fn(&Path);

const STEPS: [(&str, Undo); 8] = [
    ("the directory alone", |root| {
        empty(root);
        fs::remove_file(root.join("LOCK")).unwrap();
    }),
    ("LOCK", empty),
    ("STORE.new, torn", |root| {
        empty(root);
        fs::write(root.join("STORE.new"), b"anna").unwrap();
    }),
    ("STORE.new", |root| {
        let store = fs::read(root.join("STORE")).unwrap();
        empty(root);
        fs::write(root.join("STORE.new"), store).unwrap();
    }),
    ("db.new, half", |root| {
        fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap();
        fs::rename(root.join("db"), root.join("db.new")).unwrap();
        fs::remove_file(root.join("db.new/CURRENT")).unwrap();
        fs::remove_file(root.join("watermark")).unwrap();
    }),
    ("db.new, whole", |root| {
        fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap();
        fs::rename(root.join("db"), root.join("db.new")).unwrap();
        fs::remove_file(root.join("watermark")).unwrap();
    }),
    ("db", |root| {
        fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap();
        fs::remove_file(root.join("watermark")).unwrap();
    }),
    ("watermark", |root| fs::rename(root.join("STORE"), root.join("STORE.new")).unwrap()),
];

#[test]
fn a_creation_that_was_cut_short_at_any_step_is_finished_by_the_next_open() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    Store::open(&whole).unwrap().close().unwrap();
    for (step, undo) in STEPS {
        let cut = directory.path().join(step);
        copy(&whole, &cut);
        undo(&cut);
        let reading = Store::options().read_only(true).open(&cut);
        assert!(matches!(reading, Err(Error::NotAStore { .. })), "{step}: reading does not create");
        let store = Store::open(&cut).unwrap_or_else(|error| panic!("{step}: {error}"));
        store.append("a", ExpectedVersion::NoStream, [NewEvent::json("A", &1).unwrap()]).unwrap();
        store.close().unwrap();
        let store = Store::open(&cut).unwrap();
        assert_eq!(store.head().unwrap(), Some(Position::FIRST), "{step}");
        assert!(store.verify(|_| {}).unwrap().is_sound(), "{step}");
    }
}

#[test]
fn a_database_whose_store_file_is_gone_is_not_taken_for_a_creation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::open(&path).unwrap();
    store.append("a", ExpectedVersion::NoStream, [NewEvent::json("A", &1).unwrap()]).unwrap();
    store.close().unwrap();
    let identity = fs::read(path.join("STORE")).unwrap();
    fs::remove_file(path.join("STORE")).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Corruption { .. })));
    fs::write(path.join("STORE"), identity).unwrap();
    assert_eq!(Store::open(&path).unwrap().head().unwrap(), Some(Position::FIRST));
}

/// Leaves LOCK alone.
fn empty(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else if entry.file_name() != "LOCK" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
