//! Keys, whose byte order is the order of what they encode.

use crate::model::{Position, Version};

/// Ends a name within a key. Names contain no control characters, so no stream's key is a prefix of
/// another stream's, the keys of different views do not mix, and names sort as text.
const END_OF_ID: u8 = 0;

/// Key in `packs`: the last position of the pack.
pub fn log_key(last: Position) -> [u8; 8] {
    last.get().to_be_bytes()
}

/// Decodes a key that [`log_key`] encoded.
pub fn parse_log_key(key: &[u8]) -> Option<Position> {
    Position::new(u64::from_be_bytes(key.try_into().ok()?))
}

/// Key in `tail`: the number of the row within the open pack, from 0.
pub fn tail_key(row: u32) -> [u8; 4] {
    row.to_be_bytes()
}

/// The prefix of all keys of one stream in `streams`.
pub fn stream_prefix(stream: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + 1 + size_of::<u64>());
    key.extend_from_slice(stream.as_bytes());
    key.push(END_OF_ID);
    key
}

/// Key in `streams`: the stream id, a 0 byte, the first version of the frame.
pub fn stream_key(stream: &str, first: Version) -> Vec<u8> {
    let mut key = stream_prefix(stream);
    key.extend_from_slice(&first.get().to_be_bytes());
    key
}

/// Decodes a key that [`stream_key`] encoded.
pub fn stream_of(key: &[u8]) -> Option<(&str, Version)> {
    let (prefix, version) = key.split_last_chunk::<8>()?;
    let (end, id) = prefix.split_last()?;
    if *end != END_OF_ID || id.contains(&END_OF_ID) {
        return None;
    }
    Some((std::str::from_utf8(id).ok()?, Version::new(u64::from_be_bytes(*version))?))
}

/// The prefix of all keys of one kind and stream in `snapshots`.
pub fn snapshot_prefix(kind: &str, stream: &str) -> Vec<u8> {
    [kind.as_bytes(), &[END_OF_ID], stream.as_bytes(), &[END_OF_ID]].concat()
}

/// Key in `snapshots`: the kind, a 0 byte, the stream id, a 0 byte, the version.
pub fn snapshot_key(kind: &str, stream: &str, version: Version) -> Vec<u8> {
    let mut key = snapshot_prefix(kind, stream);
    key.extend_from_slice(&version.get().to_be_bytes());
    key
}

/// Decodes a key that [`snapshot_key`] encoded.
pub fn snapshot_of(key: &[u8]) -> Option<(&str, &str, Version)> {
    let (kind, rest) = named(key)?;
    let (stream, version) = stream_of(rest)?;
    Some((kind, stream, version))
}

/// The prefix of all keys of one view in `views`.
pub fn view_prefix(view: &str) -> Vec<u8> {
    [view.as_bytes(), &[END_OF_ID]].concat()
}

/// Key in `views`: the name of the view, a 0 byte, the key within it.
pub fn view_key(view: &str, key: &[u8]) -> Vec<u8> {
    [view.as_bytes(), &[END_OF_ID], key].concat()
}

/// Decodes a key that [`view_key`] encoded.
pub fn view_of(key: &[u8]) -> Option<(&str, &[u8])> {
    named(key).filter(|(_, key)| !key.is_empty())
}

/// Splits a key into its first name and the bytes after the name's end.
fn named(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = key.iter().position(|byte| *byte == END_OF_ID)?;
    let (name, rest) = key.split_at_checked(end)?;
    Some((std::str::from_utf8(name).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of format version 2, frozen once it is released.
    #[test]
    fn keys_have_the_specified_bytes() {
        assert_eq!(log_key(Position::new(0x0102).unwrap()), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(tail_key(0x0102), [0, 0, 1, 2]);
        let key = stream_key("ä-1", Version::new(258).unwrap());
        assert_eq!(key, [0xc3, 0xa4, b'-', b'1', 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        let key = snapshot_key("k", "ä-1", Version::new(258).unwrap());
        assert_eq!(key, [b'k', 0, 0xc3, 0xa4, b'-', b'1', 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(view_key("ä", b"\x00k\xff"), [0xc3, 0xa4, 0, 0, b'k', 0xff]);
    }

    proptest! {
        #[test]
        fn stream_keys_sort_by_id_then_version_and_decode_again(
            a in "[a-cé日 -]{1,4}", b in "[a-cé日 -]{1,4}", v in 1..u64::MAX, w in 1..u64::MAX
        ) {
            let (v, w) = (Version::new(v).unwrap(), Version::new(w).unwrap());
            let (left, right) = (stream_key(&a, v), stream_key(&b, w));
            prop_assert_eq!(left.cmp(&right), (a.as_str(), v).cmp(&(b.as_str(), w)));
            prop_assert_eq!(stream_of(&left), Some((a.as_str(), v)));
        }

        #[test]
        fn any_bytes_decode_as_a_key_or_are_refused(bytes: Vec<u8>) {
            if let Some((stream, version)) = stream_of(&bytes) {
                prop_assert_eq!(&stream_key(stream, version), &bytes);
            }
            if let Some((kind, stream, version)) = snapshot_of(&bytes) {
                prop_assert_eq!(&snapshot_key(kind, stream, version), &bytes);
            }
            if let Some((view, key)) = view_of(&bytes) {
                prop_assert_eq!(&view_key(view, key), &bytes);
            }
        }

        #[test]
        fn snapshot_and_view_keys_decode_again(
            kind in "[a-c日]{1,3}", stream in "[a-c日]{1,3}", v in 1..u64::MAX, key: Vec<u8>
        ) {
            let version = Version::new(v).unwrap();
            let bytes = snapshot_key(&kind, &stream, version);
            prop_assert_eq!(snapshot_of(&bytes), Some((kind.as_str(), stream.as_str(), version)));
            let bytes = view_key(&kind, &key);
            let expected = Some((kind.as_str(), key.as_slice())).filter(|_| !key.is_empty());
            prop_assert_eq!(view_of(&bytes), expected);
        }
    }
}
