//! How a value becomes the bytes of a payload: [`Codec`], and the codecs that come with annals.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Cause;
use crate::format::{decode_value, encode_value};
use crate::model::ContentType;

/// Turns values into payloads and back. [`Json`] and [`Bincode`] are there; for another format implement it:
///
/// ```
/// use annals::{Cause, Codec, ContentType};
///
/// /// JSON that people can read.
/// struct Pretty;
///
/// impl Codec for Pretty {
///     fn content_type() -> ContentType {
///         ContentType::JSON
///     }
///     fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
///         serde_json::to_vec_pretty(value).map_err(Cause::new)
///     }
///     fn decode<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Cause> {
///         serde_json::from_slice(payload).map_err(Cause::new)
///     }
/// }
/// assert_eq!(Pretty::encode(&[1])?, b"[\n  1\n]");
/// # Ok::<(), Cause>(())
/// ```
pub trait Codec {
    /// What is stored beside the payload, so that a reader knows what its bytes are.
    fn content_type() -> ContentType;

    /// The value as bytes.
    ///
    /// # Errors
    /// The value has no such form.
    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause>;

    /// The value of these bytes, all of them.
    ///
    /// # Errors
    /// They are not those of such a value.
    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Cause>;
}

/// JSON: the default. Fields have names, so a new optional one (`#[serde(default)]`) needs no new schema version.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    fn content_type() -> ContentType {
        ContentType::JSON
    }

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
        serde_json::to_vec(value).map_err(Cause::new)
    }

    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Cause> {
        serde_json::from_slice(payload).map_err(Cause::new)
    }
}

/// bincode 2 in its standard configuration: small and fast, but without names. Any change of the fields, their order
/// or their types needs a new schema version.
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

impl Codec for Bincode {
    fn content_type() -> ContentType {
        ContentType::BINCODE
    }

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
        encode_value(value)
    }

    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Cause> {
        decode_value(payload)
    }
}
