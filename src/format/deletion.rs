//! The records in `meta` of deletions and retentions.

use std::num::NonZeroU64;
use std::time::Duration;

use bincode::{BorrowDecode, Encode};

use super::derived::{decode_body, encode_body};
use super::{Malformed, decode_record, encode_record, parse_log_key};
use crate::model::{Position, Retention, RetentionScope, StreamId};

/// The key of the record in `meta` that says how far deletions are carried out.
pub const DELETIONS_RECORD: &[u8] = b"deletions";
/// The beginning of the keys of retentions in `meta`.
pub const RETENTION_PREFIX: &[u8] = b"retention/";

/// How far deletions are carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletions {
    /// The highest position of an event that was deleted or lost a tag.
    pub up_to: Option<Position>,
    /// The first and last position that packs may still hold although they are deleted.
    pub pending: Option<(Position, Position)>,
    /// The first and last position, and the first and last stream id, whose deleted bytes may still
    /// be in table files.
    pub uncompacted: Option<(Position, Position)>,
    pub uncompacted_streams: Option<(String, String)>,
    /// Whether this is true of entries of the index, and of snapshots.
    pub uncompacted_index: bool,
    pub uncompacted_snapshots: bool,
    /// The positions of redacted events that packs or table files may still hold as they were.
    pub redactions: Vec<Position>,
}

#[derive(Encode, BorrowDecode)]
struct DeletionsBytes<'a> {
    /// 0 for none.
    up_to: u64,
    pending: (u64, u64),
    uncompacted: (u64, u64),
    /// Both empty for none.
    uncompacted_streams: (&'a str, &'a str),
    /// 1 for the index, and 2 for snapshots.
    uncompacted_others: u8,
    /// Positions of eight bytes each: a count from a damaged record must not decide how much is
    /// allocated.
    redactions: &'a [u8],
}

/// The smallest range that contains both.
pub fn union<T: Ord + Clone>(known: Option<&(T, T)>, (first, last): (T, T)) -> (T, T) {
    match known {
        None => (first, last),
        Some(known) => (first.min(known.0.clone()), last.max(known.1.clone())),
    }
}

pub fn encode_deletions(deletions: &Deletions) -> Vec<u8> {
    let number = |position: Position| position.get();
    let range = |range: Option<(Position, Position)>| {
        range.map_or((0, 0), |(first, last)| (first.get(), last.get()))
    };
    let streams = deletions.uncompacted_streams.as_ref();
    let redactions: Vec<u8> =
        deletions.redactions.iter().flat_map(|at| at.get().to_be_bytes()).collect();
    let body = encode_body(DeletionsBytes {
        up_to: deletions.up_to.map_or(0, number),
        pending: range(deletions.pending),
        uncompacted: range(deletions.uncompacted),
        uncompacted_streams: streams.map_or(("", ""), |(first, last)| (first, last)),
        uncompacted_others: u8::from(deletions.uncompacted_index)
            | u8::from(deletions.uncompacted_snapshots) << 1,
        redactions: &redactions,
    });
    encode_record(DELETIONS_RECORD, &body)
}

pub fn decode_deletions(record: &[u8]) -> Result<Deletions, Malformed> {
    let what = "the record of deletions";
    let body: DeletionsBytes<'_> = decode_body(what, decode_record(DELETIONS_RECORD, record)?)?;
    let range = |(first, last): (u64, u64)| {
        let range = Position::new(first).zip(Position::new(last));
        let is_sound = first <= last && (range.is_some() || last == 0);
        is_sound
            .then_some(range)
            .ok_or_else(|| Malformed::damaged("a range that ends before it begins", what))
    };
    let (redactions, rest) = body.redactions.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Malformed::damaged("a part of a position", what));
    }
    let (first, last) = body.uncompacted_streams;
    Ok(Deletions {
        up_to: Position::new(body.up_to),
        pending: range(body.pending)?,
        uncompacted: range(body.uncompacted)?,
        uncompacted_streams: Some((first.to_owned(), last.to_owned()))
            .filter(|(_, last)| !last.is_empty()),
        uncompacted_index: body.uncompacted_others & 1 != 0,
        uncompacted_snapshots: body.uncompacted_others & 2 != 0,
        redactions: redactions.iter().filter_map(|at| parse_log_key(at)).collect(),
    })
}

/// Key in `meta`: the prefix, the kind of the scope, its name.
pub fn retention_key(scope: &RetentionScope) -> Vec<u8> {
    let (kind, name) = match scope {
        RetentionScope::Category(category) => (b'c', category.as_str()),
        RetentionScope::Stream(stream) => (b's', stream.as_str()),
    };
    [RETENTION_PREFIX, &[kind], name.as_bytes()].concat()
}

/// Decodes a key that [`retention_key`] encoded.
pub fn retention_of(key: &[u8]) -> Option<RetentionScope> {
    let (kind, name) = key.strip_prefix(RETENTION_PREFIX)?.split_first()?;
    let name = std::str::from_utf8(name).ok()?;
    match kind {
        b'c' => Some(RetentionScope::Category(name.to_owned())),
        b's' => Some(RetentionScope::Stream(StreamId::trusted(name))),
        _ => None,
    }
}

/// Encodes a retention as the record for its key: the age in microseconds and the count, 0 for none.
pub fn encode_retention(key: &[u8], retention: Retention) -> Vec<u8> {
    let micros = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
    // 0 would keep everything; no event is younger than a microsecond.
    let age = retention.age().map_or(0, |age| micros(age).max(1));
    encode_record(key, &encode_body((age, retention.count().map_or(0, NonZeroU64::get))))
}

pub fn decode_retention(key: &[u8], record: &[u8]) -> Result<Retention, Malformed> {
    let (age, count): (u64, u64) = decode_body("a retention", decode_record(key, record)?)?;
    let age = NonZeroU64::new(age).map(|age| Duration::from_micros(age.get()));
    let count = NonZeroU64::new(count);
    Ok(match (age, count) {
        (Some(age), Some(count)) => Retention::for_time(age).and_newest(count),
        (Some(age), None) => Retention::for_time(age),
        (None, Some(count)) => Retention::newest(count),
        (None, None) => Retention::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn deletions() -> Deletions {
        Deletions {
            up_to: Some(position(1000)),
            pending: Some((position(7), position(1000))),
            uncompacted: Some((position(1), position(1000))),
            uncompacted_streams: Some(("a-1".to_owned(), "b".to_owned())),
            uncompacted_index: true,
            uncompacted_snapshots: false,
            redactions: vec![position(9)],
        }
    }

    /// Format version 2, frozen once it is released; docs/FORMAT.md explains them.
    const GOLDEN: &str = concat!(
        "0109418e0c0964656c6574696f6e731b",
        "fbe80307fbe80301fbe80303612d310162",
        "01080000000000000009"
    );
    const GOLDEN_RETENTION: &str =
        "01a0622d1812726574656e74696f6e2f636163636f756e740afd0060d71d1400000064";

    #[test]
    fn records_have_the_specified_bytes_and_come_back() {
        let record = encode_deletions(&deletions());
        assert_eq!(hex(&record), GOLDEN);
        assert_eq!(decode_deletions(&record).unwrap(), deletions());
        let none = Deletions::default();
        assert_eq!(decode_deletions(&encode_deletions(&none)).unwrap(), none);

        let day = Retention::for_time(Duration::from_secs(86_400));
        let both = day.and_newest(NonZeroU64::new(100).unwrap());
        let scope = RetentionScope::Category("account".to_owned());
        let key = retention_key(&scope);
        assert_eq!(hex(&encode_retention(&key, both)), GOLDEN_RETENTION);
        for retention in [Retention::default(), day, both] {
            let record = encode_retention(&key, retention);
            assert_eq!(decode_retention(&key, &record).unwrap(), retention);
        }
        assert_eq!(retention_of(&key), Some(scope));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_damage() {
        let reversed = Some((position(2), position(1)));
        let record = encode_deletions(&Deletions { pending: reversed, ..deletions() });
        assert!(decode_deletions(&record).is_err());
        assert_eq!(
            union(reversed.as_ref(), (position(5), position(6))),
            (position(2), position(6))
        );
    }
}
