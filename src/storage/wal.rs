//! Reads RocksDB's write-ahead log files only as far as needed to find where they end.
//!
//! An entry is a batch. It begins with its sequence number (8 bytes) and the count of its changes
//! (4 bytes). The next batch's sequence number is the sum of the two.

#![expect(clippy::little_endian_bytes, reason = "the files are RocksDB's")]

use std::io::{self, Read};

use super::engine_log::{self, ENTRY_HEAD_LEN, Ending, Extent};

/// Reads a file whose first batch must have the number `next`, if that is known. Returns where the
/// file ends, and the number after its last batch, or `next` if it has no batch.
pub(super) fn read(file: impl Read, mut next: Option<u64>) -> io::Result<(Extent, Option<u64>)> {
    let extent = engine_log::read(file, |head| {
        let Ok(head) = <&[u8; ENTRY_HEAD_LEN]>::try_from(head) else { return Err(Ending::Damaged) };
        let [number @ .., c0, c1, c2, c3] = *head;
        let (number, count) = (u64::from_le_bytes(number), u32::from_le_bytes([c0, c1, c2, c3]));
        // A lower number is valid: a failed write may have been repeated.
        if next.is_some_and(|next| number > next) {
            return Err(Ending::Gap);
        }
        next = Some(number.saturating_add(u64::from(count)));
        Ok(())
    })?;
    Ok((extent, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with batches of these numbers, counts and lengths.
    fn file(batches: &[(u64, u32, usize)]) -> Vec<u8> {
        let batches = batches.iter().map(|(number, count, len)| {
            let head = [&number.to_le_bytes()[..], &count.to_le_bytes()].concat();
            [head, vec![7; *len]].concat()
        });
        let batches: Vec<_> = batches.collect();
        engine_log::tests::file(batches.iter().map(Vec::as_slice))
    }

    #[test]
    fn batch_out_of_sequence_is_reported() {
        let gap = file(&[(1, 2, 100), (3, 1, 10), (5, 1, 10)]);
        let len = file(&[(1, 2, 100), (3, 1, 10)]).len() as u64;
        assert_eq!(read(&*gap, Some(1)).unwrap(), (Extent { len, ending: Ending::Gap }, Some(4)));
        assert_eq!(read(&*file(&[(4, 1, 10)]), Some(3)).unwrap().0.ending, Ending::Gap);
        assert_eq!(read(&*file(&[(4, 1, 10)]), None).unwrap().1, Some(5));
        let again = file(&[(1, 2, 100), (1, 2, 100), (3, 1, 5)]);
        assert_eq!(read(&*again, Some(1)).unwrap().0.ending, Ending::Whole);
    }

    #[test]
    fn entry_too_short_for_a_batch_is_damage() {
        let file = engine_log::tests::file([&[1; 11][..]]);
        assert_eq!(read(&*file, None).unwrap().0, Extent { len: 0, ending: Ending::Damaged });
    }
}
