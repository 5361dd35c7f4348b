//! [`ViewWriter`]: lets a handler read and change its read model.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builds::{parse_value_key, prefix_under, projection_of, value_key};
use super::key::ViewKey;
use super::stage::Stage;
use crate::codec::{Json, encode_readable};
use crate::error::{Cause, Error, Result};
use crate::model::limits::VIEW_VALUE_LEN_MAX;
use crate::model::{LimitExceeded, quoted};

/// Reads and changes a read model while events are handled. Later reads see a change at once. All
/// changes of a batch are written atomically with the checkpoint (G12). If the handler fails, the
/// changes of its event are dropped.
///
/// Values are stored as JSON.
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
    /// [`Error::ViewValue`] if the value is not a `V`; a key that is too long; an error of the
    /// store.
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
    /// [`Error::ViewValue`]: the value has no JSON form that can be decoded, or is longer than
    /// [`VIEW_VALUE_LEN_MAX`]; the error names the view and the key.
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

    /// Changes the value of a key in place. `change` starts with the default value if there is
    /// none.
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

    /// Deletes a key, if it exists. A key that is too long deletes nothing, because no entry can
    /// have it.
    pub fn delete(&mut self, key: impl TryInto<ViewKey>) {
        if let Ok(key) = key.try_into() {
            self.stage.set(value_key(&key), None);
        }
    }

    /// All entries under this key: those whose keys have further parts after it, in order.
    ///
    /// # Errors
    /// Those of [`ViewWriter::get`].
    ///
    /// # Cost
    /// Reads all of them into memory: meant for few entries.
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

/// Decodes a value of a view.
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
