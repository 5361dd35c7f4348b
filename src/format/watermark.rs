//! The file `watermark`: the last position known to be durable, outside the database and
//! independent of it.
//!
//! It has two slots of 512 bytes, written in turn, so that a torn write leaves the other intact.
//! The valid slot with the higher number counts.
//!
//! Evidence follows the original fields of a slot: the checksum of the frame that ends at that
//! position, the number and length of the database's manifest, and the number of the last durable
//! idempotency key. A new store has zeros there.

use super::{Malformed, check_crc};
use crate::model::Position;

/// Length of one slot: one sector, so that writing one slot cannot tear the other.
pub const SLOT_LEN: usize = 512;
/// Length of the original fields of a slot, before their checksum.
const BODY_LEN: usize = 42;
/// Where the evidence ends and its checksum begins; the bytes after that are zero.
const EVIDENCE_END: usize = 74;
const MAGIC: [u8; 8] = *b"annalsWM";
/// Maximum number of a slot. No store writes that often, and counting on from any number up to it
/// cannot overflow.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// The content of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The store it belongs to.
    pub store_id: [u8; 16],
    /// The last durable position; `None` in an empty store.
    pub durable: Option<Position>,
    /// Whether the shutdown was clean: everything is in table files, and the head is `durable`.
    pub is_clean: bool,
    /// `None` in a new store.
    pub evidence: Option<Evidence>,
}

/// Detects a database that is not the one the watermark was written for, or that is an older state
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The checksum of the frame that ends at the durable position; 0 if there is none.
    pub frame: u32,
    /// `None` if the manifest could not be read.
    pub manifest: Option<Manifest>,
    /// The number of the last durable idempotency key; 0 before the first.
    pub last_key: u64,
}

/// A manifest of the database, which only grows until a manifest with a higher number replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// 1 or more.
    pub number: u64,
    /// A lower bound of its durable length in bytes.
    pub len: u64,
}

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The number of this write: even in the first slot, odd in the second.
    pub number: u64,
    pub watermark: Watermark,
}

impl Slot {
    pub fn encode(&self) -> [u8; SLOT_LEN] {
        let mut out = [0; SLOT_LEN];
        let durable = self.watermark.durable.map_or(0, Position::get);
        let parts = MAGIC
            .into_iter()
            .chain(self.number.to_be_bytes())
            .chain(self.watermark.store_id)
            .chain(durable.to_be_bytes())
            .chain([u8::from(self.watermark.durable.is_some()), u8::from(self.watermark.is_clean)]);
        for (byte, part) in out.iter_mut().zip(parts) {
            *byte = part;
        }
        let crc = checksum(&out, BODY_LEN);
        put(&mut out, BODY_LEN, crc);
        if let Some(Evidence { frame, manifest, last_key }) = self.watermark.evidence {
            let Manifest { number, len } = manifest.unwrap_or(Manifest { number: 0, len: 0 });
            put(&mut out, BODY_LEN + 4, number.to_be_bytes());
            put(&mut out, BODY_LEN + 12, len.to_be_bytes());
            put(&mut out, BODY_LEN + 20, frame.to_be_bytes());
            put(&mut out, BODY_LEN + 24, last_key.to_be_bytes());
            let crc = checksum(&out, EVIDENCE_END);
            put(&mut out, EVIDENCE_END, crc);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let short = || Malformed::damaged(format!("{} bytes", bytes.len()), "a slot of 512 bytes");
        let slot: &[u8; SLOT_LEN] = bytes.try_into().map_err(|_| short())?;
        let (body, crc) = slot.split_first_chunk::<BODY_LEN>().ok_or_else(short)?;
        let crc = crc.first_chunk::<4>().ok_or_else(short)?;
        check_crc(u32::from_be_bytes(*crc), crc32fast::hash(body))?;
        let (magic, rest) = body.split_first_chunk::<8>().ok_or_else(short)?;
        let (number, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (store_id, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let (durable, flags) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let durable = Position::new(u64::from_be_bytes(*durable));
        let number = u64::from_be_bytes(*number);
        let is_right = *magic == MAGIC
            && number <= NUMBER_MAX
            && matches!(flags, [some, 0 | 1] if *some == u8::from(durable.is_some()));
        if !is_right {
            return Err(Malformed::damaged("something else", "a watermark"));
        }
        Ok(Self {
            number,
            watermark: Watermark {
                store_id: *store_id,
                durable,
                is_clean: flags.last() == Some(&1),
                evidence: Evidence::decode(slot)?,
            },
        })
    }

    /// The valid slot with the higher number.
    pub fn newest(file: &[u8]) -> Result<Self, Malformed> {
        let (first, second) = file.split_at_checked(SLOT_LEN).unwrap_or((file, &[]));
        match (Self::decode(first), Self::decode(second)) {
            (Ok(first), Ok(second)) if first.number > second.number => Ok(first),
            (_, Ok(slot)) | (Ok(slot), _) => Ok(slot),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

impl Evidence {
    fn decode(slot: &[u8; SLOT_LEN]) -> Result<Option<Self>, Malformed> {
        let short = || Malformed::damaged("a short slot", "a slot of 512 bytes");
        let (body, rest) = slot.split_first_chunk::<EVIDENCE_END>().ok_or_else(short)?;
        let (crc, _) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let evidence = body.get(BODY_LEN + 4..).ok_or_else(short)?;
        if evidence.iter().chain(crc).all(|byte| *byte == 0) {
            return Ok(None);
        }
        check_crc(u32::from_be_bytes(*crc), crc32fast::hash(body))?;
        let (number, rest) = evidence.split_first_chunk::<8>().ok_or_else(short)?;
        let (len, frame) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (frame, rest) = frame.split_first_chunk::<4>().ok_or_else(short)?;
        let last_key = rest.first_chunk::<8>().ok_or_else(short)?;
        let manifest =
            Manifest { number: u64::from_be_bytes(*number), len: u64::from_be_bytes(*len) };
        Ok(Some(Self {
            frame: u32::from_be_bytes(*frame),
            manifest: Some(manifest).filter(|manifest| manifest.number > 0),
            last_key: u64::from_be_bytes(*last_key),
        }))
    }
}

fn checksum(slot: &[u8; SLOT_LEN], len: usize) -> [u8; 4] {
    slot.get(..len).map_or(0, crc32fast::hash).to_be_bytes()
}

fn put<const N: usize>(slot: &mut [u8; SLOT_LEN], at: usize, bytes: [u8; N]) {
    for (byte, part) in slot.iter_mut().skip(at).zip(bytes) {
        *byte = part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u64, durable: u64) -> Slot {
        let durable = Position::new(durable);
        let (store_id, is_clean) = ([7; 16], number == 3);
        Slot { number, watermark: Watermark { store_id, durable, is_clean, evidence: None } }
    }

    fn with_evidence(slot: Slot) -> Slot {
        let manifest = Some(Manifest { number: 9, len: 260 });
        let evidence = Some(Evidence { frame: 0x0102_0304, manifest, last_key: 5 });
        Slot { watermark: Watermark { evidence, ..slot.watermark }, ..slot }
    }

    #[test]
    fn evidence_follows_the_slot_and_its_damage_is_detected() {
        let (old, new) = (slot(3, 258), with_evidence(slot(3, 258)));
        assert_eq!(old.encode()[..BODY_LEN + 4], new.encode()[..BODY_LEN + 4]);
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 4, 1, 2, 3, 4]; // manifest, frame
        expected.extend(5_u64.to_be_bytes());
        let bytes = new.encode();
        expected.extend(crc32fast::hash(&bytes[..EVIDENCE_END]).to_be_bytes());
        assert_eq!(bytes[BODY_LEN + 4..EVIDENCE_END + 4], expected);
        assert!(bytes[EVIDENCE_END + 4..].iter().all(|byte| *byte == 0));
        assert_eq!(Slot::newest(&bytes), Ok(new));
        for bit in 0..(EVIDENCE_END + 4) * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::newest(&damaged).is_err(), "bit {bit}");
        }
        let evidence = Some(Evidence { frame: 0, manifest: None, last_key: 0 });
        let little = Watermark { evidence, ..new.watermark };
        let little = Slot { watermark: little, ..new };
        assert_eq!(Slot::newest(&little.encode()), Ok(little));
    }

    #[test]
    fn newest_valid_slot_counts_and_torn_slot_does_not() {
        let (old, new) = (slot(2, 10), slot(3, 20));
        let mut file = [old.encode(), new.encode()].concat();
        assert_eq!(Slot::newest(&file), Ok(new));
        file[SLOT_LEN + 20] ^= 1;
        assert_eq!(Slot::newest(&file), Ok(old));
        file[20] ^= 1;
        assert!(Slot::newest(&file).is_err());
        assert_eq!(Slot::newest(&old.encode()), Ok(old));
        assert!(Slot::newest(&[]).is_err());
    }

    #[test]
    fn slot_number_without_a_successor_is_refused() {
        assert!(Slot::newest(&slot(u64::MAX, 1).encode()).is_err());
        let last = slot(NUMBER_MAX, 1);
        assert_eq!(Slot::newest(&last.encode()), Ok(last));
    }

    #[test]
    fn slot_has_the_specified_bytes() {
        let bytes = slot(3, 258).encode();
        let mut expected = b"annalsWM\0\0\0\0\0\0\0\x03".to_vec();
        expected.extend([7; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2, 1, 1]);
        assert_eq!(bytes[..BODY_LEN], expected);
        assert!(bytes[BODY_LEN + 4..].iter().all(|byte| *byte == 0));
    }
}
