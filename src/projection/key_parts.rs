//! [`ViewKeyParts`]: takes a [`ViewKey`] apart into the values of its parts.

use uuid::Uuid;

use super::key::{END_OF_PART, ESCAPED, SIGNED, ViewKey, parse_signed};
use crate::model::{
    Date, EventId, InvalidArgument, Position, StreamId, Timestamp, Version, quoted,
};

impl ViewKey {
    /// Takes the key apart: into the value that it was made from, or a tuple of up to four values.
    ///
    /// A text part comes back as a [`String`] or [`StreamId`], any other part as the type that it
    /// was made from; [`ViewKeyPart`] lists them. A key made from the result equals this one.
    ///
    /// ```
    /// use annals::{Date, StreamId, ViewKey};
    /// let stream = StreamId::new("account-1")?;
    /// let key = ViewKey::new((Date::new(2026, 11, 29)?, &stream, -5_i64))?;
    ///
    /// let (date, account, change): (Date, StreamId, i64) = key.parts()?;
    /// assert_eq!((date.year(), account, change), (2026, stream, -5));
    ///
    /// let refused = key.parts::<(Date, StreamId)>().unwrap_err();
    /// assert!(refused.to_string().contains("2026-11-29/account-1/-5"), "{refused}");
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument::ViewKeyParts`]: the key does not have exactly these parts. A key does not
    /// record the types of its parts, so a wrong type is not always detected: the 8 bytes of a
    /// number can also be a text.
    pub fn parts<P: ViewKeyParts>(&self) -> Result<P, InvalidArgument> {
        P::parse(self.as_bytes()).ok_or_else(|| InvalidArgument::ViewKeyParts {
            key: quoted(&self.to_string()),
            parts: std::any::type_name::<P>(),
        })
    }
}

/// A value that is one part of a [`ViewKey`], so that [`ViewKey::parts`] can return it.
///
/// It is implemented for [`String`], [`StreamId`], [`EventId`], [`Uuid`], [`Date`], [`Timestamp`],
/// [`Position`], [`Version`], and the integers up to 64 bits. Implement it for a type of your own
/// by naming the type that it is encoded as:
///
/// ```
/// use annals::{ViewKey, ViewKeyPart};
///
/// #[derive(Debug, PartialEq)]
/// struct Cents(i64);
///
/// impl From<Cents> for ViewKey {
///     fn from(cents: Cents) -> Self {
///         cents.0.into()
///     }
/// }
/// impl ViewKeyPart for Cents {
///     type Encoded = i64;
///
///     fn from_encoded(cents: i64) -> Option<Self> {
///         Some(Self(cents))
///     }
/// }
///
/// let key = ViewKey::new(("account-1", Cents(-250)))?;
/// assert_eq!(key.parts::<(String, Cents)>()?, ("account-1".to_owned(), Cents(-250)));
/// # Ok::<(), annals::Error>(())
/// ```
pub trait ViewKeyPart: Sized {
    /// What it is encoded as in a key: [`String`], [`u64`] or [`i64`].
    type Encoded: sealed::Form;

    /// The value of an encoded part; `None` if the part cannot have been made from such a value.
    fn from_encoded(encoded: Self::Encoded) -> Option<Self>;
}

/// The parts of a [`ViewKey`]: a [`ViewKeyPart`], or a tuple of two to four of them.
pub trait ViewKeyParts: sealed::Parts {}

impl<P: sealed::Parts> ViewKeyParts for P {}

mod sealed {
    /// The parts of a key.
    pub trait Parts: Sized {
        /// Parses all bytes of a key.
        fn parse(bytes: &[u8]) -> Option<Self>;
    }

    /// The form of a part: a text, an unsigned or a signed number.
    pub trait Form: Sized {
        /// The lengths that the first part of these bytes may have, the likeliest first. Each ends
        /// the bytes, or is followed by a separator.
        fn ends(bytes: &[u8]) -> impl Iterator<Item = usize>;

        /// Parses all bytes of a part.
        fn parse(part: &[u8]) -> Option<Self>;
    }
}

impl sealed::Form for String {
    /// A 0 byte before `ff` belongs to the text, unless the next part is a number of at least
    /// `ff << 56`: then only the later parts show it, so it is tried last. At most one end leads
    /// to valid parts, because a text cannot begin with `ff`, and numbers have a fixed length.
    fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
        let is_end = |at: usize| bytes.get(at) == Some(&END_OF_PART);
        let is_escaped = move |at: usize| is_end(at) && bytes.get(at + 1) == Some(&ESCAPED);
        let len = (0..bytes.len()).find(|at| is_end(*at) && !is_escaped(*at));
        let len = len.unwrap_or(bytes.len());
        std::iter::once(len).chain((0..len).rev().filter(move |at| is_escaped(*at)))
    }

    fn parse(part: &[u8]) -> Option<Self> {
        let mut text = Vec::with_capacity(part.len());
        let mut rest = part.iter();
        while let Some(byte) = rest.next() {
            text.push(*byte);
            if *byte == END_OF_PART && rest.next() != Some(&ESCAPED) {
                return None;
            }
        }
        Self::from_utf8(text).ok()
    }
}

impl sealed::Form for u64 {
    fn ends(_: &[u8]) -> impl Iterator<Item = usize> {
        std::iter::once(size_of::<Self>())
    }

    fn parse(part: &[u8]) -> Option<Self> {
        part.try_into().ok().map(Self::from_be_bytes)
    }
}

impl sealed::Form for i64 {
    fn ends(_: &[u8]) -> impl Iterator<Item = usize> {
        std::iter::once(SIGNED.len() + size_of::<Self>())
    }

    fn parse(part: &[u8]) -> Option<Self> {
        part.strip_prefix(&SIGNED)?.try_into().ok().map(parse_signed)
    }
}

/// Parses all bytes as one part.
fn parse_part<P: ViewKeyPart>(part: &[u8]) -> Option<P> {
    P::from_encoded(sealed::Form::parse(part)?)
}

/// Parses the first part, and the rest of the bytes after its separator.
fn parse_first<P: ViewKeyPart, R>(
    bytes: &[u8],
    parse_rest: impl Fn(&[u8]) -> Option<R>,
) -> Option<(P, R)> {
    <P::Encoded as sealed::Form>::ends(bytes).find_map(|end| {
        let (part, rest) = bytes.split_at_checked(end)?;
        let rest = rest.strip_prefix(&[END_OF_PART])?;
        Some((parse_part(part)?, parse_rest(rest)?))
    })
}

impl<P: ViewKeyPart> sealed::Parts for P {
    fn parse(bytes: &[u8]) -> Option<Self> {
        parse_part(bytes)
    }
}

impl<A: ViewKeyPart, B: ViewKeyPart> sealed::Parts for (A, B) {
    fn parse(bytes: &[u8]) -> Option<Self> {
        parse_first(bytes, parse_part)
    }
}

impl<A: ViewKeyPart, B: ViewKeyPart, C: ViewKeyPart> sealed::Parts for (A, B, C) {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (a, (b, c)) = parse_first(bytes, <(B, C)>::parse)?;
        Some((a, b, c))
    }
}

impl<A, B, C, D> sealed::Parts for (A, B, C, D)
where
    A: ViewKeyPart,
    B: ViewKeyPart,
    C: ViewKeyPart,
    D: ViewKeyPart,
{
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (a, (b, c, d)) = parse_first(bytes, <(B, C, D)>::parse)?;
        Some((a, b, c, d))
    }
}

macro_rules! parts {
    ($($part:ty as $encoded:ty, |$value:ident| $decoded:expr;)+) => {$(
        impl ViewKeyPart for $part {
            type Encoded = $encoded;

            fn from_encoded($value: $encoded) -> Option<Self> {
                $decoded
            }
        }
    )+};
}
parts! {
    String as String, |text| Some(text);
    StreamId as String, |text| Self::new(text).ok();
    EventId as String, |text| text.parse().ok().filter(|id: &Self| id.to_string() == text);
    Uuid as String, |text| text.parse().ok().filter(|id: &Self| id.to_string() == text);
    Date as String, |text| text.parse().ok();
    Timestamp as String, |text| {
        let is_own_form = |time: &Self| {
            ViewKey::try_from(*time).is_ok_and(|key| key.as_bytes() == text.as_bytes())
        };
        text.parse().ok().filter(is_own_form)
    };
    u64 as u64, |number| Some(number);
    u32 as u64, |number| number.try_into().ok();
    u16 as u64, |number| number.try_into().ok();
    u8 as u64, |number| number.try_into().ok();
    usize as u64, |number| number.try_into().ok();
    Position as u64, |number| Self::new(number);
    Version as u64, |number| Self::new(number);
    i64 as i64, |number| Some(number);
    i32 as i64, |number| number.try_into().ok();
    i16 as i64, |number| number.try_into().ok();
    i8 as i64, |number| number.try_into().ok();
    isize as i64, |number| number.try_into().ok();
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "any number will do")]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;

    fn key(key: impl TryInto<ViewKey, Error: Into<Error>>) -> ViewKey {
        ViewKey::new(key).unwrap()
    }

    /// Checks that two values, alone and as any part of a key, sort like their keys and come back.
    fn check<T>(a: &T, b: &T, text: &str, number: i64) -> Result<(), TestCaseError>
    where
        T: ViewKeyPart + TryInto<ViewKey, Error: Into<Error>> + Clone + Ord + Debug,
    {
        let own = || text.to_owned();
        let keys = |value: &T| {
            [
                key(value.clone()),
                key((text, value.clone())),
                key((value.clone(), text)),
                key((text, value.clone(), text)),
                key((number, value.clone(), text, value.clone())),
            ]
        };
        let [alone, last, first, middle, twice] = keys(a);
        prop_assert_eq!(&alone.parts::<T>().unwrap(), a);
        prop_assert_eq!(last.parts::<(String, T)>().unwrap(), (own(), a.clone()));
        prop_assert_eq!(first.parts::<(T, String)>().unwrap(), (a.clone(), own()));
        prop_assert_eq!(middle.parts::<(String, T, String)>().unwrap(), (own(), a.clone(), own()));
        let parts = twice.parts::<(i64, T, String, T)>().unwrap();
        prop_assert_eq!(parts, (number, a.clone(), own(), a.clone()));
        for (one, other) in keys(a).iter().zip(keys(b)) {
            prop_assert_eq!(one.cmp(&other), a.cmp(b), "{} and {}", one, other);
        }
        Ok(())
    }

    fn text() -> impl Strategy<Value = String> {
        "[a\0\u{1}\u{fe}\u{10ffff}]{0,12}"
    }

    /// Any microsecond of the years 0 to 9999, often one of the first seconds of 1970.
    fn time() -> impl Strategy<Value = Timestamp> {
        let micros = prop_oneof![
            -2_000_000_i64..2_000_000,
            Timestamp::RECORDED_MIN.as_micros()..=Timestamp::RECORDED_MAX.as_micros(),
        ];
        micros.prop_map(Timestamp::from_micros)
    }

    proptest! {
        #[test]
        fn parts_of_any_type_sort_and_round_trip(
            text in text(),
            (a, b) in (text(), text()),
            (unsigned, signed, ids) in (any::<[u64; 2]>(), any::<[i64; 2]>(), any::<[u128; 2]>()),
            times in [time(), time()],
        ) {
            let ([m, n], [i, j]) = (unsigned, signed);
            check(&a, &b, &text, i)?;
            check(&m, &n, &text, i)?;
            check(&m.wrapping_neg(), &u64::MAX, &text, i)?;
            check(&(m as u32), &(n as u32), &text, i)?;
            check(&(m as u16), &(n as u16), &text, i)?;
            check(&(m as u8), &(n as u8), &text, i)?;
            check(&(m as usize), &(n as usize), &text, i)?;
            check(&i, &j, &text, i)?;
            check(&i64::MIN, &j, &text, i64::MAX)?;
            check(&(i as i32), &(j as i32), &text, i)?;
            check(&(i as i16), &(j as i16), &text, i)?;
            check(&(i as i8), &(j as i8), &text, i)?;
            check(&(i as isize), &(j as isize), &text, i)?;
            check(&Position::new(m | 1).unwrap(), &Position::new(n | 1).unwrap(), &text, i)?;
            check(&Version::new(m | 1).unwrap(), &Version::new(n | 1).unwrap(), &text, i)?;
            let [c, d] = ids.map(Uuid::from_u128);
            check(&c, &d, &text, i)?;
            check(&EventId::from(c), &EventId::from(d), &text, i)?;
            let [first, second] = times;
            check(&first, &second, &text, i)?;
            check(&first.date(), &second.date(), &text, i)?;
            let stream = |name: &str| {
                StreamId::new(format!("s{}", name.replace(['\0', '\u{1}'], "-"))).unwrap()
            };
            check(&stream(&a), &stream(&b), &text, i)?;
        }

        #[test]
        fn taking_any_bytes_apart_makes_the_same_key_or_is_refused(
            bytes in prop::collection::vec(
                prop_oneof![Just(0_u8), Just(0xff), Just(0xfe), any::<u8>()],
                0..40,
            ),
        ) {
            let from = ViewKey::from_bytes(bytes).unwrap();
            if let Ok(parts) = from.parts::<(String, u64, i64)>() {
                prop_assert_eq!(&key(parts), &from);
            }
            if let Ok(parts) = from.parts::<(u64, String)>() {
                prop_assert_eq!(&key(parts), &from);
            }
            if let Ok(text) = from.parts::<String>() {
                prop_assert_eq!(&key(text), &from);
            }
        }
    }

    #[test]
    fn key_with_other_parts_is_refused() {
        fn refuses<P: ViewKeyParts>(key: &ViewKey) -> bool {
            matches!(key.parts::<P>(), Err(InvalidArgument::ViewKeyParts { .. }))
        }
        let pair = key(("account-1", 300_u64));
        assert!(refuses::<u64>(&pair) && refuses::<String>(&pair));
        assert!(refuses::<(String, u8)>(&pair) && refuses::<(String, i64)>(&pair));
        assert!(refuses::<(String, String)>(&pair) && refuses::<(EventId, u64)>(&pair));
        assert!(refuses::<(String, u64, u64)>(&pair) && refuses::<(String, Date)>(&pair));
        assert_eq!(pair.parts::<(String, u16)>().unwrap().1, 300);
        assert!(refuses::<(String, Position)>(&key(("a", 0_u64))));
        assert!(refuses::<(String, i8)>(&key(("a", 128_i64))));
        assert!(refuses::<StreamId>(&key("$all")) && refuses::<StreamId>(&key("")));
        // The same value in another form would make another key.
        let id = EventId::from_bytes([0xab; 16]);
        assert!(refuses::<EventId>(&key(id.to_string().to_uppercase())));
        assert!(refuses::<Uuid>(&key(id.to_string().replace('-', ""))));
        assert!(refuses::<Timestamp>(&key("2026-11-29T18:30:00Z")));
        assert!(refuses::<Date>(&key("2026-02-29")));
    }

    #[test]
    fn time_outside_the_years_of_a_key_is_refused() {
        for micros in
            [Timestamp::RECORDED_MIN.as_micros() - 1, Timestamp::RECORDED_MAX.as_micros() + 1]
        {
            let time = Timestamp::from_micros(micros);
            let refused = ViewKey::try_from(time).unwrap_err();
            assert_eq!(refused, InvalidArgument::ViewKeyTimeOutOfRange { micros });
            let micros = time.date().start_of_day().as_micros();
            let refused = ViewKey::try_from(time.date()).unwrap_err();
            assert_eq!(refused, InvalidArgument::ViewKeyTimeOutOfRange { micros });
        }
    }

    /// The bytes that docs/FORMAT.md specifies.
    #[test]
    fn bytes_of_a_key_never_change() {
        let bytes = |key: ViewKey| key.as_bytes().to_vec();
        assert_eq!(bytes(key(("a\0", 258_u16))), b"a\0\xff\0\0\0\0\0\0\0\x01\x02");
        assert_eq!(bytes(key(258_i16)), [0, 0xfe, 0x80, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes(key(-1_i64)), [0, 0xfe, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        let time: Timestamp = "0987-06-05T04:03:02.000001Z".parse().unwrap();
        assert_eq!(bytes(key((time.date(), time))), b"0987-06-05\x000987-06-05T04:03:02.000001Z");
        let id = Uuid::from_bytes([0xab; 16]);
        assert_eq!(bytes(key(id)), b"abababab-abab-abab-abab-abababababab");
    }
}
