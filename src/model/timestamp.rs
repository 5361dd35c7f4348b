//! [`Timestamp`]: UTC in microseconds.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::civil::{DateTime, Time, datetime, time};
use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Timestamp as Instant};

use super::date::MICROS_PER_DAY;
use super::{Date, InvalidArgument};

/// The beginning of 1970 in UTC, as a civil time.
const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);
/// The second of a day after which a leap second is inserted.
const LAST_SECOND: Time = time(23, 59, 59, 0);
const MICROS_PER_SECOND: i64 = 1_000_000;

/// A moment in UTC, in whole microseconds since 1970. It is formatted and parsed as RFC 3339, which
/// covers the years 0 to 9999 of UTC, from `0000-01-01T00:00:00Z` to `9999-12-31T23:59:59.999999Z`.
/// Only times in these years can be recorded. Other times can be used in queries; they are
/// formatted as a number of microseconds, which cannot be parsed.
///
/// UTC has leap seconds; this type has none. 23:59:60 UTC, with or without a fraction, is parsed as
/// the last microsecond before it, 23:59:59.999999. It is accepted on the last day of any month,
/// because a leap second can be inserted only there; a second 60 in any other minute is refused.
/// Parsing therefore never reverses the order of two times.
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
    /// The moment this many microseconds after 1970-01-01T00:00:00Z (before it, if negative).
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Parses a time as [`FromStr`] does, and reports whether part of it was cut off: digits beyond
    /// the microsecond, or a leap second.
    pub(crate) fn parse(text: &str) -> Result<(Self, bool), InvalidArgument> {
        let nanos = text.parse().map(Instant::as_nanosecond).ok().or_else(|| last_days(text));
        let time = nanos.and_then(|nanos| {
            let time = Self(nanos.div_euclid(1000).try_into().ok()?);
            Some((time, nanos.rem_euclid(1000) != 0))
        });
        let read = time.filter(|(time, _)| time.is_recordable()).ok_or_else(|| {
            InvalidArgument::unreadable(
                "a time in the form of RFC 3339, in the years 0 to 9999 of UTC, \
                 such as 2011-10-01T00:38:44.546+02:00",
                text,
            )
        })?;
        if !has_second_60(text) {
            return Ok(read);
        }
        // jiff parses second 60 as second 59.
        read.0.end_of_second_before_leap().map(|time| (time, true)).ok_or_else(|| {
            InvalidArgument::unreadable(
                "a time: second 60 exists only as a leap second, at 23:59:60 UTC on the last day of a month",
                text,
            )
        })
    }

    /// The last microsecond of this second; `None` if no leap second can follow it.
    fn end_of_second_before_leap(self) -> Option<Self> {
        let second = self.0.div_euclid(MICROS_PER_SECOND);
        let utc = EPOCH.checked_add(SignedDuration::from_secs(second)).ok()?;
        let can_follow = utc.date() == utc.date().last_of_month() && utc.time() == LAST_SECOND;
        can_follow.then_some(Self(second * MICROS_PER_SECOND + MICROS_PER_SECOND - 1))
    }

    /// The first moment that can be recorded: the beginning of the year 0.
    pub(crate) const RECORDED_MIN: Self = Self(-62_167_219_200_000_000);
    /// The last moment that can be recorded: the end of the year 9999.
    pub(crate) const RECORDED_MAX: Self = Self(253_402_300_799_999_999);

    /// Whether it can be recorded: it is in the years 0 to 9999, which RFC 3339 can express.
    pub(crate) fn is_recordable(self) -> bool {
        (Self::RECORDED_MIN..=Self::RECORDED_MAX).contains(&self)
    }

    /// The calendar date in UTC.
    ///
    /// ```
    /// use annals::Timestamp;
    /// let time: Timestamp = "2026-11-30T00:30:00+01:00".parse()?;
    /// assert_eq!(time.date().to_string(), "2026-11-29");
    /// # Ok::<(), annals::InvalidArgument>(())
    /// ```
    pub fn date(self) -> Date {
        Date::of(self)
    }

    /// The time of day in UTC: how long after the start of its [`date`](Timestamp::date) this is.
    ///
    /// ```
    /// use annals::Timestamp;
    /// use std::time::Duration;
    /// let time: Timestamp = "2026-11-29T18:30:05.25Z".parse()?;
    /// assert_eq!(time.time_of_day(), Duration::from_millis(66_605_250));
    /// assert_eq!(time, time.date().start_of_day() + time.time_of_day());
    /// assert_eq!((time.hour(), time.minute(), time.second()), (18, 30, 5));
    /// # Ok::<(), annals::InvalidArgument>(())
    /// ```
    pub fn time_of_day(self) -> Duration {
        Duration::from_micros(self.0.rem_euclid(MICROS_PER_DAY).unsigned_abs())
    }

    /// The hour in UTC, 0 to 23.
    pub fn hour(self) -> u8 {
        self.unit_of_day(3_600, 24)
    }

    /// The minute of the hour in UTC, 0 to 59.
    pub fn minute(self) -> u8 {
        self.unit_of_day(60, 60)
    }

    /// The second of the minute, 0 to 59.
    pub fn second(self) -> u8 {
        self.unit_of_day(1, 60)
    }

    /// How often this many seconds have passed since the start of the day, modulo `count`.
    fn unit_of_day(self, seconds: i64, count: i64) -> u8 {
        let second = self.0.div_euclid(MICROS_PER_SECOND);
        u8::try_from(second.div_euclid(seconds).rem_euclid(count)).unwrap_or_default()
    }

    /// How long after `earlier` this is; `None` if it is before.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        u64::try_from(self.0.checked_sub(earlier.0)?).ok().map(Duration::from_micros)
    }
}

/// Rounds the duration down to whole microseconds. The result saturates at the end of the range.
///
/// ```
/// use annals::Timestamp;
/// use std::time::Duration;
/// let day = Duration::from_secs(86_400);
/// let last_week = "2026-11-28T12:00:00Z".parse::<Timestamp>()? - 7 * day;
/// assert_eq!(last_week.to_string(), "2026-11-21T12:00:00Z");
/// assert_eq!(last_week + day, "2026-11-22T12:00:00Z".parse()?);
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// Rounds the duration down to whole microseconds. The result saturates at the beginning of the
/// range.
impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// Whether the second of a parsed time is 60. Its text is a date, a separator, then `HH:MM:SS` or
/// `HHMMSS`.
fn has_second_60(text: &str) -> bool {
    let Some((_, time)) = text.split_once(['T', 't', ' ']) else { return false };
    let digits: Vec<u8> = time.bytes().filter(|byte| *byte != b':').take(6).collect();
    digits.iter().all(u8::is_ascii_digit) && digits.ends_with(b"60") && digits.len() == 6
}

/// Parses a moment of the last days of the year 9999, in nanoseconds since 1970. The instants of
/// jiff end at the last moment that exists in every time zone; its civil dates continue to the end
/// of the year.
fn last_days(text: &str) -> Option<i128> {
    let pieces = Pieces::parse(text).ok()?;
    let local = pieces.date().to_datetime(pieces.time()?);
    let ahead = i128::from(pieces.to_numeric_offset()?.seconds()) * 1_000_000_000;
    let nanos = local.duration_since(EPOCH).as_nanos() - ahead;
    // An earlier time was refused for another reason.
    (nanos > Instant::MAX.as_nanosecond()).then_some(nanos)
}

/// Rounded down to whole microseconds; a moment beyond the range of [`Timestamp`] saturates at its
/// nearest end.
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
        let date = EPOCH.checked_add(SignedDuration::from_micros(self.0));
        match date.ok().filter(|_| self.is_recordable()) {
            Some(date) => {
                date.fmt(out)?;
                out.write_str("Z")
            }
            None => write!(out, "{} µs since 1970", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidArgument;

    /// Parses RFC 3339 in the years 0 to 9999 of UTC, such as `2011-10-01T00:38:44.546+02:00`.
    /// Digits beyond the microsecond are cut off; a leap second is parsed as the last microsecond
    /// before it.
    fn from_str(text: &str) -> Result<Self, InvalidArgument> {
        Self::parse(text).map(|(time, _)| time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_1970_rounds_down_to_microseconds() {
        let text = "1969-12-31T23:59:59.9999991Z";
        assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(-1));
        let system = SystemTime::UNIX_EPOCH - Duration::from_nanos(900);
        assert_eq!(Timestamp::from(system), Timestamp(-1));
    }

    #[test]
    fn time_of_day_counts_from_midnight_before_1970_too() {
        for (text, parts, micros) in [
            ("1969-12-31T23:59:59.999999Z", (23, 59, 59), 86_399_999_999),
            ("1970-01-01T00:00:00Z", (0, 0, 0), 0),
            ("0000-01-01T01:02:03.000004Z", (1, 2, 3), 3_723_000_004),
            ("9999-12-31T12:59:00Z", (12, 59, 0), 46_740_000_000),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!((time.hour(), time.minute(), time.second()), parts);
            assert_eq!(time.time_of_day(), Duration::from_micros(micros));
        }
        for end in [i64::MIN, i64::MAX].map(Timestamp) {
            assert!(end.hour() < 24 && end.time_of_day() < Duration::from_secs(86_400));
        }
    }

    #[test]
    fn written_time_is_read_again() {
        let ends = [Timestamp::RECORDED_MIN, Timestamp::RECORDED_MAX].map(Timestamp::as_micros);
        let texts = ends.map(|end| Timestamp(end).to_string());
        assert_eq!(texts, ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"]);
        for micros in [ends[0], i64::from(i32::MIN), -1, 0, 1, 1_317_422_324_546_123, ends[1]] {
            let time = Timestamp(micros);
            assert!(time.is_recordable());
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }

    #[test]
    fn last_days_parse_in_any_offset_and_later_times_are_refused() {
        for text in [
            "9999-12-30T22:00:01Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999Z",
            "0000-01-01T00:00:00.000001Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        let late = "9999-12-31T23:59:59+14:00".parse::<Timestamp>().unwrap();
        assert_eq!(late.to_string(), "9999-12-31T09:59:59Z");
        assert!(Timestamp::parse("9999-12-31T23:59:59.9999999Z").unwrap().1);
        for text in [
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
            "-000001-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "9999-12-31T23:59:59",
            "9999-12-31",
            "9999-12-32T00:00:00Z",
        ] {
            let refused = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(refused.contains("in the years 0 to 9999 of UTC"), "{refused}");
        }
        for end in
            [Timestamp::RECORDED_MIN.0 - 1, Timestamp::RECORDED_MAX.0 + 1, i64::MIN, i64::MAX]
        {
            assert_eq!(Timestamp(end).to_string(), format!("{end} µs since 1970"));
        }
    }
}
