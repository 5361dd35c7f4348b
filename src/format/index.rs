//! The index: its entries, and the record of what is indexed.
//!
//! An entry is a key alone, ordered by its text and then by the position of the event, and its value
//! is the event type. So a query for tags and types needs no event.

use bincode::{BorrowDecode, Encode};

use super::derived::{decode_body, encode_body};
use super::{Malformed, decode_record, encode_record};
use crate::model::Position;

/// The key of the record in `meta` that says what is indexed.
pub const INDEXED_RECORD: &[u8] = b"indexed";

/// Ends the text within a key. Names contain no control characters.
const END_OF_TEXT: u8 = 0;
/// The length of the position at the end of a key.
pub const POSITION_LEN: usize = 8;

/// What an entry of the index is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IndexKind {
    /// A tag of the event.
    Tag,
    /// Its type.
    Type,
    /// The category of its stream.
    Category,
}

impl IndexKind {
    pub const ALL: [Self; 3] = [Self::Tag, Self::Type, Self::Category];

    /// The first byte of its keys.
    pub fn byte(self) -> u8 {
        match self {
            Self::Tag => b't',
            Self::Type => b'y',
            Self::Category => b'c',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    /// All keys of this kind are from the first one on and below the second one.
    pub fn bounds(self) -> ([u8; 1], [u8; 1]) {
        ([self.byte()], [self.byte() + 1])
    }
}

/// The part of a key that all entries for the same text share, with room for the position.
pub fn index_prefix(kind: IndexKind, text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len() + 2 + POSITION_LEN);
    push_index_prefix(&mut key, kind, text);
    key
}

/// Appends the part of a key that all entries for the same text share.
pub fn push_index_prefix(key: &mut Vec<u8>, kind: IndexKind, text: &str) {
    key.push(kind.byte());
    key.extend_from_slice(text.as_bytes());
    key.push(END_OF_TEXT);
}

/// Key in `index`: the kind, the text, a 0 byte, the position of the event.
pub fn index_key(kind: IndexKind, text: &str, position: Position) -> Vec<u8> {
    let mut key = index_prefix(kind, text);
    key.extend_from_slice(&position.get().to_be_bytes());
    key
}

/// Decodes a key that [`index_key`] encoded.
pub fn index_of(key: &[u8]) -> Option<(IndexKind, &str, Position)> {
    let (prefix, position) = key.split_last_chunk::<POSITION_LEN>()?;
    let (kind, text) = prefix.split_first()?;
    let (end, text) = text.split_last()?;
    let kind = IndexKind::from_byte(*kind)?;
    // Only the category of a stream such as `-7` is empty.
    let may_be_empty = kind == IndexKind::Category;
    if *end != END_OF_TEXT || text.contains(&END_OF_TEXT) || (text.is_empty() && !may_be_empty) {
        return None;
    }
    let position = Position::new(u64::from_be_bytes(*position))?;
    Some((kind, std::str::from_utf8(text).ok()?, position))
}

/// The position at the end of a key.
pub fn position_of(key: &[u8]) -> Option<Position> {
    Position::new(u64::from_be_bytes(*key.last_chunk::<POSITION_LEN>()?))
}

/// The entries of one event: kind, text and value of each.
pub fn index_entries<'e>(
    (event_type, category): (&'e str, &'e str),
    tags: &(impl Iterator<Item = &'e str> + Clone),
    mut visit: impl FnMut(IndexKind, &'e str, &'e str),
) {
    for (number, tag) in tags.clone().enumerate() {
        if !tags.clone().take(number).any(|before| before == tag) {
            visit(IndexKind::Tag, tag, event_type);
        }
    }
    visit(IndexKind::Type, event_type, "");
    visit(IndexKind::Category, category, event_type);
}

/// From which position on the entries of each kind are complete, up to the head; `None` if there
/// are no entries of this kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Indexed {
    pub tags: Option<Position>,
    pub types: Option<Position>,
    pub categories: Option<Position>,
}

#[derive(Encode, BorrowDecode)]
struct IndexedBytes {
    /// 0 for none.
    tags: u64,
    types: u64,
    categories: u64,
}

impl Indexed {
    pub fn get(&self, kind: IndexKind) -> Option<Position> {
        match kind {
            IndexKind::Tag => self.tags,
            IndexKind::Type => self.types,
            IndexKind::Category => self.categories,
        }
    }

    pub fn set(&mut self, kind: IndexKind, from: Option<Position>) {
        match kind {
            IndexKind::Tag => self.tags = from,
            IndexKind::Type => self.types = from,
            IndexKind::Category => self.categories = from,
        }
    }
}

/// Encodes the record of what is indexed.
pub fn encode_indexed(indexed: Indexed) -> Vec<u8> {
    let number = |from: Option<Position>| from.map_or(0, Position::get);
    let body = IndexedBytes {
        tags: number(indexed.tags),
        types: number(indexed.types),
        categories: number(indexed.categories),
    };
    encode_record(INDEXED_RECORD, &encode_body(body))
}

/// Decodes a record that [`encode_indexed`] encoded.
pub fn decode_indexed(record: &[u8]) -> Result<Indexed, Malformed> {
    let body = decode_record(INDEXED_RECORD, record)?;
    let bytes: IndexedBytes = decode_body("a record of what is indexed", body)?;
    Ok(Indexed {
        tags: Position::new(bytes.tags),
        types: Position::new(bytes.types),
        categories: Position::new(bytes.categories),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::hex;

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    /// Frozen once format version 2 is released; docs/FORMAT.md explains them.
    #[test]
    fn entries_and_record_have_the_specified_bytes() {
        let key = index_key(IndexKind::Tag, "course:c1", position(258));
        assert_eq!(key, *b"tcourse:c1\0\0\0\0\0\0\0\x01\x02");
        let indexed =
            Indexed { tags: Some(position(1)), types: None, categories: Some(position(300)) };
        let record = encode_indexed(indexed);
        assert_eq!(hex(&record), concat!("01a2a0ef0f", "07696e6465786564", "05", "0100fb2c01"));
        assert_eq!(decode_indexed(&record), Ok(indexed));
    }

    #[test]
    fn each_tag_of_an_event_has_one_entry() {
        let mut entries = Vec::new();
        let tags = ["a", "b", "a"].into_iter();
        index_entries(("T", "c"), &tags, |kind, text, value| entries.push((kind, text, value)));
        let tags = [(IndexKind::Tag, "a", "T"), (IndexKind::Tag, "b", "T")];
        assert_eq!(entries[..2], tags);
        assert_eq!(entries[2..], [(IndexKind::Type, "T", ""), (IndexKind::Category, "c", "T")]);
    }

    proptest! {
        #[test]
        fn keys_sort_by_text_then_position_and_decode_again(
            a in "[a-cé日: -]{1,4}", b in "[a-cé日: -]{1,4}", v in 1..u64::MAX, w in 1..u64::MAX
        ) {
            let (left, right) = (
                index_key(IndexKind::Tag, &a, position(v)), index_key(IndexKind::Tag, &b, position(w))
            );
            prop_assert_eq!(left.cmp(&right), (a.as_str(), v).cmp(&(b.as_str(), w)));
            prop_assert_eq!(index_of(&left), Some((IndexKind::Tag, a.as_str(), position(v))));
            prop_assert!(left.starts_with(&index_prefix(IndexKind::Tag, &a)));
        }

        #[test]
        fn any_bytes_decode_as_a_key_or_are_refused(bytes: Vec<u8>) {
            if let Some((kind, text, position)) = index_of(&bytes) {
                prop_assert_eq!(index_key(kind, text, position), bytes);
            }
        }

        #[test]
        fn any_record_is_decoded_or_refused(body: Vec<u8>) {
            let bytes = encode_record(INDEXED_RECORD, &body);
            if let Ok(indexed) = decode_indexed(&bytes) {
                prop_assert_eq!(decode_indexed(&encode_indexed(indexed)), Ok(indexed));
            }
        }
    }
}
