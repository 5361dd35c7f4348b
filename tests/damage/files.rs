//! The files of a store, as paths within it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The names of all files below a directory, in order.
pub(crate) fn names(root: &Path) -> Vec<String> {
    let names = walk(root).unwrap().into_iter();
    names.map(|name| name.to_str().unwrap().to_owned()).collect()
}

/// All files below a directory with their bytes.
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
