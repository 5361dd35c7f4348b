//! [`ViewKey`]: keys of read models that sort like the values they encode.

use std::fmt;

use crate::error::{Error, Result};
use crate::model::limits::VIEW_KEY_LEN_MAX;
use crate::model::{EventId, InvalidArgument, Position, StreamId, Version};

/// Separates a part of a key from the next one.
pub(super) const END_OF_PART: u8 = 0;
/// Follows a 0 byte inside a text, so that it does not end the part.
const ESCAPED: u8 = 0xff;

/// A key of a read model: a text, a number, or several parts of these.
///
/// Texts sort by their bytes and numbers by value. Keys with several parts sort by the first part,
/// then by the second. So all entries under one part can be scanned in order:
///
/// ```
/// use annals::ViewKey;
/// let second = ViewKey::new(("account-1", 2_u64))?;
/// assert!(second < ViewKey::new(("account-1", 10_u64))?);
/// assert!(ViewKey::new(("account-1", u64::MAX))? < ViewKey::new(("account-10", 0_u64))?);
/// assert_eq!(ViewKey::new("account-1")?.to_string(), "account-1");
/// # Ok::<(), annals::Error>(())
/// ```
///
/// Use the same form for all keys of a view: a key does not record whether a part is a number or a
/// text.
///
/// # Length
/// A key holds at most [`ViewKey::LEN_MAX`] bytes. Ids, positions, versions and numbers always fit:
/// they convert with [`From`]. A text may be too long: it converts with [`TryFrom`], and so does a
/// key of several parts. Every method that takes a key accepts both, and returns an error if the
/// key is too long. Text that a user typed is a poor key: use the id of the item it belongs to, and
/// keep the text in the value.
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
    /// Longest key, in bytes. A text takes its length in UTF-8, a number takes 8 bytes, and each
    /// further part takes 1 more.
    pub const LEN_MAX: usize = VIEW_KEY_LEN_MAX - 1;

    /// Creates the key of a text, a number, an id, or a tuple of these.
    ///
    /// # Errors
    /// [`InvalidArgument::ViewKeyTooLong`].
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

impl From<u64> for ViewKey {
    fn from(number: u64) -> Self {
        Self(number.to_be_bytes().to_vec())
    }
}

/// The id in its text form.
impl From<EventId> for ViewKey {
    fn from(id: EventId) -> Self {
        Self(id.to_string().into_bytes())
    }
}

impl From<Position> for ViewKey {
    fn from(position: Position) -> Self {
        position.get().into()
    }
}

impl From<Version> for ViewKey {
    fn from(version: Version) -> Self {
        version.get().into()
    }
}

impl From<&ViewKey> for ViewKey {
    fn from(key: &ViewKey) -> Self {
        key.clone()
    }
}

impl<A, B> TryFrom<(A, B)> for ViewKey
where
    A: TryInto<ViewKey, Error: Into<Error>>,
    B: TryInto<ViewKey, Error: Into<Error>>,
{
    type Error = Error;

    fn try_from((first, second): (A, B)) -> Result<Self> {
        Self::new(first)?.then(second)
    }
}

impl<A, B, C> TryFrom<(A, B, C)> for ViewKey
where
    A: TryInto<ViewKey, Error: Into<Error>>,
    B: TryInto<ViewKey, Error: Into<Error>>,
    C: TryInto<ViewKey, Error: Into<Error>>,
{
    type Error = Error;

    fn try_from((first, second, third): (A, B, C)) -> Result<Self> {
        Self::new(first)?.then(second)?.then(third)
    }
}

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
            rest = match leading_number(rest) {
                Some((number, after)) => {
                    write!(out, "{number}")?;
                    after
                }
                None => fmt_text(rest, out)?,
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

/// Parses a part that is recognizably a number: exactly 8 bytes, beginning with an unescaped 0,
/// which no text does.
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
