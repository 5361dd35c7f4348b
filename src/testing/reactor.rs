//! [`Handled`]: what a projection did with the events of a scenario, to be checked.

use std::fmt::Debug;
use std::time::Duration;

use super::scenario_diff::diff;
use crate::codec::DomainEvent;
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::memory::MemoryStore;
use crate::projection::{ProjectionError, ProjectionHandle, ProjectionManager};
use crate::upcast::Decoder;

/// A handler that takes longer than this hangs: nothing here takes long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a [`ProjectionScenario`](super::ProjectionScenario) whose events were handled, to
/// be checked. Checks can be chained, and the events can be delivered again in between.
#[derive(Debug)]
pub struct Handled {
    store: MemoryStore,
    manager: ProjectionManager,
    name: String,
}

impl Handled {
    /// Starts the only projection of this manager, and waits until it has handled all events.
    pub(super) fn start(
        store: MemoryStore,
        manager: ProjectionManager,
        name: String,
    ) -> Result<Self, ProjectionError> {
        let handled = Self { store, manager, name };
        handled.run()?;
        Ok(handled)
    }

    fn run(&self) -> Result<(), ProjectionError> {
        self.manager.start()?;
        let mut reached = None;
        // A reactor may append events that it handles too.
        while let head @ Some(position) = self.store.head()?
            && head != reached
        {
            self.manager.wait_for(&self.name, position, PATIENCE)?;
            reached = head;
        }
        Ok(())
    }

    /// Checks that the handler had exactly these effects, in this order. `found` reads them from
    /// where the handler put them, such as the calls that a fake recorded.
    ///
    /// # Panics
    /// The effects differ.
    #[track_caller]
    pub fn then_effects<T: Debug + PartialEq>(
        self,
        found: impl FnOnce() -> Vec<T>,
        expected: impl IntoIterator<Item = T>,
    ) -> Self {
        check("the handler had other effects", expected, &found());
        self
    }

    /// Checks that a stream of the scenario's store has exactly these events. For a process
    /// manager, which appends to the store that it follows: see
    /// [`ProjectionScenario::over`](super::ProjectionScenario::over).
    ///
    /// # Panics
    /// The events differ, an event cannot be read, or the stream id is invalid.
    #[track_caller]
    pub fn then_stream<E: DomainEvent + Debug + PartialEq>(
        self,
        stream: &str,
        expected: impl IntoIterator<Item = E>,
    ) -> Self {
        let events = Decoder::<E>::new().iter(self.store.read_stream(stream));
        let found: crate::Result<Vec<E>> = events.map(|event| Ok(event?.event)).collect();
        match found {
            Ok(found) => check(&format!("stream {stream} has other events"), expected, &found),
            Err(error) => panic!("{stream}: {error}"),
        }
        self
    }

    /// Checks that exactly these events are parked, in the order of the log: their streams, and a
    /// text that the error of the handler contains. An event that only waits for an earlier one of
    /// its stream has no error: give `""`.
    ///
    /// # Panics
    /// Other events are parked, or for other errors.
    #[track_caller]
    pub fn then_parked<'t>(self, expected: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let parked =
            self.manager.projection(&self.name).and_then(|handle| handle.parked(usize::MAX));
        let found: Vec<(String, String)> = match parked {
            Ok(parked) => parked
                .into_iter()
                .map(|event| (event.stream.to_string(), event.reason.unwrap_or_default()))
                .collect(),
            Err(error) => panic!("{error}"),
        };
        let expected: Vec<(&str, &str)> = expected.into_iter().collect();
        let is_same = |(stream, reason): &(String, String), (named, text): &(&str, &str)| {
            stream == named && reason.contains(text) && reason.is_empty() == text.is_empty()
        };
        if expected.len() != found.len()
            || !found.iter().zip(&expected).all(|(found, expected)| is_same(found, expected))
        {
            panic!("{}", difference("other events are parked", &expected, &found));
        }
        self
    }

    /// Checks that every event was handled: none is parked.
    ///
    /// # Panics
    /// An event is parked.
    #[track_caller]
    pub fn then_none_parked(self) -> Self {
        self.then_parked([])
    }

    /// Delivers all events again, as after a crash before the first checkpoint, including those
    /// that were parked. A reactor whose effects are idempotent passes the same checks afterwards.
    ///
    /// # Panics
    /// The projection stops.
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn when_redelivered(self) -> Self {
        let again = || {
            self.manager.stop();
            self.manager.remove(&self.name)?;
            self.run()
        };
        if let Err(error) = again() {
            panic!("{error}");
        }
        self
    }

    /// Retries the parked events, as an operator does once the cause of their failure is gone.
    ///
    /// # Panics
    /// The projection stops.
    #[track_caller]
    #[must_use = "it tests nothing before its `then`"]
    pub fn when_retried(self) -> Self {
        let retried = self.manager.projection(&self.name).and_then(ProjectionHandle::retry_parked);
        if let Err(error) = retried.and_then(|_| self.run()) {
            panic!("{error}");
        }
        self
    }
}

#[track_caller]
fn check<T: Debug + PartialEq>(what: &str, expected: impl IntoIterator<Item = T>, found: &[T]) {
    let expected: Vec<T> = expected.into_iter().collect();
    assert!(expected == found, "{}", difference(what, &expected, found));
}

fn difference(what: &str, expected: &[impl Debug], found: &[impl Debug]) -> String {
    let text = |lines: Vec<String>| lines.join("\n");
    let expected = text(expected.iter().map(|item| format!("{item:?}")).collect());
    let found = text(found.iter().map(|item| format!("{item:?}")).collect());
    format!("{what} (- expected, + found)\n{}", diff(&expected, &found))
}
