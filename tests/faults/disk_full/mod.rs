//! Full disks: after a failed write nothing is acknowledged until the store is reopened (G9), and a
//! failed backup leaves nothing (G14). A limit on file length simulates a full disk; `mounted`
//! fills real ones.

#[cfg(target_os = "linux")]
mod mounted;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use annals::prelude::*;
use annals::{Error, Position};

const FULL: &str = "ANNALS_TEST_FULL_DIRECTORY";

/// Not a test of its own: appends until the file system is full, and checks what the store returns
/// then.
#[test]
#[ignore = "another test starts it, as a process"]
fn child_with_a_full_disk() {
    let directory = std::env::var(FULL).unwrap();
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
    let refused = store.metrics().unwrap().refused;
    assert_eq!((refused.indeterminate, refused.poisoned), (1, 1));
    // Acknowledged events can still be read; the failed append is not visible.
    assert_eq!(store.head().unwrap().map(Position::get), Some(acknowledged));
    assert_eq!(store.read_log().into_iter().flatten().count() as u64, acknowledged);
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    fs::write(Path::new(&directory).join("acknowledged"), acknowledged.to_string()).unwrap();
}

/// G9. The shell limits the length of every file, so that a write in the middle of the write-ahead
/// log fails.
#[test]
fn append_is_rejected_after_a_failed_write() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args([
            "-c",
            r#"trap "" XFSZ; ulimit -f 2000; exec "$0" --ignored --exact disk_full::child_with_a_full_disk"#,
        ])
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
    // The failed append may or may not be present.
    assert!(head == acknowledged || head == acknowledged + 1, "{head} for {acknowledged}");
    let event = NewEvent::json("Again", &()).unwrap();
    let appended = store.append("a", ExpectedVersion::Any, [event]).unwrap();
    assert_eq!(appended.last_position().get(), head + 1);
}

const FULL_COPY: &str = "ANNALS_TEST_FULL_COPY_DIRECTORY";

/// Not a test of its own: makes a backup while no file can grow beyond a few bytes, then continues.
#[test]
#[ignore = "another test starts it, as a process"]
fn child_whose_backup_finds_the_disk_full() {
    let directory = std::env::var(FULL_COPY).unwrap();
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

/// G14: a failed backup leaves nothing, and the store accepts appends as before. The limit on file
/// length applies only during the backup.
#[cfg(target_os = "linux")]
#[test]
fn backup_to_a_full_disk_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args([
            "-c",
            r#"trap "" XFSZ; exec "$0" --ignored --exact disk_full::child_whose_backup_finds_the_disk_full"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .env(FULL_COPY, directory.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(directory.path().join("done").exists());
}
