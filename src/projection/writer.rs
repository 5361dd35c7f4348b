//! [`ViewWriter`]: the read model as a handler sees and changes it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builds::{parse_value_key, prefix_under, projection_of, value_key};
use super::key::ViewKey;
use super::stage::Stage;
use crate::codec::{Json, encode_readable};
use crate::error::{Cause, Error, Result};
use crate::model::limits::VIEW_VALUE_LEN_MAX;
use crate::model::{LimitExceeded, quoted};

/// A read model while events are handled. What is put or deleted is seen by later reads at once,
/// and written together with the checkpoint when the batch ends: all of it or nothing (G12). If the
/// handler fails, nothing of the event stays.
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
    /// [`Error::ViewValue`] if it is not a `V`; a key that is too long; what the store finds.
    pub fn get<V: DeserializeOwned>(
        &mut self,
        key: impl TryInto<ViewKey, Error: Into<Error>>,
    ) -> Result<Option<V>> {
        let key = ViewKey::new(key)?;
        let value = self.stage.get(&value_key(&key))?;
        value.map(|value| decode(projection_of(self.stage.view()), &key, &value)).transpose()
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`Error::ViewValue`] names view and key: the value has no JSON form that decodes, or is
    /// longer than [`VIEW_VALUE_LEN_MAX`].
    /// [`InvalidArgument::ViewKeyTooLong`](crate::InvalidArgument). The view is not changed.
    pub fn put<V: Serialize + DeserializeOwned>(
        &mut self,
        key: impl TryInto<ViewKey, Error: Into<Error>>,
        value: &V,
    ) -> Result<()> {
        let key = ViewKey::new(key)?;
        let refused = |cause: Cause| Error::ViewValue {
            view: projection_of(self.stage.view()).to_owned(),
            key: quoted(&key.to_string()),
            cause,
        };
        let encoded = encode_readable::<Json, V>(value).map_err(refused)?;
        LimitExceeded::check("view_value_len_max", VIEW_VALUE_LEN_MAX, encoded.len())
            .map_err(|cause| refused(Cause::new(cause)))?;
        self.stage.set(value_key(&key), Some(encoded));
        Ok(())
    }

    /// Sets the value of a key to what `change` makes of the present one, or of the default where
    /// there is none.
    ///
    /// # Errors
    /// Those of [`ViewWriter::get`] and [`ViewWriter::put`].
    pub fn update<V: Serialize + DeserializeOwned + Default>(
        &mut self,
        key: impl TryInto<ViewKey, Error: Into<Error>>,
        change: impl FnOnce(&mut V),
    ) -> Result<()> {
        let key = ViewKey::new(key)?;
        let mut value = self.get::<V>(&key)?.unwrap_or_default();
        change(&mut value);
        self.put(&key, &value)
    }

    /// Deletes a key, if it is there. No entry has a key that is too long, so nothing is deleted
    /// then.
    pub fn delete(&mut self, key: impl TryInto<ViewKey>) {
        if let Ok(key) = key.try_into() {
            self.stage.set(value_key(&key), None);
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
        key: impl TryInto<ViewKey, Error: Into<Error>>,
    ) -> Result<Vec<(ViewKey, V)>> {
        let prefix = prefix_under(&ViewKey::new(key)?);
        let view = projection_of(self.stage.view()).to_owned();
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
