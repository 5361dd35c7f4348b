//! [`RowFilter`] removes rows that are no longer needed while RocksDB compacts a family.

use std::ffi::CStr;
use std::sync::Arc;

use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

/// Whether a row, given as key and value, may be removed. Readers must already ignore such a row,
/// because it is removed at any time, or not at all.
#[derive(Clone)]
pub(crate) struct RowFilter(Arc<IsObsolete>);

type IsObsolete = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync;

impl RowFilter {
    pub(crate) fn new(is_obsolete: impl Fn(&[u8], &[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_obsolete))
    }
}

const NAME: &CStr = c"annals.expired-keys";

impl CompactionFilterFactory for RowFilter {
    type Filter = Self;

    fn create(&mut self, _: CompactionFilterContext) -> Self {
        self.clone()
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

impl CompactionFilter for RowFilter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        if (self.0)(key, value) { CompactionDecision::Remove } else { CompactionDecision::Keep }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}
