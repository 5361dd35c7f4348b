//! Computes the same numbers without annals: one pass over the lines of the input, with maps in
//! memory.

use std::collections::BTreeMap;
use std::io::BufRead;

use annals::{Date, HandlerError, Timestamp};
use serde_json::Value;

use crate::calendar::week_of;

/// The expected contents of the read models.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The open applications at the end of each week.
    pub(crate) open: Vec<(Date, i64)>,
    /// How often each stage was left, and the median time spent in it, in microseconds.
    pub(crate) durations: BTreeMap<String, (usize, u64)>,
    /// How many applications are in each stage at the end.
    pub(crate) stages: BTreeMap<String, usize>,
}

pub(crate) fn expected(input: impl BufRead) -> Result<Expected, HandlerError> {
    let mut weeks: BTreeMap<Date, i64> = BTreeMap::new();
    let mut at: BTreeMap<String, (&str, i64)> = BTreeMap::new();
    let mut took: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in input.lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let text = |field| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let (stage, change) = match text("type") {
            "A_SUBMITTED" => ("submitted", 1),
            "A_PREACCEPTED" => ("pre-accepted", 0),
            "A_ACCEPTED" => ("accepted", 0),
            "A_FINALIZED" => ("finalized", 0),
            "A_ACTIVATED" => ("activated", -1),
            "A_DECLINED" => ("declined", -1),
            "A_CANCELLED" => ("cancelled", -1),
            _ => continue,
        };
        let time: Timestamp = text("time").parse()?;
        *weeks.entry(week_of(time)).or_default() += change;
        if let Some((before, since)) = at.insert(text("stream").into(), (stage, time.as_micros())) {
            took.entry(before).or_default().push(u64::try_from(time.as_micros() - since)?);
        }
    }
    let mut found = Expected::default();
    let mut open = 0;
    for (week, change) in weeks {
        open += change;
        found.open.push((week, open));
    }
    for (stage, mut took) in took {
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        found.durations.insert(stage.into(), (took.len(), median));
    }
    for (stage, _) in at.into_values() {
        *found.stages.entry(stage.into()).or_default() += 1;
    }
    Ok(found)
}
