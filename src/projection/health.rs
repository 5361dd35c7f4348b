//! The health of the projections of a manager.

use std::time::Duration;

use super::{ProjectionManager, ProjectionState, ProjectionStatus};
use crate::health::{Health, HealthState};

impl ProjectionManager {
    /// Whether the projections work, and what is wrong if they do not: for a health check.
    ///
    /// A projection that is behind is only a problem if it does not move: if it is at the same
    /// position at all calls within `stuck_after`, which should be longer than the slowest handler,
    /// such as 30 seconds. A projection that was never started, or was stopped or paused, is no
    /// problem.
    ///
    /// ```
    /// # use annals::prelude::*;
    /// use annals::HealthState;
    /// use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Placed {}
    /// # annals::domain_events! { Placed => "Placed" }
    /// # struct Orders;
    /// # impl Projection for Orders {
    /// #     type Event = Placed;
    /// #     fn name(&self) -> &str { "orders" }
    /// #     fn handle(&self, _: &TypedEvent<Placed>, _: &mut ViewWriter) -> Result<(), HandlerError> {
    /// #         Err("no such product".into())
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// let options = ProjectionOptions::new().retries(0);
    /// let projections = ProjectionManager::new(&store).register_with(Orders, options)?;
    /// projections.start()?;
    /// let placed = store.append("order-1", ExpectedVersion::Any, [Placed {}.encode()?])?;
    /// projections.wait_for("orders", placed.last_position(), Duration::from_secs(10)).unwrap_err();
    /// let health = projections.health(Duration::from_secs(30));
    /// assert_eq!(health.state, HealthState::Failed);
    /// assert!(health.to_string().contains("no such product"), "{health}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn health(&self, stuck_after: Duration) -> Health {
        let mut health = Health::default();
        for projection in self.projections() {
            match projection.status() {
                Ok(status) => self.check(&status, stuck_after, &mut health),
                Err(error) => health.add(HealthState::Failed, error.to_string()),
            }
        }
        health
    }

    fn check(&self, status: &ProjectionStatus, stuck_after: Duration, health: &mut Health) {
        let failure = || status.failure.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let name = &status.name;
        match status.state {
            ProjectionState::Failed => {
                let problem = format!("projection {name} has stopped{}", failure());
                health.add(HealthState::Failed, problem);
            }
            ProjectionState::Retrying => {
                let problem = format!("projection {name} retries{}", failure());
                health.add(HealthState::Degraded, problem);
            }
            ProjectionState::CatchingUp | ProjectionState::Live => {
                let still = self.progress.unchanged_for(name, status.position);
                if status.lag_events > 0 && still >= stuck_after {
                    let (lag, seconds) = (status.lag_events, still.as_secs());
                    let problem = format!(
                        "projection {name} is {lag} events behind and has not moved for {seconds} s: \
                         look at its handler"
                    );
                    health.add(HealthState::Degraded, problem);
                }
            }
            ProjectionState::Stopped | ProjectionState::Paused => {}
        }
        if status.parked_events > 0 {
            let (events, streams) = (status.parked_events, status.parked_streams);
            let problem = format!(
                "projection {name} has {events} parked events of {streams} streams: correct the \
                 cause, and retry or discard them"
            );
            health.add(HealthState::Degraded, problem);
        }
    }
}
