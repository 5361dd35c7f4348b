//! Read models for three questions about all applications: how many are open at the end of each
//! week, how long does each stage take, and at which stage is each application now.

use annals::{
    Date, HandlerError, Projection, Query, StreamId, TypedEvent, View, ViewKey, ViewWriter,
};
use serde::{Deserialize, Serialize};

use crate::application::{ApplicationEvent, Stage};
use crate::calendar::week_of;

fn applications() -> Query {
    Query::category("application")
}

/// How many applications came in and were decided in a week.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Week {
    pub(crate) submitted: i64,
    pub(crate) decided: i64,
}

/// The counts by week, keyed by the Monday on which it begins.
pub(crate) struct Weeks;

impl Projection for Weeks {
    type Event = ApplicationEvent;

    fn name(&self) -> &'static str {
        "weeks"
    }

    fn query(&self) -> Query {
        applications()
    }

    fn handle(
        &self,
        event: &TypedEvent<ApplicationEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let Some(stage) = Stage::after(&event.event) else { return Ok(()) };
        Ok(view.update(week_of(event.recorded_at()), |week: &mut Week| {
            week.submitted += i64::from(stage == Stage::Submitted);
            week.decided += i64::from(stage.is_decided());
        })?)
    }
}

/// The weeks in order, each with the applications that were open at its end.
pub(crate) fn open_by_week(weeks: &View) -> annals::Result<Vec<(Date, i64)>> {
    let mut open = 0;
    let entries = weeks.entries().iter::<Week>();
    entries
        .map(|entry| {
            let (week, counts) = entry?;
            open += counts.submitted - counts.decided;
            Ok((week.parts()?, open))
        })
        .collect()
}

/// The current stage of an application, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    pub(crate) stage: Stage,
    pub(crate) since_micros: i64,
}

/// Under `at`, the current stage by application. Under each stage, one entry for each time that an
/// application left it, keyed by duration, so that the entries are sorted by duration.
pub(crate) struct Stages;

impl Projection for Stages {
    type Event = ApplicationEvent;

    fn name(&self) -> &'static str {
        "stages"
    }

    fn query(&self) -> Query {
        applications()
    }

    fn handle(
        &self,
        event: &TypedEvent<ApplicationEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let Some(stage) = Stage::after(&event.event) else { return Ok(()) };
        let now = event.recorded_at().as_micros();
        let at = ViewKey::new(("at", event.stream()))?;
        let before: Whereabouts = view.get(&at)?.unwrap_or_default();
        if before.stage != Stage::Unknown {
            let took = u64::try_from(now - before.since_micros)?;
            view.put((before.stage.name(), took, event.stream()), &())?;
        }
        Ok(view.put(&at, &Whereabouts { stage, since_micros: now })?)
    }
}

/// How often a stage was left, and the median and 90th percentile of the time spent in it, in
/// microseconds.
pub(crate) fn duration_of(
    stages: &View,
    stage: Stage,
) -> annals::Result<Option<(usize, u64, u64)>> {
    let entries = stages.entries().under(stage.name()).iter::<()>();
    let took = entries.map(|entry| took_of(&entry?.0));
    let took: Vec<u64> = took.collect::<annals::Result<_>>()?;
    let at = |tenths: usize| took.get((took.len() * tenths / 10).min(took.len() - 1)).copied();
    if took.is_empty() {
        return Ok(None);
    }
    Ok(at(5).zip(at(9)).map(|(median, ninth)| (took.len(), median, ninth)))
}

/// The duration in a key of stage, duration and application.
fn took_of(key: &ViewKey) -> annals::Result<u64> {
    let (_, took, _): (String, u64, StreamId) = key.parts()?;
    Ok(took)
}
