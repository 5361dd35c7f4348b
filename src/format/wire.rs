//! The encoding of a frame's header and events, as bincode writes it and [`Cursor`] reads it.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};

use super::cursor::Cursor;
use super::{CONFIG, Malformed};
use crate::model::ContentType;

/// Appends bincode's encoding to `out`. Writing to memory cannot fail, and every value of the types
/// used here can be encoded.
pub(super) fn put(value: impl Encode, out: &mut Vec<u8>) {
    let written = bincode::encode_into_writer(value, Out(out), CONFIG);
    assert!(written.is_ok(), "encoding into memory failed: {written:?}");
}

/// A writer for bincode that appends to a vector.
struct Out<'v>(&'v mut Vec<u8>);

impl Writer for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Texts of the previous frame and event, which are likely to repeat.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known<'a> {
    pub(crate) stream: &'a str,
    pub(crate) event_type: &'a str,
}

/// A header as bincode writes it.
#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct HeaderBytes<'a> {
    pub(super) flags: u8,
    pub(super) first_position: u64,
    pub(super) stream: &'a str,
    pub(super) first_version: u64,
    pub(super) recorded_at: i64,
    pub(super) commit_before: u32,
    pub(super) commit_len: u32,
    pub(super) streams_after: u64,
    pub(super) count: u32,
}

/// An event as bincode writes it. Metadata and tags are separate byte strings, so that a reader can
/// skip decoding them.
#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct EventBytes<'a> {
    pub(super) flags: u8,
    pub(super) id: [u8; 16],
    pub(super) event_type: &'a str,
    pub(super) schema_version: u32,
    pub(super) content_type: ContentTypeBytes<'a>,
    /// Microseconds after the frame's `recorded_at`.
    pub(super) recorded_after: u64,
    /// Pairs of strings, concatenated.
    pub(super) metadata: &'a [u8],
    /// Strings, concatenated.
    pub(super) tags: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// A content type; the common ones take one byte.
#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum ContentTypeBytes<'a> {
    Other(&'a str),
    Json,
    Bytes,
    Text,
}

impl<'a> ContentTypeBytes<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        match name {
            _ if name == ContentType::JSON.as_str() => Self::Json,
            _ if name == ContentType::BYTES.as_str() => Self::Bytes,
            _ if name == ContentType::TEXT.as_str() => Self::Text,
            other => Self::Other(other),
        }
    }

    pub(super) fn name(&self) -> &'a str {
        match self {
            Self::Other(name) => name,
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

impl<'a> HeaderBytes<'a> {
    #[expect(clippy::inline_always, reason = "see `cursor`")]
    #[inline(always)]
    pub(super) fn read(cursor: &mut Cursor<'a>, known: &Known<'a>) -> Option<Self> {
        Some(Self {
            flags: cursor.byte()?,
            first_position: cursor.u64()?,
            stream: cursor.text_like(known.stream)?,
            first_version: cursor.u64()?,
            recorded_at: cursor.i64()?,
            commit_before: cursor.u32()?,
            commit_len: cursor.u32()?,
            streams_after: cursor.u64()?,
            count: cursor.u32()?,
        })
    }
}

impl<'a> EventBytes<'a> {
    #[expect(clippy::inline_always, reason = "see `cursor`")]
    #[inline(always)]
    pub(super) fn read(cursor: &mut Cursor<'a>, known: &Known<'a>) -> Option<Self> {
        Some(Self {
            flags: cursor.byte()?,
            id: cursor.id()?,
            event_type: cursor.text_like(known.event_type)?,
            schema_version: cursor.u32()?,
            content_type: match cursor.u32()? {
                0 => ContentTypeBytes::Other(cursor.text()?),
                1 => ContentTypeBytes::Json,
                2 => ContentTypeBytes::Bytes,
                3 => ContentTypeBytes::Text,
                _ => return None,
            },
            recorded_after: cursor.u64()?,
            metadata: cursor.bytes()?,
            tags: cursor.bytes()?,
            payload: cursor.bytes()?,
        })
    }
}

/// The error of bincode for bytes that [`Cursor`] could not read.
#[cold]
pub(super) fn refused<'a, T: BorrowDecode<'a, ()>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Malformed {
    match bincode::borrow_decode_from_slice::<T, _>(bytes, CONFIG) {
        Err(error) => Malformed::undecodable(what, &error),
        // Unreachable: a test checks that both accept the same bytes.
        Ok(_) => Malformed::damaged("bytes that do not decode", what),
    }
}

pub(super) fn next_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a str)> {
    let mut cursor = Cursor::new(rest);
    let pair = (cursor.text()?, cursor.text()?);
    *rest = cursor.rest();
    Some(pair)
}

pub(super) fn next_tag<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let mut cursor = Cursor::new(rest);
    let tag = cursor.text()?;
    *rest = cursor.rest();
    Some(tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An encoded header and event, like those in the tests of `frame`.
    fn right() -> Vec<u8> {
        let header = HeaderBytes {
            flags: 0,
            first_position: 1000,
            stream: "account-1",
            first_version: 7,
            recorded_at: 1_700_000_000_000_000,
            commit_before: 2,
            commit_len: 70_000,
            streams_after: 3,
            count: 2,
        };
        let event = EventBytes {
            flags: 0,
            id: [7; 16],
            event_type: "Ünlü",
            schema_version: 300,
            content_type: ContentTypeBytes::of("image/png"),
            recorded_after: 1 << 40,
            metadata: b"\x04user\x03ada",
            tags: b"\x03eur",
            payload: b"{}",
        };
        let mut bytes = bincode::encode_to_vec(header, CONFIG).unwrap();
        bytes.extend(bincode::encode_to_vec(event, CONFIG).unwrap());
        bytes
    }

    /// Bytes with many lengths and number markers.
    fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte =
            prop_oneof![4 => 0..=4_u8, 2 => 250..=255_u8, 1 => b'a'..=b'z', 1 => any::<u8>()];
        proptest::collection::vec(byte, 0..120)
    }

    /// Checks that the cursor and bincode read the same value from the same bytes, or both none.
    fn agrees<'a, T: BorrowDecode<'a, ()> + PartialEq + std::fmt::Debug>(
        bytes: &'a [u8],
        read: impl FnOnce(&mut Cursor<'a>) -> Option<T>,
    ) {
        let mut cursor = Cursor::new(bytes);
        let by_hand = read(&mut cursor).map(|value| (value, bytes.len() - cursor.rest().len()));
        let by_bincode = bincode::borrow_decode_from_slice::<T, _>(bytes, CONFIG);
        match by_bincode {
            Ok(by_bincode) => assert_eq!(by_hand, Some(by_bincode), "{bytes:?}"),
            Err(error) => {
                assert_eq!(by_hand, None, "{bytes:?}");
                let what = "a test";
                assert_eq!(refused::<T>(what, bytes), Malformed::undecodable(what, &error));
            }
        }
    }

    fn all_agree(bytes: &[u8]) {
        for text in ["", "a", "Opened", "account-1"] {
            let known = Known { stream: text, event_type: text };
            agrees(bytes, |cursor| HeaderBytes::read(cursor, &known));
            agrees(bytes, |cursor| EventBytes::read(cursor, &known));
        }
        agrees(bytes, |cursor| Some((cursor.text()?, cursor.text()?)));
        agrees(bytes, |cursor| Some((cursor.i64()?, cursor.u32()?, cursor.u64()?)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn decoder_agrees_with_bincode_on_any_bytes(bytes in likely_bytes()) {
            all_agree(&bytes);
        }

        /// Changes valid bytes and reads from any offset, so that every field is read at every
        /// place.
        #[test]
        fn decoder_agrees_with_bincode_on_changed_valid_bytes(
            from in 0..right().len(), at in 0..right().len(), bytes in likely_bytes()
        ) {
            let mut changed = right();
            let bytes = bytes.get(..bytes.len().min(3)).unwrap_or_default();
            changed.splice(at..(at + bytes.len()).min(right().len()), bytes.iter().copied());
            all_agree(&changed[from.min(changed.len())..]);
            all_agree(&changed);
        }
    }
}
