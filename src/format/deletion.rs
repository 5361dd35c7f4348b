//! The records in `meta` of deletions and retentions.

use std::num::NonZeroU64;
use std::time::Duration;

use bincode::{BorrowDecode, Encode};

use super::derived::{decode_body, encode_body};
use super::{Malformed, decode_record, encode_record};
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
    /// The positions of redacted events that packs may still hold as they were.
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
    redactions: Vec<u64>,
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
    let body = encode_body(DeletionsBytes {
        up_to: deletions.up_to.map_or(0, number),
        pending: range(deletions.pending),
        uncompacted: range(deletions.uncompacted),
        uncompacted_streams: streams.map_or(("", ""), |(first, last)| (first, last)),
        redactions: deletions.redactions.iter().map(|at| at.get()).collect(),
    });
    encode_record(DELETIONS_RECORD, &body)
}

pub fn decode_deletions(record: &[u8]) -> Result<Deletions, Malformed> {
    let what = "the record of deletions";
    let body: DeletionsBytes<'_> = decode_body(what, decode_record(DELETIONS_RECORD, record)?)?;
    let range = |(first, last): (u64, u64)| {
        let range = Position::new(first).zip(Position::new(last));
        let is_sound = first <= last && (range.is_some() || last == 0);
        is_sound.then_some(range).ok_or_else(|| Malformed::damaged("a range that is none", what))
    };
    let (first, last) = body.uncompacted_streams;
    Ok(Deletions {
        up_to: Position::new(body.up_to),
        pending: range(body.pending)?,
        uncompacted: range(body.uncompacted)?,
        uncompacted_streams: Some((first.to_owned(), last.to_owned()))
            .filter(|(_, last)| !last.is_empty()),
        redactions: body.redactions.into_iter().filter_map(Position::new).collect(),
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
