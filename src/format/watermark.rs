//! The file `watermark`: the last position that is known to be durable, beside the database and independent of it.
//!
//! It has two slots of 512 bytes, written in turn, so that a torn write leaves the other. The right slot with the
//! higher number counts.

use super::{Malformed, check_crc};
use crate::model::Position;

/// Length of one slot: a sector, so that writing one cannot tear the other.
pub(crate) const SLOT_LEN: usize = 512;
/// What a slot holds before its checksum; the rest is zero.
const BODY_LEN: usize = 42;
const MAGIC: [u8; 8] = *b"annalsWM";
/// No store has written as often. Whoever reads a number can count on from it.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Which store it belongs to.
    pub(crate) store_id: [u8; 16],
    /// The last durable position; `None` in an empty store.
    pub(crate) durable: Option<Position>,
    /// The store was closed in order: everything is in table files, and the head is `durable`.
    pub(crate) is_clean: bool,
}

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Counts the writes: even in the first slot, odd in the second.
    pub(crate) number: u64,
    pub(crate) watermark: Watermark,
}

impl Slot {
    pub(crate) fn encode(&self) -> [u8; SLOT_LEN] {
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
        let crc = out.get(..BODY_LEN).map_or(0, crc32fast::hash).to_be_bytes();
        for (byte, part) in out.iter_mut().skip(BODY_LEN).zip(crc) {
            *byte = part;
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
            },
        })
    }

    /// The slot that counts.
    pub(crate) fn newest(file: &[u8]) -> Result<Self, Malformed> {
        let (first, second) = file.split_at_checked(SLOT_LEN).unwrap_or((file, &[]));
        match (Self::decode(first), Self::decode(second)) {
            (Ok(first), Ok(second)) if first.number > second.number => Ok(first),
            (_, Ok(slot)) | (Ok(slot), _) => Ok(slot),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u64, durable: u64) -> Slot {
        let durable = Position::new(durable);
        Slot { number, watermark: Watermark { store_id: [7; 16], durable, is_clean: number == 3 } }
    }

    #[test]
    fn the_newer_right_slot_counts_and_a_torn_one_does_not() {
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
    fn a_number_that_cannot_be_counted_on_from_is_none_of_a_watermark() {
        assert!(Slot::newest(&slot(u64::MAX, 1).encode()).is_err());
        let last = slot(NUMBER_MAX, 1);
        assert_eq!(Slot::newest(&last.encode()), Ok(last));
    }

    #[test]
    fn a_slot_is_the_bytes_that_the_format_says() {
        let bytes = slot(3, 258).encode();
        let mut expected = b"annalsWM\0\0\0\0\0\0\0\x03".to_vec();
        expected.extend([7; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2, 1, 1]);
        assert_eq!(bytes[..BODY_LEN], expected);
        assert!(bytes[BODY_LEN + 4..].iter().all(|byte| *byte == 0));
    }
}
