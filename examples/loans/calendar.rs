//! Computes weeks.

use annals::{HandlerError, Timestamp};
use jiff::ToSpan;
use jiff::tz::TimeZone;

/// The Monday of the week that contains a time, in UTC, such as `2011-10-03`.
pub(crate) fn week_of(time: Timestamp) -> Result<String, HandlerError> {
    let time = jiff::Timestamp::from_microsecond(time.as_micros())?;
    let date = TimeZone::UTC.to_datetime(time).date();
    let since_monday = i64::from(date.weekday().to_monday_zero_offset());
    Ok(date.checked_sub(since_monday.days())?.to_string())
}
