//! [`Codec`] turns a value into the bytes of a payload; [`Json`] and [`Bincode`] are the built-in
//! codecs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::binary::{decode_value, encode_value};
use super::strict::{Loss, Strict};
use crate::error::Cause;
use crate::model::ContentType;

/// Encodes values as payloads, and decodes them. [`Json`] and [`Bincode`] are built in; for another
/// format, implement this trait:
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
    /// The content type, which is stored next to the payload, so that a reader knows its format.
    fn content_type() -> ContentType;

    /// Encodes a value.
    ///
    /// # Errors
    /// The format cannot represent the value.
    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause>;

    /// Decodes a value from all these bytes.
    ///
    /// # Errors
    /// They are not exactly one encoded value of this type.
    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Cause>;
}

/// JSON, the default codec. Fields have names, so a new optional field (`#[serde(default)]`) needs
/// no new schema version.
///
/// A number that is not finite is rejected, because JSON would store `null`. `Some(None)` of an
/// `Option<Option<T>>` is also stored as `null`, but is not rejected:
/// [`Scenario`](crate::testing::Scenario) detects such a field.
///
/// ```
/// use annals::{Codec, Json};
/// let refused = Json::encode(&Some(f64::INFINITY)).unwrap_err();
/// assert!(refused.to_string().contains("JSON cannot store"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    fn content_type() -> ContentType {
        ContentType::JSON
    }

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
        serde_json::to_vec(&Strict::new(value, Loss::NonFinite)).map_err(Cause::new)
    }

    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Cause> {
        serde_json::from_slice(payload).map_err(Cause::new)
    }
}

/// bincode 2 in its standard configuration: small and fast, but without field names. Any change of
/// the fields, their order or their types needs a new schema version.
///
/// A field that `skip_serializing_if` omits is rejected, because the next field would be read in
/// its place. A field with `skip_serializing` alone is omitted without an error: use `skip`, which
/// omits it in both directions.
///
/// ```
/// use annals::{Bincode, Codec};
/// #[derive(serde::Serialize)]
/// struct Paid {
///     #[serde(skip_serializing_if = "Option::is_none")]
///     note: Option<String>,
///     amount: u64,
/// }
/// let refused = Bincode::encode(&Paid { note: None, amount: 7 }).unwrap_err();
/// assert!(refused.to_string().starts_with("field `note` is skipped"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

impl Codec for Bincode {
    fn content_type() -> ContentType {
        ContentType::BINCODE
    }

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
        encode_value(&Strict::new(value, Loss::SkippedField))
    }

    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Cause> {
        decode_value(payload)
    }
}

/// A value was encoded, but the bytes do not decode.
#[derive(Debug, thiserror::Error)]
#[error(
    "it was encoded as {content_type}, but does not decode: {cause}; change its serde attributes or the codec"
)]
struct NotReadBack {
    content_type: ContentType,
    #[source]
    cause: Cause,
}

/// The error for a value whose encoded form does not decode.
pub(super) fn not_read_back(content_type: ContentType, cause: Cause) -> Cause {
    Cause::new(NotReadBack { content_type, cause })
}

/// Encodes a value, and checks that its bytes decode. It does not compare the values.
pub(crate) fn encode_readable<C: Codec, T: Serialize + DeserializeOwned>(
    value: &T,
) -> Result<Vec<u8>, Cause> {
    let bytes = C::encode(value)?;
    match C::decode::<T>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(cause) => Err(not_read_back(C::content_type(), cause)),
    }
}
