//! The file `STORE`, which marks a directory as a store and holds its format version and identity.

use super::{FORMAT_VERSION, Malformed, check_crc};
use crate::model::{Begun, EPOCHS_MAX, Epoch, Epochs, Position, Timestamp};

/// Length of the file `STORE` of a store in its first epoch.
const STORE_FILE_LEN: usize = 40;
/// Length of an epoch in the file: its id, and the position after which it begins.
const EPOCH_LEN: usize = 16 + 8;
/// Maximum length of the file `STORE`.
pub const STORE_FILE_LEN_MAX: usize = STORE_FILE_LEN + 1 + EPOCHS_MAX * EPOCH_LEN;
const MAGIC: [u8; 8] = *b"annals\r\n";

/// The identity of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub store_id: [u8; 16],
    pub created_at: Timestamp,
    pub epochs: Epochs,
    /// Whether it is a backup that was never opened for writing.
    pub is_backup: bool,
}

impl Identity {
    /// The identity of a new store. Its first epoch has the store's id.
    pub fn new(store_id: [u8; 16], created_at: Timestamp) -> Self {
        let epochs = Epochs::new(Epoch::from_bytes(store_id));
        Self { store_id, created_at, epochs, is_backup: false }
    }

    /// The same store in a new epoch, which begins after a position.
    pub fn in_new_epoch(&self, after: Option<Position>) -> Self {
        let epochs = self.epochs.begin(Epoch::random(), after);
        Self { epochs, is_backup: false, ..*self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = [
            &MAGIC[..],
            &FORMAT_VERSION.to_be_bytes(),
            &self.store_id,
            &self.created_at.as_micros().to_be_bytes(),
        ]
        .concat();
        let first = Self::new(self.store_id, self.created_at);
        if self.is_backup || self.epochs != first.epochs {
            out.push(u8::from(self.is_backup));
            for begun in self.epochs.begun() {
                out.extend(begun.epoch.as_bytes());
                out.extend(begun.after.map_or(0, Position::get).to_be_bytes());
            }
        }
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out
    }

    /// Decodes the file `STORE`. Returns `None` if it does not begin with the magic bytes, which
    /// every version of annals writes.
    pub fn decode(bytes: &[u8]) -> Option<Result<Self, Malformed>> {
        bytes.strip_prefix(&MAGIC)?;
        Some(Self::decode_known(bytes))
    }

    fn decode_known(bytes: &[u8]) -> Result<Self, Malformed> {
        let damaged = || {
            let found = format!("{} bytes", bytes.len());
            Malformed::damaged(found, format!("{STORE_FILE_LEN} bytes, or more with its epochs"))
        };
        // A later format may be longer, but keeps the magic and version at the beginning and the
        // checksum at the end.
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
        let (store_id, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let (created_at, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let created_at = Timestamp::from_micros(i64::from_be_bytes(*created_at));
        let identity = Self::new(*store_id, created_at);
        let Some((is_backup, epochs)) = rest.split_first() else { return Ok(identity) };
        let is_backup = match is_backup {
            0 => false,
            1 => true,
            _ => return Err(damaged()),
        };
        let begun = epochs.chunks(EPOCH_LEN).map(decode_epoch).collect::<Option<Vec<_>>>();
        let begun = begun.filter(|begun| begun.len() <= EPOCHS_MAX).ok_or_else(damaged)?;
        let epochs = Epochs::from_begun(&begun).ok_or_else(damaged)?;
        if !is_backup && epochs == identity.epochs {
            return Err(damaged());
        }
        Ok(Self { epochs, is_backup, ..identity })
    }
}

/// Decodes an epoch. Returns `None` if there are too few bytes.
fn decode_epoch(bytes: &[u8]) -> Option<Begun> {
    let (epoch, after) = bytes.split_first_chunk::<16>()?;
    let after = u64::from_be_bytes(after.try_into().ok()?);
    Some(Begun { epoch: Epoch::from_bytes(*epoch), after: Position::new(after) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new([0xab; 16], Timestamp::from_micros(258))
    }

    #[test]
    fn epochs_are_encoded_only_if_needed() {
        let backup = Identity { is_backup: true, ..identity() };
        let mut expected = identity().encode()[..36].to_vec();
        expected.push(1);
        expected.extend([0xab; 16]);
        expected.extend([0; 8]);
        assert_eq!(backup.encode()[..61], expected);
        assert_eq!(backup.encode().len(), 65);
        assert_eq!(Identity::decode(&backup.encode()), Some(Ok(backup.clone())));

        let mut restored = backup;
        for number in 0..2 * EPOCHS_MAX as u64 {
            restored = restored.in_new_epoch(Position::new(number));
            assert!(!restored.is_backup);
            assert_eq!(Identity::decode(&restored.encode()), Some(Ok(restored.clone())));
        }
        assert_eq!(restored.encode().len(), STORE_FILE_LEN_MAX);
    }

    #[test]
    fn identity_file_has_the_specified_bytes_and_decodes_again() {
        let bytes = identity().encode();
        let mut expected = b"annals\r\n\0\0\0\x01".to_vec();
        expected.extend([0xab; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes[..36], expected);
        assert_eq!(Identity::decode(&bytes), Some(Ok(identity())));
        assert_eq!(bytes.len(), STORE_FILE_LEN);
    }

    #[test]
    fn damage_later_format_and_foreign_file_are_distinguished() {
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
