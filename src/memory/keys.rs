//! [`Keys`]: the idempotency keys of a [`MemoryStore`](crate::MemoryStore).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::error::Result;
use crate::event_store::KeyedResult;
use crate::keys::{KeyAge, KeyExpiry, KeyRecord};
use crate::model::{IdempotencyKey, KeyRetention};

/// Recorded keys by name.
pub(super) struct Keys {
    expiry: KeyExpiry,
    records: HashMap<Arc<str>, KeyRecord>,
    /// Names and ages, in the order in which they were recorded.
    order: VecDeque<(Arc<str>, KeyAge)>,
}

impl Keys {
    pub(super) fn new(retention: KeyRetention) -> Self {
        let expiry = KeyExpiry::start(retention, true);
        Self { expiry, records: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn find(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        let record = self.records.get(key.name());
        record.map_or(Ok(None), |record| record.result_for(key, &self.expiry))
    }

    pub(super) fn record(&mut self, key: &IdempotencyKey, result: KeyedResult) {
        let age = KeyAge { number: self.expiry.last() + 1, recorded_at: self.expiry.now() };
        let record = KeyRecord { age, digest: key.digest(), result };
        self.records.insert(key.name().clone(), record);
        self.order.push_back((key.name().clone(), age));
        self.expiry.publish(age.number);
        while self.order.front().is_some_and(|(_, age)| self.expiry.is_expired(*age)) {
            let Some((name, age)) = self.order.pop_front() else { break };
            // The key may have been recorded again since.
            if self.records.get(&name).is_some_and(|record| record.age == age) {
                self.records.remove(&name);
            }
        }
    }
}
