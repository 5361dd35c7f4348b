//! What may go wrong below a store: processes that die, power that is cut, calls to the file system
//! that fail, disks that are full, and bytes that are damaged (G1, G2, G5, G7-G14).
//!
//! - `kill`: a process is killed at random moments, or dies at its n-th change of the disk.
//!   `creation`: what a store that was being created is left as.
//! - `power`: a child works on a directory behind a shim that records every change and every sync
//!   in order. From the trace follows what a power cut may leave at each point; each of these
//!   directories is opened and checked against what had been promised by then. No privileges are
//!   needed. As root, the power of ext4 and XFS is cut too.
//! - `torn_logs`: logs and manifests as a power cut leaves them, made by hand.
//! - `io_error`: the n-th write, sync, rename, open… of a workload fails, once or forever, for each
//!   n.
//! - `disk_full`: a bound on the length of files; as root, disks that are really full.
//! - `corruption`: every file of a store damaged in every way; and every frame.
//!
//! Each test takes a sample. `make proof` takes everything, which takes long, and prints a table.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod corruption;
mod creation;
#[cfg(unix)]
mod disk_full;
mod kill;
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
#[cfg(target_os = "linux")]
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
#[cfg(target_os = "linux")]
use std::sync::Once;

#[cfg(target_os = "linux")]
/// What a check says if it fails.
fn caught<T>(check: impl FnOnce() -> T) -> Result<T, String> {
    thread_local! {
        static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    // What is caught is told where it is counted.
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
