//! The write path, the only one: submit, validate, stage, write, publish, acknowledge.
//!
//! Callers on many threads share one write and one sync. A caller that comes when nobody is
//! committing leads: it commits for itself on its own thread, without a hand-over. Later callers
//! wait; the first of them leads next and commits for all that are waiting. Positions and versions
//! are given only to what is about to be written, so a refused append leaves no gap and does not
//! touch its neighbours.
//!
//! Snapshots and views take a way of their own, [`DerivedWriter`], so that the log does not wait
//! for them. They pass the same gate.
//!
//! Once a write was attempted and failed, it may or may not be on disk: its callers get
//! [`Error::Indeterminate`](crate::Error::Indeterminate), and the writer is poisoned until the
//! store is reopened (G9).

mod derived;
pub(crate) mod gate;
pub(crate) mod prepare;
pub(crate) mod queue;
mod staged;
mod writer;

use std::sync::Arc;

pub(crate) use prepare::{Prepared, Submission};
pub(crate) use writer::OpenLog;

use crate::error::{Error, Result};
use crate::event_store::Appended;
use crate::read::lookup::LogEnd;
use crate::sync::Mutex;
use derived::DerivedWriter;
use gate::Gate;
use queue::Queue;
use writer::Writer;

/// Commits appends, one group at a time, and independently of them, one at a time, snapshots and
/// views.
pub(crate) struct Committer {
    queue: Queue,
    writer: Mutex<Writer>,
    derived: DerivedWriter,
    gate: Arc<Gate>,
}

impl Committer {
    pub(crate) fn new(log: OpenLog) -> Self {
        let gate = Arc::new(Gate::new());
        let derived = DerivedWriter::new(log.storage.clone(), gate.clone());
        let writer = Writer::new(log, gate.clone());
        Self { queue: Queue::new(), writer: Mutex::new(writer), derived, gate }
    }

    /// Commits all appends of a submission or none, and returns what became of each.
    pub(crate) fn submit(&self, submission: Submission) -> Result<Vec<Appended>> {
        self.queue.submit(submission, |group| {
            self.writer.lock().commit(group);
        })
    }

    /// Makes everything acknowledged so far survive a power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        self.writer.lock().sync()
    }

    /// Refuses all later submissions; what was taken up before is finished first.
    pub(crate) fn close(&self) {
        let _under_way = self.writer.lock();
        self.gate.close();
    }

    /// The end of the log as it now is.
    pub(crate) fn end(&self) -> LogEnd {
        self.writer.lock().end()
    }

    /// The earlier failure, if the writer is poisoned.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.gate.check_sound().err()
    }

    /// Commits snapshots and views.
    pub(crate) fn derived(&self) -> &DerivedWriter {
        &self.derived
    }

    /// Says in the watermark that the store was closed in order. Nothing may be written after it.
    pub(crate) fn seal(&self, disk: &crate::storage::Disk) -> Result<()> {
        self.writer.lock().seal(disk)
    }
}
