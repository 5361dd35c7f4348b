//! [`ViewKey`]: keys of read models that sort as what they mean.

use std::fmt;

use crate::model::{EventId, Position, StreamId, Version};

/// Ends a part of a key that is followed by another.
const END_OF_PART: u8 = 0;
/// Stands behind a 0 that belongs to a text, so that it does not end the part.
const ESCAPED: u8 = 0xff;

/// A key of a read model: a text, a number, or several of them one below the other.
///
/// Texts sort as their bytes, numbers by size, and of keys with several parts the first part decides, then the second.
/// So everything below one part lies together, and can be scanned in order:
///
/// ```
/// use annals::ViewKey;
/// let of_two = ViewKey::from(("account-1", 2_u64));
/// assert!(of_two < ViewKey::from(("account-1", 10_u64)));
/// assert!(ViewKey::from(("account-1", u64::MAX)) < ViewKey::from(("account-10", 0_u64)));
/// assert_eq!(ViewKey::from("account-1").to_string(), "account-1");
/// ```
///
/// Keep the parts of one view to one form: a number in one key and a text in the same place of another are told apart
/// by nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewKey(Vec<u8>);

impl ViewKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key with one more part below it.
    pub fn then(mut self, part: impl Into<ViewKey>) -> Self {
        self.0.push(END_OF_PART);
        self.0.extend(part.into().0);
        self
    }
}

impl From<&str> for ViewKey {
    fn from(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            bytes.push(byte);
            if byte == END_OF_PART {
                bytes.push(ESCAPED);
            }
        }
        Self(bytes)
    }
}

impl From<String> for ViewKey {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for ViewKey {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&StreamId> for ViewKey {
    fn from(stream: &StreamId) -> Self {
        stream.as_str().into()
    }
}

impl From<u64> for ViewKey {
    fn from(number: u64) -> Self {
        Self(number.to_be_bytes().to_vec())
    }
}

/// As text.
impl From<EventId> for ViewKey {
    fn from(id: EventId) -> Self {
        id.to_string().into()
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

impl<A: Into<ViewKey>, B: Into<ViewKey>> From<(A, B)> for ViewKey {
    fn from((first, second): (A, B)) -> Self {
        first.into().then(second)
    }
}

impl<A: Into<ViewKey>, B: Into<ViewKey>, C: Into<ViewKey>> From<(A, B, C)> for ViewKey {
    fn from((first, second, third): (A, B, C)) -> Self {
        first.into().then(second).then(third)
    }
}

impl fmt::Debug for ViewKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ViewKey(\"{self}\")")
    }
}

/// For people: the parts with `/` between them, texts as they are, what cannot be shown as `\xNN`.
impl fmt::Display for ViewKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        loop {
            rest = match leading_number(rest) {
                Some((number, behind)) => {
                    write!(out, "{number}")?;
                    behind
                }
                None => fmt_text(rest, out)?,
            };
            // What is left begins with the end of the part.
            match rest.split_first() {
                None => return Ok(()),
                Some((_, behind)) => rest = behind,
            }
            out.write_str("/")?;
        }
    }
}

/// The number that a part is, as far as that can be told: 8 bytes and then an end, of which the first is 0, as no text
/// begins.
fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, behind) = bytes.split_first_chunk::<8>()?;
    let is_number = number.starts_with(&[0]) && !number.starts_with(&[0, ESCAPED]);
    let is_whole = behind.first().is_none_or(|end| *end == END_OF_PART);
    (is_number && is_whole).then_some((u64::from_be_bytes(*number), behind))
}

/// Writes a text up to the end of its part, and returns what is left.
fn fmt_text<'k>(bytes: &'k [u8], out: &mut fmt::Formatter<'_>) -> Result<&'k [u8], fmt::Error> {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let Some((byte, behind)) = rest.split_first() {
        match (*byte, behind.split_first()) {
            (END_OF_PART, Some((&ESCAPED, behind))) => {
                text.push(END_OF_PART);
                rest = behind;
            }
            (END_OF_PART, _) => break,
            _ => {
                text.push(*byte);
                rest = behind;
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

    #[test]
    fn a_key_is_shown_as_its_parts() {
        let shown = |key: ViewKey| key.to_string();
        assert_eq!(shown("account-1".into()), "account-1");
        assert_eq!(shown(("account-1", 300_u64).into()), "account-1/300");
        assert_eq!(shown(("stage", 0_u64, "a").into()), "stage/0/a");
        assert_eq!(shown(("", 5_u64).into()), "/5");
        assert_eq!(shown(("a\0b", "c\n").into()), "a\\x00b/c\\x0a");
        assert_eq!(shown(ViewKey::from_bytes([0xff, b'a'])), "\\xffa");
        assert_eq!(shown(ViewKey::from_bytes([])), "");
    }

    proptest! {
        #[test]
        fn any_key_can_be_shown(bytes: Vec<u8>) {
            prop_assert!(!ViewKey::from_bytes(bytes).to_string().contains('\0'));
        }

        #[test]
        fn keys_of_a_text_and_a_number_sort_by_both_and_never_collide(
            a in "[a\0b]{0,4}", b in "[a\0b]{0,4}", m: u32, n: u32
        ) {
            let (m, n) = (u64::from(m), u64::from(n));
            let (left, right) = (ViewKey::from((a.as_str(), m)), ViewKey::from((b.as_str(), n)));
            prop_assert_eq!(left.cmp(&right), (a.as_str(), m).cmp(&(b.as_str(), n)));
        }
    }
}
