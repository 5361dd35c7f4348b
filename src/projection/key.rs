//! [`ViewKey`]: keys of read models that sort like the values they encode.

use std::fmt;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::limits::VIEW_KEY_LEN_MAX;
use crate::model::{Date, EventId, InvalidArgument, Position, StreamId, Timestamp, Version};

/// Separates a part of a key from the next one.
pub(super) const END_OF_PART: u8 = 0;
/// Follows a 0 byte inside a text, so that it does not end the part.
pub(super) const ESCAPED: u8 = 0xff;
/// Begins a signed number, so that it differs from a text and from most unsigned numbers.
pub(super) const SIGNED: [u8; 2] = [0, 0xfe];

/// A key of a read model: a text, a number, an id, a date or time, or several parts of these.
///
/// Texts sort by their bytes, numbers, dates and times by value. Keys with several parts sort by
/// the first part, then by the second. So all entries under one part can be scanned in order, and
/// [`ViewKey::parts`] takes a key apart again:
///
/// ```
/// use annals::ViewKey;
/// let second = ViewKey::new(("account-1", 2_u64))?;
/// assert!(second < ViewKey::new(("account-1", 10_u64))?);
/// assert!(ViewKey::new(("account-1", u64::MAX))? < ViewKey::new(("account-10", 0_u64))?);
/// assert_eq!(ViewKey::new("account-1")?.to_string(), "account-1");
///
/// let (account, number): (String, u64) = second.parts()?;
/// assert_eq!((account.as_str(), number), ("account-1", 2));
/// # Ok::<(), annals::Error>(())
/// ```
///
/// Use the same types for all keys of a view: a key does not record the types of its parts.
///
/// | a part made from | is encoded as | bytes |
/// |---|---|---|
/// | [`str`], [`String`], [`StreamId`] | a text | its UTF-8, and 1 for each 0 byte |
/// | [`u8`] to [`u64`], [`usize`], [`Position`], [`Version`] | an unsigned number | 8 |
/// | [`i8`] to [`i64`], [`isize`] | a signed number | 10 |
/// | [`Date`] | a text such as `2026-11-29` | 10 |
/// | [`Timestamp`] | a text such as `2026-11-29T18:30:00.000000Z` | 27 |
/// | [`EventId`], [`Uuid`](uuid::Uuid) | the text of the UUID | 36 |
///
/// So a `u32` makes the same key as a `u64`, but an `i64` makes another one, even for the same
/// number: the integer `2` without a suffix is an `i32`. The text of a date is the beginning of the
/// texts of all times of that day, so [`ReadView::prefix`](crate::ReadView::prefix) with a date
/// selects them.
///
/// # Length
/// A key holds at most [`ViewKey::LEN_MAX`] bytes. Ids, positions, versions and numbers always fit:
/// they convert with [`From`]. A text may be too long, and a date or time may be outside the years
/// 0 to 9999: these convert with [`TryFrom`], and so does a key of several parts. Every method that
/// takes a key accepts both, and returns an error if the key cannot be made. Text that a user typed
/// is a poor key: use the id of the item it belongs to, and keep the text in the value.
///
/// ```
/// use annals::{InvalidArgument, ViewKey};
/// let typed = "x".repeat(1_100);
/// let refused = ViewKey::try_from(&typed).unwrap_err();
/// assert!(matches!(refused, InvalidArgument::ViewKeyTooLong { len: 1_100, .. }), "{refused}");
///
/// // If it has to be the key, shorten it: 100 characters are at most 400 bytes.
/// let begin: String = typed.chars().take(100).collect();
/// assert!(ViewKey::new(("title", begin)).is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewKey(Vec<u8>);

impl ViewKey {
    /// Longest key, in bytes. The table above has the length of each part; each further part takes
    /// 1 byte more.
    pub const LEN_MAX: usize = VIEW_KEY_LEN_MAX - 1;

    /// Creates the key of a text, a number, an id, a date or time, or a tuple of these.
    ///
    /// # Errors
    /// [`InvalidArgument::ViewKeyTooLong`], [`InvalidArgument::ViewKeyTimeOutOfRange`].
    pub fn new(key: impl TryInto<Self, Error: Into<Error>>) -> Result<Self> {
        key.try_into().map_err(Into::into)
    }

    /// Creates a key from raw bytes.
    ///
    /// # Errors
    /// [`InvalidArgument::ViewKeyTooLong`].
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, InvalidArgument> {
        Self(bytes.into()).checked()
    }

    /// A key read from a store, which needs no check.
    pub(super) fn stored(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends one more part to the key.
    ///
    /// # Errors
    /// [`InvalidArgument::ViewKeyTooLong`].
    pub fn then(mut self, part: impl TryInto<Self, Error: Into<Error>>) -> Result<Self> {
        self.0.push(END_OF_PART);
        self.0.extend(Self::new(part)?.0);
        Ok(self.checked()?)
    }

    fn checked(self) -> Result<Self, InvalidArgument> {
        let len = self.0.len();
        if len <= Self::LEN_MAX {
            return Ok(self);
        }
        Err(InvalidArgument::view_key_too_long(&self.to_string(), len, Self::LEN_MAX))
    }
}

impl TryFrom<&str> for ViewKey {
    type Error = InvalidArgument;

    fn try_from(text: &str) -> Result<Self, InvalidArgument> {
        let mut bytes = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            bytes.push(byte);
            if byte == END_OF_PART {
                bytes.push(ESCAPED);
            }
        }
        Self(bytes).checked()
    }
}

impl TryFrom<String> for ViewKey {
    type Error = InvalidArgument;

    fn try_from(text: String) -> Result<Self, InvalidArgument> {
        text.as_str().try_into()
    }
}

impl TryFrom<&String> for ViewKey {
    type Error = InvalidArgument;

    fn try_from(text: &String) -> Result<Self, InvalidArgument> {
        text.as_str().try_into()
    }
}

impl From<&StreamId> for ViewKey {
    fn from(stream: &StreamId) -> Self {
        // An id contains no 0 byte.
        Self(stream.as_str().as_bytes().to_vec())
    }
}

impl From<StreamId> for ViewKey {
    fn from(stream: StreamId) -> Self {
        (&stream).into()
    }
}

macro_rules! from_numbers {
    ($($of:ty)+, |$number:ident| $bytes:expr) => {$(
        impl From<$of> for ViewKey {
            fn from($number: $of) -> Self {
                Self($bytes.to_vec())
            }
        }
    )+};
}
from_numbers! { u64, |number| number.to_be_bytes() }
from_numbers! { u32 u16 u8, |number| u64::from(number).to_be_bytes() }
// No platform has more than 64 bits.
from_numbers! { usize, |number| u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes() }
from_numbers! { i64, |number| signed(number) }
from_numbers! { i32 i16 i8, |number| signed(i64::from(number)) }
from_numbers! { isize, |number| signed(i64::try_from(number).unwrap_or(i64::MAX)) }
from_numbers! { Position Version, |place| place.get().to_be_bytes() }

/// Encodes a signed number. The sign bit is flipped, so that negative numbers sort first.
fn signed(number: i64) -> Vec<u8> {
    [&SIGNED[..], &(number ^ i64::MIN).to_be_bytes()].concat()
}

/// Decodes the number that [`signed`] encoded, without the bytes that begin it.
pub(super) fn parse_signed(number: [u8; 8]) -> i64 {
    i64::from_be_bytes(number) ^ i64::MIN
}

/// The id in its text form.
impl From<EventId> for ViewKey {
    fn from(id: EventId) -> Self {
        Self(id.to_string().into_bytes())
    }
}

/// The id in its text form, like an [`EventId`].
impl From<Uuid> for ViewKey {
    fn from(id: Uuid) -> Self {
        EventId::from(id).into()
    }
}

/// The date in its text form, in the years 0 to 9999.
impl TryFrom<Date> for ViewKey {
    type Error = InvalidArgument;

    fn try_from(date: Date) -> Result<Self, InvalidArgument> {
        if !date.has_text() {
            let micros = date.start_of_day().as_micros();
            return Err(InvalidArgument::ViewKeyTimeOutOfRange { micros });
        }
        Ok(Self(date.to_string().into_bytes()))
    }
}

/// The time in its text form with all six digits of the microsecond, in the years 0 to 9999.
impl TryFrom<Timestamp> for ViewKey {
    type Error = InvalidArgument;

    fn try_from(time: Timestamp) -> Result<Self, InvalidArgument> {
        if !time.is_recordable() {
            return Err(InvalidArgument::ViewKeyTimeOutOfRange { micros: time.as_micros() });
        }
        let (date, hour, minute, second) = (time.date(), time.hour(), time.minute(), time.second());
        let micros = time.time_of_day().subsec_micros();
        let text = format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
        Ok(Self(text.into_bytes()))
    }
}

impl From<&ViewKey> for ViewKey {
    fn from(key: &ViewKey) -> Self {
        key.clone()
    }
}

macro_rules! from_tuples {
    ($($first:ident $($part:ident)+;)+) => {$(
        impl<$first, $($part),+> TryFrom<($first, $($part),+)> for ViewKey
        where
            $first: TryInto<ViewKey, Error: Into<Error>>,
            $($part: TryInto<ViewKey, Error: Into<Error>>),+
        {
            type Error = Error;

            #[expect(non_snake_case, reason = "the parts are named after their types")]
            fn try_from(($first, $($part),+): ($first, $($part),+)) -> Result<Self> {
                let key = Self::new($first)?;
                $(let key = key.then($part)?;)+
                Ok(key)
            }
        }
    )+};
}
from_tuples! { A B; A B C; A B C D; }

impl fmt::Debug for ViewKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ViewKey(\"{self}\")")
    }
}

/// For people: the parts separated by `/`, texts unchanged, unprintable bytes as `\xNN`.
impl fmt::Display for ViewKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        loop {
            rest = if let Some((number, after)) = leading_signed(rest) {
                write!(out, "{number}")?;
                after
            } else if let Some((number, after)) = leading_number(rest) {
                write!(out, "{number}")?;
                after
            } else {
                fmt_text(rest, out)?
            };
            // The rest begins with the separator.
            match rest.split_first() {
                None => return Ok(()),
                Some((_, after)) => rest = after,
            }
            out.write_str("/")?;
        }
    }
}

/// Parses a part that is recognizably a signed number: [`SIGNED`], then exactly 8 bytes.
fn leading_signed(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (number, after) = bytes.strip_prefix(&SIGNED)?.split_first_chunk()?;
    let is_whole = after.first().is_none_or(|end| *end == END_OF_PART);
    is_whole.then_some((parse_signed(*number), after))
}

/// Parses a part that is recognizably an unsigned number: exactly 8 bytes, beginning with an
/// unescaped 0, which no text does.
fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, after) = bytes.split_first_chunk::<8>()?;
    let is_number = number.starts_with(&[0]) && !number.starts_with(&[0, ESCAPED]);
    let is_whole = after.first().is_none_or(|end| *end == END_OF_PART);
    (is_number && is_whole).then_some((u64::from_be_bytes(*number), after))
}

/// Writes a text up to the end of its part, and returns the remaining bytes.
fn fmt_text<'k>(bytes: &'k [u8], out: &mut fmt::Formatter<'_>) -> Result<&'k [u8], fmt::Error> {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        match (*byte, after.split_first()) {
            (END_OF_PART, Some((&ESCAPED, after))) => {
                text.push(END_OF_PART);
                rest = after;
            }
            (END_OF_PART, _) => break,
            _ => {
                text.push(*byte);
                rest = after;
            }
        }
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                write!(out, "\\x{:02x}", u32::from(character))?;
            } else {
                write!(out, "{character}")?;
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(key: impl TryInto<ViewKey, Error: Into<Error>>) -> ViewKey {
        ViewKey::new(key).unwrap()
    }

    #[test]
    fn key_is_shown_as_its_parts() {
        assert_eq!(key("account-1").to_string(), "account-1");
        assert_eq!(key(("account-1", 300_u64)).to_string(), "account-1/300");
        assert_eq!(key(("stage", 0_u64, "a")).to_string(), "stage/0/a");
        assert_eq!(key(("", 5_u64)).to_string(), "/5");
        assert_eq!(key(("a\0b", "c\n")).to_string(), "a\\x00b/c\\x0a");
        assert_eq!(key((-1_i8, "a", i64::MIN)).to_string(), "-1/a/-9223372036854775808");
        assert_eq!(key((300_u16, 5_i32, usize::MAX >> 16)).to_string(), "300/5/281474976710655");
        let time: Timestamp = "2026-11-29T18:30:00.5Z".parse().unwrap();
        assert_eq!(key((time.date(), time)).to_string(), "2026-11-29/2026-11-29T18:30:00.500000Z");
        assert_eq!(ViewKey::stored(&[0xff, b'a']).to_string(), "\\xffa");
        assert_eq!(ViewKey::stored(&[]).to_string(), "");
    }

    proptest! {
        #[test]
        fn any_key_can_be_shown(bytes: Vec<u8>) {
            prop_assert!(!ViewKey::stored(&bytes).to_string().contains('\0'));
        }

        #[test]
        fn text_and_number_keys_sort_by_both_and_never_collide(
            a in "[a\0b]{0,4}", b in "[a\0b]{0,4}", m: u32, n: u32
        ) {
            let (m, n) = (u64::from(m), u64::from(n));
            let (left, right) = (key((a.as_str(), m)), key((b.as_str(), n)));
            prop_assert_eq!(left.cmp(&right), (a.as_str(), m).cmp(&(b.as_str(), n)));
        }

        #[test]
        fn key_is_made_exactly_if_it_fits(text in "[a\0]{500,530}", other in "[b]{480,510}") {
            let escaped = text.len() + text.matches('\0').count();
            let fits = escaped + 1 + other.len() <= ViewKey::LEN_MAX;
            let made = ViewKey::new((text.as_str(), other.as_str()));
            prop_assert_eq!(made.is_ok(), fits);
            if let Err(refused) = made {
                prop_assert!(refused.to_string().len() < 1_024, "the key is shown shortened");
            }
        }
    }
}
