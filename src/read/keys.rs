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

/// The result that is recorded for a request; `None` if its key is not recorded, has expired, or
/// is not published yet.
pub(crate) fn find_result(
    disk: &Disk,
    key: &IdempotencyKey,
    expiry: &KeyExpiry,
) -> Result<Option<KeyedResult>> {
    // Taken before the record is read: a record with a later number may not be published yet.
    let last = expiry.last();
    let name = key.name().as_bytes();
    let Some(bytes) = disk.get(Family::Keys, name)? else { return Ok(None) };
    let record = decode(name, &bytes)?;
    if record.age.number > last { Ok(None) } else { record.result_for(key, expiry) }
}

/// Decodes a row of `keys`.
pub(crate) fn decode(name: &[u8], bytes: &[u8]) -> Result<KeyRecord> {
    let location = || Location::Key { family: Family::Keys.name(), key: name.to_vec() };
    decode_key_record(name, bytes).map_err(|malformed| malformed.at(location()))
}

/// The names of the keys whose events are past the end of the log, because the log has lost them.
pub(crate) fn keys_after(disk: &Disk, head: Option<Position>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut cursor = disk.cursor(Family::Keys, &[], Direction::Forward)?;
    while let Some((name, bytes)) = cursor.next()? {
        if let KeyedResult::Appended(appended) = decode(name, bytes)?.result
            && Some(appended.last_position()) > head
        {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
