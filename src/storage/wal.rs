//! RocksDB's write-ahead log files, read as far as it takes to find where they end.
//!
//! A file is blocks of 32 KiB. A block is records, each a checksum (CRC-32C, masked), a length of two bytes, a kind,
//! and bytes; fewer than seven bytes that are left at the end of a block are zero. A batch is one record, or a first
//! one, middle ones and a last one. It begins with its sequence number (8 bytes) and the count of its changes (4
//! bytes), and the next batch has the number after them. Numbers are little-endian.

#![expect(clippy::little_endian_bytes, reason = "the files are RocksDB's")]

use std::io::Read;

const BLOCK_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 7;
/// What a batch begins with.
const BATCH_HEAD_LEN: usize = 12;
/// What a disk writes whole or not at all.
const SECTOR_LEN: usize = 512;
/// So many zeros at the end of a sector say that it was not written to its end. A block ends in fewer.
const ZEROS_MIN: usize = 8;

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With its last batch, or within one that was still being written.
    Whole,
    /// Within a batch, of which sectors are missing that would stand before the end of the file: as a power loss leaves
    /// what was not synced.
    Torn,
    /// Before a batch that is not the next one: what stands between them is missing.
    Gap,
    /// In what is neither right nor as a power loss leaves it.
    Damaged,
    /// In a kind of record that annals does not make RocksDB write.
    Unknown,
}

/// What was found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Length of the part that holds whole batches, one after the other.
    pub(super) len: u64,
    /// The sequence number that comes next; `None` while there was no batch.
    pub(super) next: Option<u64>,
    pub(super) ending: Ending,
}

/// Reads a file whose first batch must have the number `next`, if that is known.
pub(super) fn read(mut file: impl Read, next: Option<u64>) -> std::io::Result<Reading> {
    let mut reader =
        Reader { reading: Reading { len: 0, next, ending: Ending::Whole }, head: None };
    let mut block = Vec::with_capacity(BLOCK_LEN);
    let mut at = 0;
    loop {
        block.clear();
        file.by_ref().take(BLOCK_LEN as u64).read_to_end(&mut block)?;
        if let Err(ending) = reader.take(&block, at) {
            reader.reading.ending = ending;
            return Ok(reader.reading);
        }
        if block.len() < BLOCK_LEN {
            return Ok(reader.reading);
        }
        at += BLOCK_LEN as u64;
    }
}

struct Reader {
    reading: Reading,
    /// How a batch begins whose end was not met yet.
    head: Option<Vec<u8>>,
}

impl Reader {
    /// Takes the records of the block that stands `at` this byte of the file.
    fn take(&mut self, block: &[u8], at: u64) -> Result<(), Ending> {
        let mut rest = block;
        loop {
            let from = block.len() - rest.len();
            // Padding, or a header that the end of the file cuts off.
            let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() else {
                return Ok(());
            };
            let [c0, c1, c2, c3, l0, l1, kind] = *header;
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            if kind == 0 && len == 0 {
                return Err(Ending::Torn);
            }
            let Some((bytes, next)) = behind.split_at_checked(len) else {
                let is_cut_off = block.len() < BLOCK_LEN && from + HEADER_LEN + len <= BLOCK_LEN;
                return if is_cut_off { Ok(()) } else { Err(broken(block, from)) };
            };
            if u32::from_le_bytes([c0, c1, c2, c3]) != masked(crc32c(kind, bytes)) {
                return Err(broken(block, from));
            }
            self.record(kind, bytes, at + (block.len() - next.len()) as u64)?;
            rest = next;
        }
    }

    /// Takes a record that ends at this byte of the file.
    fn record(&mut self, kind: u8, bytes: &[u8], end: u64) -> Result<(), Ending> {
        // Full, first, middle, last.
        let (begins, ends) = match kind {
            1 => (true, true),
            2 => (true, false),
            3 => (false, false),
            4 => (false, true),
            _ => return Err(Ending::Unknown),
        };
        let mut head = match (begins, self.head.take()) {
            (true, None) => Vec::new(),
            (false, Some(head)) => head,
            _ => return Err(Ending::Damaged),
        };
        let wanted = BATCH_HEAD_LEN.saturating_sub(head.len());
        head.extend(bytes.iter().take(wanted));
        if !ends {
            self.head = Some(head);
            return Ok(());
        }
        let Some((number, count)) = head.split_first_chunk::<8>() else {
            return Err(Ending::Damaged);
        };
        let Some((count, _)) = count.split_first_chunk::<4>() else { return Err(Ending::Damaged) };
        let (number, count) = (u64::from_le_bytes(*number), u32::from_le_bytes(*count));
        if self.reading.next.is_some_and(|next| number > next) {
            return Err(Ending::Gap);
        }
        self.reading.next = Some(number.saturating_add(u64::from(count)));
        self.reading.len = end;
        Ok(())
    }
}

/// Whether the record at this byte of the block lacks a sector, or is damaged.
fn broken(block: &[u8], from: usize) -> Ending {
    let sectors = block.chunks(SECTOR_LEN).enumerate().filter_map(|(index, sector)| {
        let begin = from.saturating_sub(index * SECTOR_LEN);
        sector.get(begin..).filter(|part| !part.is_empty())
    });
    let mut unwritten = sectors.filter(|part| {
        let zeros = part.iter().rev().take_while(|byte| **byte == 0).count();
        zeros == part.len() || zeros >= ZEROS_MIN
    });
    if unwritten.next().is_some() { Ending::Torn } else { Ending::Damaged }
}

/// A checksum as it is stored: one that is computed over checksums would be weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli) of a kind and bytes.
fn crc32c(kind: u8, bytes: &[u8]) -> u32 {
    let all = std::iter::once(&kind).chain(bytes);
    !all.fold(!0, |crc: u32, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default()
    })
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    let mut rest: &mut [u32] = &mut table;
    while let Some((entry, others)) = rest.split_first_mut() {
        let mut crc: u32 = index;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        *entry = crc;
        rest = others;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as RocksDB writes it: batches of these numbers, counts and lengths.
    fn file(batches: &[(u64, u32, usize)]) -> Vec<u8> {
        let mut file = Vec::new();
        for (number, count, len) in batches {
            let mut batch = [&number.to_le_bytes()[..], &count.to_le_bytes()].concat();
            batch.extend((0..*len).map(|n| u8::try_from(n % 255).unwrap() + 1));
            let mut rest = batch.as_slice();
            let mut begins = true;
            while begins || !rest.is_empty() {
                let mut room = BLOCK_LEN - file.len() % BLOCK_LEN;
                if room < HEADER_LEN {
                    file.resize(file.len() + room, 0);
                    room = BLOCK_LEN;
                }
                let (part, left) = rest.split_at(rest.len().min(room - HEADER_LEN));
                let kind = match (begins, left.is_empty()) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                };
                file.extend(masked(crc32c(kind, part)).to_le_bytes());
                file.extend(u16::try_from(part.len()).unwrap().to_le_bytes());
                file.push(kind);
                file.extend(part);
                (rest, begins) = (left, false);
            }
        }
        file
    }

    fn ending(file: &[u8]) -> (u64, Ending) {
        let reading = read(file, Some(1)).unwrap();
        (reading.len, reading.ending)
    }

    const BATCHES: [(u64, u32, usize); 4] =
        [(1, 2, 100), (3, 1, 70_000), (4, 5, 3_000), (9, 1, 10)];

    /// Where the batches end.
    fn ends() -> [u64; 4] {
        [1, 2, 3, 4].map(|count| file(&BATCHES[..count]).len() as u64)
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(b'1', b"23456789"), 0xe306_9283);
    }

    #[test]
    fn a_file_is_whole_wherever_its_end_is_cut_off() {
        let (all, ends) = (file(&BATCHES), ends());
        assert_eq!(read(&*all, None).unwrap().next, Some(10));
        for len in (0..all.len()).step_by(41).chain([all.len()]) {
            let whole = ends.into_iter().filter(|end| *end <= len as u64).max().unwrap_or_default();
            assert_eq!(ending(&all[..len]), (whole, Ending::Whole), "{len}");
        }
    }

    #[test]
    fn a_file_ends_before_the_first_sector_that_is_not_there() {
        let (all, ends) = (file(&BATCHES), ends());
        for from in (0..all.len()).step_by(SECTOR_LEN) {
            let mut torn = all.clone();
            let sector = from..(from + SECTOR_LEN).min(all.len());
            torn[sector.clone()].fill(0);
            // What ends in padding and what stands before the sector is not concerned.
            let whole =
                ends.into_iter().filter(|end| *end <= from as u64).max().unwrap_or_default();
            assert_eq!(ending(&torn), (whole, Ending::Torn), "{sector:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let (all, ends) = (file(&BATCHES), ends());
        for at in (0..all.len()).step_by(37) {
            let mut damaged = all.clone();
            damaged[at] ^= 1;
            let before = ends.into_iter().filter(|end| *end <= at as u64).max().unwrap_or_default();
            let found = ending(&damaged);
            assert!(
                matches!(found, (len, Ending::Damaged | Ending::Whole) if len == before),
                "{at}: {found:?}"
            );
        }
    }

    #[test]
    fn a_batch_that_is_not_the_next_one_is_told() {
        let gap = file(&[(1, 2, 100), (3, 1, 10), (5, 1, 10)]);
        assert_eq!(ending(&gap), (file(&[(1, 2, 100), (3, 1, 10)]).len() as u64, Ending::Gap));
        assert_eq!(read(&*file(&[(4, 1, 10)]), Some(3)).unwrap().ending, Ending::Gap);
        // One that was written again is not: a write may have failed and been made anew.
        assert_eq!(ending(&file(&[(1, 2, 100), (1, 2, 100), (3, 1, 5)])).1, Ending::Whole);
    }
}
