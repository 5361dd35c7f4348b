//! [`ViewWriter`]: the read model as a handler sees and changes it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::ViewKey;
use super::names::{parse_value_key, value_key};
use super::stage::Stage;
use crate::codec::{Json, encode_readable};
use crate::error::{Cause, Error, Result};
use crate::model::LimitExceeded;
use crate::model::limits::{VIEW_KEY_LEN_MAX, VIEW_VALUE_LEN_MAX};

/// A read model while events are handled. What is put or deleted is seen by later reads at once, and written together
/// with the checkpoint when the batch ends: all of it or nothing (G12). If the handler fails, nothing of the event
/// stays.
///
/// Values are kept as JSON.
pub struct ViewWriter {
    pub(super) stage: Stage,
}

impl ViewWriter {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::ViewValue`] if it is not a `V`; what the store finds.
    pub fn get<V: DeserializeOwned>(&mut self, key: impl Into<ViewKey>) -> Result<Option<V>> {
        let key = key.into();
        let value = self.stage.get(&value_key(&key))?;
        value.map(|value| decode(self.stage.view(), &key, &value)).transpose()
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`Error::ViewValue`] if it has no JSON form that decodes, [`Error::LimitExceeded`] if key or value are too large
    /// for a [`ViewStore`](crate::ViewStore).
    pub fn put<V: Serialize + DeserializeOwned>(
        &mut self,
        key: impl Into<ViewKey>,
        value: &V,
    ) -> Result<()> {
        let key = key.into();
        let encoded = encode_readable::<Json, V>(value).map_err(|cause| Error::ViewValue {
            view: self.stage.view().to_string(),
            key: key.to_string(),
            cause,
        })?;
        let key = value_key(&key);
        LimitExceeded::check("view_key_len_max", VIEW_KEY_LEN_MAX, key.len())?;
        LimitExceeded::check("view_value_len_max", VIEW_VALUE_LEN_MAX, encoded.len())?;
        self.stage.set(key, Some(encoded));
        Ok(())
    }

    /// Sets the value of a key to what `change` makes of the present one, or of the default where there is none.
    ///
    /// # Errors
    /// Those of [`ViewWriter::get`] and [`ViewWriter::put`].
    pub fn update<V: Serialize + DeserializeOwned + Default>(
        &mut self,
        key: impl Into<ViewKey>,
        change: impl FnOnce(&mut V),
    ) -> Result<()> {
        let key = key.into();
        let mut value = self.get::<V>(&key)?.unwrap_or_default();
        change(&mut value);
        self.put(&key, &value)
    }

    /// Takes a key away, if it is there.
    pub fn delete(&mut self, key: impl Into<ViewKey>) {
        let key = value_key(&key.into());
        // No longer one can have been put.
        if key.len() <= VIEW_KEY_LEN_MAX {
            self.stage.set(key, None);
        }
    }

    /// All entries below this key: those whose keys have further parts after it, in order.
    ///
    /// # Errors
    /// Those of [`ViewWriter::get`].
    ///
    /// # Cost
    /// Reads them all into memory: meant for few.
    pub fn entries_under<V: DeserializeOwned>(
        &mut self,
        key: impl Into<ViewKey>,
    ) -> Result<Vec<(ViewKey, V)>> {
        let prefix = value_key(&key.into().then(""));
        let view = self.stage.view().clone();
        let entries = self.stage.scan(&prefix)?.into_iter();
        let entries = entries.filter_map(|(key, value)| Some((parse_value_key(&key)?, value)));
        entries
            .map(|(key, value)| {
                let value = decode(&view, &key, &value)?;
                Ok((key, value))
            })
            .collect()
    }
}

/// Reads a value of a view.
pub(super) fn decode<V: DeserializeOwned>(view: &str, key: &ViewKey, value: &[u8]) -> Result<V> {
    serde_json::from_slice(value).map_err(|cause| Error::ViewValue {
        view: view.to_owned(),
        key: key.to_string(),
        cause: Cause::new(cause),
    })
}

impl std::fmt::Debug for ViewWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ViewWriter").field("view", &self.stage.view()).finish_non_exhaustive()
    }
}
