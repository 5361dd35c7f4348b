//! [`Timestamp`]: UTC in microseconds.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::InvalidArgument;

/// A moment in UTC, in whole microseconds since 1970. Written and read as RFC 3339.
///
/// ```
/// use annals::Timestamp;
/// let time: Timestamp = "2011-10-01T00:38:44.546+02:00".parse()?;
/// assert_eq!(time.to_string(), "2011-09-30T22:38:44.546Z");
/// assert_eq!(Timestamp::from_micros(0).to_string(), "1970-01-01T00:00:00Z");
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many microseconds after 1970-01-01T00:00:00Z (before, where negative).
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Reads a time as [`FromStr`] does, and says whether digits beyond the microsecond were cut off.
    pub(crate) fn parse(text: &str) -> Result<(Self, bool), InvalidArgument> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidArgument::Unreadable {
            what: "a time in the form of RFC 3339, such as 2011-10-01T00:38:44.546+02:00",
            text: text.to_owned(),
        })?;
        let nanos = time.as_nanosecond();
        let micros = nanos.div_euclid(1000).try_into().unwrap_or(i64::MAX);
        Ok((Self(micros), nanos.rem_euclid(1000) != 0))
    }

    /// The first moment that is recorded: the beginning of the year 0.
    pub(crate) const RECORDED_MIN: Self = Self(-62_167_219_200_000_000);
    /// The last moment that is recorded: the last full day of the year 9999 that there is in every time zone.
    pub(crate) const RECORDED_MAX: Self = Self(253_402_127_999_999_999);

    /// Whether it can be recorded: RFC 3339 writes the years 0 to 9999, so that such a time is read again.
    pub(crate) fn is_recordable(self) -> bool {
        (Self::RECORDED_MIN..=Self::RECORDED_MAX).contains(&self)
    }

    /// How long after `earlier` this is; `None` if it is before.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        u64::try_from(self.0.checked_sub(earlier.0)?).ok().map(Duration::from_micros)
    }
}

/// Rounded down to whole microseconds; a moment beyond the range of [`Timestamp`] becomes its nearest end.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => {
                let nanos = before.duration().as_nanos();
                Self(i64::try_from(nanos.div_ceil(1000)).map_or(i64::MIN, |micros| -micros))
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => time.fmt(out),
            Err(_) => write!(out, "{} µs since 1970", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidArgument;

    /// Reads RFC 3339, such as `2011-10-01T00:38:44.546+02:00`. Digits beyond the microsecond are cut off.
    fn from_str(text: &str) -> Result<Self, InvalidArgument> {
        Self::parse(text).map(|(time, _)| time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_1970_with_nanoseconds_is_rounded_down_not_towards_zero() {
        let text = "1969-12-31T23:59:59.9999991Z";
        assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(-1));
        let system = SystemTime::UNIX_EPOCH - Duration::from_nanos(900);
        assert_eq!(Timestamp::from(system), Timestamp(-1));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ends = [Timestamp::RECORDED_MIN, Timestamp::RECORDED_MAX].map(Timestamp::as_micros);
        let texts = ends.map(|end| Timestamp(end).to_string());
        assert_eq!(texts, ["0000-01-01T00:00:00Z", "9999-12-29T23:59:59.999999Z"]);
        for micros in [ends[0], i64::from(i32::MIN), -1, 0, 1, 1_317_422_324_546_123, ends[1]] {
            let time = Timestamp(micros);
            assert!(time.is_recordable());
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }
}
