//! How far deletions are carried out, and the retentions that are set.

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    DELETIONS_RECORD, Deletions, Malformed, RETENTION_PREFIX, decode_deletions, decode_retention,
    retention_of,
};
use crate::model::{Retention, RetentionScope};
use crate::storage::{Disk, Family};
use crate::view_store::prefix_end;

fn at(key: &[u8]) -> impl Fn(Malformed) -> Error {
    move |malformed| malformed.at(Location::Key { family: Family::Meta.name(), key: key.to_vec() })
}

/// How far deletions are carried out.
pub(crate) fn deletions(disk: &Disk) -> Result<Deletions> {
    let record = disk.get(Family::Meta, DELETIONS_RECORD)?;
    let decoded = record.map(|record| decode_deletions(&record).map_err(at(DELETIONS_RECORD)));
    Ok(decoded.transpose()?.unwrap_or_default())
}

/// All retentions, in the order of their scopes.
pub(crate) fn retentions(disk: &Disk) -> Result<Vec<(RetentionScope, Retention)>> {
    let mut found = Vec::new();
    let end = prefix_end(RETENTION_PREFIX).unwrap_or_default();
    let mut cursor = disk.range_cursor(Family::Meta, RETENTION_PREFIX..&end, Direction::Forward);
    while let Some((key, record)) = cursor.next()? {
        let scope = retention_of(key).ok_or_else(|| Family::Meta.bad_key(key))?;
        found.push((scope, decode_retention(key, record).map_err(at(key))?));
    }
    Ok(found)
}
