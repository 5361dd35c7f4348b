//! [`Date`]: a calendar date in UTC.

use std::fmt;
use std::str::FromStr;

use super::{InvalidArgument, Timestamp};

/// Microseconds of a day.
pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The years that [`Date::new`] accepts: those that RFC 3339 can write.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;
/// 400 years of the Gregorian calendar always have this many days.
const DAYS_PER_ERA: i32 = 146_097;
/// The days from 0000-03-01 to 1970-01-01.
const EPOCH_DAY: i32 = 719_468;

/// A calendar date in UTC, in the Gregorian calendar. It is formatted and parsed as in RFC 3339:
/// `2026-11-29`.
///
/// [`Timestamp::date`] returns the date of a time. A date that is made from numbers or text is in
/// the years 0 to 9999. A [`Timestamp`] may be outside these years, and so may its date: its year
/// is then written with a sign, which cannot be parsed.
///
/// A date is a good [view key](crate::ViewKey), for a read model by day. Its serde form is the
/// text.
///
/// ```
/// use annals::{Date, Timestamp};
/// let time: Timestamp = "2026-11-29T18:30:00Z".parse()?;
/// let date = time.date();
/// assert_eq!(date, Date::new(2026, 11, 29)?);
/// assert_eq!((date.year(), date.month(), date.day()), (2026, 11, 29));
/// assert_eq!(date.to_string(), "2026-11-29");
/// assert_eq!(date.start_of_day(), "2026-11-29T00:00:00Z".parse()?);
///
/// // The Monday of that week, and the first day of that month.
/// let monday = date.plus_days(1 - i32::from(date.weekday()));
/// assert_eq!(monday.to_string(), "2026-11-23");
/// assert_eq!(Date::new(date.year(), date.month(), 1)?.to_string(), "2026-11-01");
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Days since 1970-01-01, within the range of [`Timestamp`].
    days: i32,
}

impl Date {
    /// The date of the first [`Timestamp`], in the year -290308.
    const MIN: Self = Self { days: -106_751_992 };
    /// The date of the last [`Timestamp`], in the year 294247.
    const MAX: Self = Self { days: 106_751_991 };

    /// The date with this year, month (from 1) and day (from 1).
    ///
    /// # Errors
    /// [`InvalidArgument::NoSuchDate`]: the year is not in 0 to 9999, or it has no such month or
    /// day.
    ///
    /// ```
    /// use annals::Date;
    /// assert!(Date::new(2028, 2, 29).is_ok());
    /// let refused = Date::new(2026, 2, 29).unwrap_err();
    /// assert_eq!(refused.to_string(), "there is no date 2026-02-29 in the years 0 to 9999");
    /// ```
    pub fn new(year: i32, month: u8, day: u8) -> Result<Self, InvalidArgument> {
        let refused = InvalidArgument::NoSuchDate { year, month, day };
        if !YEARS.contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(refused);
        }
        // Years that begin in March, so that a leap day is the last day of its year.
        let (month_from_march, year_from_march) =
            if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
        let day_of_year = (153 * i32::from(month_from_march) + 2) / 5 + i32::from(day) - 1;
        let (era, year_of_era) = (year_from_march.div_euclid(400), year_from_march.rem_euclid(400));
        let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let date = Self { days: era * DAYS_PER_ERA + day_of_era - EPOCH_DAY };
        // A day that the month does not have is a day of the next month.
        if date.civil() == (year, month, day) { Ok(date) } else { Err(refused) }
    }

    /// The year; negative before the year 0.
    pub fn year(self) -> i32 {
        self.civil().0
    }

    /// The month, 1 to 12.
    pub fn month(self) -> u8 {
        self.civil().1
    }

    /// The day of the month, 1 to 31.
    pub fn day(self) -> u8 {
        self.civil().2
    }

    /// The day of the week as in ISO 8601: 1 is Monday, 7 is Sunday.
    pub fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        small((self.days + 3).rem_euclid(7) + 1)
    }

    /// The first moment of the day in UTC. On the first day of the range of [`Timestamp`], it is
    /// the first moment of that range.
    pub fn start_of_day(self) -> Timestamp {
        Timestamp::from_micros(i64::from(self.days).saturating_mul(MICROS_PER_DAY))
    }

    /// The date this many days later (earlier, if negative). It saturates at the first and the last
    /// day of the range of [`Timestamp`].
    ///
    /// ```
    /// use annals::Date;
    /// let date: Date = "2026-12-31".parse()?;
    /// assert_eq!(date.plus_days(1).to_string(), "2027-01-01");
    /// assert_eq!(date.plus_days(-365).to_string(), "2025-12-31");
    /// # Ok::<(), annals::InvalidArgument>(())
    /// ```
    pub fn plus_days(self, days: i32) -> Self {
        Self { days: self.days.saturating_add(days) }.clamp(Self::MIN, Self::MAX)
    }

    /// The date of a time.
    pub(super) fn of(time: Timestamp) -> Self {
        let days = time.as_micros().div_euclid(MICROS_PER_DAY);
        // The range of `Timestamp` has far fewer days than an `i32`.
        Self { days: i32::try_from(days).unwrap_or_default() }
    }

    /// Days since 1970-01-01.
    pub(super) fn days(self) -> i32 {
        self.days
    }

    /// The date this many days after 1970-01-01; `None` outside the range of [`Timestamp`].
    pub(super) fn from_days(days: i32) -> Option<Self> {
        Some(Self { days }).filter(|date| (Self::MIN..=Self::MAX).contains(date))
    }

    /// Whether it is in the years 0 to 9999.
    pub(crate) fn has_text(self) -> bool {
        YEARS.contains(&self.year())
    }

    /// The year, month and day. The inverse of the arithmetic in [`Date::new`].
    fn civil(self) -> (i32, u8, u8) {
        let days = self.days + EPOCH_DAY;
        let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let year = era * 400 + year_of_era;
        if month_from_march < 10 {
            (year, small(month_from_march + 3), small(day))
        } else {
            (year + 1, small(month_from_march - 9), small(day))
        }
    }
}

/// A number that fits, by the rules of the calendar.
fn small(number: i32) -> u8 {
    u8::try_from(number).unwrap_or_default()
}

impl fmt::Display for Date {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        if YEARS.contains(&year) {
            write!(out, "{year:04}-{month:02}-{day:02}")
        } else {
            write!(out, "{year:+07}-{month:02}-{day:02}")
        }
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Date {
    type Err = InvalidArgument;

    /// Parses the form `2026-11-29`, in the years 0 to 9999.
    ///
    /// # Errors
    /// [`InvalidArgument::Unreadable`]: the text has another form.
    /// [`InvalidArgument::NoSuchDate`]: the calendar has no such date.
    fn from_str(text: &str) -> Result<Self, InvalidArgument> {
        let refused = || {
            InvalidArgument::unreadable(
                "a date in the form of RFC 3339, in the years 0 to 9999, such as 2026-11-29",
                text,
            )
        };
        let number = |digits: &str, len: usize| -> Option<u16> {
            let is_number = digits.len() == len && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| is_number)
        };
        let mut parts = text.split('-');
        let mut part =
            |len| parts.next().and_then(|digits| number(digits, len)).ok_or_else(refused);
        let (year, month, day) = (part(4)?, part(2)?, part(2)?);
        if parts.next().is_some() {
            return Err(refused());
        }
        Self::new(i32::from(year), small(i32::from(month)), small(i32::from(day)))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_at_the_ends_of_the_range_are_exact() {
        let first = Timestamp::from_micros(i64::MIN).date();
        let last = Timestamp::from_micros(i64::MAX).date();
        assert_eq!((first, last), (Date::MIN, Date::MAX));
        assert_eq!(
            (first.to_string(), last.to_string()),
            ("-290308-12-21".into(), "+294247-01-10".into())
        );
        assert_eq!(first.start_of_day(), Timestamp::from_micros(i64::MIN));
        assert_eq!((first.plus_days(-1), last.plus_days(1)), (first, last));
        assert_eq!((first.plus_days(i32::MIN), last.plus_days(i32::MAX)), (first, last));
        assert_eq!(Date::from_days(Date::MIN.days - 1), None);
        assert_eq!(Date::from_days(Date::MAX.days + 1), None);
        let ends = [Timestamp::RECORDED_MIN, Timestamp::RECORDED_MAX].map(Timestamp::date);
        assert_eq!(ends.map(|date| date.to_string()), ["0000-01-01", "9999-12-31"]);
        let beyond = [ends[0].plus_days(-1), ends[1].plus_days(1)];
        assert_eq!(beyond.map(|date| date.to_string()), ["-000001-12-31", "+010000-01-01"]);
        assert!(beyond.iter().all(|date| date.to_string().parse::<Date>().is_err()));
    }

    #[test]
    fn invalid_dates_are_refused() {
        for (year, month, day) in [
            (-1, 12, 31),
            (10_000, 1, 1),
            (2026, 0, 1),
            (2026, 13, 1),
            (2026, 4, 0),
            (2026, 4, 31),
            (1900, 2, 29),
            (2026, 2, 30),
            (i32::MIN, 255, 255),
        ] {
            let refused = Date::new(year, month, day).unwrap_err();
            assert_eq!(refused, InvalidArgument::NoSuchDate { year, month, day });
        }
        for text in [
            "",
            "2026",
            "2026-11",
            "2026-11-29-01",
            "2026-11-29T",
            "26-11-29",
            "2026-1-02",
            "+026-11-29",
            "2026-+1-01",
            "-2026-11-29",
            "20261129",
            "2026-11-2９",
        ] {
            let refused = text.parse::<Date>().unwrap_err();
            assert!(matches!(refused, InvalidArgument::Unreadable { .. }), "{text}: {refused}");
        }
        let refused = "2026-02-29".parse::<Date>().unwrap_err();
        assert!(matches!(refused, InvalidArgument::NoSuchDate { .. }), "{refused}");
    }

    #[test]
    fn every_date_agrees_with_another_calendar() {
        let mut date = Timestamp::RECORDED_MIN.date();
        let mut other = civil::date(0, 1, 1);
        loop {
            let (year, month, day) = (i32::from(other.year()), other.month(), other.day());
            let parts = (year, month.unsigned_abs(), day.unsigned_abs());
            assert_eq!((date.year(), date.month(), date.day()), parts);
            assert_eq!(Date::new(parts.0, parts.1, parts.2), Ok(date));
            let weekday = other.weekday().to_monday_one_offset();
            assert_eq!(date.weekday(), weekday.unsigned_abs(), "{date}");
            match other.tomorrow() {
                Ok(tomorrow) => (date, other) = (date.plus_days(1), tomorrow),
                Err(_) => break,
            }
        }
        assert_eq!(date, Timestamp::RECORDED_MAX.date());
    }

    proptest! {
        #[test]
        fn time_is_its_date_and_its_time_of_day(
            micros in Timestamp::RECORDED_MIN.as_micros()..=Timestamp::RECORDED_MAX.as_micros(),
        ) {
            let time = Timestamp::from_micros(micros);
            let date = time.date();
            prop_assert_eq!(date.to_string(), &time.to_string()[..10]);
            prop_assert_eq!(date.to_string().parse::<Date>(), Ok(date));
            prop_assert_eq!(date.start_of_day() + time.time_of_day(), time);
            prop_assert!(date.start_of_day() <= time && time < date.plus_days(1).start_of_day());
        }

        #[test]
        fn dates_sort_like_the_times_of_their_starts(
            days in Date::MIN.days..=Date::MAX.days, more in 1..1_000,
        ) {
            let date = Date::from_days(days).unwrap();
            let later = date.plus_days(more);
            prop_assert!(later > date || date == Date::MAX);
            prop_assert!(date.civil() <= later.civil());
            prop_assert_eq!(date.start_of_day().date(), date);
            prop_assert!(later.start_of_day() >= date.start_of_day());
        }
    }
}
