//! [`Rows`]: changes of rows that deletions make, next to the events of a submission or alone.

use crate::model::{Position, StreamId};
use crate::storage::{Batch, Family};
use crate::validate::LastEvent;

/// Changes of rows: first ranges and rows are deleted, then rows are put.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    ranges: Vec<(Family, Vec<u8>, Vec<u8>)>,
    deletes: Vec<(Family, Vec<u8>)>,
    puts: Vec<(Family, Vec<u8>, Vec<u8>)>,
}

impl Rows {
    /// Deletes the rows from the first key on and below the second one.
    pub(crate) fn delete_range(&mut self, family: Family, first: Vec<u8>, end: Vec<u8>) {
        self.ranges.push((family, first, end));
    }

    pub(crate) fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.deletes.push((family, key));
    }

    pub(crate) fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.puts.push((family, key, value));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.ranges.extend(other.ranges);
        self.deletes.extend(other.deletes);
        self.puts.extend(other.puts);
    }

    /// About how many bytes they add to a batch.
    pub(crate) fn len(&self) -> usize {
        let ranges = self.ranges.iter().map(|(_, first, end)| first.len() + end.len() + 8);
        let deletes = self.deletes.iter().map(|(_, key)| key.len() + 8);
        let puts = self.puts.iter().map(|(_, key, value)| key.len() + value.len() + 8);
        ranges.chain(deletes).chain(puts).sum()
    }

    /// The bytes of the rows that are put.
    pub(super) fn put_len(&self) -> usize {
        self.puts.iter().map(|(_, key, value)| key.len() + value.len()).sum()
    }

    pub(super) fn add_to(&self, batch: &mut Batch<'_>) {
        for (family, first, end) in &self.ranges {
            batch.delete_range(*family, first..end);
        }
        for (family, key) in &self.deletes {
            batch.delete(*family, key);
        }
        for (family, key, value) in &self.puts {
            batch.put(*family, key, value);
        }
    }
}

/// What a decided deletion changes together with its event.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) rows: Rows,
    /// The last events of the streams that end with a hole.
    pub(crate) tips: Vec<(StreamId, LastEvent)>,
    /// The highest position whose event no longer matches what it matched before.
    pub(crate) up_to: Option<Position>,
}
