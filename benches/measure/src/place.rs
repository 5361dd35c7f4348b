//! Where is measured: a directory of its own, which is gone at the end, also when the program is
//! interrupted; and what is in it on the disk.

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
/// RocksDB may still make files while everything is removed: on a busy disk, opening takes seconds.
const REMOVALS_MAX: u32 = 500;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// Makes it below a directory that is there.
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

    /// Runs in a new directory, which is then removed; and waits until its writes have left the
    /// operating system.
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

/// Nothing is begun, and no failure reported, while what is there is being removed.
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

/// Makes the operating system write out what earlier runs left to it, so that nobody pays for
/// another's writes.
pub fn settle(directory: &Path) -> Result<()> {
    Ok(syncfs(File::open(directory)?)?)
}

/// Takes the files of a store out of the operating system's page cache: those of this store alone,
/// so it needs no root.
pub fn drop_cache(directory: &Path) -> Result<()> {
    each_file(directory, &mut |path| {
        let file = File::open(path)?;
        file.sync_all()?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    })
}

/// What a directory takes on disk, in blocks of 512 bytes: a file may have room kept after its end.
pub fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    each_file(directory, &mut |path| {
        sum += fs::metadata(path)?.blocks() * 512;
        Ok(())
    })?;
    Ok(sum)
}

/// How long all files of a directory are together.
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
