//! Looks up idempotency keys.

use crate::error::{Location, Result};
use crate::event_store::{Direction, KeyedResult};
use crate::format::{KEYS_RECORD, KeyCount, decode_key_count, decode_key_record};
use crate::keys::{KeyExpiry, KeyRecord};
use crate::model::{IdempotencyKey, Position};
use crate::storage::{Disk, Family};

/// The count of the keys, as recorded with the last one.
pub(crate) fn key_count(disk: &Disk) -> Result<KeyCount> {
    let location = || Location::Key { family: Family::Meta.name(), key: KEYS_RECORD.to_vec() };
    match disk.get(Family::Meta, KEYS_RECORD)? {
        Some(record) => decode_key_count(&record).map_err(|malformed| malformed.at(location())),
        None => Ok(KeyCount::default()),
    }
}

/// A key as a lookup finds it.
pub(crate) enum Lookup {
    /// Its result; `None` if it is not recorded, or has expired.
    Done(Option<KeyedResult>),
    /// It is on disk, but its commit is not published yet, and may still fail.
    Unpublished,
}

/// The result that is recorded for a request.
pub(crate) fn find_submitted(
    disk: &Disk,
    key: &IdempotencyKey,
    expiry: &KeyExpiry,
) -> Result<Lookup> {
    // Taken before the record is read: a record with a later number may not be published yet.
    let last = expiry.last();
    let name = key.name().as_bytes();
    let Some(bytes) = disk.get(Family::Keys, name)? else { return Ok(Lookup::Done(None)) };
    let record = decode(name, &bytes)?;
    if record.age.number > last {
        return Ok(Lookup::Unpublished);
    }
    record.result_for(key, expiry).map(Lookup::Done)
}

/// Decodes a row of `keys`.
pub(crate) fn decode(name: &[u8], bytes: &[u8]) -> Result<KeyRecord> {
    let location = || Location::Key { family: Family::Keys.name(), key: name.to_vec() };
    decode_key_record(name, bytes).map_err(|malformed| malformed.at(location()))
}

/// The names of the keys that are past the end: by their number, or by the position of an event.
pub(crate) fn keys_after(
    disk: &Disk,
    head: Option<Position>,
    last_key: u64,
) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut cursor = disk.cursor(Family::Keys, &[], Direction::Forward)?;
    while let Some((name, bytes)) = cursor.next()? {
        // Verify reports a damaged record.
        let Ok(record) = decode(name, bytes) else { continue };
        let last = match &record.result {
            KeyedResult::Appended(appended) => Some(appended.last_position()),
            KeyedResult::Nothing | KeyedResult::Rejected(_) => None,
        };
        if last > head || record.age.number > last_key {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
