//! Lists, reads and copies the files of a store.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The names of all files under a directory, in order.
pub(crate) fn names(root: &Path) -> Vec<String> {
    let names = walk(root).unwrap().into_iter();
    names.map(|name| name.to_str().unwrap().to_owned()).collect()
}

/// All files under a directory with their bytes.
pub(crate) fn contents(root: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    walk(root)?.into_iter().map(|name| Ok((name.clone(), fs::read(root.join(name))?))).collect()
}

fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Every file under a directory with its bytes, and every directory.
pub(crate) fn fingerprint(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// Copies a directory as a generic backup program would.
pub(crate) fn copy(from: &Path, to: &Path) {
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

/// Copies an idle store, as a process that dies now would leave it. If RocksDB changes tables in
/// the background meanwhile, the copy is repeated.
pub(crate) fn copy_at_rest(from: &Path, to: &Path) {
    let try_copy = || -> io::Result<bool> {
        let before = contents(from)?;
        let _ = fs::remove_dir_all(to);
        for (name, bytes) in &before {
            let file = to.join(name);
            fs::create_dir_all(file.parent().unwrap())?;
            fs::write(file, bytes)?;
        }
        Ok(contents(from)? == before)
    };
    while !try_copy().unwrap_or(false) {
        std::thread::yield_now();
    }
}
