//! Checks the records next to the events: each must be intact and under its own key.

use super::{Page, Verifier};
use crate::error::Result;
use crate::format::{
    KEYS_RECORD, Malformed, decode_checkpoint, decode_key_count, decode_key_record, decode_record,
    decode_snapshot, snapshot_of, view_of,
};
use crate::read::derived::location_of;
use crate::storage::Family;

impl Verifier<'_> {
    /// Walks all families of records. They may change meanwhile, so each record is checked alone.
    pub(super) fn walk_records(&mut self) -> Result<()> {
        self.walk_family(Family::Meta, |key, record| match key {
            KEYS_RECORD => decode_key_count(record).map(drop).into(),
            _ => decode_record(key, record).map(drop).into(),
        })?;
        self.report.idempotency_keys = self.walk_family(Family::Keys, |key, record| {
            decode_key_record(key, record).map(drop).into()
        })?;
        self.report.snapshots = self.walk_family(Family::Snapshots, |key, record| {
            let Some(parts) = snapshot_of(key) else { return Judged::BadKey };
            decode_snapshot(key, parts, record).map(drop).into()
        })?;
        self.report.views = self.walk_family(Family::Checkpoints, |key, record| {
            if std::str::from_utf8(key).is_err() {
                return Judged::BadKey;
            }
            decode_checkpoint(key, record).map(drop).into()
        })?;
        self.report.view_entries = self.walk_family(Family::Views, |key, record| {
            if view_of(key).is_none() {
                return Judged::BadKey;
            }
            decode_record(key, record).map(drop).into()
        })?;
        Ok(())
    }

    /// Checks every record of a family; returns how many are intact.
    fn walk_family(
        &mut self,
        family: Family,
        judge: impl Fn(&[u8], &[u8]) -> Judged,
    ) -> Result<u64> {
        let (mut from, mut right) = (Vec::new(), 0);
        loop {
            let Page { entries, unreadable, is_last } = self.page(family, &from)?;
            for (key, record) in &entries {
                match judge(key, record) {
                    Judged::Right => right += 1,
                    Judged::BadKey => self.note_error(family.bad_key(key), None)?,
                    Judged::Malformed(malformed) => {
                        let location = location_of(family, key);
                        self.note_undecodable(malformed.at(location.clone()), location, None)?;
                    }
                }
            }
            if let Some(error) = unreadable {
                self.note_error(error, None)?;
            }
            match entries.into_iter().next_back() {
                // The next possible key.
                Some((mut last, _)) if !is_last => {
                    last.push(0);
                    from = last;
                }
                _ => return Ok(right),
            }
        }
    }
}

/// The result of checking a record.
enum Judged {
    Right,
    BadKey,
    Malformed(Malformed),
}

impl From<std::result::Result<(), Malformed>> for Judged {
    fn from(decoded: std::result::Result<(), Malformed>) -> Self {
        decoded.map_or_else(Self::Malformed, |()| Self::Right)
    }
}
