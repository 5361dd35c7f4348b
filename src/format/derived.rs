//! Derived data: the bodies of the records of snapshots and checkpoints.
//!
//! A record contains its key, which holds the names and versions, so the body does not repeat them.

use bincode::{BorrowDecode, Encode};

use super::{CONFIG, Malformed, decode_record, encode_record};
use crate::model::{EventId, Position, StreamId, Timestamp, Version};
use crate::snapshot_store::Snapshot;
use crate::view_store::Checkpoint;

#[derive(Encode, BorrowDecode)]
struct SnapshotBytes<'a> {
    event_id: [u8; 16],
    schema_version: u32,
    taken_at: i64,
    state: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct CheckpointBytes<'a> {
    /// 0 before the first event.
    position: u64,
    state: &'a [u8],
}

/// Encodes a snapshot as the record for its key.
pub fn encode_snapshot(key: &[u8], snapshot: &Snapshot) -> Vec<u8> {
    let body = encode_body(SnapshotBytes {
        event_id: *snapshot.event_id.as_bytes(),
        schema_version: snapshot.schema_version,
        taken_at: snapshot.taken_at.as_micros(),
        state: &snapshot.state,
    });
    encode_record(key, &body)
}

/// Decodes a record that [`encode_snapshot`] encoded for this key. The caller passes the key's
/// parts as well.
pub fn decode_snapshot(
    key: &[u8],
    (kind, stream, version): (&str, &str, Version),
    record: &[u8],
) -> Result<Snapshot, Malformed> {
    let body: SnapshotBytes<'_> = decode_body("a snapshot", decode_record(key, record)?)?;
    Ok(Snapshot {
        kind: kind.to_owned(),
        stream: StreamId::trusted(stream),
        version,
        event_id: EventId::from_bytes(body.event_id),
        schema_version: body.schema_version,
        taken_at: Timestamp::from_micros(body.taken_at),
        state: body.state.to_vec(),
    })
}

/// Encodes a checkpoint as the record for its key.
pub fn encode_checkpoint(key: &[u8], checkpoint: &Checkpoint) -> Vec<u8> {
    let position = checkpoint.position.map_or(0, Position::get);
    let body = encode_body(CheckpointBytes { position, state: &checkpoint.state });
    encode_record(key, &body)
}

/// Decodes a record that [`encode_checkpoint`] encoded for this key.
pub fn decode_checkpoint(key: &[u8], record: &[u8]) -> Result<Checkpoint, Malformed> {
    let body: CheckpointBytes<'_> = decode_body("a checkpoint", decode_record(key, record)?)?;
    Ok(Checkpoint { position: Position::new(body.position), state: body.state.to_vec() })
}

pub(super) fn encode_body(body: impl Encode) -> Vec<u8> {
    match bincode::encode_to_vec(body, CONFIG) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("encoding into memory failed: {error}"),
    }
}

pub(super) fn decode_body<'a, T: BorrowDecode<'a, ()>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, Malformed> {
    let (body, used) = bincode::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|error| Malformed::undecodable(what, &error))?;
    match bytes.len() - used {
        0 => Ok(body),
        left => Err(Malformed::damaged(format!("bytes left over: {left}"), what)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{hex, snapshot_key, view_key};

    /// Frozen once format version 2 is released; docs/FORMAT.md explains them.
    const GOLDEN_SNAPSHOT: &str = concat!(
        "01e282910d",
        "1a",
        "6163636f756e74006163636f756e742d3100",
        "0000000000000007",
        "1d",
        "09090909090909090909090909090909",
        "02",
        "fd00803c3048140c00",
        "02",
        "7b7d",
    );
    const GOLDEN_CHECKPOINT: &str =
        concat!("01279d5d67", "08", "62616c616e636573", "06", "fbe803", "02", "6162",);
    const GOLDEN_VALUE: &str =
        concat!("015b336cae", "12", "62616c616e636573006163636f756e742d31", "04", "31303030",);

    fn snapshot(state: &[u8]) -> Snapshot {
        Snapshot {
            kind: "account".to_owned(),
            stream: StreamId::trusted("account-1"),
            version: Version::new(7).unwrap(),
            event_id: EventId::from_bytes([9; 16]),
            schema_version: 2,
            taken_at: Timestamp::from_micros(1_700_000_000_000_000),
            state: state.to_vec(),
        }
    }

    fn parts(snapshot: &Snapshot) -> (&str, &str, Version) {
        (&snapshot.kind, snapshot.stream.as_str(), snapshot.version)
    }

    fn key_of(snapshot: &Snapshot) -> Vec<u8> {
        let (kind, stream, version) = parts(snapshot);
        snapshot_key(kind, stream, version)
    }

    #[test]
    fn records_have_the_specified_bytes_and_decode_again() {
        let snapshot = snapshot(b"{}");
        let key = key_of(&snapshot);
        let record = encode_snapshot(&key, &snapshot);
        assert_eq!(hex(&record), GOLDEN_SNAPSHOT);
        assert_eq!(decode_snapshot(&key, parts(&snapshot), &record), Ok(snapshot.clone()));

        let checkpoint = Checkpoint { position: Position::new(1_000), state: b"ab".to_vec() };
        let record = encode_checkpoint(b"balances", &checkpoint);
        assert_eq!(hex(&record), GOLDEN_CHECKPOINT);
        assert_eq!(decode_checkpoint(b"balances", &record), Ok(checkpoint));

        let key = view_key("balances", b"account-1");
        let record = encode_record(&key, b"1000");
        assert_eq!(hex(&record), GOLDEN_VALUE);
        assert_eq!(decode_record(&key, &record), Ok(&b"1000"[..]));
    }

    #[test]
    fn checkpoint_before_the_first_event_decodes_again() {
        let record = encode_checkpoint(b"v", &Checkpoint::default());
        assert_eq!(decode_checkpoint(b"v", &record), Ok(Checkpoint::default()));
    }

    #[test]
    fn flipped_bits_and_truncation_are_detected() {
        let snapshot = snapshot(b"{}");
        let key = key_of(&snapshot);
        let whole = encode_snapshot(&key, &snapshot);
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_snapshot(&key, parts(&snapshot), &damaged).is_err());
        }
        for len in 0..whole.len() {
            assert!(decode_snapshot(&key, parts(&snapshot), &whole[..len]).is_err());
        }
    }

    proptest! {
        /// The checksum is valid, so these bytes reach the decoder.
        #[test]
        fn any_body_is_decoded_or_refused(body: Vec<u8>, cut: usize) {
            let record = encode_record(b"k", &body);
            let _ = decode_snapshot(b"k", ("kind", "stream", Version::FIRST), &record);
            if let Ok(checkpoint) = decode_checkpoint(b"k", &record) {
                prop_assert!(checkpoint.state.len() <= body.len());
            }
            // Extra bytes after a valid body are damage, and so are missing ones.
            let right = encode_body(CheckpointBytes { position: 300, state: &body });
            let cut = cut % right.len();
            prop_assert!(decode_checkpoint(b"k", &encode_record(b"k", &right[..cut])).is_err());
            let longer = [right.as_slice(), &[0]].concat();
            prop_assert!(decode_checkpoint(b"k", &encode_record(b"k", &longer)).is_err());
        }
    }
}
