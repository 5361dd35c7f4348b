//! The place of a measurement: its own directory, removed at the end even if the program is
//! interrupted, and its size on the disk.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, syncfs};

use crate::{Result, at};

/// The exit code of a program that was interrupted.
const INTERRUPTED: i32 = 130;
/// RocksDB may still create files while the directory is removed: on a busy disk, opening takes
/// seconds.
const REMOVALS_MAX: u32 = 500;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// Creates it in a directory that exists.
    pub fn below(above: &Path) -> Result<Self> {
        let root = above.join(format!("annals-measure-{}", process::id()));
        at(&root, fs::create_dir(&root))?;
        let place = Self { root: root.clone() };
        ctrlc::set_handler(move || {
            IS_ENDING.store(true, Ordering::SeqCst);
            let _ = remove(&root);
            process::exit(INTERRUPTED);
        })?;
        Ok(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        rest_if_ending();
        self.root.join(name)
    }

    /// Runs in a new directory, removes it, and waits until its writes have left the operating
    /// system.
    pub fn within<T>(&self, name: &str, run: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let path = self.path(name);
        at(&path, fs::create_dir(&path))?;
        let done = run(&path);
        remove(&path)?;
        settle(&self.root)?;
        done
    }
}

/// Whether the program was interrupted, and is about to exit.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// While the directory is being removed, no new work begins and no failure is reported.
fn rest_if_ending() {
    while IS_ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        rest_if_ending();
        let _ = remove(&self.root);
    }
}

pub fn remove(path: &Path) -> Result<()> {
    for _ in 1..REMOVALS_MAX {
        if fs::remove_dir_all(path).is_ok() || !path.exists() {
            return Ok(());
        }
        thread::sleep(REMOVAL_PAUSE);
    }
    at(path, fs::remove_dir_all(path))
}

/// Makes the operating system write out the data of earlier runs, so that no run pays for the
/// writes of another.
pub fn settle(directory: &Path) -> Result<()> {
    Ok(syncfs(File::open(directory)?)?)
}

/// Drops the files of a store from the operating system's page cache: only those of this store, so
/// it needs no root.
pub fn drop_cache(directory: &Path) -> Result<()> {
    each_file(directory, &mut |path| {
        let file = File::open(path)?;
        file.sync_all()?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    })
}

/// The size of a directory on disk, in blocks of 512 bytes: a file may have space preallocated
/// after its end.
pub fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    each_file(directory, &mut |path| {
        sum += fs::metadata(path)?.blocks() * 512;
        Ok(())
    })?;
    Ok(sum)
}

/// The total length of all files in a directory.
pub fn file_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    each_file(directory, &mut |path| {
        sum += fs::metadata(path)?.len();
        Ok(())
    })?;
    Ok(sum)
}

fn each_file(directory: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { each_file(&path, visit)? } else { visit(&path)? }
    }
    Ok(())
}
