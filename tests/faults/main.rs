//! Faults below a store: processes that die, power cuts, failing calls to the file system, full
//! disks, and damaged bytes (G1, G2, G5, G7-G14).
//!
//! - `kill`: a process is killed at random moments, or dies at its n-th change to the disk.
//!   `creation`: an interrupted creation of a store.
//! - `storm`: many tasks whose futures are dropped, while the store is closed and killed.
//! - `power`: a child works on a directory under a shim that records every change and every sync in
//!   order. The trace determines what a power cut may leave at each point; each of these
//!   directories is opened and checked against the promises made by then. No privileges are needed.
//!   As root, the power of ext4 and XFS is cut too.
//! - `torn_logs`: logs and manifests as a power cut leaves them, made by hand.
//! - `io_error`: the n-th write, sync, rename, open… of a workload fails, once or forever, for each
//!   n.
//! - `disk_full`: a limit on file length; as root, disks that are really full.
//! - `corruption`: every file of a store damaged in every way; and every frame.
//!
//! Each test takes a sample. `make proof` tries everything, which takes long, and prints a table.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod corruption;
mod creation;
#[cfg(unix)]
mod disk_full;
mod kill;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod torn_logs;

#[cfg(target_os = "linux")]
#[expect(dead_code, reason = "the bank can do more than is done here")]
#[path = "../../examples/bank/account.rs"]
mod account;
#[cfg(target_os = "linux")]
#[path = "../support/example_bank.rs"]
mod example_bank;
#[cfg(target_os = "linux")]
mod deletions;
#[cfg(target_os = "linux")]
mod io_error;
#[cfg(target_os = "linux")]
mod power;
#[cfg(target_os = "linux")]
#[expect(dead_code, reason = "the bank can do more than is done here")]
#[path = "../../examples/bank/read_models.rs"]
mod read_models;
#[cfg(target_os = "linux")]
mod shim;
#[cfg(target_os = "linux")]
mod strike;
#[cfg(target_os = "linux")]
mod workload;

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
#[cfg(target_os = "linux")]
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::sync::Once;

#[cfg(target_os = "linux")]
/// Runs a check; returns its panic message if it fails.
fn caught<T>(check: impl FnOnce() -> T) -> Result<T, String> {
    thread_local! {
        static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    // The counter of the results reports the panic.
    HOOK.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                hook(info);
            }
        }));
    });
    IS_CAUGHT.set(true);
    let checked = catch_unwind(AssertUnwindSafe(check));
    IS_CAUGHT.set(false);
    checked.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// The parent sees nothing else of the child, whose other threads continue after a panic.
fn report_panics_to(path: PathBuf) {
    std::panic::set_hook(Box::new(move |panic| {
        writeln!(append_to(&path), "{panic}").unwrap();
    }));
}

fn append_to(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}
