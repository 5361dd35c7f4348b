//! Reading ahead changes no answer, and its thread runs only while the store is open and scanned.

use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::Instant;

use annals::prelude::*;
use annals::{Error, StoreOptions};

use crate::support::{SOON, damage_packs, events, log, place, position, quick};

fn options() -> StoreOptions {
    quick().pack_bytes(300).read_ahead_bytes(1 << 20)
}

/// An open store with 1,800 events.
fn filled(path: &Path) -> Store {
    let store = options().open(path).unwrap();
    for number in 0..600 {
        store.append(format!("s-{}", number % 7), ExpectedVersion::Any, events(3)).unwrap();
    }
    store
}

/// Scans at different places at once take the thread from each other.
#[test]
fn scans_return_the_same_with_and_without() {
    let (_directory, path) = place();
    filled(&path).close().unwrap();
    let expected = log(&quick().open(&path).unwrap());
    for block_cache_bytes in [4_000, 64 << 20] {
        let store = options().block_cache_bytes(block_cache_bytes).open(&path).unwrap();
        thread::scope(|scope| {
            for from in [1, 500, 1_000, 1_700] {
                let (store, expected) = (&store, &expected[from - 1..]);
                scope.spawn(move || {
                    let read = store.read_log().from(position(from as u64));
                    let found: Vec<_> = read.into_iter().map(Result::unwrap).collect();
                    assert!(found == expected, "from {from}");
                });
            }
        });
        assert!(store.verify(|_| {}).unwrap().is_sound());
    }
}

#[test]
fn damage_is_reported_by_the_scan_that_reaches_it() {
    let (_directory, path) = place();
    filled(&path).close().unwrap();
    damage_packs(&path);
    let store = options().open(&path).unwrap();
    let failed = store.read_log().for_each(|_| ControlFlow::Continue(())).unwrap_err();
    assert!(failed.is_corruption(), "{failed}");
    let tail = store.read_log().from(position(1_799)).into_iter().collect::<Result<Vec<_>, _>>();
    assert_eq!(tail.unwrap().len(), 2);
}

#[test]
fn store_is_closed_while_it_is_scanned() {
    let (_directory, path) = place();
    let store = filled(&path);
    let mut read = store.read_log().into_iter();
    assert_eq!(read.next().unwrap().unwrap().position(), position(1));
    store.clone().close().unwrap();
    let rest = read.find(Result::is_err);
    assert!(matches!(rest, None | Some(Err(Error::Closed))));
}

/// The threads that read ahead in this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("annals-read-ahe")).count()
}

/// Runs in a process of its own: other tests of this one have such threads too.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by `thread_ends_with_the_store`"]
fn thread_of_one_store() {
    let (_directory, path) = place();
    let store = filled(&path);
    assert_eq!(store.read_log().limit(2).into_iter().count(), 2);
    assert_eq!(threads(), 0, "a short read is no scan");
    // The thread names itself.
    let begun = Instant::now();
    while threads() == 0 && begun.elapsed() < SOON {
        log(&store);
    }
    assert_eq!(threads(), 1);
    store.close().unwrap();
    assert_eq!(threads(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn thread_ends_with_the_store() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "read_ahead::thread_of_one_store", "--ignored"]);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
