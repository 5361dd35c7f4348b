//! Removes a projection from a [`ViewStore`], whether or not it is registered.

use super::builds::{self, Directory, is_build_of};
use crate::error::{Error, Result};
use crate::view_store::{ViewScan, ViewStore};

/// Removes everything that a projection keeps; returns whether anything was stored.
pub(super) fn remove(views: &dyn ViewStore, name: &str) -> Result<bool> {
    builds::check(name)?;
    let mut was_there = is_there(views, name)?;
    if was_there {
        // Drop the directory first, so that after a crash no build counts as serving. A second call
        // finds the remaining builds by name.
        views.drop_view(name)?;
    }
    for view in views.list_views()?.iter().filter(|view| is_build_of(name, view)) {
        views.drop_view(view)?;
        was_there = true;
    }
    Ok(was_there)
}

/// Whether anything is stored under the projection's own name, readable or damaged.
fn is_there(views: &dyn ViewStore, name: &str) -> Result<bool> {
    match Directory::read(views, name) {
        Ok(directory) if directory != Directory::default() => return Ok(true),
        Ok(_) => {}
        Err(Error::Corruption { .. }) => return Ok(true),
        Err(error) => return Err(error),
    }
    let scan = ViewScan { view: name.to_owned(), entries_max: 1, ..ViewScan::default() };
    match views.scan_view(&scan) {
        Ok(page) => Ok(!page.entries.is_empty()),
        Err(Error::Corruption { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
