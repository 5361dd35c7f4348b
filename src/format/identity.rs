//! The file `STORE`, which marks a directory as a store and holds its format version and identity.

use bincode::Encode;

use super::cursor::Cursor;
use super::features::{FEATURE_NAME_LEN_MAX, FEATURES_MAX};
use super::{CONFIG, FORMAT_VERSION, Features, Malformed, check_crc};
use crate::model::{Begun, EPOCHS_MAX, Epoch, Epochs, Position, Timestamp};

/// Maximum length of the file `STORE`: the magic, the version, the fields, the lists with their
/// lengths, and the checksum.
pub const STORE_FILE_LEN_MAX: usize = 8
    + 4
    + (16 + 9 + 1)
    + (1 + FEATURES_MAX * (1 + 1 + FEATURE_NAME_LEN_MAX))
    + (1 + EPOCHS_MAX * (16 + 9))
    + 4;
const MAGIC: [u8; 8] = *b"annals\r\n";

/// The mark of a backup that was never opened for writing. No other mark is in use.
const MARK_BACKUP: u8 = 1;

/// The identity of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub store_id: [u8; 16],
    pub created_at: Timestamp,
    /// Whether it is a backup that was never opened for writing.
    pub is_backup: bool,
    pub features: Features,
    pub epochs: Epochs,
}

/// The fields as bincode writes them and [`Cursor`] reads them. bincode's own decoder would
/// allocate a list by the length that it read.
#[derive(Encode)]
struct StoreBytes<'a> {
    store_id: [u8; 16],
    created_at: i64,
    marks: u8,
    /// The class and the name of each.
    features: Vec<(u8, &'a str)>,
    /// The id of each, and the last position that it shares with the one before.
    epochs: Vec<([u8; 16], u64)>,
}

impl Identity {
    /// What has the format version that `STORE` holds, in [`Malformed::Unsupported`].
    pub(crate) const STORE: &'static str = "store";

    /// The identity of a new store, which has an index. Its first epoch has the store's id.
    pub fn new(store_id: [u8; 16], created_at: Timestamp) -> Self {
        let epochs = Epochs::new(Epoch::from_bytes(store_id));
        let features = Features::default().with_index();
        Self { store_id, created_at, is_backup: false, features, epochs }
    }

    /// The same store with an index.
    pub fn with_index(&self) -> Self {
        Self { features: self.features.clone().with_index(), ..self.clone() }
    }

    /// The same store, from which events may be deleted.
    pub fn with_deletions(&self) -> Self {
        Self { features: self.features.clone().with_deletions(), ..self.clone() }
    }

    /// The same store in a new epoch, which begins after a position.
    pub fn in_new_epoch(&self, after: Option<Position>) -> Self {
        let epochs = self.epochs.begin(Epoch::random(), after);
        Self { epochs, is_backup: false, ..self.clone() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let epochs = self.epochs.begun().iter();
        let fields = StoreBytes {
            store_id: self.store_id,
            created_at: self.created_at.as_micros(),
            marks: if self.is_backup { MARK_BACKUP } else { 0 },
            features: self.features.encode(),
            epochs: epochs
                .map(|begun| (*begun.epoch.as_bytes(), begun.after.map_or(0, Position::get)))
                .collect(),
        };
        let mut out = [&MAGIC[..], &FORMAT_VERSION.to_be_bytes()].concat();
        let written = bincode::encode_into_std_write(fields, &mut out, CONFIG);
        assert!(written.is_ok(), "encoding into memory failed: {written:?}");
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out
    }

    /// Decodes the file `STORE`. Returns `None` if it does not begin with the magic bytes, which
    /// every version of annals writes.
    pub fn decode(bytes: &[u8]) -> Option<Result<Self, Malformed>> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        Some(Self::decode_known(bytes, rest))
    }

    fn decode_known(bytes: &[u8], rest: &[u8]) -> Result<Self, Malformed> {
        let too_short = || Malformed::damaged(format!("{} bytes", bytes.len()), "a longer file");
        // Every format keeps the magic and the version at the beginning and the checksum at the
        // end.
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
        let (fields, crc) = rest.split_last_chunk::<4>().ok_or_else(too_short)?;
        let summed = bytes.get(..bytes.len() - crc.len()).unwrap_or_default();
        check_crc(u32::from_be_bytes(*crc), crc32fast::hash(summed))?;
        let version = u32::from_be_bytes(*version);
        if version != FORMAT_VERSION {
            let (found, supported) = (u64::from(version), u64::from(FORMAT_VERSION));
            return Err(Malformed::Unsupported { what: Self::STORE, found, supported });
        }
        let damaged = |found: &str| Malformed::damaged(found, "the fields of a store");
        let read = StoreBytes::read(&mut Cursor::new(fields));
        let read = read.ok_or_else(|| damaged("bytes that do not decode"))?;
        if read.marks & !MARK_BACKUP != 0 {
            let (found, supported) = (u64::from(read.marks), u64::from(MARK_BACKUP));
            return Err(Malformed::Unsupported { what: "marks", found, supported });
        }
        let begun = read.epochs.iter().map(|(epoch, after)| Begun {
            epoch: Epoch::from_bytes(*epoch),
            after: Position::new(*after),
        });
        let epochs = Epochs::from_begun(&begun.collect::<Vec<_>>());
        let identity = Self {
            store_id: read.store_id,
            created_at: Timestamp::from_micros(read.created_at),
            is_backup: read.marks == MARK_BACKUP,
            features: Features::decode(&read.features)?,
            epochs: epochs.ok_or_else(|| damaged("no epoch"))?,
        };
        // This also finds bytes after the last field, and numbers in more bytes than they need.
        if identity.encode() != bytes {
            return Err(damaged("other bytes than its fields encode to"));
        }
        Ok(identity)
    }
}

impl<'a> StoreBytes<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        Some(Self {
            store_id: cursor.id()?,
            created_at: cursor.i64()?,
            marks: cursor.byte()?,
            features: list(cursor, FEATURES_MAX, |cursor| Some((cursor.byte()?, cursor.text()?)))?,
            epochs: list(cursor, EPOCHS_MAX, |cursor| Some((cursor.id()?, cursor.u64()?)))?,
        })
    }
}

/// Reads a list of at most `len_max` items. It allocates as it reads, not by the length it read.
fn list<'a, T>(
    cursor: &mut Cursor<'a>,
    len_max: usize,
    item: impl Fn(&mut Cursor<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let len = usize::try_from(cursor.u64()?).ok().filter(|len| *len <= len_max)?;
    let mut items = Vec::new();
    for _ in 0..len {
        items.push(item(cursor)?);
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> Identity {
        Identity::new([0xab; 16], Timestamp::from_micros(258))
    }

    /// A backup of a store with two features, in its second epoch.
    fn backup() -> Identity {
        let epochs = identity().epochs.begin(Epoch::from_bytes([0xcd; 16]), Position::new(300));
        let features = Features::decode(&[(1, "index"), (2, "sealed-events")]).unwrap();
        Identity { is_backup: true, features, epochs, ..identity() }
    }

    /// Encoded fields between the magic, a version and a valid checksum.
    fn sealed(version: u32, fields: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &version.to_be_bytes(), fields].concat();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// The fields of an encoded identity.
    fn fields(identity: &Identity) -> Vec<u8> {
        let bytes = identity.encode();
        bytes[12..bytes.len() - 4].to_vec()
    }

    fn refused(bytes: &[u8]) -> Malformed {
        Identity::decode(bytes).unwrap().unwrap_err()
    }

    /// Format version 2, frozen once it is released: if this fails, existing stores can no longer
    /// be read.
    #[test]
    fn identity_file_has_the_specified_bytes_and_decodes_again() {
        for (identity, golden) in [(identity(), GOLDEN_NEW), (backup(), GOLDEN_BACKUP)] {
            let bytes = identity.encode();
            assert_eq!(super::super::hex(&bytes), golden);
            assert_eq!(Identity::decode(&bytes), Some(Ok(identity)));
        }
    }

    /// The magic and version 2; store id, time, no mark, an index, one epoch; the checksum.
    const GOLDEN_NEW: &str = concat!(
        "616e6e616c730d0a00000002",
        "abababababababababababababababab",
        "fb0402",
        "00",
        "010105696e646578",
        "01abababababababababababababababab00",
        "4e5c3eb0"
    );

    /// The same as a backup, with two features and two epochs.
    const GOLDEN_BACKUP: &str = concat!(
        "616e6e616c730d0a00000002",
        "abababababababababababababababab",
        "fb0402",
        "01",
        "020105696e646578020d7365616c65642d6576656e7473",
        "02abababababababababababababababab00cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdfb2c01",
        "ebccbb21"
    );

    #[test]
    fn new_epoch_keeps_the_features_and_ends_a_backup() {
        let next = backup().in_new_epoch(Position::new(7));
        assert!(!next.is_backup);
        assert_eq!(next.features, backup().features);
        assert_eq!(next.epochs.begun().len(), 3);
    }

    #[test]
    fn longest_identity_has_the_maximal_length() {
        let names: Vec<_> = (0..FEATURES_MAX).map(|number| format!("{number:032}")).collect();
        let stored: Vec<_> = names.iter().map(|name| (2, name.as_str())).collect();
        let mut longest = Identity {
            created_at: Timestamp::from_micros(i64::MAX),
            features: Features::decode(&stored).unwrap(),
            ..identity()
        };
        for _ in 0..2 * EPOCHS_MAX {
            longest = longest.in_new_epoch(Position::new(u64::MAX));
        }
        assert_eq!(longest.encode().len(), STORE_FILE_LEN_MAX);
        assert_eq!(Identity::decode(&longest.encode()), Some(Ok(longest)));
    }

    #[test]
    fn other_format_damage_and_foreign_file_are_distinguished() {
        for version in [0, 1, 3, u32::MAX] {
            let found = u64::from(version);
            let unsupported = Malformed::Unsupported { what: "store", found, supported: 2 };
            assert_eq!(refused(&sealed(version, b"any other content")), unsupported);
            assert_eq!(refused(&sealed(version, b"")), unsupported);
        }
        assert_eq!(Identity::decode(b"#!/bin/sh"), None);
        let bytes = backup().encode();
        for len in 8..bytes.len() {
            assert!(matches!(refused(&bytes[..len]), Malformed::Damaged { .. }), "cut to {len}");
        }
        for bit in 64..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(refused(&damaged), Malformed::Damaged { .. }), "bit {bit}");
        }
    }

    #[test]
    fn unknown_marks_are_unsupported() {
        for marks in [2, 3, 0x80] {
            let mut fields = fields(&identity());
            fields[19] = marks;
            let found = u64::from(marks);
            let unsupported = Malformed::Unsupported { what: "marks", found, supported: 1 };
            assert_eq!(refused(&sealed(2, &fields)), unsupported);
        }
    }

    /// The checksum is valid in all of them.
    #[test]
    fn invalid_fields_are_damage() {
        let id = [0xab; 16];
        let encoded = |features: Vec<(u8, &str)>, epochs: usize| {
            let epochs = vec![(id, 0); epochs];
            let bytes = StoreBytes { store_id: id, created_at: 0, marks: 0, features, epochs };
            bincode::encode_to_vec(bytes, CONFIG).unwrap()
        };
        assert!(
            Identity::decode(&sealed(2, &encoded(vec![(0, "a")], EPOCHS_MAX))).unwrap().is_ok()
        );
        let mut longer = encoded(vec![], 1);
        longer.push(0);
        // Says 2^64 - 1 features.
        let mut endless = encoded(vec![], 0);
        endless.truncate(18);
        endless.extend([0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        // The number 0 in three bytes.
        let mut wide = encoded(vec![], 1);
        wide.splice(16..17, [0xfb, 0, 0]);
        for invalid in [
            encoded(vec![], 0),
            encoded(vec![], EPOCHS_MAX + 1),
            encoded(vec![(0, "b"), (0, "a")], 1),
            encoded(vec![(0, "a"); 2], 1),
            encoded(vec![(0, "A")], 1),
            longer,
            endless,
            wide,
            vec![],
        ] {
            let refused = refused(&sealed(2, &invalid));
            assert!(matches!(refused, Malformed::Damaged { .. }), "{invalid:02x?}: {refused:?}");
        }
    }

    proptest! {
        /// The checksum is valid, so these bytes reach the decoder.
        #[test]
        fn any_fields_decode_or_are_refused_without_panic(
            at in 0..fields(&backup()).len(),
            bytes in proptest::collection::vec(any::<u8>(), 0..4),
            other in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut changed = fields(&backup());
            changed.splice(at..(at + bytes.len()).min(changed.len()), bytes.iter().copied());
            for fields in [changed, other] {
                let bytes = sealed(2, &fields);
                if let Some(Ok(identity)) = Identity::decode(&bytes) {
                    prop_assert_eq!(identity.encode(), bytes);
                }
            }
        }
    }
}
