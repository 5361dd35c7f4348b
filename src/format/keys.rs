//! Idempotency keys: the bodies of the records in `keys`, and of the record in `meta` that counts
//! them.

use bincode::{BorrowDecode, Encode};

use super::derived::{decode_body, encode_body};
use super::{CONFIG, Malformed, decode_record, encode_record};
use crate::event_store::{Appended, KeyedResult};
use crate::keys::{KeyAge, KeyRecord};
use crate::model::{Position, RequestDigest, StreamId, Version};

/// The key of the record in `meta` that counts the idempotency keys.
pub const KEYS_RECORD: &[u8] = b"keys";

/// The count of a store's idempotency keys, and its retention clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct KeyCount {
    /// The number of the last key; 0 before the first.
    pub last: u64,
    /// The retention clock when that key was recorded, in microseconds.
    pub clock: u64,
}

#[derive(Encode, BorrowDecode)]
struct KeyBytes<'a> {
    number: u64,
    recorded_at: u64,
    digest: [u8; 16],
    /// [`APPENDED`], [`NOTHING`] or [`REFUSAL`].
    kind: u8,
    /// For [`APPENDED`] a sequence of [`PlaceBytes`], for [`REFUSAL`] the reason, otherwise empty.
    detail: &'a [u8],
}

const APPENDED: u8 = 0;
const NOTHING: u8 = 1;
const REFUSAL: u8 = 2;

/// Consecutive positions, or consecutive versions of a stream. A result lists the positions first,
/// then the versions.
#[derive(Encode, BorrowDecode)]
struct PlaceBytes<'a> {
    /// Empty for positions.
    stream: &'a str,
    first: u64,
    /// How many follow the first.
    more: u64,
}

/// Encodes a record for its key in `keys`.
pub fn encode_key_record(key: &[u8], record: &KeyRecord) -> Vec<u8> {
    let (kind, detail) = match &record.result {
        KeyedResult::Appended(appended) => (APPENDED, encode_places(appended)),
        KeyedResult::Nothing => (NOTHING, Vec::new()),
        KeyedResult::Rejected(reason) => (REFUSAL, reason.clone()),
    };
    let KeyAge { number, recorded_at } = record.age;
    let digest = *record.digest.as_bytes();
    let body = KeyBytes { number, recorded_at, digest, kind, detail: &detail };
    encode_record(key, &encode_body(body))
}

fn encode_places(appended: &Appended) -> Vec<u8> {
    let spans = appended.spans().iter();
    let spans = spans.map(|span| ("", span.start().get(), span.end().get()));
    let versions = appended.versions().iter();
    let versions = versions
        .map(|(stream, versions)| (stream.as_str(), versions.start().get(), versions.end().get()));
    let places = spans.chain(versions).map(|(stream, first, last)| {
        encode_body(PlaceBytes { stream, first, more: last.saturating_sub(first) })
    });
    places.flatten().collect()
}

/// Decodes a record that [`encode_key_record`] encoded for this key.
pub fn decode_key_record(key: &[u8], record: &[u8]) -> Result<KeyRecord, Malformed> {
    let body: KeyBytes<'_> = decode_body(WHAT, decode_record(key, record)?)?;
    let result = match (body.kind, body.detail) {
        (APPENDED, places) => KeyedResult::Appended(decode_places(places)?),
        (NOTHING, []) => KeyedResult::Nothing,
        (REFUSAL, reason) => KeyedResult::Rejected(reason.to_vec()),
        (kind, _) => return Err(Malformed::damaged(format!("a result of kind {kind}"), WHAT)),
    };
    let age = KeyAge { number: body.number, recorded_at: body.recorded_at };
    Ok(KeyRecord { age, digest: RequestDigest::from_bytes(body.digest), result })
}

const WHAT: &str = "an idempotency key";

/// Decodes the places one by one, because a list would be allocated by a length that was read.
fn decode_places(mut bytes: &[u8]) -> Result<Appended, Malformed> {
    let invalid = || Malformed::damaged("an impossible result", WHAT);
    let (mut spans, mut versions) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let (place, used): (PlaceBytes<'_>, usize) =
            bincode::borrow_decode_from_slice(bytes, CONFIG)
                .map_err(|error| Malformed::undecodable(WHAT, &error))?;
        bytes = bytes.get(used..).unwrap_or_default();
        let last = place.first.checked_add(place.more).ok_or_else(invalid)?;
        let (first, last) = (Position::new(place.first), Position::new(last));
        let (first, last) = first.zip(last).ok_or_else(invalid)?;
        if !place.stream.is_empty() {
            let [first, last] = [first, last].map(|place| Version::FIRST.plus(place.get() - 1));
            versions.push((StreamId::trusted(place.stream), first..=last));
        } else if versions.is_empty() {
            spans.push(first..=last);
        } else {
            return Err(invalid());
        }
    }
    Appended::new(spans, versions, false).ok_or_else(invalid)
}

/// Encodes the count of keys as its record in `meta`.
pub fn encode_key_count(count: KeyCount) -> Vec<u8> {
    encode_record(KEYS_RECORD, &encode_body(count))
}

/// Decodes a record that [`encode_key_count`] encoded.
pub fn decode_key_count(record: &[u8]) -> Result<KeyCount, Malformed> {
    decode_body("a count of idempotency keys", decode_record(KEYS_RECORD, record)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::hex;

    /// Frozen once format version 2 is released; docs/FORMAT.md explains them.
    const GOLDEN_APPENDED: &str = concat!(
        "017d246ea0",
        "0e7472616e73666572730035663163",
        "25",
        "03",
        "fbe803",
        "07070707070707070707070707070707",
        "00",
        "0f",
        "000201",
        "096163636f756e742d310101",
    );
    const GOLDEN_REFUSAL: &str = concat!(
        "01ede78da2",
        "0e7472616e73666572730035663163",
        "18",
        "03",
        "fbe803",
        "07070707070707070707070707070707",
        "02",
        "026e6f",
    );
    const GOLDEN_COUNT: &str = "0140932826046b6579730403fbe803";

    fn record(result: KeyedResult) -> KeyRecord {
        let age = KeyAge { number: 3, recorded_at: 1_000 };
        KeyRecord { age, digest: RequestDigest::from_bytes([7; 16]), result }
    }

    fn appended() -> KeyedResult {
        let [from, to] = [2, 3].map(|position| Position::new(position).unwrap());
        let versions = Version::FIRST..=Version::new(2).unwrap();
        let stream = StreamId::trusted("account-1");
        KeyedResult::Appended(Appended::new([from..=to], [(stream, versions)], false).unwrap())
    }

    #[test]
    fn records_have_the_specified_bytes_and_decode_again() {
        let key = b"transfers\x005f1c";
        let refusal = KeyedResult::Rejected(b"no".to_vec());
        for (result, golden) in [(appended(), GOLDEN_APPENDED), (refusal, GOLDEN_REFUSAL)] {
            let record = record(result);
            let bytes = encode_key_record(key, &record);
            assert_eq!(hex(&bytes), golden);
            assert_eq!(decode_key_record(key, &bytes), Ok(record));
        }
        let count = KeyCount { last: 3, clock: 1_000 };
        let bytes = encode_key_count(count);
        assert_eq!(hex(&bytes), GOLDEN_COUNT);
        assert_eq!(decode_key_count(&bytes), Ok(count));
    }

    #[test]
    fn flipped_bits_and_truncation_are_detected() {
        let whole = encode_key_record(b"k", &record(appended()));
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_key_record(b"k", &damaged).is_err());
        }
        for len in 0..whole.len() {
            assert!(decode_key_record(b"k", &whole[..len]).is_err());
        }
    }

    proptest! {
        /// The checksum is valid, so these bytes reach the decoder.
        #[test]
        fn any_body_is_decoded_or_refused(body: Vec<u8>) {
            let bytes = encode_record(b"k", &body);
            if let Ok(record) = decode_key_record(b"k", &bytes) {
                prop_assert_eq!(decode_key_record(b"k", &encode_key_record(b"k", &record)), Ok(record));
            }
        }
    }
}
