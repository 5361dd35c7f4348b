//! Where a benchmark works: a directory of its own, which is gone when it ends, also when it is interrupted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::super::shell::Failure;

/// What a shell calls a program that was interrupted.
const INTERRUPTED: i32 = 130;
/// The engine's threads may be about to make one more file while everything is removed.
const REMOVALS_MAX: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Workplace {
    root: PathBuf,
}

impl Workplace {
    /// Makes it below a directory that is there.
    pub(crate) fn below(above: &Path) -> Result<Self, Failure> {
        if !above.is_dir() {
            return Err(Failure::Usage(format!("--dir {}: no such directory", above.display())));
        }
        let root = above.join(format!("annals-bench-{}", process::id()));
        let doing = || format!("creating {}", root.display());
        fs::create_dir(&root).map_err(|error| Failure::file(doing(), error))?;
        let workplace = Self { root: root.clone() };
        let interrupted = move || {
            IS_ENDING.store(true, Ordering::SeqCst);
            remove(&root);
            process::exit(INTERRUPTED);
        };
        ctrlc::set_handler(interrupted).map_err(|error| Failure::Measuring(error.to_string()))?;
        Ok(workplace)
    }

    /// A place in it.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        rest_if_ending();
        self.root.join(name)
    }
}

/// Whether the program was interrupted, and is about to exit.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Nothing is begun, and no failure told, while what is there is being removed.
fn rest_if_ending() {
    while IS_ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        rest_if_ending();
        remove(&self.root);
    }
}

fn remove(root: &Path) {
    for _ in 0..REMOVALS_MAX {
        if fs::remove_dir_all(root).is_ok() || !root.exists() {
            return;
        }
        thread::sleep(REMOVAL_PAUSE);
    }
}
