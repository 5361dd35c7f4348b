//! Reads frames by hand: the same bytes as bincode, in a fraction of the steps.
//!
//! bincode reads through layers that can each fail with an error of its own: half of what annals
//! added to a replay. Here reading ends with a value or with nothing. Who gets nothing asks
//! bincode, which alone says what is wrong: what is refused is refused by bincode, in its words.
//! That the same is accepted is a property test of `wire`.

#![expect(
    clippy::inline_always,
    reason = "inlined, a cursor lives in registers; else each call stores and loads it"
)]
#![expect(clippy::little_endian_bytes, reason = "as bincode writes integers")]

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (taken, rest) = self.rest.split_first_chunk::<LEN>()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    #[inline(always)]
    pub(super) fn id(&mut self) -> Option<[u8; 16]> {
        self.take()
    }

    /// One byte up to 250; else it says how long the number behind it is. Nearly all are one byte.
    #[inline(always)]
    pub(super) fn u64(&mut self) -> Option<u64> {
        match self.byte()? {
            byte @ ..=250 => Some(byte.into()),
            marker => long(marker, self.rest).map(|read| self.past(read)),
        }
    }

    #[inline(always)]
    pub(super) fn u32(&mut self) -> Option<u32> {
        match self.byte()? {
            byte @ ..=250 => Some(byte.into()),
            marker => short(marker, self.rest).map(|read| self.past(read)),
        }
    }

    #[inline(always)]
    fn past<T>(&mut self, (value, rest): (T, &'a [u8])) -> T {
        self.rest = rest;
        value
    }

    /// 0, -1, 1, -2 are written as 0, 1, 2, 3.
    #[inline(always)]
    pub(super) fn i64(&mut self) -> Option<i64> {
        let mapped = self.u64()?;
        Some((mapped >> 1).cast_signed() ^ -(mapped & 1).cast_signed())
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline(always)]
    pub(super) fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }

    /// A text that is probably this one. The same bytes are UTF-8 again: comparing takes a fifth of
    /// proving it.
    #[inline(always)]
    pub(super) fn text_like(&mut self, known: &'a str) -> Option<&'a str> {
        let bytes = self.bytes()?;
        if bytes == known.as_bytes() { Some(known) } else { str::from_utf8(bytes).ok() }
    }
}

/// A longer number, of its own so that the code around stays small; by value, so that a cursor
/// stays in registers.
#[inline(never)]
fn long(marker: u8, bytes: &[u8]) -> Option<(u64, &[u8])> {
    match marker {
        0xfd => {
            let (number, rest) = bytes.split_first_chunk()?;
            Some((u64::from_le_bytes(*number), rest))
        }
        marker => {
            let (number, rest) = short(marker, bytes)?;
            Some((number.into(), rest))
        }
    }
}

#[inline(never)]
fn short(marker: u8, bytes: &[u8]) -> Option<(u32, &[u8])> {
    match marker {
        0xfb => {
            let (number, rest) = bytes.split_first_chunk()?;
            Some((u16::from_le_bytes(*number).into(), rest))
        }
        0xfc => {
            let (number, rest) = bytes.split_first_chunk()?;
            Some((u32::from_le_bytes(*number), rest))
        }
        _ => None,
    }
}
