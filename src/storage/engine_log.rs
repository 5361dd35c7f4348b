//! Parses RocksDB's log format, shared by its write-ahead logs and its manifest, only as far as
//! needed to find where a log ends.
//!
//! A file consists of blocks of 32 KiB. A block consists of records, which never cross its end.
//! A record is a checksum (CRC-32C, masked), a length of two bytes, a kind, and content. If fewer
//! than seven bytes are left at the end of a block, they are zero. An entry is one full record, or
//! a first record, any number of middle ones, and a last one. Numbers are little-endian.
//!
//! If a log that is not recycled contains a record of a recycled log, RocksDB reads in an endless
//! loop (its issue 13333) or, if that record is the first, takes the log for empty. One flipped
//! bit is enough for either. So annals searches for such records before RocksDB opens the files.

#![expect(clippy::little_endian_bytes, reason = "the files are RocksDB's")]

use std::io::{self, Read, Seek, SeekFrom};

const BLOCK_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 7;
/// How many bytes of an entry `accept` gets: the header of a batch in the write-ahead log.
pub(super) const ENTRY_HEAD_LEN: usize = 12;
/// The number of bytes that a disk writes atomically.
const SECTOR_LEN: usize = 512;
/// A sector that ends in this many zeros was not written to its end. The padding of a block is
/// shorter.
const ZEROS_MIN: usize = 8;
/// The record kinds of recycled logs. annals never recycles logs.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// After its last entry, or within an entry that was still being written.
    Whole,
    /// Within an entry that lacks sectors before the end of the file. A power loss leaves unsynced
    /// data in this state.
    Torn,
    /// Before an entry that is not the next one: the entries between them are missing.
    Gap,
    /// In bytes that are neither valid nor the result of a power loss.
    Damaged,
    /// In a kind of record that RocksDB does not write with the options that annals sets.
    Unknown,
}

/// Where and how a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Length of the prefix that holds only whole entries.
    pub(super) len: u64,
    pub(super) ending: Ending,
}

/// Reads a file up to its end or the first error, and passes the first bytes of each entry to
/// `accept`. If `accept` returns an error, the file ends before that entry.
pub(super) fn read(
    mut file: impl Read,
    accept: impl FnMut(&[u8]) -> Result<(), Ending>,
) -> io::Result<Extent> {
    let mut reader = Reader { from: 0, len: 0, head: None, accept };
    let mut ending = Ending::Whole;
    for_each_block(&mut file, |at, block| match reader.take(block, at) {
        Ok(()) => true,
        Err(found) => {
            ending = found;
            false
        }
    })?;
    Ok(Extent { len: reader.len, ending })
}

/// Finds where the last entry of a file ends. An entry must end at `from`; blocks before it are
/// not read.
pub(super) fn end_behind(mut file: impl Read + Seek, from: u64) -> io::Result<u64> {
    let before = from - from % BLOCK_LEN as u64;
    file.seek(SeekFrom::Start(before))?;
    let mut reader = Reader { from, len: from, head: None, accept: |_: &[u8]| Ok(()) };
    for_each_block(&mut file, |at, block| reader.take(block, before + at).is_ok())?;
    Ok(reader.len)
}

/// Finds the first record of a recycled log in a file. Checksums are not checked.
pub(super) fn find_recycled(mut file: impl Read) -> io::Result<Option<u64>> {
    let mut found = None;
    for_each_block(&mut file, |at, block| {
        let recycled = records(block).find(|record| RECYCLED.contains(&record.kind));
        found = recycled.map(|record| at + record.at as u64);
        found.is_none()
    })?;
    Ok(found)
}

/// Calls `take` with each block of a file and the block's offset until `take` returns `false`.
fn for_each_block(
    file: &mut impl Read,
    mut take: impl FnMut(u64, &[u8]) -> bool,
) -> io::Result<()> {
    let (mut block, mut at) = (Vec::with_capacity(BLOCK_LEN), 0);
    loop {
        block.clear();
        file.by_ref().take(BLOCK_LEN as u64).read_to_end(&mut block)?;
        if !take(at, &block) || block.len() < BLOCK_LEN {
            return Ok(());
        }
        at += BLOCK_LEN as u64;
    }
}

/// A record as it is stored in a block.
struct Record<'b> {
    /// Its offset in the block.
    at: usize,
    checksum: u32,
    len: usize,
    kind: u8,
    /// `None` if the block ends before the record.
    content: Option<&'b [u8]>,
}

impl Record<'_> {
    /// Whether the space was only preallocated, or its sectors were not written.
    fn is_unused(&self) -> bool {
        self.kind == 0 && self.len == 0
    }

    /// The offset of its end in the block.
    fn end(&self) -> usize {
        self.at + HEADER_LEN + self.len
    }
}

/// The records of a block, up to the first one whose end is unknown.
fn records(block: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = Some(block);
    std::iter::from_fn(move || {
        let left = rest.take()?;
        // Fewer bytes are padding, or a header that the end of the file cuts off.
        let ([c0, c1, c2, c3, l0, l1, kind], after) = left.split_first_chunk::<HEADER_LEN>()?;
        let len = usize::from(u16::from_le_bytes([*l0, *l1]));
        let split = after.split_at_checked(len);
        let record = Record {
            at: block.len() - left.len(),
            checksum: u32::from_le_bytes([*c0, *c1, *c2, *c3]),
            len,
            kind: *kind,
            content: split.map(|(content, _)| content),
        };
        rest = split.map(|(_, next)| next).filter(|_| !record.is_unused());
        Some(record)
    })
}

struct Reader<F> {
    /// Records before this offset are skipped.
    from: u64,
    /// Where the last entry ends.
    len: u64,
    /// The first bytes of an entry whose end was not read yet.
    head: Option<Vec<u8>>,
    accept: F,
}

impl<F: FnMut(&[u8]) -> Result<(), Ending>> Reader<F> {
    /// Reads the records of the block at the offset `at` in the file.
    fn take(&mut self, block: &[u8], at: u64) -> Result<(), Ending> {
        let from = self.from;
        for record in records(block).skip_while(|record| at + (record.at as u64) < from) {
            if record.is_unused() {
                return Err(Ending::Torn);
            }
            let Some(content) = record.content else {
                let is_cut_off = block.len() < BLOCK_LEN && record.end() <= BLOCK_LEN;
                return if is_cut_off { Ok(()) } else { Err(broken(block, record.at)) };
            };
            if record.checksum != masked(crc32c(record.kind, content)) {
                return Err(broken(block, record.at));
            }
            self.record(record.kind, content, at + record.end() as u64)?;
        }
        Ok(())
    }

    /// Adds a record that ends at the offset `end` in the file.
    fn record(&mut self, kind: u8, content: &[u8], end: u64) -> Result<(), Ending> {
        // The kinds of a full, a first, a middle and a last record.
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
        let wanted = ENTRY_HEAD_LEN.saturating_sub(head.len());
        head.extend(content.iter().take(wanted));
        if ends {
            (self.accept)(&head)?;
            self.len = end;
        } else {
            self.head = Some(head);
        }
        Ok(())
    }
}

/// Whether the record at the offset `from` in the block is torn or damaged.
fn broken(block: &[u8], from: usize) -> Ending {
    let sectors = block.chunks(SECTOR_LEN).enumerate().filter_map(|(index, sector)| {
        let begin = from.saturating_sub(index * SECTOR_LEN);
        sector.get(begin..).filter(|part| !part.is_empty())
    });
    let mut unwritten = sectors.filter(|part| {
        let zeros = part.iter().rev().take_while(|byte| **byte == 0).count();
        zeros == part.len() || zeros >= ZEROS_MIN
    });
    // A file system may record the new length of a file before the last bytes written to it, even
    // if these are few.
    let is_last = block.len() < BLOCK_LEN
        && records(block).any(|record| record.at == from && record.end() == block.len());
    if is_last && block.last() == Some(&0) {
        return Ending::Torn;
    }
    if unwritten.next().is_some() { Ending::Torn } else { Ending::Damaged }
}

/// Masks a checksum for storage, because a checksum over data that contains checksums is weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The CRC-32C (Castagnoli) of a kind and bytes.
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
pub(super) mod tests {
    use super::*;

    /// A file as RocksDB writes it.
    pub(crate) fn file<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Vec<u8> {
        let mut file = Vec::new();
        for entry in entries {
            let mut rest = entry;
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

    fn entries() -> [Vec<u8>; 4] {
        let mut byte = 0;
        [100, 70_000, 3_000, 10].map(|len| {
            byte += 1;
            vec![byte; len]
        })
    }

    fn whole() -> Vec<u8> {
        file(entries().iter().map(Vec::as_slice))
    }

    /// The end of the last entry that ends at or before an offset.
    fn end_before(at: usize) -> u64 {
        let entries = entries();
        let ends = (0..=4).map(|count| file(entries[..count].iter().map(Vec::as_slice)).len());
        ends.filter(|end| *end <= at).max().unwrap() as u64
    }

    fn extent(file: &[u8]) -> (u64, Ending) {
        let extent = read(file, |_| Ok(())).unwrap();
        (extent.len, extent.ending)
    }

    #[test]
    fn checksum_matches_the_standard() {
        assert_eq!(crc32c(b'1', b"23456789"), 0xe306_9283);
    }

    #[test]
    fn file_truncated_at_any_length_has_no_damage() {
        let all = whole();
        let mut heads = Vec::new();
        let extent_of_all = read(&*all, |head| {
            heads.push(head.to_vec());
            Ok(())
        });
        assert_eq!(extent_of_all.unwrap().len, all.len() as u64);
        assert_eq!(heads, [vec![1; 12], vec![2; 12], vec![3; 12], vec![4; 10]]);
        for len in (0..all.len()).step_by(41).chain([all.len()]) {
            assert_eq!(extent(&all[..len]), (end_before(len), Ending::Whole), "{len}");
        }
    }

    #[test]
    fn end_is_found_from_any_earlier_end() {
        let all = whole();
        for len in (0..=all.len()).step_by(53) {
            for from in [0, end_before(len / 2), end_before(len)] {
                let found = end_behind(io::Cursor::new(&all[..len]), from).unwrap();
                assert_eq!(found, end_before(len), "{from} of {len}");
            }
        }
    }

    #[test]
    fn file_ends_before_the_first_missing_sector() {
        let all = whole();
        for from in (0..all.len()).step_by(SECTOR_LEN) {
            let mut torn = all.clone();
            let sector = from..(from + SECTOR_LEN).min(all.len());
            torn[sector.clone()].fill(0);
            assert_eq!(extent(&torn), (end_before(from), Ending::Torn), "{sector:?}");
        }
    }

    #[test]
    fn file_ends_before_an_entry_without_its_last_bytes() {
        let all = whole();
        for missing in 1..=10 {
            let mut torn = all.clone();
            torn[all.len() - missing..].fill(0);
            assert_eq!(extent(&torn), (end_before(all.len() - 1), Ending::Torn), "{missing}");
        }
        // Only the last entry may end that way.
        let mut damaged = file([&[7; 100][..], &[7, 7, 0]]);
        damaged[50] ^= 1;
        assert_eq!(extent(&damaged), (0, Ending::Damaged));
    }

    #[test]
    fn flipped_bit_is_damage() {
        let all = whole();
        for at in (0..all.len()).step_by(37) {
            let mut damaged = all.clone();
            damaged[at] ^= 1;
            let found = extent(&damaged);
            assert!(
                matches!(found, (len, Ending::Damaged | Ending::Whole) if len == end_before(at)),
                "{at}: {found:?}"
            );
        }
    }

    #[test]
    fn rejected_entry_ends_the_file_before_it() {
        let mut left = 2;
        let stopped = read(&*whole(), |_| {
            left -= 1;
            if left < 0 { Err(Ending::Gap) } else { Ok(()) }
        });
        let len = end_before(whole().len() - 20 - 3_000);
        assert_eq!(stopped.unwrap(), Extent { len, ending: Ending::Gap });
    }

    #[test]
    fn recycled_record_is_found_only_where_records_begin() {
        fn record(kind: u8, len: usize) -> Vec<u8> {
            let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
            [&[9, 9, 9, 9, low, high, kind][..], &vec![7; len]].concat()
        }
        let find = |file: &[u8]| find_recycled(file).unwrap();
        let sound = [record(1, 300), record(2, 0), record(4, 5), vec![0; 900]].concat();
        assert_eq!(find(&sound), None);
        let block = record(1, BLOCK_LEN - HEADER_LEN);
        for kind in RECYCLED {
            for (before, at) in [(vec![], 0), (record(1, 300), 307), (record(4, 8), 15)] {
                let found = [before, record(kind, 1), sound.clone()].concat();
                assert_eq!(find(&found), Some(at));
                assert_eq!(find(&[block.clone(), found].concat()), Some(BLOCK_LEN as u64 + at));
            }
            // Neither a truncated record nor the content of a record counts.
            let content = [vec![9, 9, 9, 9, 7, 0, 1], record(kind, 0)].concat();
            assert_eq!(find(&content), None);
            assert_eq!(find(&record(1, 30)[..20]), None);
        }
    }
}
