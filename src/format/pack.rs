//! A pack holds many consecutive frames of the log in one value, so that a scan reads few rows. A
//! tail row names the frames of a batch that are in no pack yet.

use std::ops::Range;

use super::cursor::Cursor;
use super::wire::put;
use super::{ENVELOPE_LEN, Malformed, check_crc, checksum_of, crc, open_envelope, seal_envelope};
use crate::model::{Position, Version};

/// The version of a pack's encoding, stored in its last byte.
const PACK_VERSION: u8 = 1;
/// The version of a tail row's encoding, stored in its first byte.
const TAIL_ROW_VERSION: u8 = 1;

/// The place of a frame among other frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFrame {
    /// The position of its first event.
    pub first: Position,
    /// The position of its last event.
    pub last: Position,
    /// Where its bytes are.
    pub bytes: Range<usize>,
}

/// Consecutive frames of the log, one after the other.
#[derive(Debug, Default)]
pub struct Pack {
    bytes: Vec<u8>,
    frames: Vec<PackedFrame>,
}

impl Pack {
    /// Adds the frame that follows the last one.
    pub fn push(&mut self, first: Position, last: Position, frame: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.frames.push(PackedFrame { first, last, bytes: begin..self.bytes.len() });
    }

    /// Adds the frames of another pack from an index on.
    pub(crate) fn extend(&mut self, other: &Self, from: usize) {
        let added = other.frames.get(from..).unwrap_or_default();
        let Some(PackedFrame { bytes: Range { start, .. }, .. }) = added.first() else { return };
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(other.bytes.get(*start..).unwrap_or_default());
        self.frames.extend(added.iter().cloned().map(|mut frame| {
            frame.bytes = frame.bytes.start - start + begin..frame.bytes.end - start + begin;
            frame
        }));
    }

    /// Removes all frames; keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// Frees what its allocations have in excess, if that is much.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() / 2 > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
    }

    /// The frames in order.
    pub fn frames(&self) -> &[PackedFrame] {
        &self.frames
    }

    /// The bytes that the places of the frames refer to.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes out the frames as a pack that ends here: its bytes are its encoded value.
    pub fn seal(&mut self) -> Self {
        // As much as this pack needed, but not as much as an unusually large event did.
        let room = |len: usize, most: usize| len.min(most) + len.min(most) / 8;
        let room = Self {
            bytes: Vec::with_capacity(room(self.bytes.len(), 1 << 20)),
            frames: Vec::with_capacity(room(self.frames.len(), 1 << 14)),
        };
        let Self { bytes: mut value, frames } = std::mem::replace(self, room);
        let frames_len = value.len();
        put(frames.first().map_or(0, |frame| frame.first.get()), &mut value);
        for frame in &frames {
            put(frame.last.get() - frame.first.get() + 1, &mut value);
            put(u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX), &mut value);
        }
        let footer_len = u32::try_from(value.len() - frames_len).unwrap_or(u32::MAX);
        value.extend_from_slice(&footer_len.to_be_bytes());
        let crc = crc(PACK_VERSION, value.get(frames_len..).unwrap_or_default());
        value.extend_from_slice(&crc.to_be_bytes());
        value.push(PACK_VERSION);
        Self { bytes: value, frames }
    }
}

/// Decodes the places of the frames in a pack that ends at the position `last`. The frames
/// themselves are not checked.
pub fn decode_pack(
    last: Position,
    value: &[u8],
    frames: &mut Vec<PackedFrame>,
) -> Result<(), Malformed> {
    frames.clear();
    let what = "a pack";
    let short = || Malformed::damaged(format!("{} bytes", value.len()), what);
    let (rest, [a, b, c, d, version]) = value.split_last_chunk::<5>().ok_or_else(short)?;
    let (before, footer_len) = rest.split_last_chunk::<4>().ok_or_else(short)?;
    let footer_len = usize::try_from(u32::from_be_bytes(*footer_len)).unwrap_or(usize::MAX);
    let begin = before.len().checked_sub(footer_len).ok_or_else(short)?;
    let (_, checked) = rest.split_at(begin);
    check_crc(u32::from_be_bytes([*a, *b, *c, *d]), crc(*version, checked))?;
    if *version != PACK_VERSION {
        let (found, supported) = (u64::from(*version), u64::from(PACK_VERSION));
        return Err(Malformed::Unsupported { what: "pack version", found, supported });
    }
    let (frames_bytes, footer) = before.split_at(begin);
    decode_footer(last, frames_bytes.len(), Cursor::new(footer), frames)
        .ok_or_else(|| Malformed::damaged("a list of frames that does not fit", what))
}

fn decode_footer(
    last: Position,
    frames_len: usize,
    mut footer: Cursor<'_>,
    frames: &mut Vec<PackedFrame>,
) -> Option<()> {
    let mut next = footer.u64()?;
    let mut begin = 0_usize;
    while !footer.rest().is_empty() {
        let (count, len) = (footer.u64()?, footer.u32()?);
        let first = Position::new(next)?;
        let last = Position::new(next.checked_add(count.checked_sub(1)?)?)?;
        let end = usize::try_from(len).ok().and_then(|len| begin.checked_add(len))?;
        frames.push(PackedFrame { first, last, bytes: begin..end });
        next = last.get().checked_add(1)?;
        begin = end;
    }
    let ends_there = frames.last().is_some_and(|frame| frame.last == last);
    (ends_there && begin == frames_len).then_some(())
}

/// The frames of a batch that are in no pack yet, in order: enough to find them in `streams`.
#[derive(Debug, Default)]
pub struct TailRow {
    bytes: Vec<u8>,
}

/// A frame that a tail row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailEntry<'a> {
    pub stream: &'a str,
    pub first_version: Version,
    /// The checksum of the frame.
    pub checksum: u32,
}

impl TailRow {
    /// Begins a row with the position of its first frame; keeps the allocation.
    pub fn begin(&mut self, first: Position) {
        self.bytes.clear();
        self.bytes.resize(ENVELOPE_LEN, 0);
        put(first.get(), &mut self.bytes);
    }

    /// Adds a frame.
    pub fn push(&mut self, stream: &str, first_version: Version, frame: &[u8]) {
        put((stream, first_version.get(), checksum_of(frame).to_be_bytes()), &mut self.bytes);
    }

    pub fn encode(&mut self) -> &[u8] {
        seal_envelope(TAIL_ROW_VERSION, &mut self.bytes);
        &self.bytes
    }
}

/// Decodes a tail row: the position of its first frame, and its frames.
pub fn decode_tail_row(bytes: &[u8]) -> Result<(Position, Vec<TailEntry<'_>>), Malformed> {
    let body = open_envelope("tail row version", TAIL_ROW_VERSION, bytes)?;
    let damaged = || Malformed::damaged("bytes that do not decode", "a tail row");
    let mut cursor = Cursor::new(body);
    let first = cursor.u64().and_then(Position::new).ok_or_else(damaged)?;
    let mut entries = Vec::new();
    while !cursor.rest().is_empty() {
        entries.push(next_entry(&mut cursor).ok_or_else(damaged)?);
    }
    if entries.is_empty() {
        return Err(Malformed::damaged("no frame", "the frames of a batch"));
    }
    Ok((first, entries))
}

fn next_entry<'a>(cursor: &mut Cursor<'a>) -> Option<TailEntry<'a>> {
    let (stream, first_version) = (cursor.text()?, Version::new(cursor.u64()?)?);
    let checksum = u32::from_be_bytes(cursor.take::<4>()?);
    Some(TailEntry { stream, first_version, checksum })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::hex;
    use super::*;

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn version(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    /// Bytes in the place of a frame: a pack does not look into its frames.
    fn frame(checksum: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; len];
        bytes[0] = 1;
        bytes[1..ENVELOPE_LEN].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// A frame of two events and one of a single event, from position 1000 on.
    fn golden() -> Pack {
        let mut pack = Pack::default();
        pack.push(position(1000), position(1001), &frame(0x790d_7da3, 122));
        pack.push(position(1002), position(1002), &frame(0x00c0_ffee, 300));
        pack
    }

    fn golden_row() -> TailRow {
        let mut row = TailRow::default();
        row.begin(position(1000));
        row.push("account-1", version(7), &frame(0x790d_7da3, 122));
        row.push("door-5", version(260), &frame(0x00c0_ffee, 300));
        row
    }

    /// Ends a pack with any footer, under a valid checksum.
    fn sealed(frames_len: usize, footer: &[u8], version: u8) -> Vec<u8> {
        let mut value = vec![0xee; frames_len];
        value.extend_from_slice(footer);
        value.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_be_bytes());
        let crc = crc(version, &value[frames_len..]);
        value.extend_from_slice(&crc.to_be_bytes());
        value.push(version);
        value
    }

    fn footer(first: u64, frames: &[(u64, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(first, &mut bytes);
        for frame in frames {
            put(*frame, &mut bytes);
        }
        bytes
    }

    fn decoded(last: u64, value: &[u8]) -> Result<Vec<PackedFrame>, Malformed> {
        // A decoder must not return what was there before.
        let left = PackedFrame { first: position(1), last: position(1), bytes: 0..1 };
        let mut frames = vec![left];
        decode_pack(position(last), value, &mut frames).map(|()| frames)
    }

    /// Format version 2, frozen once it is released: if this fails, existing stores can no longer
    /// be read.
    #[test]
    fn pack_and_tail_row_have_the_specified_bytes() {
        let value = golden().seal().bytes().to_vec();
        assert_eq!(hex(&value[..422]), hex(golden().bytes()));
        assert_eq!(hex(&value[422..]), GOLDEN_FOOTER);
        assert_eq!(hex(golden_row().encode()), GOLDEN_ROW);
    }

    /// First position 1000; 2 events in 122 bytes, 1 event in 300 bytes; length of these 9 bytes,
    /// crc, version.
    const GOLDEN_FOOTER: &str = concat!("fbe803", "027a", "01fb2c01", "00000009", "99e1ce0401");

    /// Version, crc; first position 1000; stream, version 7, checksum; stream, version 260,
    /// checksum.
    const GOLDEN_ROW: &str = concat!(
        "012d537ae3",
        "fbe803",
        "096163636f756e742d3107790d7da3",
        "06646f6f722d35fb040100c0ffee"
    );

    #[test]
    fn pack_and_tail_row_are_read_as_they_were_written() {
        let mut pack = golden();
        let frames = pack.frames().to_vec();
        assert_eq!(decoded(1002, pack.seal().bytes()).unwrap(), frames);
        assert!(pack.frames().is_empty() && pack.bytes().is_empty());

        let mut row = golden_row();
        let (first, entries) = decode_tail_row(row.encode()).unwrap();
        let (account, door) = (entries[0], entries[1]);
        assert_eq!((first, entries.len()), (position(1000), 2));
        assert_eq!((account.stream, account.first_version), ("account-1", version(7)));
        assert_eq!((door.stream, door.first_version), ("door-5", version(260)));
        assert_eq!((account.checksum, door.checksum), (0x790d_7da3, 0x00c0_ffee));
    }

    /// The checksum of a pack covers its footer. Its frames have their own.
    #[test]
    fn every_flipped_bit_after_the_frames_is_detected() {
        let mut pack = golden();
        let (frames, value) = (pack.frames().to_vec(), pack.seal().bytes().to_vec());
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = decoded(1002, &damaged);
            if bit / 8 < 422 {
                assert_eq!(found.unwrap(), frames, "bit {bit}");
            } else {
                assert!(matches!(found, Err(Malformed::Damaged { .. })), "bit {bit}: {found:?}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_tail_row_is_detected() {
        let row = golden_row().encode().to_vec();
        for bit in 0..row.len() * 8 {
            let mut damaged = row.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = decode_tail_row(&damaged);
            assert!(matches!(found, Err(Malformed::Damaged { .. })), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn every_truncation_is_detected() {
        let (pack, row) = (golden().seal().bytes().to_vec(), golden_row().encode().to_vec());
        for len in 0..pack.len() {
            assert!(decoded(1002, &pack[..len]).is_err(), "pack cut to {len}");
        }
        for from in 1..pack.len() {
            assert!(decoded(1002, &pack[from..]).is_err(), "pack without the first {from}");
        }
        for len in 0..row.len() {
            assert!(decode_tail_row(&row[..len]).is_err(), "row cut to {len}");
        }
    }

    #[test]
    fn later_version_is_reported() {
        let value = sealed(10, &footer(1, &[(1, 10)]), 2);
        let what = "pack version";
        let expected = Malformed::Unsupported { what, found: 2, supported: 1 };
        assert_eq!(decoded(1, &value).unwrap_err(), expected);

        let mut row = golden_row().encode().to_vec();
        seal_envelope(2, &mut row);
        let what = "tail row version";
        let expected = Malformed::Unsupported { what, found: 2, supported: 1 };
        assert_eq!(decode_tail_row(&row).unwrap_err(), expected);
    }

    /// A footer with a valid checksum that does not describe the pack.
    #[test]
    fn footer_that_does_not_fit_is_damage() {
        let fits = footer(5, &[(2, 4), (1, 6)]);
        assert_eq!(decoded(7, &sealed(10, &fits, 1)).unwrap().len(), 2);
        for (last, frames_len, footer, what) in [
            (8, 10, fits.clone(), "another last position"),
            (6, 10, fits.clone(), "more events than the key says"),
            (7, 11, fits.clone(), "more bytes than the frames have"),
            (7, 9, fits.clone(), "fewer bytes than the frames have"),
            (7, 10, [&fits[..], &[1]].concat(), "an event without a length"),
            (7, 10, footer(5, &[(2, 4), (0, 0), (1, 6)]), "a frame without events"),
            (7, 0, footer(7, &[]), "no frames"),
            (7, 0, Vec::new(), "no first position"),
            (7, 10, footer(0, &[(8, 10)]), "position 0"),
            (u64::MAX, 10, footer(u64::MAX, &[(2, 10)]), "positions past the last one"),
            (7, 10, footer(5, &[(u64::MAX, 4), (3, 6)]), "a sum that overflows"),
            (7, 10, vec![5, 3, 0xfd, 0xff], "a number that is cut off"),
        ] {
            let found = decoded(last, &sealed(frames_len, &footer, 1));
            assert!(matches!(found, Err(Malformed::Damaged { .. })), "{what}: {found:?}");
        }
    }

    #[test]
    fn tail_row_with_wrong_fields_is_damage() {
        let row = |first: u64, rest: &[u8]| {
            let mut bytes = vec![0; ENVELOPE_LEN];
            put(first, &mut bytes);
            bytes.extend_from_slice(rest);
            seal_envelope(TAIL_ROW_VERSION, &mut bytes);
            bytes
        };
        let entry = [1, b'a', 1, 9, 9, 9, 9];
        assert_eq!(decode_tail_row(&row(1, &entry)).unwrap().1.len(), 1);
        for (bytes, what) in [
            (row(0, &entry), "position 0"),
            (row(1, &[]), "no frame"),
            (row(1, &[1, b'a', 0, 9, 9, 9, 9]), "version 0"),
            (row(1, &[1, 0xff, 1, 9, 9, 9, 9]), "a name that is not UTF-8"),
            (row(1, &entry[..6]), "a checksum that is cut off"),
            (row(1, &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "a huge length"),
            (row(1, &[&entry[..], &[1]].concat()), "bytes after the last frame"),
        ] {
            let found = decode_tail_row(&bytes);
            assert!(matches!(found, Err(Malformed::Damaged { .. })), "{what}: {found:?}");
        }
    }

    /// The open pack is copied from an index on, to the end of another one.
    #[test]
    fn extended_pack_has_the_frames_of_both() {
        let mut whole = golden();
        whole.push(position(1003), position(1005), &frame(3, 7));
        for from in 0..4 {
            let mut pack = Pack::default();
            pack.extend(&golden(), 0);
            pack.clear();
            for place in &whole.frames()[..from] {
                pack.push(place.first, place.last, &whole.bytes()[place.bytes.clone()]);
            }
            pack.extend(&whole, from);
            assert_eq!((pack.frames(), pack.bytes()), (whole.frames(), whole.bytes()));
        }
    }

    /// Frames by number of events and length in bytes.
    fn frames() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let events = prop_oneof![4 => 1..=300_u64, 1 => 1..=u64::MAX / 64];
        proptest::collection::vec((events, 5..400_u32), 1..40)
    }

    proptest! {
        #[test]
        fn any_frames_are_read_as_they_were_written(first in 1..u64::MAX / 4, frames in frames()) {
            let (mut pack, mut next) = (Pack::default(), first);
            for (events, len) in frames {
                let last = next + events - 1;
                let bytes = frame(len, usize::try_from(len).unwrap());
                pack.push(position(next), position(last), &bytes);
                next = last + 1;
            }
            let (places, bytes) = (pack.frames().to_vec(), pack.bytes().to_vec());
            let value = pack.seal().bytes().to_vec();
            prop_assert!(value.starts_with(&bytes));
            prop_assert_eq!(decoded(next - 1, &value).unwrap(), places);
            prop_assert!(decoded(next, &value).is_err());
        }

        #[test]
        fn any_entries_are_read_as_they_were_written(
            first in 1..u64::MAX,
            entries in proptest::collection::vec((".{0,20}", 1..u64::MAX, any::<u32>()), 1..20)
        ) {
            let mut row = TailRow::default();
            row.begin(position(1));
            row.push("left over", version(1), &frame(1, 10));
            row.begin(position(first));
            for (stream, number, checksum) in &entries {
                row.push(stream, version(*number), &frame(*checksum, 10));
            }
            let (found, read) = decode_tail_row(row.encode()).unwrap();
            let read = read.into_iter();
            let read = read.map(|e| (e.stream.to_owned(), e.first_version.get(), e.checksum));
            prop_assert_eq!((found, read.collect::<Vec<_>>()), (position(first), entries));
        }

        /// The checksum is valid, so these bytes reach the decoder.
        #[test]
        fn any_footer_is_decoded_or_refused(
            bytes in proptest::collection::vec(prop_oneof![0..5_u8, 249..=255_u8, any::<u8>()], 0..60),
            last in prop_oneof![1..20_u64, 1..u64::MAX],
            frames_len in 0..30_usize,
        ) {
            let value = sealed(frames_len, &bytes, PACK_VERSION);
            if let Ok(places) = decoded(last, &value) {
                prop_assert!(places.len() <= bytes.len());
                prop_assert_eq!(places.first().unwrap().bytes.start, 0);
                prop_assert_eq!(places.last().unwrap().bytes.end, frames_len);
                prop_assert_eq!(places.last().unwrap().last, position(last));
                for pair in places.windows(2) {
                    prop_assert_eq!(pair[0].last.next(), pair[1].first);
                    prop_assert_eq!(pair[0].bytes.end, pair[1].bytes.start);
                }
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, last in 1..u64::MAX) {
            prop_assert!(decoded(last, &bytes).is_err());
            prop_assert!(decode_tail_row(&bytes).is_err());
            let mut row = [&[0; ENVELOPE_LEN][..], &bytes[..]].concat();
            seal_envelope(TAIL_ROW_VERSION, &mut row);
            if let Ok((_, entries)) = decode_tail_row(&row) {
                prop_assert!(entries.len() <= bytes.len() / 6);
            }
        }
    }
}
