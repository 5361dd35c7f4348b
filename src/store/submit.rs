//! Submits appends to the committer, for threads and for tasks.

#[cfg(feature = "async")]
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::Engine;
use crate::commit::{Answer, Prepared, PreparedKey, Submission};
use crate::error::{Error, Result};
use crate::event_store::{
    Append, Appended, KeyedResult, KeyedSubmission, KeyedWork, Labels, Submitted,
};
use crate::model::IdempotencyKey;
use crate::options::Durability;
#[cfg(feature = "async")]
use crate::pool;
use crate::read::keys::{Lookup, find_submitted};
use crate::storage::Disk;

/// An append that is checked and encoded on its caller's side.
struct Request {
    submission: Submission,
    labels: Labels,
}

impl Engine {
    fn request(&self, mut append: Append) -> Request {
        let labels = append.take_labels();
        let durability = append.durability().unwrap_or(self.durability);
        let appends = smallvec![Prepared::new(&append)];
        let submission = Submission { appends, durability, record: None, key: None };
        Request { submission, labels }
    }

    fn keyed_request(&self, mut key: PreparedKey, submission: KeyedSubmission) -> Request {
        let durability = submission.durability().unwrap_or(self.durability);
        let mut appends = SmallVec::new();
        let mut labels = Labels::default();
        match submission.into_work() {
            KeyedWork::Append(mut append) => {
                labels = append.take_labels();
                appends.push(Prepared::new(&append));
            }
            KeyedWork::Nothing => {}
            KeyedWork::Rejection(reason) => key.alone = KeyedResult::Rejected(reason),
        }
        let key = Some(Box::new(key));
        Request { submission: Submission { appends, durability, record: None, key }, labels }
    }

    /// Looks a key up before its request is submitted, so that the writer has to know only the keys
    /// recorded from now on.
    fn prepare_key(&self, key: &IdempotencyKey) -> Result<PreparedKey> {
        let looked_up_at = self.key_expiry.last();
        let found = self.find_submitted(key)?;
        Ok(PreparedKey { key: key.clone(), alone: KeyedResult::Nothing, looked_up_at, found })
    }

    pub(super) fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        let look_up = |disk: &Disk| find_submitted(disk, key, &self.key_expiry);
        let mut found = self.read(look_up)?;
        // Its events may be visible already: their commit is published before its keys.
        if let (Lookup::Unpublished, Some(committer)) = (&found, self.writes()) {
            committer.wait();
            found = self.read(look_up)?;
        }
        match found {
            Lookup::Done(result) => Ok(result),
            // The commit failed.
            Lookup::Unpublished => Ok(None),
        }
    }

    pub(super) fn submit(&self, append: Append) -> Result<Appended> {
        let committer = self.committer()?;
        append.validate(&self.limits)?;
        let Request { submission, labels } = self.request(append);
        let answer = committer.submit(submission).map_err(|error| labels.add_to(error))?;
        appended(answer)
    }

    pub(super) fn submit_once(
        &self,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> Result<Submitted> {
        let committer = self.committer()?;
        submission.validate(&self.limits)?;
        let key = self.prepare_key(key)?;
        if let Some(done) = self.done_before(&key, &submission) {
            return Ok(done);
        }
        let Request { submission, labels } = self.keyed_request(key, submission);
        let answer = committer.submit(submission).map_err(|error| labels.add_to(error))?;
        answer.keyed.ok_or(Error::Closed)
    }

    /// The answer to a request that was done before, if it need not be made durable.
    fn done_before(&self, key: &PreparedKey, submission: &KeyedSubmission) -> Option<Submitted> {
        let durability = submission.durability().unwrap_or(self.durability);
        let found = key.found.clone().filter(|_| durability == Durability::Buffered);
        found.map(Submitted::again)
    }
}

fn appended(answer: Answer) -> Result<Appended> {
    answer.appended.into_iter().next().ok_or(Error::Closed)
}

#[cfg(feature = "async")]
impl Engine {
    pub(super) async fn submit_task(&self, append: Append) -> Result<Appended> {
        let committer = self.committer()?;
        append.validate(&self.limits)?;
        // Encoded only once there is room.
        let room = committer.room(append.len_in_memory()).await;
        let Request { submission, labels } = self.request(append);
        let answer = committer.submit_task(submission, room).await;
        appended(answer.map_err(|error| labels.add_to(error))?)
    }

    pub(super) async fn submit_once_task(
        self: &Arc<Self>,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> Result<Submitted> {
        let committer = self.committer()?;
        submission.validate(&self.limits)?;
        let engine = self.clone();
        let key = pool::run(move || engine.prepare_key(&key)).await?;
        if let Some(done) = self.done_before(&key, &submission) {
            return Ok(done);
        }
        let room = committer.room(submission.len_in_memory()).await;
        let Request { submission, labels } = self.keyed_request(key, submission);
        let answer = committer.submit_task(submission, room).await;
        answer.map_err(|error| labels.add_to(error))?.keyed.ok_or(Error::Closed)
    }
}
