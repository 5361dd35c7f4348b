//! Small records: a version, a checksum, the record's key, and a body.
//!
//! A record contains its key, so that a record under a wrong key is detected.

use bincode::{BorrowDecode, Encode};

use super::{CONFIG, ENVELOPE_LEN, Malformed, open_envelope, seal_envelope};

const RECORD_VERSION: u8 = 1;

#[derive(Encode, BorrowDecode)]
struct RecordBytes<'a> {
    owner: &'a [u8],
    body: &'a [u8],
}

/// Encodes a record for the key `owner`.
pub fn encode_record(owner: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ENVELOPE_LEN];
    let written = bincode::encode_into_std_write(RecordBytes { owner, body }, &mut out, CONFIG);
    assert!(written.is_ok(), "encoding into memory failed: {written:?}");
    seal_envelope(RECORD_VERSION, &mut out);
    out
}

/// Decodes the record stored under the key `owner`, and returns its body.
pub fn decode_record<'a>(owner: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let rest = open_envelope("record version", RECORD_VERSION, bytes)?;
    let (record, used): (RecordBytes<'a>, usize) = bincode::borrow_decode_from_slice(rest, CONFIG)
        .map_err(|error| Malformed::undecodable("a record", &error))?;
    if record.owner != owner || used != rest.len() {
        return Err(Malformed::damaged("the record of another key", "the record of this key"));
    }
    Ok(record.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_decodes_only_under_its_own_key() {
        let bytes = encode_record(b"key", b"body");
        assert_eq!(bytes[ENVELOPE_LEN..], *b"\x03key\x04body");
        assert_eq!(decode_record(b"key", &bytes), Ok(&b"body"[..]));
        assert!(decode_record(b"yek", &bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(b"key", &damaged).is_err());
        }
    }
}
