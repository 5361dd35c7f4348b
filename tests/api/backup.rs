//! Backup (G14): a copy that is taken during writes is a store. It holds a prefix of the log with
//! everything acknowledged before the call; its derived data matches its log (G12); it is complete
//! or absent; and neither an invalid destination nor a failure changes anything.
//! `tests/faults/kill.rs` kills backups and makes them fail on a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use annals::prelude::*;
use annals::{
    Durability, Error, Position, Snapshot, SnapshotStore, StoreOptions, Timestamp, Version,
};

use crate::projections::{Custom, Money, balances};
use crate::support::skip::skipped;
use crate::support::{copy, events, fingerprint, log, place, position, quick};

const WRITERS: usize = 3;
const COPIES: usize = 5;

/// Appends deposits to an account until `stop` is set, every third one durably, and a snapshot
/// after every tenth; records the last acknowledged position.
fn write(store: &Store, writer: usize, acknowledged: &AtomicU64, stop: &AtomicBool) {
    let account = StreamId::new(format!("account-{writer}")).unwrap();
    let mut balance = 0;
    for round in 1_i64.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        balance += round;
        let event = Money::Deposited { amount: round }.encode().unwrap();
        let event_id = event.id();
        let durability = if round % 3 == 0 { Durability::Sync } else { Durability::Buffered };
        let append = Append::new().to(account.clone(), ExpectedVersion::Any, [event]);
        let appended = store.submit(append.with_durability(durability)).unwrap();
        acknowledged.fetch_max(appended.last_position().get(), Ordering::SeqCst);
        if round % 10 == 0 {
            let snapshot = Snapshot {
                kind: "balance".to_owned(),
                stream: account.clone(),
                version: appended.last_version(),
                event_id,
                schema_version: 1,
                taken_at: Timestamp::from_micros(round),
                state: balance.to_string().into_bytes(),
            };
            store.save_snapshot(&snapshot, NonZeroUsize::new(3).unwrap()).unwrap();
        }
    }
}

/// Folds the balances from the log up to this position.
fn fold(log: &[RecordedEvent], up_to: Option<Position>) -> BTreeMap<String, i64> {
    let mut balances = BTreeMap::new();
    for event in log.iter().filter(|event| Some(event.position()) <= up_to) {
        let stored = annals::EncodedEvent::from(event.as_ref());
        let change = Money::decode(&stored).unwrap().change();
        *balances.entry(event.stream().to_string()).or_default() += change;
    }
    balances
}

/// Asserts that the snapshots and the read model match the log at their positions.
fn agrees_with_its_log(store: &Store, log: &[RecordedEvent]) {
    let checkpoint = store.view("balances").position().unwrap();
    assert!(checkpoint <= store.head().unwrap());
    assert_eq!(balances(store), fold(log, checkpoint), "the read model at {checkpoint:?}");
    for writer in 0..WRITERS {
        let account = StreamId::new(format!("account-{writer}")).unwrap();
        let found = store.load_snapshot("balance", &account, Version::MAX).unwrap();
        let Some(found) = found else { continue };
        let event = log.iter().find(|event| event.id() == found.event_id).unwrap();
        assert_eq!((event.stream(), event.version()), (&account, found.version));
        let balance = fold(log, Some(event.position()))[account.as_str()];
        assert_eq!(found.state, balance.to_string().into_bytes());
    }
}

fn copies_under_load(options: &StoreOptions) {
    let (directory, path) = place();
    let store = options.clone().open(&path).unwrap();
    let projections = ProjectionManager::new(&store).register(Custom::balances()).unwrap();
    projections.start().unwrap();
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut copies: Vec<(PathBuf, u64)> = Vec::new();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, acknowledged, stop) = (&store, &acknowledged, &stop);
            scope.spawn(move || write(store, writer, acknowledged, stop));
        }
        for number in 1..=COPIES {
            let more = acknowledged.load(Ordering::SeqCst) + 150;
            while acknowledged.load(Ordering::SeqCst) < more {
                thread::yield_now();
            }
            let before = acknowledged.load(Ordering::SeqCst);
            let copied = directory.path().join(format!("copy-{number}"));
            let head = store.backup(&copied).unwrap().head;
            assert!(head >= Some(position(before)), "{head:?}, but {before} was acknowledged");
            copies.push((copied, head.unwrap().get()));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let whole = log(&store);
    projections.stop();
    for (copied, head) in copies {
        let copy = options.clone().create(false).open(&copied).unwrap();
        assert!(copy.verify(|_| {}).unwrap().is_sound());
        let found = log(&copy);
        assert_eq!(found.len() as u64, head);
        assert!(found == whole[..found.len()], "not a prefix of the log");
        agrees_with_its_log(&copy, &found);
        // The copy and its read models can be continued where they end.
        let deposit = Money::Deposited { amount: 1 }.encode().unwrap();
        let appended = copy.append("account-0", ExpectedVersion::StreamExists, [deposit]).unwrap();
        assert_eq!(appended.last_position(), position(head + 1));
        let projections = ProjectionManager::new(&copy).register(Custom::balances()).unwrap();
        projections.start().unwrap();
        let wait = projections.wait_for("balances", position(head + 1), crate::projections::SOON);
        wait.unwrap();
        assert_eq!(balances(&copy), fold(&log(&copy), Some(position(head + 1))));
    }
    assert!(log(&store) == whole, "changes to a copy do not affect the original");
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// First with tables that are written and deleted during the backup, then with everything in the
/// write-ahead log.
#[test]
fn backup_under_load_holds_everything_acknowledged_before() {
    copies_under_load(&quick().memtable_bytes(1));
    copies_under_load(&quick());
}

/// Opens a store with some events in tables and the newest, acknowledged as `Buffered`, only in the
/// write-ahead log.
fn open(path: &Path) -> Store {
    let store = quick().open(path).unwrap();
    store.append("a", ExpectedVersion::Any, events(100)).unwrap();
    store.close().unwrap();
    let store = quick().open(path).unwrap();
    store.append("b", ExpectedVersion::Any, events(10)).unwrap();
    store
}

#[test]
fn backup_keeps_store_id_and_works_without_the_original() {
    let (directory, path) = place();
    let store = open(&path);
    let (copied, second) = (directory.path().join("copy"), directory.path().join("copy of copy"));
    let before = fingerprint(&path);
    let report = store.backup(&copied).unwrap();
    assert!(fingerprint(&path) == before, "the backup changed the original");
    assert_eq!(report.head, Some(position(110)));
    let files: Vec<_> = fingerprint(&copied).into_values().flatten().collect();
    assert_eq!(report.files, files.len() as u64);
    assert_eq!(report.bytes, files.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert!(report.shared_bytes < report.bytes);
    let (whole, info) = (log(&store), store.info().unwrap());
    store.close().unwrap();
    fs::remove_dir_all(&path).unwrap();

    let copy = quick().read_only(true).open(&copied).unwrap();
    let found = copy.info().unwrap();
    assert_eq!((found.store_id, found.created_at), (info.store_id, info.created_at));
    assert_eq!((found.head, found.streams), (info.head, info.streams));
    assert_eq!(log(&copy), whole);
    // A restore is a copy of the copy, made by annals or by any tool that copies files.
    copy.backup(&second).unwrap();
    copy.close().unwrap();
    crate::support::copy(&copied, &path);
    for path in [copied, second, path] {
        let store = quick().create(false).open(&path).unwrap();
        assert_eq!(log(&store), whole);
        store.append("c", ExpectedVersion::NoStream, events(1)).unwrap();
        assert_eq!(store.head().unwrap(), Some(position(111)));
    }
}

/// Backs up a store that was not closed and is open for reading only: nothing in it may change, and
/// the backup includes its write-ahead log.
#[test]
fn read_only_backup_includes_the_log_and_changes_nothing() {
    let (directory, path) = place();
    let store = open(&path);
    let whole = log(&store);
    let crashed = directory.path().join("crashed");
    copy(&path, &crashed);
    drop(store);
    let before = fingerprint(&crashed);
    let reader = quick().read_only(true).open(&crashed).unwrap();
    let copied = directory.path().join("copy");
    assert_eq!(reader.backup(&copied).unwrap().head, Some(position(110)));
    drop(reader);
    assert!(fingerprint(&crashed) == before, "the original was changed");
    assert_eq!(log(&quick().open(&copied).unwrap()), whole);
}

/// A backup holds everything that was published, or fails: here the files lost events after the
/// open.
#[test]
fn backup_of_a_store_that_lost_events_is_refused() {
    let (directory, path) = place();
    let store = open(&path);
    let crashed = directory.path().join("crashed");
    copy(&path, &crashed);
    drop(store);
    let reader = quick().read_only(true).open(&crashed).unwrap();
    assert_eq!(reader.head().unwrap(), Some(position(110)));
    for entry in fs::read_dir(crashed.join("db")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "log") {
            fs::write(file, b"").unwrap();
        }
    }
    let before = fs::read_dir(directory.path()).unwrap().count();
    let refused = reader.backup(directory.path().join("copy")).unwrap_err();
    assert!(
        matches!(refused, Error::HistoryLost { expected_at_least, found }
            if expected_at_least == position(110) && found == Some(position(100))),
        "{refused}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), before, "no partial copy is left");
}

/// G11 holds for a copy as soon as it exists: its watermark records exactly the end of its log.
#[test]
fn backup_with_lost_events_is_refused_and_an_empty_one_opens() {
    let (directory, path) = place();
    let store = open(&path);
    let copied = directory.path().join("copy");
    store.backup(&copied).unwrap();
    let logs = fs::read_dir(copied.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<_> = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    assert!(!logs.is_empty());
    for log in logs {
        fs::write(log, b"").unwrap();
    }
    let refused = quick().open(&copied).unwrap_err();
    assert!(
        matches!(refused, Error::HistoryLost { expected_at_least, found }
            if expected_at_least == position(110) && found == Some(position(100))),
        "{refused}"
    );

    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let copied = path.with_extension("copy");
    assert_eq!(store.backup(&copied).unwrap().head, None);
    let copy = quick().create(false).open(&copied).unwrap();
    assert_eq!(copy.head().unwrap(), None);
    copy.append("a", ExpectedVersion::NoStream, events(1)).unwrap();
}

/// Files are copied if they cannot be shared.
#[cfg(unix)]
#[test]
fn backup_on_another_file_system_shares_no_bytes() {
    use std::os::unix::fs::MetadataExt;
    let (directory, path) = place();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let memory = Path::new("/dev/shm");
    let Some(other) = tempfile::tempdir_in(memory)
        .ok()
        .filter(|other| device(other.path()) != device(directory.path()))
    else {
        return skipped("a backup on another file system", "there is no second file system");
    };
    let store = open(&path);
    let copied = other.path().join("copy");
    assert_eq!(store.backup(&copied).unwrap().shared_bytes, 0);
    let nearby = store.backup(directory.path().join("nearby")).unwrap();
    assert!(nearby.shared_bytes > 0);
    assert_eq!(log(&quick().open(&copied).unwrap()), log(&store));
}

/// G13: a refused backup changes nothing.
#[test]
fn backup_to_an_invalid_destination_changes_nothing() {
    let (directory, path) = place();
    let store = open(&path);
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("file"), b"dear").unwrap();
    fs::create_dir(at("foreign.partial")).unwrap();
    fs::write(at("foreign.partial/letter"), b"dear").unwrap();
    fs::write(at("text.partial"), b"dear").unwrap();
    quick().open(at("other.partial")).unwrap().close().unwrap();
    let mut places = vec![
        (path.clone(), "something is already there"),
        (at("empty"), "something is already there"),
        (at("file"), "something is already there"),
        (path.join("copy"), "within the store"),
        (path.join("db/copy"), "within the store"),
        (at("empty").join("../store/copy"), "within the store"),
        (at("missing/copy"), "the directory above it"),
        (at("file/copy"), "above it is a file"),
        (at("missing/.."), "the directory above it"),
        (at("foreign"), "not an unfinished copy"),
        (at("text"), "in the way"),
        // A store that has this name by chance.
        (at("other"), "not an unfinished copy"),
    ];
    let links = tempfile::tempdir().unwrap();
    #[cfg(unix)]
    {
        let (link, dangling) = (links.path().join("link"), links.path().join("dangling"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), &dangling).unwrap();
        places.push((dangling, "something is already there"));
        places.push((link.join("copy"), "within the store"));
    }
    let before = fingerprint(directory.path());
    for (destination, why) in places {
        let refused = store.backup(&destination).unwrap_err();
        let is_it = matches!(&refused, Error::CopyRefused { path, .. } if *path == destination);
        assert!(is_it && refused.to_string().contains(why), "{}: {refused}", destination.display());
        assert!(fingerprint(directory.path()) == before, "{}", destination.display());
    }
    assert!(matches!(store.backup(""), Err(Error::InvalidArgument(_))));
    store.append("b", ExpectedVersion::Any, events(1)).unwrap();
}

/// Simulates what a process that died leaves of a backup after each step: it never opens as a store
/// that lacks events, and it does not prevent the next backup.
#[test]
fn partial_backup_is_not_a_store_and_is_replaced() {
    let (directory, path) = place();
    let store = open(&path);
    let copied = directory.path().join("copy");
    let partial = directory.path().join("copy.partial");
    store.backup(&copied).unwrap();
    let mut left = vec!["UNFINISHED", "LOCK", "db.tmp", "db", "watermark", "STORE"];
    while !left.is_empty() {
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("UNFINISHED"), b"").unwrap();
        for name in &left {
            match *name {
                "db" => copy(&copied.join("db"), &partial.join("db")),
                "db.tmp" if !left.contains(&"db") => {
                    copy(&copied.join("db"), &partial.join("db.tmp"));
                }
                "UNFINISHED" | "db.tmp" => {}
                file => drop(fs::copy(copied.join(file), partial.join(file)).unwrap()),
            }
        }
        let opened = quick().open(&partial);
        if left.contains(&"STORE") {
            assert_eq!(log(&opened.unwrap()), log(&store), "interrupted after {left:?}");
        } else {
            let refused = opened.unwrap_err();
            assert!(matches!(refused, Error::NotAStore { .. }), "{left:?}: {refused}");
        }
        fs::remove_dir_all(&copied).unwrap();
        store.backup(&copied).unwrap();
        assert!(!partial.exists());
        assert_eq!(log(&quick().open(&copied).unwrap()), log(&store));
        left.pop();
    }
}

/// Exactly one of two concurrent backups to one destination succeeds, and they never mix.
#[test]
fn second_backup_to_one_destination_is_refused() {
    let (directory, path) = place();
    let store = open(&path);
    let partial = directory.path().join("copy.partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("UNFINISHED"), b"").unwrap();
    let lock = fs::File::create(partial.join("LOCK")).unwrap();
    lock.lock().unwrap();
    let before = fingerprint(directory.path());
    let refused = store.backup(directory.path().join("copy")).unwrap_err();
    assert!(refused.to_string().contains("under way"), "{refused}");
    assert!(fingerprint(directory.path()) == before);
    drop(lock);

    for round in 0..20 {
        let place = directory.path().join(format!("copy-{round}"));
        let outcomes = thread::scope(|scope| {
            let both = [0, 1].map(|_| scope.spawn(|| store.backup(&place)));
            both.map(|one| one.join().unwrap())
        });
        let made = outcomes.iter().flatten().count();
        let refused = |error: &&Error| matches!(error, Error::CopyRefused { .. });
        assert_eq!(made, 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter_map(|o| o.as_ref().err()).filter(refused).count(), 1);
        assert_eq!(log(&quick().read_only(true).open(&place).unwrap()), log(&store));
        assert!(!directory.path().join(format!("copy-{round}.partial")).exists());
    }
}

/// G9: a poisoned store refuses a backup; a closed store refuses it too.
#[test]
fn backup_of_a_poisoned_or_closed_store_fails() {
    let (directory, path) = place();
    let panics = Arc::new(AtomicBool::new(false));
    let clock = panics.clone();
    let store = quick().clock(move || {
        assert!(!clock.swap(false, Ordering::SeqCst), "the clock fails");
        Timestamp::from_micros(7)
    });
    let store = store.open(&path).unwrap();
    panics.store(true, Ordering::SeqCst);
    let again = store.clone();
    thread::spawn(move || again.append("b", ExpectedVersion::Any, events(1))).join().unwrap_err();
    let copied = directory.path().join("copy");
    assert!(matches!(store.backup(&copied), Err(Error::Poisoned { .. })));
    let other = store.clone();
    drop(store.close());
    assert!(matches!(other.backup(&copied), Err(Error::Poisoned { .. } | Error::Closed)));

    let store = quick().open(&path).unwrap();
    let other = store.clone();
    store.close().unwrap();
    assert!(matches!(other.backup(&copied), Err(Error::Closed)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the store is left");
}
