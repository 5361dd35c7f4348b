//! Submits appends to the committer, for threads and for tasks.

#[cfg(feature = "async")]
use std::sync::Arc;

use super::Engine;
use crate::commit::{Answer, Committer, LookedUp, Prepared, PreparedKey, Submission};
use crate::error::{Error, Result};
use crate::event_store::{
    Append, AppendCondition, Appended, KeyedResult, KeyedSubmission, KeyedWork, Labels, Submitted,
};
use crate::model::IdempotencyKey;
use crate::options::Durability;
#[cfg(feature = "async")]
use crate::pool;
use crate::read::keys::{Lookup, find_submitted};
use crate::storage::Disk;

/// A checked request: an append, or a key alone.
struct Request {
    append: Option<Append>,
    labels: Labels,
    durability: Durability,
    key: Option<PreparedKey>,
}

impl Engine {
    fn request(&self, mut append: Append) -> Request {
        let labels = append.take_labels();
        let durability = append.durability().unwrap_or(self.durability);
        Request { append: Some(append), labels, durability, key: None }
    }

    fn keyed_request(&self, mut key: PreparedKey, submission: KeyedSubmission) -> Request {
        let durability = submission.durability().unwrap_or(self.durability);
        let (mut append, mut labels) = (None, Labels::default());
        match submission.into_work() {
            KeyedWork::Append(work) => labels = append.insert(work).take_labels(),
            KeyedWork::Nothing => {}
            KeyedWork::Rejection(reason) => key.alone = KeyedResult::Rejected(reason),
        }
        Request { append, labels, durability, key: Some(key) }
    }

    /// What there is to know about the conditions of a request if nothing has to be looked up:
    /// because it has none, or because they concern only recent events, which the writer holds.
    fn known(&self, request: &Request) -> Result<Option<LookedUp>> {
        let conditions = request.append.as_ref().map(Append::conditions).unwrap_or_default();
        let Some(after) = conditions.iter().map(AppendCondition::after).min() else {
            return Ok(Some(LookedUp::default()));
        };
        let committer = self.committer()?;
        committer.check()?;
        if !committer.reaches(after) {
            return Ok(None);
        }
        for condition in conditions {
            self.reader.check_indexed(condition.query(), condition.after())?;
        }
        Ok(Some(LookedUp { up_to: after, found: Vec::new() }))
    }

    /// Looks the conditions of a request up in the index.
    fn look_up(&self, request: &Request) -> Result<LookedUp> {
        let conditions = request.append.as_ref().map(Append::conditions).unwrap_or_default();
        let up_to = self.head.get()?;
        let found = conditions
            .iter()
            .map(|condition| self.reader.first_match(condition.query(), condition.after(), up_to));
        Ok(LookedUp { up_to, found: found.collect::<Result<_>>()? })
    }

    /// Encodes a request whose conditions were looked up.
    fn submission(&self, request: &Request, looked_up: LookedUp) -> Submission {
        let append = request.append.as_ref();
        let prepared = append.map(|append| Prepared::indexed(append, self.index_kinds, looked_up));
        let key = request.key.clone().map(Box::new);
        Submission { key, ..Submission::of(prepared, request.durability) }
    }

    /// Commits a request. Its conditions are looked up again if so much was appended meanwhile that
    /// the writer does not hold all of it.
    fn commit(&self, committer: &Committer, request: &Request) -> Result<Answer> {
        let mut known = self.known(request)?;
        loop {
            let looked_up = known.take().map_or_else(|| self.look_up(request), Ok)?;
            let submission = self.submission(request, looked_up);
            let answer = committer.submit(submission);
            let answer = answer.map_err(|error| request.labels.add_to(error))?;
            if !answer.must_look_again {
                return Ok(answer);
            }
        }
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
        appended(self.commit(committer, &self.request(append))?)
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
        let answer = self.commit(committer, &self.keyed_request(key, submission))?;
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
    /// Commits a request of a task, as [`Engine::commit`] does for a thread. It takes about this
    /// many bytes in memory.
    async fn commit_task(self: &Arc<Self>, request: Request, len: usize) -> Result<Answer> {
        let committer = self.committer()?;
        let mut request = request;
        let mut known = self.known(&request)?;
        loop {
            let looked_up = if let Some(known) = known.take() {
                known
            } else {
                let engine = self.clone();
                let look_up = move || Ok::<_, Error>((engine.look_up(&request)?, request));
                let looked_up;
                (looked_up, request) = pool::run(look_up).await?;
                looked_up
            };
            // Encoded only once there is room.
            let room = committer.room(len).await;
            let submission = self.submission(&request, looked_up);
            let answer = committer.submit_task(submission, room).await;
            let answer = answer.map_err(|error| request.labels.add_to(error))?;
            if !answer.must_look_again {
                return Ok(answer);
            }
        }
    }

    pub(super) async fn submit_task(self: &Arc<Self>, append: Append) -> Result<Appended> {
        self.committer()?;
        append.validate(&self.limits)?;
        let len = append.len_in_memory();
        appended(self.commit_task(self.request(append), len).await?)
    }

    pub(super) async fn submit_once_task(
        self: &Arc<Self>,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> Result<Submitted> {
        self.committer()?;
        submission.validate(&self.limits)?;
        let engine = self.clone();
        let key = pool::run(move || engine.prepare_key(&key)).await?;
        if let Some(done) = self.done_before(&key, &submission) {
            return Ok(done);
        }
        let len = submission.len_in_memory();
        let answer = self.commit_task(self.keyed_request(key, submission), len).await?;
        answer.keyed.ok_or(Error::Closed)
    }
}
