//! Keys that sort as what they mean.

use crate::model::{Position, Version};

/// Ends a stream id within a key. Ids hold no control characters, so no key is a prefix of another stream's, and ids
/// sort as text.
const END_OF_ID: u8 = 0;

/// Key in `events`: the first position of the frame.
pub(crate) fn log_key(first: Position) -> [u8; 8] {
    first.get().to_be_bytes()
}

/// What [`log_key`] wrote.
pub(crate) fn parse_log_key(key: &[u8]) -> Option<Position> {
    Position::new(u64::from_be_bytes(key.try_into().ok()?))
}

/// What all keys of one stream begin with.
pub(crate) fn stream_prefix(stream: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + 1 + size_of::<u64>());
    key.extend_from_slice(stream.as_bytes());
    key.push(END_OF_ID);
    key
}

/// Key in `streams`: the stream id, a 0 byte, the first version of the frame.
pub(crate) fn stream_key(stream: &str, first: Version) -> Vec<u8> {
    let mut key = stream_prefix(stream);
    key.extend_from_slice(&first.get().to_be_bytes());
    key
}

/// What [`stream_key`] wrote.
pub(crate) fn stream_of(key: &[u8]) -> Option<(&str, Version)> {
    let (prefix, version) = key.split_last_chunk::<8>()?;
    let (end, id) = prefix.split_last()?;
    if *end != END_OF_ID || id.contains(&END_OF_ID) {
        return None;
    }
    Some((std::str::from_utf8(id).ok()?, Version::new(u64::from_be_bytes(*version))?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes on disk, frozen for format version 1.
    #[test]
    fn keys_are_the_bytes_that_the_format_says() {
        assert_eq!(log_key(Position::new(0x0102).unwrap()), [0, 0, 0, 0, 0, 0, 1, 2]);
        let key = stream_key("ä-1", Version::new(258).unwrap());
        assert_eq!(key, [0xc3, 0xa4, b'-', b'1', 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn stream_keys_sort_by_id_then_version_and_are_read_again(
            a in "[a-cé日 -]{1,4}", b in "[a-cé日 -]{1,4}", v in 1..u64::MAX, w in 1..u64::MAX
        ) {
            let (v, w) = (Version::new(v).unwrap(), Version::new(w).unwrap());
            let (left, right) = (stream_key(&a, v), stream_key(&b, w));
            prop_assert_eq!(left.cmp(&right), (a.as_str(), v).cmp(&(b.as_str(), w)));
            prop_assert_eq!(stream_of(&left), Some((a.as_str(), v)));
        }

        #[test]
        fn any_bytes_are_read_as_a_key_or_refused(bytes: Vec<u8>) {
            if let Some((stream, version)) = stream_of(&bytes) {
                prop_assert_eq!(stream_key(stream, version), bytes);
            }
        }
    }
}
