//! The file `STORE`: that this directory is a store, in which format, and which one.

use super::{FORMAT_VERSION, Malformed, check_crc};
use crate::model::Timestamp;

/// Length of the file `STORE`.
pub(crate) const STORE_FILE_LEN: usize = 40;
const MAGIC: [u8; 8] = *b"annals\r\n";

/// Which store this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store_id: [u8; 16],
    pub(crate) created_at: Timestamp,
}

impl Identity {
    pub(crate) fn encode(&self) -> [u8; STORE_FILE_LEN] {
        let mut out = [0; STORE_FILE_LEN];
        let parts = MAGIC
            .into_iter()
            .chain(FORMAT_VERSION.to_be_bytes())
            .chain(self.store_id)
            .chain(self.created_at.as_micros().to_be_bytes());
        for (byte, part) in out.iter_mut().zip(parts) {
            *byte = part;
        }
        if let Some((body, crc)) = out.split_last_chunk_mut::<4>() {
            *crc = crc32fast::hash(body).to_be_bytes();
        }
        out
    }

    /// `None` if the bytes do not begin as the file of any version of annals does.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Result<Self, Malformed>> {
        bytes.strip_prefix(&MAGIC)?;
        Some(Self::decode_known(bytes))
    }

    fn decode_known(bytes: &[u8]) -> Result<Self, Malformed> {
        let damaged = || {
            let found = format!("{} bytes", bytes.len());
            Malformed::damaged(found, format!("{STORE_FILE_LEN} bytes"))
        };
        // A later format may be longer, but keeps magic, version and the checksum at the end.
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        let (version, rest) = body
            .get(MAGIC.len()..)
            .and_then(|rest| rest.split_first_chunk::<4>())
            .ok_or_else(damaged)?;
        check_crc(u32::from_be_bytes(*crc), crc32fast::hash(body))?;
        let version = u32::from_be_bytes(*version);
        if version != FORMAT_VERSION {
            let (found, supported) = (u64::from(version), u64::from(FORMAT_VERSION));
            return Err(Malformed::Unsupported { what: "store", found, supported });
        }
        let (store_id, created_at) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let created_at: [u8; 8] = created_at.try_into().map_err(|_| damaged())?;
        let created_at = Timestamp::from_micros(i64::from_be_bytes(created_at));
        Ok(Self { store_id: *store_id, created_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { store_id: [0xab; 16], created_at: Timestamp::from_micros(258) }
    }

    #[test]
    fn the_file_is_the_bytes_that_the_format_says_and_is_read_again() {
        let bytes = identity().encode();
        let mut expected = b"annals\r\n\0\0\0\x01".to_vec();
        expected.extend([0xab; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes[..36], expected);
        assert_eq!(Identity::decode(&bytes), Some(Ok(identity())));
    }

    #[test]
    fn damage_a_later_format_and_a_foreign_file_are_told_apart() {
        let mut later = identity().encode();
        later[11] = 2;
        assert!(matches!(Identity::decode(&later), Some(Err(Malformed::Damaged { .. }))));
        let (body, crc) = later.split_last_chunk_mut::<4>().unwrap();
        *crc = crc32fast::hash(body).to_be_bytes();
        let unsupported = Malformed::Unsupported { what: "store", found: 2, supported: 1 };
        assert_eq!(Identity::decode(&later), Some(Err(unsupported)));
        assert_eq!(Identity::decode(b"#!/bin/sh"), None);
        for len in 8..STORE_FILE_LEN {
            assert!(matches!(Identity::decode(&identity().encode()[..len]), Some(Err(_))));
        }
    }
}
