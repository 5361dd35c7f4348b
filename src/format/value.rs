//! Values of the application in bincode: what the codec of that name writes into payloads.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CONFIG;
use crate::error::Cause;

/// More bytes than the value needs.
#[derive(Debug, thiserror::Error)]
#[error("bytes are left over after the value: {0}")]
struct LeftOver(usize);

pub(crate) fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(Cause::new)
}

pub(crate) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Cause> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG).map_err(Cause::new)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(Cause::new(LeftOver(left))),
    }
}
