//! The only write path: submit, validate, stage, write, publish, acknowledge.
//!
//! Callers on many threads share one write and one sync. If no commit is running, a caller leads:
//! it commits on its own thread, without a hand-over. Later callers wait; the first of them leads
//! next and commits for all that are waiting. For tasks, which may not block, the thread of the
//! [lane] leads. Positions and versions are assigned only to events
//! that are about to be written, so a rejected append leaves no gap and does not affect the other
//! appends of its group.
//!
//! [`DerivedWriter`] writes snapshots and views separately, so that the log does not wait for them.
//! It checks the same gate.
//!
//! A failed write may or may not be on disk. Its callers get
//! [`Error::Indeterminate`](crate::Error::Indeterminate), and the writer is poisoned until the
//! store is reopened (G9).

mod backfill;
mod derived;
pub(crate) mod gate;
pub(crate) mod index_drafts;
mod known;
#[cfg(feature = "async")]
pub(crate) mod lane;
#[cfg(feature = "async")]
mod lane_thread;
pub(crate) mod packer;
pub(crate) mod prepare;
pub(crate) mod queue;
mod recent_events;
mod recent_keys;
mod rows;
#[cfg(feature = "async")]
pub(crate) mod room;
mod staged;
mod staged_batch;
mod writer;

use std::ops::Range;
use std::sync::Arc;

pub(crate) use index_drafts::IndexKinds;
pub(crate) use prepare::{LookedUp, Prepared, PreparedKey, Submission};
pub(crate) use queue::Answer;
pub(crate) use rows::{Decided, Rows};
pub(crate) use writer::OpenLog;

use crate::error::{Error, Result};
use crate::model::Position;
use crate::read::log_end::LogEnd;
use crate::sync::Mutex;
use backfill::Backfill;
use derived::DerivedWriter;
use gate::Gate;
#[cfg(feature = "async")]
use lane_thread::LaneThread;
use queue::{Outcome, Queue};
use recent_events::Reach;
#[cfg(feature = "async")]
use room::Permit;
use writer::Writer;

/// Commits appends, one group at a time, and, independently, snapshots and views, one at a time.
pub(crate) struct Committer {
    queue: Arc<Queue>,
    writer: Arc<Mutex<Writer>>,
    derived: Arc<DerivedWriter>,
    backfill: Arc<Backfill>,
    gate: Arc<Gate>,
    reach: Arc<Reach>,
    #[cfg(feature = "async")]
    lane: LaneThread,
}

impl Committer {
    pub(crate) fn new(log: OpenLog) -> Self {
        let (gate, queue) = (Arc::new(Gate::new()), Arc::new(Queue::new()));
        let reach = Arc::new(Reach::default());
        let derived = Arc::new(DerivedWriter::new(&log, gate.clone()));
        let read = (log.storage.clone(), log.open.clone());
        let backfill = Arc::new(Backfill::new(read, derived.clone(), log.indexed_from.clone()));
        #[cfg(feature = "async")]
        let lane = LaneThread::new(queue.clone(), log.waiting_bytes);
        let writer = Arc::new(Mutex::new(Writer::new(log, gate.clone(), reach.clone())));
        Self {
            queue,
            writer,
            derived,
            backfill,
            gate,
            reach,
            #[cfg(feature = "async")]
            lane,
        }
    }

    /// Commits all appends of a submission or none, and returns the result of each.
    pub(crate) fn submit(&self, submission: Submission) -> Outcome {
        self.queue.submit(submission, |group| {
            self.writer.lock().commit(group);
        })
    }

    /// Waits until a submission of a task with this many bytes may be prepared.
    #[cfg(feature = "async")]
    pub(crate) async fn room(&self, bytes: usize) -> Permit {
        self.lane.room(bytes).await
    }

    /// How many bytes of submissions of tasks are not committed yet.
    #[cfg(feature = "async")]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lane.waiting_bytes()
    }

    /// Commits a submission as [`Committer::submit`] does, on the lane. Once this future was polled
    /// for the first time, the submission is in the queue, and dropping the future cancels nothing.
    #[cfg(feature = "async")]
    pub(crate) async fn submit_task(&self, submission: Submission, room: Permit) -> Outcome {
        let writer = self.writer.clone();
        self.lane.submit(submission, room, move |group| writer.lock().commit(group)).await
    }

    /// Fails unless writes are allowed now.
    pub(crate) fn check(&self) -> Result<()> {
        self.gate.check()
    }

    /// Whether the writer probably holds all events after a position, so that a condition on them
    /// need not be looked up.
    pub(crate) fn reaches(&self, position: Option<Position>) -> bool {
        self.reach.reaches(position)
    }

    /// Makes everything acknowledged so far survive a power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        self.writer.lock().sync()
    }

    /// Waits for the commit under way, then refuses all later submissions, and ends the lane.
    pub(crate) fn close(&self) {
        {
            let _under_way = self.writer.lock();
            self.gate.close();
        }
        self.backfill.end();
        #[cfg(feature = "async")]
        self.lane.end();
    }

    /// Starts to index the events that were appended before there was an index, if there are any.
    pub(crate) fn start_backfill(&self) -> Result<()> {
        self.backfill.start()
    }

    /// Whether earlier events are being indexed, and why that ended early.
    pub(crate) fn index_building(&self) -> (bool, Option<Error>) {
        self.backfill.state()
    }

    /// Removes all entries of the index, and starts to build it again.
    pub(crate) fn rebuild_index(&self) -> Result<()> {
        self.backfill.change(|| self.writer.lock().reset_index())?;
        self.backfill.start()
    }

    /// Writes changes of rows that a decided deletion leads to, while no earlier events are being
    /// indexed.
    pub(crate) fn carry_out(&self, rows: &Rows) -> Result<()> {
        self.backfill.change(|| self.derived.write_rows(rows))
    }

    /// Drops the table files that hold only packs of a range up to `last`; all of the range are
    /// deleted.
    pub(crate) fn drop_packs(&self, keys: Range<&[u8]>, last: &[u8]) -> Result<()> {
        self.derived.drop_packs(keys, last)
    }

    /// Makes everything durable, and writes a watermark that a torn write cannot take back.
    pub(crate) fn settle_watermark(&self) -> Result<()> {
        self.writer.lock().settle_watermark()
    }

    /// The current end of the log.
    pub(crate) fn end(&self) -> LogEnd {
        self.writer.lock().end()
    }

    /// Waits for the commit under way.
    pub(crate) fn wait(&self) {
        drop(self.writer.lock());
    }

    /// The last position that is known to be durable.
    pub(crate) fn durable(&self) -> Option<Position> {
        self.writer.lock().durable()
    }

    /// The failure that poisoned the writer, if it is poisoned.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.gate.check_sound().err()
    }

    /// The writer of snapshots and views.
    pub(crate) fn derived(&self) -> &DerivedWriter {
        &self.derived
    }

    /// Records a clean shutdown in the watermark. Nothing may be written afterwards.
    pub(crate) fn seal(&self, disk: &crate::storage::Disk) -> Result<()> {
        self.writer.lock().seal(disk)
    }
}
