//! [`Health`]: whether a part works, and what is wrong if it does not.

use std::fmt;

/// How well a part works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// It works.
    #[default]
    Healthy,
    /// It works, but somebody should look at it.
    Degraded,
    /// It does not work until somebody does something.
    Failed,
}

impl fmt::Display for HealthState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        })
    }
}

/// Whether a store or its projections work, and what is wrong if they do not.
///
/// ```
/// use annals::{Health, HealthState};
/// let mut health = Health::default();
/// assert_eq!(health.to_string(), "healthy");
/// health.add(HealthState::Degraded, "the queue is long: add workers");
/// assert_eq!(health.state, HealthState::Degraded);
/// assert_eq!(health.to_string(), "degraded: the queue is long: add workers");
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The worst state of all problems.
    pub state: HealthState,
    /// Each problem: how bad it is, what it is, and what to do.
    pub problems: Vec<(HealthState, String)>,
}

impl Health {
    /// Adds a problem, for example one of the application.
    pub fn add(&mut self, state: HealthState, problem: impl Into<String>) {
        self.state = self.state.max(state);
        self.problems.push((state, problem.into()));
    }

    /// The health of two parts together.
    pub fn and(mut self, other: Self) -> Self {
        self.state = self.state.max(other.state);
        self.problems.extend(other.problems);
        self
    }
}

impl fmt::Display for Health {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.state)?;
        for (number, (_, problem)) in self.problems.iter().enumerate() {
            write!(out, "{}{problem}", if number == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}
