//! Reading what lies beside the log: snapshots, checkpoints, views. Every record is checked before it is used.

use std::fmt;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::event_store::Direction;
use crate::format::{
    decode_checkpoint, decode_record, decode_snapshot, snapshot_key, snapshot_of, snapshot_prefix,
    view_key, view_of, view_prefix,
};
use crate::model::{StreamId, Version};
use crate::snapshot_store::Snapshot;
use crate::storage::{Disk, Family};
use crate::view_store::{Checkpoint, PageFiller, ViewPage, ViewScan, prefix_end};

/// How far a view is.
pub(crate) fn checkpoint(disk: &Disk, view: &str) -> Result<Option<Checkpoint>> {
    let key = view.as_bytes();
    let Some(record) = disk.get(Family::Checkpoints, key)? else { return Ok(None) };
    read_checkpoint(key, &record).map(Some)
}

fn read_checkpoint(key: &[u8], record: &[u8]) -> Result<Checkpoint> {
    decode_checkpoint(key, record)
        .map_err(|malformed| malformed.at(Under(Family::Checkpoints, key).to_string()))
}

/// The value of a key of a view.
pub(crate) fn view_value(disk: &Disk, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let key = view_key(view, key);
    let Some(record) = disk.get(Family::Views, &key)? else { return Ok(None) };
    read_value(&key, &record).map(|value| Some(value.to_vec()))
}

fn read_value<'r>(key: &[u8], record: &'r [u8]) -> Result<&'r [u8]> {
    decode_record(key, record)
        .map_err(|malformed| malformed.at(Under(Family::Views, key).to_string()))
}

/// A page of a view.
pub(crate) fn scan_view(disk: &Disk, scan: &ViewScan) -> Result<ViewPage> {
    let (from, to) = scan.key_range();
    let from = view_key(&scan.view, &from);
    let to = match to {
        Some(to) => view_key(&scan.view, &to),
        // A name and its end: there is always a key behind.
        None => prefix_end(&view_prefix(&scan.view)).unwrap_or_default(),
    };
    let mut page = PageFiller::new(scan.entries_max);
    let mut damage = None;
    disk.scan_range(Family::Views, &from..&to, scan.direction, |key, record| {
        if page.is_full() {
            return ControlFlow::Break(());
        }
        let entry = read_value(key, record).and_then(|value| match view_of(key) {
            Some((_, key)) => Ok((key, value)),
            None => Err(bad_key(Family::Views, key)),
        });
        match entry {
            Ok((key, value)) => page.push(key, value),
            Err(error) => {
                damage = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    match damage {
        Some(error) => Err(error),
        None => Ok(page.finish()),
    }
}

/// The names of all views that have a checkpoint, sound or damaged.
pub(crate) fn list_views(disk: &Disk) -> Result<Vec<String>> {
    let mut views = Ok(Vec::new());
    disk.scan(Family::Checkpoints, &[], Direction::Forward, |key, _| {
        let Ok(list) = &mut views else { return ControlFlow::Break(()) };
        match str::from_utf8(key).map_err(|_| bad_key(Family::Checkpoints, key)) {
            Ok(name) => {
                list.push(name.to_owned());
                ControlFlow::Continue(())
            }
            Err(error) => {
                views = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    views
}

/// Versions of snapshots that cannot be read, where that can be told, and why.
type Unreadable = Vec<(Option<Version>, Error)>;

/// The newest snapshot at or below a version that can be read, and what was passed over on the way to it.
pub(crate) fn load_snapshot(
    disk: &Disk,
    (kind, stream, up_to): (&str, &StreamId, Version),
) -> Result<(Option<Snapshot>, Unreadable)> {
    let from = snapshot_prefix(kind, stream.as_str());
    let mut to = snapshot_key(kind, stream.as_str(), up_to);
    to.push(0);
    let (mut newest, mut passed_over) = (None, Vec::new());
    let scanned =
        disk.scan_range(Family::Snapshots, &from..&to, Direction::Backward, |key, record| {
            let Some(parts) = snapshot_of(key) else {
                passed_over.push((None, bad_key(Family::Snapshots, key)));
                return ControlFlow::Continue(());
            };
            match decode_snapshot(key, parts, record) {
                Ok(snapshot) => {
                    newest = Some(snapshot);
                    return ControlFlow::Break(());
                }
                Err(malformed) => {
                    let place = Under(Family::Snapshots, key).to_string();
                    passed_over.push((Some(parts.2), malformed.at(place)));
                }
            }
            ControlFlow::Continue(())
        });
    match scanned {
        // A snapshot is a cache: where a whole stretch cannot be read, the history can.
        Err(damage @ Error::Corruption { .. }) => passed_over.push((None, damage)),
        scanned => scanned?,
    }
    Ok((newest, passed_over))
}

/// The place of a record, for people.
pub(crate) struct Under<'k>(pub(crate) Family, pub(crate) &'k [u8]);

impl fmt::Display for Under<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(family, key) = self;
        match view_of(key).filter(|_| *family == Family::Views) {
            Some((view, key)) => {
                write!(out, "family views, view {view}, key {}", key.escape_ascii())
            }
            None => write!(out, "family {}, key {}", family.name(), key.escape_ascii()),
        }
    }
}

pub(crate) fn bad_key(family: Family, key: &[u8]) -> Error {
    let place = Under(family, key).to_string();
    Error::corruption(place, "a key that means nothing", "the key of a record")
}
