//! [`Story`]: what a scenario was given and did, for the report of a failed test.

use std::fmt::Debug;

use super::scenario_diff::diff;
use crate::codec::DomainEvent;
use crate::error::Error;
use crate::model::NewEvent;

/// The given events and what was done, as a failure report shows them.
#[derive(Debug, Default)]
pub(super) struct Story {
    parts: Vec<String>,
}

impl Story {
    pub(super) fn add(&mut self, what: &str, text: &str) {
        self.parts.push(format!("{what}\n{}", indented(text)));
    }

    pub(super) fn given<E: Debug>(&mut self, events: &[E]) {
        match events {
            [] => self.parts.push("given nothing".to_owned()),
            events => self.add("given", &list(events)),
        }
    }

    pub(super) fn given_stored(&mut self, events: &[NewEvent]) {
        let line = |event: &NewEvent| {
            let payload = String::from_utf8_lossy(event.payload()).into_owned();
            format!("{} version {}: {payload}", event.event_type(), event.schema_version())
        };
        let lines: Vec<_> = events.iter().map(line).collect();
        self.add("given stored", &lines.join("\n"));
    }

    /// The result of the last step, before another one.
    pub(super) fn then<E: Debug, R: Debug>(&mut self, result: &Result<Vec<E>, R>) {
        match result {
            Ok(events) if events.is_empty() => self.parts.push("then nothing".to_owned()),
            Ok(events) => self.add("then", &list(events)),
            Err(refusal) => self.add("then rejected", &format!("{refusal:#?}")),
        }
    }

    /// The event as it will be appended, and as its codec decodes it. The test fails if these
    /// differ.
    #[track_caller]
    pub(super) fn read_back<E: DomainEvent + Debug + PartialEq>(&self, event: &E) -> (NewEvent, E) {
        match round_trip(event) {
            Ok((_, read, _)) if read != *event => self.fail_by(
                "an event decodes to a different event: its codec loses or changes data",
                &format!("{event:#?}"),
                &format!("{read:#?}"),
            ),
            Ok((_, read, false)) => self.fail(&format!(
                "an event decodes to an equal event that encodes to different bytes: its codec loses \
                 or changes data that `==` does not compare\n{read:#?}"
            )),
            Ok((encoded, read, true)) => (encoded, read),
            Err(error) => {
                self.fail(&format!("an event does not survive its codec: {error}\n{event:#?}"))
            }
        }
    }

    #[track_caller]
    pub(super) fn fail(&self, what: &str) -> ! {
        panic!("{}\n{what}", self.parts.join("\n"));
    }

    #[track_caller]
    pub(super) fn fail_by(&self, what: &str, expected: &str, actual: &str) -> ! {
        self.fail(&format!("{what} (- expected, + actual):\n{}", indented(&diff(expected, actual))))
    }
}

/// Encodes and decodes an event. Returns both forms, and whether the decoded event encodes to the
/// same bytes in any order: hash maps may change the order.
fn round_trip<E: DomainEvent>(event: &E) -> Result<(NewEvent, E, bool), Error> {
    let (encoded, read) = event.encode_and_read()?;
    let again = read.encode()?;
    let sorted = |payload: &[u8]| {
        let mut bytes = payload.to_vec();
        bytes.sort_unstable();
        bytes
    };
    let is_same = sorted(encoded.payload()) == sorted(again.payload());
    Ok((encoded, read, is_same))
}

pub(super) fn list<E: Debug>(events: &[E]) -> String {
    if events.is_empty() {
        return "no events".to_owned();
    }
    events.iter().map(|event| format!("{event:#?}")).collect::<Vec<_>>().join("\n")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
