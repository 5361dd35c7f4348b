//! Encodes and decodes values of the application as bincode, for the codec of that name.

use bincode::config::{Configuration, Limit, standard};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Cause;
use crate::model::limits::SNAPSHOT_STATE_LEN_MAX;

/// bincode allocates memory for a text by the length that the bytes claim, up to a limit that must
/// be a constant. Therefore there are several limits, and the length of the bytes selects one.
const SMALL: usize = 64 << 10;
const MEDIUM: usize = 4 << 20;
/// How many bytes bincode may count for one encoded byte: an integer of 128 bits may take one byte.
const COUNTED_MAX: usize = 16;

/// Bytes remained after the value. The field is their number.
#[derive(Debug, thiserror::Error)]
#[error("bytes are left over after the value: {0}")]
struct LeftOver(usize);

pub(crate) fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, Cause> {
    bincode::serde::encode_to_vec(value, standard()).map_err(|error| match error {
        EncodeError::OtherString(text) => plain(text),
        error => Cause::new(error),
    })
}

/// Decodes a value from all these bytes. It allocates at most sixteen times the first of these
/// sizes that the bytes fit in: [`SMALL`], [`MEDIUM`], or the largest state of a snapshot.
pub(crate) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Cause> {
    let decoded = if bytes.len() <= SMALL {
        decode_within::<T, { COUNTED_MAX * SMALL }>(bytes)
    } else if bytes.len() <= MEDIUM {
        decode_within::<T, { COUNTED_MAX * MEDIUM }>(bytes)
    } else {
        decode_within::<T, { COUNTED_MAX * SNAPSHOT_STATE_LEN_MAX }>(bytes)
    };
    let (value, used) = decoded.map_err(|error| match error {
        DecodeError::OtherString(text) => plain(text),
        error => Cause::new(error),
    })?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(Cause::new(LeftOver(left))),
    }
}

/// The error text of a type's own serde code: bincode would quote it within an error of its own.
fn plain(text: String) -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(text))
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<(T, usize), DecodeError> {
    let config: Configuration<_, _, Limit<LIMIT>> = standard().with_limit::<LIMIT>();
    bincode::serde::decode_from_slice(bytes, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_an_impossible_length_is_refused() {
        for len in
            [&[0xfc, 0xff, 0xff, 0xff, 0xff][..], &[0xfd; 9], &[0xfd, 0, 0, 0, 0, 0, 0, 0, 8]]
        {
            for after in [0, SMALL, MEDIUM] {
                let hostile = [len, &vec![b'a'; after]].concat();
                assert!(decode_value::<String>(&hostile).is_err());
                assert!(decode_value::<Vec<String>>(&[&[1], &*hostile].concat()).is_err());
            }
        }
    }

    #[test]
    fn encoded_values_decode_within_the_length_limit() {
        for count in [0, 1, SMALL - 3, SMALL, MEDIUM - 5, MEDIUM, MEDIUM + 1] {
            let dense = vec![7_u128; count];
            let bytes = encode_value(&dense).unwrap();
            assert!(bytes.len() <= count + 5);
            assert!(decode_value::<Vec<u128>>(&bytes).unwrap() == dense);
            let text = "a".repeat(count);
            assert!(decode_value::<String>(&encode_value(&text).unwrap()).unwrap() == text);
        }
    }
}
