//! Computes weeks.

use annals::{Date, Timestamp};

/// The Monday of the week that contains a time, in UTC.
pub(crate) fn week_of(time: Timestamp) -> Date {
    let date = time.date();
    date.plus_days(1 - i32::from(date.weekday()))
}
