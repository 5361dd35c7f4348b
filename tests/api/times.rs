//! Parsing times from text keeps their order, even with leap seconds.

use annals::prelude::*;
use annals::{Error, ImportOptions, Imported, Position, Timestamp};
use jiff::ToSpan;
use jiff::civil::{DateTime, date};
use proptest::prelude::*;

/// A UTC time as a clock with leap seconds shows it, and the offset in which it is written.
#[derive(Debug, Clone)]
struct Shown {
    /// The date and time, to the minute.
    minute: DateTime,
    /// 0 to 60.
    second: u8,
    /// The fraction of the second in nanoseconds, if it is written.
    nanos: Option<u32>,
    offset_minutes: i16,
}

impl Shown {
    fn order(&self) -> (DateTime, u8, u32) {
        (self.minute, self.second, self.nanos.unwrap_or(0))
    }

    /// Formats the time as RFC 3339; returns `None` if the local year is outside 0 to 9999.
    fn text(&self) -> Option<String> {
        let local = self.minute.checked_add(i64::from(self.offset_minutes).minutes()).ok()?;
        if !(0..=9999).contains(&local.year()) {
            return None;
        }
        let fraction = self.nanos.map_or(String::new(), |nanos| format!(".{nanos:09}"));
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let (hours, minutes) = (self.offset_minutes.abs() / 60, self.offset_minutes.abs() % 60);
        Some(format!(
            "{}:{:02}{fraction}{sign}{hours:02}:{minutes:02}",
            local.strftime("%Y-%m-%dT%H:%M"),
            self.second
        ))
    }

    fn is_refused(&self) -> bool {
        let minute = (self.minute.hour(), self.minute.minute());
        let can_leap = minute == (23, 59) && self.minute.day() == self.minute.days_in_month();
        self.second == 60 && !can_leap
    }
}

fn shown() -> impl Strategy<Value = Shown> {
    let month =
        prop_oneof![Just((9999, 12)), Just((9999, 11)), Just((2016, 12)), (0i16..=9999, 1i8..=12),];
    let second = prop_oneof![Just(0), Just(58), Just(59), Just(60), 0u8..=60];
    let nanos = prop_oneof![Just(0), Just(500_000_000), Just(999_999_999), 0u32..1_000_000_000];
    let nanos = prop::option::of(nanos);
    let offset = prop_oneof![Just(0), Just(60), Just(-720), -840i16..=840];
    (month, -2i64..=2, second, nanos, offset).prop_map(
        |((year, month), minutes, second, nanos, offset_minutes)| {
            let end = date(year, month, 1).last_of_month().at(23, 59, 0, 0);
            let minute = end.checked_add(minutes.minutes()).unwrap_or(end);
            Shown { minute, second, nanos, offset_minutes }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(4_000)
    })]

    #[test]
    fn parsing_times_keeps_their_order(one in shown(), other in shown()) {
        let mut read = Vec::new();
        for time in [&one, &other] {
            let Some(text) = time.text() else { continue };
            let parsed = text.parse::<Timestamp>();
            let from_json = serde_json::from_str::<Timestamp>(&format!("{text:?}"));
            prop_assert_eq!(parsed.as_ref().ok(), from_json.as_ref().ok());
            if time.is_refused() {
                let refused = parsed.unwrap_err().to_string();
                prop_assert!(refused.contains("23:59:60 UTC on the last day"), "{}", refused);
            } else {
                read.push((time.order(), parsed.unwrap(), text));
            }
        }
        read.sort_by_key(|(order, ..)| *order);
        if let [(_, earlier, a), (_, later, b)] = &read[..] {
            prop_assert!(earlier <= later, "{} is read as {}, {} as {}", a, earlier, b, later);
        }
    }
}

#[test]
fn leap_second_is_read_as_the_microsecond_before_it() {
    for text in [
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5Z",
        "2016-12-31T23:59:60,999999999Z",
        "2017-01-01T08:59:60+09:00",
        "2016-12-31t18:59:60-05:00",
        "20161231T235960Z",
    ] {
        let time: Timestamp = text.parse().unwrap();
        assert_eq!(time.to_string(), "2016-12-31T23:59:59.999999Z", "{text}");
    }
    let end: Timestamp = "9999-12-31T23:59:60Z".parse().unwrap();
    assert_eq!(end.to_string(), "9999-12-31T23:59:59.999999Z");
    for text in [
        "2016-12-31T23:58:60Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T23:59:60+00:00:30",
        "9999-12-31T22:59:60Z",
        "1970-01-01T00:00:60Z",
    ] {
        let refused = text.parse::<Timestamp>().unwrap_err().to_string();
        assert!(refused.contains("second 60 exists only as a leap second"), "{refused}");
    }
    assert!("9999-12-31T23:59:60-00:01".parse::<Timestamp>().is_err());
}

#[test]
fn import_accepts_leap_seconds_and_counts_them_as_cut() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let line = |time: &str| {
        format!("{{\"stream\":\"a\",\"type\":\"T\",\"time\":\"{time}\",\"data\":1}}\n")
    };
    let times =
        ["59.5Z", "59.999999Z", "60Z", "60.7Z"].map(|end| format!("2016-12-31T23:59:{end}"));
    let input: String = times.iter().map(|time| line(time)).collect();
    let input = input + &line("2017-01-01T00:00:00Z");
    let import = |input: &str| -> annals::Result<Imported> {
        store.import(input.as_bytes(), ImportOptions::default(), |_| {})
    };
    let imported = import(&input).unwrap();
    assert_eq!((imported.added, imported.times_cut, imported.clamped), (5, 2, 0));
    let refused = import(&line("2017-01-01T00:00:60Z")).unwrap_err();
    assert!(matches!(refused, Error::ImportLine { line: 1, lines_kept: 0, .. }), "{refused}");
    assert_eq!(store.head().unwrap(), Position::new(5));
}
