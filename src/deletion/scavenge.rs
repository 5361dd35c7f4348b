//! Scavenging: deletes what the retentions say, and gives the space of deleted events back.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::archive::Archive;
use super::cut::snapshots_of;
use super::deleter::{ALL_NAMES, Deleter, Pace};
use super::report::Scavenged;
use super::target::{Target, last_version};
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{stream_key, stream_of, stream_prefix};
use crate::model::{Deletion, Position, Retention, RetentionScope, StreamId, Timestamp, Version};
use crate::read::deletions::retentions;
use crate::read::lookup::{decode_in_stream, each_event, hole_of, next_stream};
use crate::storage::{Disk, Family, Storage};

/// How many streams one decision truncates.
const STREAMS_MAX: usize = 64;
/// How many events one decision truncates, unless a single stream has more.
const EVENTS_MAX: u64 = 1_000;
/// How many frames are remembered; with more, all packs are looked at.
const FRAMES_MAX: usize = 1_000_000;
/// How much longer than a batch it rests after it.
const RESTS: u32 = 2;
/// The longest rest between two batches.
const REST_MAX: Duration = Duration::from_millis(50);

/// How to scavenge.
///
/// ```
/// use annals::ScavengeOptions;
/// let options = ScavengeOptions::new().archive("2026-11.jsonl").unthrottled();
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
pub struct ScavengeOptions {
    archive: Option<PathBuf>,
    is_unthrottled: bool,
    has_views: bool,
}

impl ScavengeOptions {
    /// Throttled, without an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the events to this file, which must not exist, before they are deleted: one line each,
    /// as an [export](crate::Store::export) does. Each part is synced, and read again, before its
    /// events are deleted.
    #[must_use]
    pub fn archive(self, file: impl Into<PathBuf>) -> Self {
        Self { archive: Some(file.into()), ..self }
    }

    /// Also rewrites the table files of read models and snapshots: what they held before they were
    /// changed, rebuilt or removed is then in no file of the store any more.
    ///
    /// After a redaction, rebuild the projections of the views that
    /// [`Deleted::views_with_it`](crate::Deleted) names, and scavenge with this.
    #[must_use]
    pub fn and_views(self) -> Self {
        Self { has_views: true, ..self }
    }

    /// Does not rest between two batches. Appends become slower meanwhile.
    #[must_use]
    pub fn unthrottled(self) -> Self {
        Self { is_unthrottled: true, ..self }
    }
}

/// Called with some streams, the first version of each that is kept, and the progress so far.
type VisitChunk<'v> = dyn FnMut(&[(StreamId, Version)], &Scavenged) -> Result<()> + 'v;

/// Rests after each batch, so that most of the time is left to others.
struct Pause {
    is_on: bool,
    began: Instant,
}

impl Pause {
    fn new(is_on: bool) -> Self {
        Self { is_on, began: Instant::now() }
    }

    fn rest(&mut self) {
        if self.is_on {
            thread::sleep((RESTS * self.began.elapsed()).min(REST_MAX));
        }
        self.began = Instant::now();
    }
}

/// The streams that a retention concerns, one after the other.
struct Streams {
    /// A stream with exactly this name comes first.
    name: Option<String>,
    /// Then those whose ids begin like this.
    prefix: Option<String>,
    /// The key from which on they are searched.
    next: Vec<u8>,
}

impl Streams {
    fn of(scope: &RetentionScope) -> Self {
        let (name, prefix) = match scope {
            RetentionScope::Stream(stream) => (stream.as_str().to_owned(), None),
            RetentionScope::Category(category) => (category.clone(), Some(format!("{category}-"))),
        };
        let next = prefix.clone().unwrap_or_default().into_bytes();
        Self { name: Some(name), prefix, next }
    }

    fn next(&mut self, disk: &Disk) -> Result<Option<StreamId>> {
        if let Some(name) = self.name.take() {
            let found = next_stream(disk, &stream_prefix(&name))?;
            if let Some(stream) = found.filter(|stream| stream.as_str() == name) {
                return Ok(Some(stream));
            }
        }
        let Some(prefix) = &self.prefix else { return Ok(None) };
        let found = next_stream(disk, &self.next)?;
        let found = found.filter(|stream| stream.as_str().starts_with(prefix.as_str()));
        if let Some(stream) = &found {
            // Every key of a stream is between its id followed by 0 and its id followed by 1.
            self.next = [stream.as_str().as_bytes(), &[1]].concat();
        }
        Ok(found)
    }
}

impl Deleter {
    /// What the retentions would delete now. Nothing is changed.
    pub(crate) fn preview_scavenge(&self, storage: &Storage, now: Timestamp) -> Result<Scavenged> {
        let _alone = self.alone.lock();
        let mut done = Scavenged::default();
        Self::each_chunk(storage, now, &mut done, &mut |_, _| Ok(()))?;
        Ok(done)
    }

    /// Deletes what the retentions say, and gives the space of deleted events back.
    pub(crate) fn scavenge(
        &self,
        target: Target<'_>,
        options: &ScavengeOptions,
        now: Timestamp,
        progress: &mut dyn FnMut(Scavenged),
    ) -> Result<Scavenged> {
        let _alone = self.alone.lock();
        target.committer.check()?;
        let before = target.storage.with(Disk::table_bytes)?;
        let mut archive = options.archive.as_deref().map(Archive::create).transpose()?;
        let pending = self.state.lock().pending;
        let mut wanted = pending.is_none().then(BTreeSet::new);
        let mut done = Scavenged::default();
        let mut pause = Pause::new(!options.is_unthrottled);
        let decided = Self::each_chunk(target.storage, now, &mut done, &mut |streams, done| {
            if let Some(archive) = &mut archive {
                archive.add(target.storage, streams)?;
            }
            let deletion = Deletion::truncate_all(streams.to_vec());
            let deletion = deletion.because("retention").by("scavenge");
            if let Some((_, frames)) = self.decide(target, &deletion)? {
                add_frames(&mut wanted, frames);
            }
            progress(*done);
            pause.rest();
            Ok(())
        });
        // What is decided is carried out, even if no more could be decided.
        done.is_incomplete = !self.give_back(target, wanted.as_ref(), &mut |packs| {
            done.packs += packs;
            progress(done);
            pause.rest();
        })?;
        decided?;
        if options.has_views && !done.is_incomplete {
            done.is_incomplete = !Self::erase_views(target)?;
        }
        let after = target.storage.with(Disk::table_bytes)?;
        done.freed_bytes = before.saturating_sub(after);
        progress(done);
        Ok(done)
    }

    /// Carries out what is decided, and rewrites files without it. `after_batch` gets the number of
    /// packs that a batch has changed. Returns whether everything was done: on a full disk, as much
    /// as there is space for.
    fn give_back(
        &self,
        target: Target<'_>,
        wanted: Option<&BTreeSet<Position>>,
        after_batch: &mut dyn FnMut(u64),
    ) -> Result<bool> {
        let mut pace = Pace { after_batch: Some(after_batch), drops_files: true };
        let carried_out = self.carry_out(target, wanted, &mut pace);
        match (carried_out, self.erase(target)) {
            (Ok(()), Ok(())) => Ok(true),
            // There may be space now.
            (Err(Error::DiskFull { .. }), Ok(())) => {
                match self.carry_out(target, None, &mut pace).and_then(|()| self.erase(target)) {
                    Err(Error::DiskFull { .. }) => Ok(false),
                    done => done.map(|()| true),
                }
            }
            (Ok(()) | Err(Error::DiskFull { .. }), Err(Error::DiskFull { .. })) => Ok(false),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Rewrites the files of read models and snapshots without what was removed from them. Returns
    /// whether the disk had space for that.
    fn erase_views(target: Target<'_>) -> Result<bool> {
        let reserve = target.disk_reserve_bytes;
        let erased = target.storage.with(|disk| {
            disk.flush()?;
            for family in [Family::Views, Family::Checkpoints, Family::Snapshots] {
                disk.compact(family, ALL_NAMES, reserve)?;
            }
            disk.wait_for_removals()
        });
        match erased {
            Err(Error::DiskFull { .. }) => Ok(false),
            erased => erased.map(|()| true),
        }
    }

    /// Visits what the retentions say now, some streams at a time, each with its first version that
    /// is kept.
    fn each_chunk(
        storage: &Storage,
        now: Timestamp,
        done: &mut Scavenged,
        visit: &mut VisitChunk<'_>,
    ) -> Result<()> {
        let all = storage.with(retentions)?;
        let own: HashMap<StreamId, Retention> = all
            .iter()
            .filter_map(|(scope, retention)| match scope {
                RetentionScope::Stream(stream) => Some((stream.clone(), *retention)),
                RetentionScope::Category(_) => None,
            })
            .collect();
        let mut chunk = Vec::new();
        let mut events = 0;
        for (scope, retention) in &all {
            let mut streams = Streams::of(scope);
            while let Some(stream) = storage.with(|disk| streams.next(disk))? {
                let is_category = matches!(scope, RetentionScope::Category(_));
                if is_category && own.contains_key(&stream) {
                    continue;
                }
                done.streams += 1;
                let due = storage.with(|disk| Due::of(disk, &stream, *retention, now))?;
                let Some(due) = due else { continue };
                done.truncated_streams += 1;
                done.events += due.events;
                done.bytes += due.bytes;
                events += due.events;
                chunk.push((stream, due.before));
                if chunk.len() >= STREAMS_MAX || events >= EVENTS_MAX {
                    visit(&chunk, done)?;
                    chunk.clear();
                    events = 0;
                }
            }
        }
        if chunk.is_empty() { Ok(()) } else { visit(&chunk, done) }
    }
}

fn add_frames(wanted: &mut Option<BTreeSet<Position>>, frames: Option<BTreeSet<Position>>) {
    *wanted = match (wanted.take(), frames) {
        (Some(mut wanted), Some(frames)) if wanted.len() + frames.len() <= FRAMES_MAX => {
            wanted.extend(frames);
            Some(wanted)
        }
        _ => None,
    };
}

/// What a retention says about one stream.
struct Due {
    /// The first version that is kept.
    before: Version,
    events: u64,
    bytes: u64,
}

impl Due {
    /// `None` if nothing is to be deleted.
    fn of(
        disk: &Disk,
        stream: &StreamId,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let Some(last) = last_version(disk, stream)? else { return Ok(None) };
        let deleted = hole_of(disk, stream)?.map(|(deleted, _)| deleted);
        let first = Version::after(deleted);
        let mut up_to = Version::FIRST;
        if let Some(count) = retention.count() {
            let surplus = last.get().saturating_sub(count.get());
            up_to = up_to.max(Version::FIRST.plus(surplus));
        }
        let oldest = retention.age().map(|age| {
            let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(now.as_micros().saturating_sub(micros))
        });
        // A snapshot needs the event that it rests on.
        let pinned = pinned(disk, stream)?;
        let ends = |version: Version, at: Timestamp| {
            let is_over = version >= up_to && oldest.is_none_or(|oldest| at >= oldest);
            is_over || pinned.is_some_and(|pinned| version >= pinned)
        };
        if first > last {
            return Ok(None);
        }
        let mut due = Self { before: first, events: 0, bytes: 0 };
        due.read(disk, stream, first, ends)?;
        Ok(Some(due).filter(|due| due.events > 0))
    }

    /// Reads events of a stream until one is kept.
    fn read(
        &mut self,
        disk: &Disk,
        stream: &StreamId,
        first: Version,
        ends: impl Fn(Version, Timestamp) -> bool,
    ) -> Result<()> {
        let start = stream_key(stream.as_str(), first);
        let mut cursor = disk.stream_cursor(&start, Direction::Forward)?;
        while let Some((key, value)) = cursor.next()? {
            let Some((id, at)) = stream_of(key) else { break };
            if id != stream.as_str() {
                break;
            }
            let frame = decode_in_stream(stream, at, value)?;
            let mut is_over = false;
            each_event(
                &frame,
                || Location::stream(stream, at),
                |event| {
                    is_over |= ends(event.version(), event.recorded_at());
                    if !is_over {
                        self.before = event.version().next();
                        self.events += 1;
                    }
                },
            )?;
            if is_over {
                break;
            }
            self.bytes += value.len() as u64;
        }
        Ok(())
    }
}

/// The lowest version on which the newest snapshot of some kind rests.
fn pinned(disk: &Disk, stream: &StreamId) -> Result<Option<Version>> {
    let mut newest: HashMap<String, Version> = HashMap::new();
    for (kind, version) in snapshots_of(disk, stream, &(Version::FIRST..=Version::MAX))? {
        let known = newest.entry(kind).or_insert(version);
        *known = version.max(*known);
    }
    Ok(newest.into_values().min())
}
