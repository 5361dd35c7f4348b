//! Power that is cut, processes that die, and calls to the file system that fail, each at every point of short
//! workloads (G5, G9, G10, G11, G12, G14).
//!
//! - `power`: a child works on a directory behind a shim that notes every change and every sync in order. From the
//!   trace follows what a power cut may leave at each point; each of these directories is opened and held to what had
//!   been promised by then. No privileges are needed.
//! - `struck`: a child dies at a change; or the power of the file system it works on is cut then by an ioctl, on ext4
//!   and XFS. That needs root.
//! - `errors`: the n-th write, sync, rename, open… of a workload fails, once or for ever, for each n.
//! - `full`: disks that are really full. Needs root.
//!
//! Each test takes a sample. `make proof` takes everything, which takes long, and prints a table.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

#[expect(dead_code, reason = "the bank can do more than is done here")]
#[path = "../../examples/bank/account.rs"]
mod account;
#[path = "../support/bank.rs"]
mod bank;
mod disk;
mod errors;
mod full;
mod power;
#[path = "../support/promises.rs"]
mod promises;
#[expect(dead_code, reason = "the bank can do more than is done here")]
#[path = "../../examples/bank/read_models.rs"]
mod read_models;
mod shim;
mod real_disks;
mod workload;

use std::cell::Cell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use tempfile::TempDir;

use shim::Place;
use workload::Plan;

/// Not a test of its own: what the children do.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let place = Place::of_child().unwrap();
    let plan = std::env::var(shim::PLAN).unwrap();
    match plan.strip_prefix("errors ") {
        Some(plan) => errors::child(&Plan::named(plan), &place),
        None => Plan::named(&plan).run(&place),
    }
}

/// Whether everything is to be tried, and not a sample.
fn is_everything() -> bool {
    std::env::var("ANNALS_TEST_FAULTS").is_ok_and(|wanted| wanted == "all")
}

/// Says something whatever the harness does with the output of tests.
#[expect(clippy::explicit_write, reason = "the harness keeps to itself what eprintln! says")]
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

fn skip(test: &str, reason: &str) {
    say(&format!("SKIPPED: faults: {test}: {reason}"));
}

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

/// A directory in memory, where there is such a thing: thousands of stores are opened there.
fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
