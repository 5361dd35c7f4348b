//! The places of an event: [`Position`] in the log, [`Version`] in its stream. Both count from 1
//! without gaps.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use super::InvalidArgument;

macro_rules! place {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The first place: 1.
            pub const FIRST: Self = Self(NonZeroU64::MIN);
            /// A place that is never reached: as a bound it means "to the end".
            pub const MAX: Self = Self(NonZeroU64::MAX);

            /// The place with this number; `None` for 0, because places count from 1.
            pub const fn new(number: u64) -> Option<Self> {
                match NonZeroU64::new(number) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0.get()
            }

            /// The next place.
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The place before; `None` before the first.
            pub const fn previous(self) -> Option<Self> {
                Self::new(self.get() - 1)
            }

            /// The place `count` further on; stays at [`Self::MAX`], which no store reaches.
            pub(crate) const fn plus(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// The place after `place`; the first place for `None`.
            pub(crate) fn after(place: Option<Self>) -> Self {
                place.map_or(Self::FIRST, Self::next)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }

        impl From<$name> for u64 {
            fn from(place: $name) -> Self {
                place.get()
            }
        }

        impl FromStr for $name {
            type Err = InvalidArgument;

            fn from_str(text: &str) -> Result<Self, InvalidArgument> {
                let place = text.parse().ok().and_then(Self::new);
                place.ok_or_else(|| InvalidArgument::unreadable($what, text))
            }
        }
    };
}

place! {
    /// Place of an event in the log: from 1, gapless, in commit order (G2).
    ///
    /// ```
    /// use annals::Position;
    /// assert_eq!(Position::FIRST.next().get(), 2);
    /// assert_eq!(Position::new(0), None);
    /// ```
    Position, "a position (a whole number from 1)"
}

place! {
    /// Place of an event in its stream: from 1, gapless (G3).
    ///
    /// ```
    /// use annals::Version;
    /// assert_eq!("7".parse::<Version>()?, Version::new(7).unwrap());
    /// assert_eq!(Version::FIRST.previous(), None);
    /// # Ok::<(), annals::InvalidArgument>(())
    /// ```
    Version, "a version (a whole number from 1)"
}
