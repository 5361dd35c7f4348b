//! The writer validates, stages, writes and publishes a group. One leader at a time holds it.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use smallvec::{SmallVec, smallvec};

use super::gate::Gate;
use super::known::{Known, Pending};
use super::packer::Packer;
use super::prepare::{Prepared, PreparedKey, Submission};
use super::queue::{Answer, Outcome, Ticket, settle};
use super::recent_events::{Reach, RecentAppend, RecentEvents};
use super::recent_keys::RecentKeys;
use super::rows::Decided;
use super::staged::StagedAppends;
use super::staged_batch::{Counts, Staged};
use crate::error::{Cause, Error, Result};
use crate::event_store::{Appended, KeyedResult, Submitted};
use crate::format::{
    Evidence, FrameHeader, INDEXED_RECORD, IndexKind, KEYS_RECORD, KeyCount, Watermark,
    encode_indexed, encode_key_count, encode_key_record,
};
use crate::head::Head;
use crate::keys::{KeyAge, KeyExpiry, KeyRecord};
use crate::metrics::{Meters, micros};
use crate::model::{Position, StreamId, Timestamp, Version};
use crate::options::{Clock, Durability, now};
use crate::read::index::IndexedFrom;
use crate::read::keys::{Lookup, find_submitted};
use crate::read::log::{Log, OpenPack};
use crate::read::log_end::LogEnd;
use crate::recent::Recent;
use crate::storage::{Disk, Family, Space, Storage, WatermarkFile};
use crate::validate::{LastEvent, Verdict, Versions, validate};

/// A batch is written once it holds this many bytes, even if more are waiting.
const BATCH_LEN_TARGET: usize = 8 << 20;

/// Of this many buffered commits one is measured: to ask for the time costs a hundredth of one.
const BUFFERED_PER_MEASURED: u64 = 16;

/// The log as it was opened, and what is needed to write to it.
pub(crate) struct OpenLog {
    pub(crate) storage: Arc<Storage>,
    pub(crate) space: Arc<Space>,
    pub(crate) open: Arc<OpenPack>,
    pub(crate) head: Arc<Head>,
    pub(crate) watermark: WatermarkFile,
    pub(crate) end: LogEnd,
    pub(crate) clock: Clock,
    /// See [`StoreOptions::pack_bytes`](crate::StoreOptions::pack_bytes).
    pub(crate) pack_bytes: usize,
    /// See [`StoreOptions::version_cache_streams`](crate::StoreOptions::version_cache_streams).
    pub(crate) version_cache_streams: usize,
    pub(crate) key_expiry: Arc<KeyExpiry>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) indexed_from: Arc<IndexedFrom>,
    /// The highest position of an event that was deleted or lost a tag.
    pub(crate) deleted_up_to: Option<Position>,
    /// See [`StoreOptions::async_waiting_bytes`](crate::StoreOptions::async_waiting_bytes).
    #[cfg(feature = "async")]
    pub(crate) waiting_bytes: usize,
}

/// The committed end of the log, and what is needed to commit more.
pub(super) struct Writer {
    storage: Arc<Storage>,
    space: Arc<Space>,
    open: Arc<OpenPack>,
    head: Arc<Head>,
    watermark: WatermarkFile,
    clock: Clock,
    /// The last events of streams; `None` for a stream without events.
    last_events: Recent<StreamId, Option<LastEvent>>,
    end: LogEnd,
    gate: Arc<Gate>,
    packer: Packer,
    /// Empty between batches; kept to reuse its allocation.
    staged: StagedAppends,
    key_expiry: Arc<KeyExpiry>,
    recent_keys: RecentKeys,
    recent_events: RecentEvents,
    meters: Arc<Meters>,
    indexed_from: Arc<IndexedFrom>,
    /// The highest position of an event that was deleted or lost a tag.
    deleted_up_to: Option<Position>,
    /// Counts the commits, of which some are measured.
    commits: u64,
}

impl Writer {
    pub(super) fn new(log: OpenLog, gate: Arc<Gate>, reach: Arc<Reach>) -> Self {
        let OpenLog { storage, space, open, head, watermark, end, clock, .. } = log;
        let packer = Packer::new(&open, log.pack_bytes);
        let last_events = Recent::new(log.version_cache_streams);
        Self {
            storage,
            space,
            open,
            head,
            watermark,
            clock,
            last_events,
            end,
            gate,
            packer,
            staged: StagedAppends::default(),
            key_expiry: log.key_expiry,
            recent_keys: RecentKeys::after(end.last_key),
            recent_events: RecentEvents::new(reach, log.indexed_from.get().into()),
            meters: log.meters,
            indexed_from: log.indexed_from,
            deleted_up_to: log.deleted_up_to,
            commits: 0,
        }
    }

    /// Commits a group in as few batches as its size allows, usually one.
    pub(super) fn commit(&mut self, group: &[Arc<Ticket>]) {
        let is_synced = group.iter().any(|ticket| ticket.durability() == Durability::Sync);
        self.commits += 1;
        let is_measured = is_synced || self.commits.is_multiple_of(BUFFERED_PER_MEASURED);
        let began = is_measured.then(Instant::now);
        self.commit_all(group);
        self.meters.commit_submissions.record(u64::try_from(group.len()).unwrap_or(u64::MAX));
        let recorder = if is_synced {
            &self.meters.synced_commit_micros
        } else {
            &self.meters.buffered_commit_micros
        };
        if let Some(began) = began {
            recorder.record(micros(began.elapsed()));
        }
    }

    fn commit_all(&mut self, group: &[Arc<Ticket>]) {
        let waiting = group.iter().filter_map(|ticket| Some((ticket.clone(), ticket.take()?)));
        let mut waiting = waiting.peekable();
        while let Some((_, first)) = waiting.peek() {
            let room = first.len_in_batch();
            let (storage, gate) = (self.storage.clone(), self.gate.clone());
            if let Err(refused) = gate.check() {
                waiting.by_ref().for_each(|(ticket, _)| ticket.set(Err(refused.clone())));
                return;
            }
            let mut outcomes = Vec::new();
            let staged_and_written = |disk: &Disk| {
                let mut staged = self.begin(disk, room);
                while staged.batch.len() < BATCH_LEN_TARGET
                    && let Some((ticket, submission)) = waiting.next()
                {
                    staged.is_alone = staged.outcomes.is_empty() && waiting.peek().is_none();
                    let durability = submission.durability;
                    let deletes = submission.deletes.is_some();
                    let outcome = self.stage(disk, &mut staged, submission);
                    if outcome.as_ref().is_ok_and(|answer| !answer.must_look_again) {
                        staged.durability = staged.durability.stricter(durability);
                    }
                    staged.outcomes.push((ticket, outcome));
                    // Its holes are looked up on the disk.
                    if deletes {
                        break;
                    }
                }
                outcomes = std::mem::take(&mut staged.outcomes);
                self.write(disk, staged)
            };
            let written = gate.attempt(|| storage.with(staged_and_written));
            if outcomes.is_empty() {
                // The storage was closed before any submission was staged.
                let closed = written.err().unwrap_or(Error::Closed);
                waiting.by_ref().for_each(|(ticket, _)| ticket.set(Err(closed.clone())));
                return;
            }
            for (ticket, outcome) in outcomes {
                ticket.set(settle(outcome, &written));
            }
        }
    }

    /// Begins an empty batch, with room for this many bytes.
    fn begin<'d>(&mut self, disk: &'d Disk, room: usize) -> Staged<'d> {
        Staged {
            batch: disk.batch_with_room(room),
            end: self.end,
            durability: Durability::Buffered,
            appends: std::mem::take(&mut self.staged),
            is_alone: false,
            outcomes: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Validates a submission against the committed and the staged events, and adds it to the
    /// batch.
    fn stage(&mut self, disk: &Disk, staged: &mut Staged<'_>, submission: Submission) -> Outcome {
        if let Some(key) = &submission.key
            && let Some(result) = self.find_submitted(disk, key)?
        {
            staged.counts.retries += 1;
            return Ok(Answer { keyed: Some(Submitted::again(result)), ..Answer::default() });
        }
        let end = staged.end.head;
        let is_recent = |append: &Prepared| {
            append.shape.conditions.is_empty()
                || self.recent_events.reaches(
                    append.shape.conditions.as_slice(),
                    append.looked_up.up_to,
                    end,
                )
        };
        if !submission.appends.iter().all(is_recent) {
            return Ok(Answer { must_look_again: true, ..Answer::default() });
        }
        let len = submission.len_on_disk();
        let mut verdicts: SmallVec<[Verdict; 1]> = SmallVec::new();
        let mut pending =
            Pending { last_events: HashMap::new(), recorded_at: staged.end.recorded_at };
        for append in &submission.appends {
            let mut committed = Known {
                log: Log::new(disk, &self.open),
                last_events: &mut self.last_events,
                meters: &self.meters,
                staged: &staged.appends,
                pending: &pending,
                recent_events: &mut self.recent_events,
                looked_up: &append.looked_up,
                deleted_up_to: self.deleted_up_to,
            };
            let verdict = validate(&append.shape, &mut committed)?;
            pending.check_time(append, &verdict)?;
            if verdicts.len() + 1 < submission.appends.len() {
                pending.add(append, &verdict);
            }
            verdicts.push(verdict);
        }
        // A retry and a conflict are answered even on a full disk.
        let appends = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Append(_)));
        let deletes = submission.deletes.is_some();
        // A deletion frees more than it takes, so it may use the reserve.
        if (appends || submission.key.is_some()) && !deletes {
            self.space.check(disk, len)?;
        }
        let now = now(&self.clock);
        let decided = submission.appends.into_iter().zip(verdicts);
        let appended = decided.map(|(append, verdict)| match verdict {
            Verdict::Retry(appended) => {
                staged.counts.retries += 1;
                appended
            }
            Verdict::Append(versions) => self.add(staged, append, versions, now),
        });
        let mut answer = Answer { appended: appended.collect(), ..Answer::default() };
        if let Some(decided) = &submission.deletes {
            self.delete(staged, decided);
        }
        if let Some((key, record)) = &submission.record {
            staged.batch.put(Family::Meta, key, record);
        }
        if let Some(key) = submission.key {
            answer.keyed = Some(self.record_key(staged, *key, answer.appended.pop()));
        }
        Ok(answer)
    }

    /// Adds to the batch what its last append decides to delete. The open pack ends there, so that
    /// all deleted events are in packs.
    fn delete(&mut self, staged: &mut Staged<'_>, decided: &Decided) {
        decided.rows.add_to(&mut staged.batch);
        for (stream, tip) in &decided.tips {
            staged.appends.set_last_event(stream, *tip);
            self.last_events.insert(stream.clone(), Some(*tip));
        }
        if decided.up_to.is_some() {
            self.deleted_up_to = self.deleted_up_to.max(decided.up_to);
            self.recent_events.forget();
        }
        if let Some((key, pack)) = self.packer.end_pack() {
            staged.batch.put(Family::Packs, &key, pack);
        }
    }

    /// The recorded result of a request: one that is staged, was recorded since its caller looked
    /// it up, or that its caller found.
    fn find_submitted(&self, disk: &Disk, key: &PreparedKey) -> Result<Option<KeyedResult>> {
        if let Some(record) = self.recent_keys.get(key.key.name()) {
            return record.result_for(&key.key, &self.key_expiry);
        }
        if self.recent_keys.is_complete_after(key.looked_up_at) {
            return Ok(key.found.clone());
        }
        match find_submitted(disk, &key.key, &self.key_expiry)? {
            Lookup::Done(found) => Ok(found),
            // All later keys are held.
            Lookup::Unpublished => Ok(None),
        }
    }

    /// Adds the key of a request to the batch, with the result of the request.
    fn record_key(
        &mut self,
        staged: &mut Staged<'_>,
        key: PreparedKey,
        appended: Option<Appended>,
    ) -> Submitted {
        let submitted = Submitted::first(appended.map_or(key.alone, KeyedResult::Appended));
        staged.end.last_key += 1;
        let recorded_at = self.key_expiry.now();
        let age = KeyAge { number: staged.end.last_key, recorded_at };
        let result = submitted.result.clone().recorded();
        let record = KeyRecord { age, digest: key.key.digest(), result };
        let name = key.key.name();
        staged.batch.put(
            Family::Keys,
            name.as_bytes(),
            &encode_key_record(name.as_bytes(), &record),
        );
        self.recent_keys.insert(name.clone(), record);
        submitted
    }

    /// Assigns positions and versions to an append, and puts its frames into the batch. It can no
    /// longer be rejected.
    fn add(
        &mut self,
        staged: &mut Staged<'_>,
        append: Prepared,
        before_it: Versions,
        now: Timestamp,
    ) -> Appended {
        for (header, hole) in &append.holes {
            staged.put_hole(header, hole, &mut self.packer);
        }
        let Prepared { shape, mut frames, count, recorded_at, mut index, part, .. } = append;
        let (commit_before, commit_len) = part.unwrap_or((0, count));
        staged.counts.appends += 1;
        let expectations = &shape.expectations;
        let mut last_versions = before_it.clone();
        let first = Position::after(staged.end.head);
        index.each(first, |key, value| staged.batch.put(Family::Index, key, value));
        let mut before = 0;
        let mut versions: SmallVec<[Option<RangeInclusive<Version>>; 1]> =
            smallvec![None; last_versions.len()];
        for frame in &mut frames {
            let places = expectations.get(frame.stream).zip(last_versions.get_mut(frame.stream));
            let Some((((stream, _), last_version), versions)) =
                places.zip(versions.get_mut(frame.stream))
            else {
                unreachable!("a prepared frame names one of its append's streams")
            };
            staged.end.streams += u64::from(last_version.is_none());
            let at = frame.recorded_at.unwrap_or(now);
            let header = FrameHeader {
                first_position: first.plus(u64::from(before)),
                stream: stream.as_str(),
                first_version: Version::after(*last_version),
                // The clock may have been set back, but recorded-at never goes back along the log.
                recorded_at: staged.end.recorded_at.map_or(at, |last| last.max(at)),
                commit_before: commit_before + before,
                commit_len,
                streams_after: staged.end.streams,
                count: frame.count,
            };
            let next = Position::after(staged.end.head);
            assert_eq!(header.first_position, next, "positions are gapless (G2)");
            staged.put(&header, frame, &mut self.packer);
            let last = header.last_version();
            let first_version = versions.as_ref().map_or(header.first_version, |v| *v.start());
            *versions = Some(first_version..=last);
            *last_version = Some(last);
            let last_event = LastEvent::new(last, frame.last_id);
            if !staged.is_alone {
                staged.appends.set_last_event(stream, last_event);
            }
            self.last_events.insert(stream.clone(), Some(last_event));
            before += frame.count;
        }
        if let Some((_, last)) = recorded_at {
            staged.end.recorded_at = staged.end.recorded_at.max(Some(last));
        }
        let streams = expectations.iter().zip(versions);
        let versions = streams.filter_map(|((stream, _), range)| Some((stream.clone(), range?)));
        let last = staged.end.head.unwrap_or(first);
        let Some(appended) = Appended::new([first..=last], versions, false) else {
            unreachable!("a validated append has events")
        };
        if self.recent_events.are_kept() {
            self.recent_events.add(RecentAppend::of(&shape, first, index));
        }
        if !staged.is_alone {
            staged.appends.add(shape, first, before_it);
        }
        appended
    }

    /// Writes the staged batch, publishes it, and updates the end of the log. An error here poisons
    /// the writer.
    fn write(&mut self, disk: &Disk, staged: Staged<'_>) -> Result<()> {
        let Staged { mut batch, end, durability, mut appends, counts, .. } = staged;
        appends.clear();
        self.staged = appends;
        if let Some((key, pack)) = self.packer.end_pack_with_hole() {
            batch.put(Family::Packs, &key, pack);
        }
        if let Some((key, row)) = self.packer.row() {
            batch.put(Family::Tail, &key, row);
        }
        if end.last_key > self.end.last_key {
            batch.put(Family::Meta, KEYS_RECORD, &encode_key_count(self.key_count(end)));
        }
        let written = if batch.is_empty() {
            // A retry that finds its events stored must still give them the requested durability.
            if durability == Durability::Sync && self.is_behind(end) { disk.sync() } else { Ok(()) }
        } else {
            disk.write(batch, durability)
        };
        let written = written.and_then(|()| match durability {
            Durability::Sync => self.note_durable(disk, end),
            Durability::Buffered => Ok(()),
        });
        // A write of derived data may have failed meanwhile and left an incomplete record in the
        // write-ahead log that also holds this write.
        let written = written.and_then(|()| self.gate.check_sound());
        written.map_err(|error| Error::Indeterminate { cause: Cause::new(error) })?;
        let is_new = end.head > self.end.head;
        self.count(&counts, end);
        self.end = end;
        self.packer.publish(&self.open);
        if let (Some(head), true) = (end.head, is_new) {
            self.head.publish(head);
        }
        // After the head: a lookup that finds a key finds its events.
        self.key_expiry.publish(end.last_key);
        Ok(())
    }

    fn key_count(&self, end: LogEnd) -> KeyCount {
        KeyCount { last: end.last_key, clock: self.key_expiry.now() }
    }

    /// Counts a batch that was written.
    fn count(&self, counts: &Counts, end: LogEnd) {
        let place = |end: LogEnd| end.head.map_or(0, Position::get);
        let Counts { appends, frame_bytes, retries } = *counts;
        self.meters.appends.add_as_writer(appends);
        self.meters.events.add_as_writer(place(end) - place(self.end));
        self.meters.frame_bytes.add_as_writer(u64::try_from(frame_bytes).unwrap_or(u64::MAX));
        self.meters.keys.add_as_writer(end.last_key - self.end.last_key);
        self.meters.retries.add_as_writer(retries);
    }

    /// Whether the watermark does not say yet that everything up to this end is durable.
    fn is_behind(&self, end: LogEnd) -> bool {
        let watermark = self.watermark.get();
        let last_key = watermark.evidence.map_or(0, |evidence| evidence.last_key);
        watermark.durable < end.head || last_key < end.last_key
    }

    fn note_durable(&mut self, disk: &Disk, end: LogEnd) -> Result<()> {
        let watermark = self.watermark.get();
        if !self.is_behind(end) && !watermark.is_clean {
            return Ok(());
        }
        self.watermark.set(reached(watermark, disk, end, false))
    }

    /// Makes everything acknowledged so far durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        let (storage, gate) = (self.storage.clone(), self.gate.clone());
        gate.check()?;
        gate.attempt(|| {
            let synced = storage.with(|disk| {
                disk.sync()?;
                self.note_durable(disk, self.end)
            });
            synced.map_err(|error| Error::Indeterminate { cause: Cause::new(error) })
        })
    }

    /// Makes everything durable and records that in both slots of the watermark, so that a torn write
    /// cannot bring back one that names a frame which is about to be changed.
    pub(super) fn settle_watermark(&mut self) -> Result<()> {
        let (storage, gate) = (self.storage.clone(), self.gate.clone());
        gate.check()?;
        gate.attempt(|| {
            let settled = storage.with(|disk| {
                disk.sync()?;
                for _slot in 0..2 {
                    self.watermark.set(reached(self.watermark.get(), disk, self.end, false))?;
                    self.watermark.sync()?;
                }
                Ok(())
            });
            settled.map_err(|error| Error::Indeterminate { cause: Cause::new(error) })
        })
    }

    /// Removes all entries of the index. Those of later events are complete.
    pub(super) fn reset_index(&mut self) -> Result<()> {
        let (storage, gate) = (self.storage.clone(), self.gate.clone());
        gate.check()?;
        let mut indexed = self.indexed_from.get();
        let next = Position::after(self.end.head);
        for kind in IndexKind::ALL {
            indexed.set(kind, indexed.get(kind).map(|_| next));
        }
        self.indexed_from.reset(indexed);
        gate.attempt(|| {
            let removed = storage.with(|disk| {
                let mut batch = disk.batch();
                for kind in IndexKind::ALL {
                    let (first, end) = kind.bounds();
                    batch.delete_range(Family::Index, &first..&end);
                }
                batch.put(Family::Meta, INDEXED_RECORD, &encode_indexed(indexed));
                disk.write(batch, Durability::Buffered)
            });
            removed.map_err(|error| Error::Indeterminate { cause: Cause::new(error) })
        })
    }

    /// The last position that is known to be durable.
    pub(super) fn durable(&self) -> Option<Position> {
        self.watermark.get().durable
    }

    pub(super) fn end(&self) -> LogEnd {
        self.end
    }

    /// Moves everything into table files, then records that in the watermark. A poisoned writer
    /// leaves the watermark unchanged.
    pub(super) fn seal(&mut self, disk: &Disk) -> Result<()> {
        self.gate.check_sound()?;
        if self.end.last_key > 0 {
            // So that the retention clock continues here.
            let mut batch = disk.batch();
            batch.put(Family::Meta, KEYS_RECORD, &encode_key_count(self.key_count(self.end)));
            disk.write(batch, Durability::Buffered)?;
        }
        disk.flush()?;
        let watermark = self.watermark.get();
        self.watermark.set(reached(watermark, disk, self.end, true))?;
        self.watermark.sync()
    }
}

/// The watermark of a log that is durable up to its end.
fn reached(watermark: Watermark, disk: &Disk, end: LogEnd, is_clean: bool) -> Watermark {
    let known = watermark.evidence.and_then(|evidence| evidence.manifest);
    let (frame, manifest, last_key) = (end.checksum, disk.manifest(known), end.last_key);
    let evidence = Some(Evidence { frame, manifest, last_key });
    Watermark { durable: end.head, is_clean, evidence, ..watermark }
}
