//! Reads derived data: snapshots, checkpoints, views. Every record is checked before it is used.

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    decode_checkpoint, decode_record, decode_snapshot, snapshot_key, snapshot_of, snapshot_prefix,
    view_key, view_of, view_prefix,
};
use crate::model::{StreamId, Version};
use crate::snapshot_store::Snapshot;
use crate::storage::{Disk, Family};
use crate::view_store::{Checkpoint, PageFiller, ViewPage, ViewScan, prefix_end};

/// The checkpoint of a view.
pub(crate) fn checkpoint(disk: &Disk, view: &str) -> Result<Option<Checkpoint>> {
    let key = view.as_bytes();
    let Some(record) = disk.get(Family::Checkpoints, key)? else { return Ok(None) };
    read_checkpoint(key, &record).map(Some)
}

fn read_checkpoint(key: &[u8], record: &[u8]) -> Result<Checkpoint> {
    decode_checkpoint(key, record)
        .map_err(|malformed| malformed.at(location_of(Family::Checkpoints, key)))
}

/// The value of a key in a view.
pub(crate) fn view_value(disk: &Disk, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let key = view_key(view, key);
    let Some(record) = disk.get(Family::Views, &key)? else { return Ok(None) };
    read_value(&key, &record).map(|value| Some(value.to_vec()))
}

fn read_value<'r>(key: &[u8], record: &'r [u8]) -> Result<&'r [u8]> {
    decode_record(key, record).map_err(|malformed| malformed.at(location_of(Family::Views, key)))
}

/// Reads one page of a view.
pub(crate) fn scan_view(disk: &Disk, scan: &ViewScan) -> Result<ViewPage> {
    let (from, to) = scan.key_range();
    let from = view_key(&scan.view, &from);
    let to = match to {
        Some(to) => view_key(&scan.view, &to),
        // The prefix ends in a 0 byte, so there is always a key above it.
        None => prefix_end(&view_prefix(&scan.view)).unwrap_or_default(),
    };
    let mut page = PageFiller::new(scan.entries_max);
    let mut cursor = disk.range_cursor(Family::Views, &from..&to, scan.direction);
    while let Some((key, record)) = cursor.next()? {
        if page.is_full() {
            break;
        }
        let value = read_value(key, record)?;
        let (_, key) = view_of(key).ok_or_else(|| Family::Views.bad_key(key))?;
        page.push(key, value);
    }
    Ok(page.finish())
}

/// The names of all views that have a checkpoint, even a damaged one.
pub(crate) fn list_views(disk: &Disk) -> Result<Vec<String>> {
    let mut views = Vec::new();
    let mut cursor = disk.cursor(Family::Checkpoints, &[], Direction::Forward)?;
    while let Some((key, _)) = cursor.next()? {
        let name = str::from_utf8(key).map_err(|_| Family::Checkpoints.bad_key(key))?;
        views.push(name.to_owned());
    }
    Ok(views)
}

/// The snapshots that could not be read: the version, if it is known, and the error.
type Unreadable = Vec<(Option<Version>, Error)>;

/// The newest readable snapshot at or below a version, and the unreadable ones that were skipped.
pub(crate) fn load_snapshot(
    disk: &Disk,
    (kind, stream, up_to): (&str, &StreamId, Version),
) -> Result<(Option<Snapshot>, Unreadable)> {
    let from = snapshot_prefix(kind, stream.as_str());
    let mut to = snapshot_key(kind, stream.as_str(), up_to);
    to.push(0);
    let mut skipped = Vec::new();
    let mut cursor = disk.range_cursor(Family::Snapshots, &from..&to, Direction::Backward);
    loop {
        let (key, record) = match cursor.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok((None, skipped)),
            // A snapshot is only a cache: if a range of them is damaged, the history remains.
            Err(damage @ Error::Corruption { .. }) => {
                skipped.push((None, damage));
                return Ok((None, skipped));
            }
            Err(error) => return Err(error),
        };
        let Some(parts) = snapshot_of(key) else {
            skipped.push((None, Family::Snapshots.bad_key(key)));
            continue;
        };
        match decode_snapshot(key, parts, record) {
            Ok(snapshot) => return Ok((Some(snapshot), skipped)),
            Err(malformed) => {
                let location = location_of(Family::Snapshots, key);
                skipped.push((Some(parts.2), malformed.at(location)));
            }
        }
    }
}

/// The location of a record, for an error.
pub(crate) fn location_of(family: Family, key: &[u8]) -> Location {
    match view_of(key).filter(|_| family == Family::Views) {
        Some((view, key)) => Location::View { view: view.to_owned(), key: key.to_vec() },
        None => Location::Key { family: family.name(), key: key.to_vec() },
    }
}
