//! A hand-written reader for frames. It reads the same encoding as bincode in a fraction of the
//! steps.
//!
//! Each layer of bincode can fail with a separate error, which was half of annals' overhead in a
//! replay. Here each read returns a value or `None`. After `None`, the caller decodes the bytes
//! with bincode, so every rejection and its error text come from bincode. A property test of `wire`
//! checks that both readers accept the same bytes.

#![expect(
    clippy::inline_always,
    reason = "inlined, a cursor lives in registers; else each call stores and loads it"
)]
#![expect(clippy::little_endian_bytes, reason = "as bincode writes integers")]

/// Reads bytes from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that were not read yet.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub(super) fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
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

    /// Reads a number. Numbers up to 250 take one byte; for others, the first byte is a marker for
    /// the length of the number after it. Nearly all numbers take one byte.
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

    /// Reads a signed number: 0, -1, 1, -2 are encoded as 0, 1, 2, 3.
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

    /// Reads a text that probably equals `known`. Equal bytes need no UTF-8 validation; comparing
    /// takes a fifth of its time.
    #[inline(always)]
    pub(super) fn text_like(&mut self, known: &'a str) -> Option<&'a str> {
        let bytes = self.bytes()?;
        if bytes == known.as_bytes() { Some(known) } else { str::from_utf8(bytes).ok() }
    }
}

/// Reads a number longer than one byte. This is a separate function to keep the inlined code small,
/// and takes its arguments by value so that a cursor stays in registers.
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
