//! [`Progress`]: since when each projection has been at its position.

use std::time::{Duration, Instant};

use crate::model::Position;
use crate::sync::Mutex;

/// Remembers the positions of projections, as far as it is told about them.
#[derive(Default)]
pub(super) struct Progress(Mutex<Vec<Seen>>);

struct Seen {
    name: String,
    position: Option<Position>,
    since: Instant,
}

impl Progress {
    /// How long a projection has been at this position, since the first call that saw it there.
    pub(super) fn unchanged_for(&self, name: &str, position: Option<Position>) -> Duration {
        let mut seen = self.0.lock();
        match seen.iter_mut().find(|seen| seen.name == name) {
            Some(known) if known.position == position => known.since.elapsed(),
            Some(known) => {
                (known.position, known.since) = (position, Instant::now());
                Duration::ZERO
            }
            None => {
                seen.push(Seen { name: name.to_owned(), position, since: Instant::now() });
                Duration::ZERO
            }
        }
    }
}
