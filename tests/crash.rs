//! A process that uses a store is killed without warning, again and again, at random moments. Whatever the moment, the
//! next open must find every acknowledged event at its place with its bytes, a log and streams without a gap, and go on
//! (G1, G2, G3, G5 for a process crash, G10, and G11: none of these opens may take an ordinary crash for lost history).
//! A creation that was cut short at any of its steps must be finishable. And after a failed write the store must say so
//! (G9). A backup that is killed, or finds the disk full, leaves a whole copy or none, and the store as it was (G14).
//!
//! The child is this test binary itself, told by an environment variable to write. After an acknowledgement it writes
//! one line for each event (position, stream, version, id) to a file beside the store: to that the parent holds the
//! store.

#![expect(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use annals::prelude::*;

const DIRECTORY: &str = "ANNALS_TEST_CHILD_DIRECTORY";
const WRITERS: usize = 4;

/// Not a test of its own: what the child does.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = PathBuf::from(directory);
    let file = fs::File::options().create(true).append(true).open(directory.join("acknowledged"));
    let acknowledged = Mutex::new(file.unwrap());
    // Small memtables, so that flushes and compactions are under way too.
    let store = Store::options().memtable_bytes(1).open(directory.join("store")).unwrap();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, acknowledged) = (&store, &acknowledged);
            scope.spawn(move || {
                for round in 0_usize.. {
                    append(store, acknowledged, writer, round);
                }
            });
        }
    });
}

fn append(store: &Store, acknowledged: &Mutex<fs::File>, writer: usize, round: usize) {
    let payload = vec![u8::try_from(writer).unwrap(); round % 3_000];
    let events = ["A", "B"].map(|name| NewEvent::bytes(name, payload.clone()).unwrap());
    let ids = events.each_ref().map(NewEvent::id);
    let [a, b] = events;
    let durability = if round.is_multiple_of(7) { Durability::Sync } else { Durability::Buffered };
    let request = Append::new()
        .to(format!("own-{writer}"), ExpectedVersion::Any, [a])
        .to(format!("shared-{}", round % 5), ExpectedVersion::Any, [b])
        .durability(durability);
    let appended = store.submit(request).unwrap();
    let mut lines = String::new();
    for ((position, (stream, versions)), id) in
        appended.positions().zip(appended.versions()).zip(ids)
    {
        writeln!(lines, "{position} {stream} {} {id}", versions.start()).unwrap();
    }
    acknowledged.lock().unwrap().write_all(lines.as_bytes()).unwrap();
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
        drop_torn_line(&directory.path().join("acknowledged"));
        for _ in 0..2 {
            let head = check(directory.path());
            assert!(head >= head_before, "kill {kill}: the log went from {head_before} to {head}");
            head_before = head;
        }
    }
    assert!(head_before > 100, "the child got something done: {head_before} events");
}

/// A line that was cut short by the kill says nothing.
fn drop_torn_line(path: &Path) {
    let Ok(text) = fs::read_to_string(path) else { return };
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    fs::write(path, &text[..whole]).unwrap();
}

/// Opens what the child left, holds it to what was acknowledged, appends one event; returns the head.
fn check(directory: &Path) -> u64 {
    let store = Store::open(directory.join("store")).unwrap();
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
    let acknowledged = fs::read_to_string(directory.join("acknowledged")).unwrap_or_default();
    let mut expected: HashMap<u64, &str> = HashMap::new();
    for line in acknowledged.lines() {
        let (position, rest) = line.split_once(' ').unwrap();
        expected.insert(position.parse().unwrap(), rest);
    }
    let mut next = 1;
    for event in store.read_log().iter() {
        let event = event.unwrap();
        assert_eq!(event.position().get(), next, "the log has no gap");
        next += 1;
        if let Some(expected) = expected.remove(&event.position().get()) {
            let found = format!("{} {} {}", event.stream(), event.version(), event.id());
            assert_eq!(found, expected);
        }
        if let Some(writer) = event.stream().as_str().strip_prefix("own-") {
            let writer = writer.parse::<u8>().unwrap();
            assert!(event.payload().iter().all(|byte| *byte == writer));
        }
        // An append to two streams is there whole or not at all.
        let commit = event.commit();
        assert!(commit.end().get() - commit.start().get() <= 1);
    }
    assert!(expected.is_empty(), "acknowledged and gone: {expected:?}");
    let one_more = NewEvent::json("Checked", &next).unwrap();
    let appended = store.append("checks-1", ExpectedVersion::Any, [one_more]).unwrap();
    assert_eq!(appended.last_position().get(), next);
    store.close().unwrap();
    next
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

const COPIED: &str = "ANNALS_TEST_COPIED_DIRECTORY";

/// Not a test of its own: appends, and after each append makes a copy; before each, it says what must be in it.
#[test]
fn child_that_makes_backups() {
    let Ok(directory) = std::env::var(COPIED) else { return };
    let directory = Path::new(&directory);
    let store = Store::options().memtable_bytes(1).durability(Durability::Buffered);
    let store = store.open(directory.join("store")).unwrap();
    for number in directory.read_dir().unwrap().count().. {
        let events = (0..100).map(|n| NewEvent::bytes("Happened", vec![7; n * 9]).unwrap());
        let appended = store.append("a", ExpectedVersion::Any, events).unwrap();
        let head = appended.last_position().to_string();
        fs::write(directory.join(format!("expected-{number}")), head).unwrap();
        store.backup(directory.join(format!("copy-{number}"))).unwrap();
    }
}

/// G14: whatever the moment of the kill, a copy is there whole or not at all, and the next one to its place succeeds.
#[test]
fn a_process_that_is_killed_while_it_makes_a_backup_leaves_a_whole_one_or_none() {
    let kills: u64 = std::env::var("ANNALS_TEST_KILLS").map_or(8, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (mut whole, mut cut_short) = (0, 0);
    for _ in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_makes_backups", "--nocapture"])
            .env(COPIED, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(60 + noise() % 200));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let Some(number) = name.strip_prefix("copy-") else { continue };
            let number = number.strip_suffix(".partial").unwrap_or(number);
            let expected = directory.path().join(format!("expected-{number}"));
            let expected: u64 = fs::read_to_string(expected).unwrap().parse().unwrap();
            if name.ends_with(".partial") {
                cut_short += 1;
                // Whole but not yet renamed, or no store.
                match Store::options().read_only(true).open(&path) {
                    Ok(copy) => assert_eq!(copy.head().unwrap().map(Position::get), Some(expected)),
                    Err(error) => assert!(matches!(error, Error::NotAStore { .. }), "{error}"),
                }
                store.backup(path.with_extension("")).unwrap();
                assert!(!path.exists());
                fs::remove_dir_all(path.with_extension("")).unwrap();
            } else {
                whole += 1;
                let copy = Store::open(&path).unwrap();
                assert_eq!(copy.head().unwrap().map(Position::get), Some(expected), "{name}");
                assert!(copy.verify(|_| {}).unwrap().is_sound());
                drop(copy);
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
    println!("{kills} kills: {whole} whole copies, {cut_short} cut short");
    assert!(whole > 0, "no copy was made");
}

const FULL_COPY: &str = "ANNALS_TEST_FULL_COPY_DIRECTORY";

/// Not a test of its own: makes a copy while no file can grow beyond a few bytes, then goes on.
#[test]
fn child_whose_backup_finds_the_disk_full() {
    let Ok(directory) = std::env::var(FULL_COPY) else { return };
    let directory = Path::new(&directory);
    let bound = |bytes: &str| {
        let pid = std::process::id().to_string();
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(set.unwrap().success());
    };
    let event = || NewEvent::bytes("Happened", vec![7; 10_000]).unwrap();
    for read_only in [false, true] {
        let store = Store::options().read_only(read_only).open(directory.join("store")).unwrap();
        let head = store.head().unwrap();
        if !read_only {
            store.append("a", ExpectedVersion::Any, [event()]).unwrap();
        }
        bound("4000:unlimited");
        let failed = store.backup(directory.join("copy")).unwrap_err();
        bound("unlimited:unlimited");
        assert!(matches!(failed, Error::Storage { .. }), "{failed}");
        let names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["store"], "nothing is left of it");
        assert!(store.info().unwrap().poisoned.is_none());
        if !read_only {
            assert!(store.head().unwrap() > head);
            store.append("a", ExpectedVersion::Any, [event()]).unwrap();
        }
        assert!(store.verify(|_| {}).unwrap().is_sound());
        assert!(store.backup(directory.join("copy")).unwrap().head > head || read_only);
        fs::remove_dir_all(directory.join("copy")).unwrap();
    }
    fs::write(directory.join("done"), b"").unwrap();
}

/// G14: a backup that fails leaves nothing, and the store takes appends as before. The bound on the length of files is
/// in force for the time of the backup alone.
#[cfg(target_os = "linux")]
#[test]
fn a_backup_to_a_full_disk_leaves_nothing_and_does_not_harm_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" --exact child_whose_backup_finds_the_disk_full"#])
        .arg(std::env::current_exe().unwrap())
        .env(FULL_COPY, directory.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(directory.path().join("done").exists());
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
