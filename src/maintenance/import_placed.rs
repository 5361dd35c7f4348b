//! Builds a store from an [export with positions](super::export_placed): every event at its place,
//! and holes where events were deleted (G17).
//!
//! The store is built in a directory of its own, where nothing else appends to it, and renamed once
//! it is complete. After a crash, the next import to the same path removes the unfinished store.
//! Whether the lines agree with each other is checked at the end, by verifying the store.

use std::io::BufRead;

use super::import::{
    BYTE_ORDER_MARK, Destination, Imported, PROGRESS_LINES, ReadLine, check_len, read_line,
};
use super::lines::{Line, LineFault, line_len_max, parse};
use super::placed::{HoleLine, LogHoleLine, Places, StreamHoleLine, parse_hole};
use crate::commit::{Decided, LookedUp, Prepared, Submission};
use crate::error::{Cause, Error, Result};
use crate::event_store::Append;
use crate::format::{
    DELETIONS_RECORD, Deletions, FrameHeader, Hole, encode_deletions, encode_hole, stream_key,
};
use crate::model::{
    DELETIONS_STREAM, EventId, ExpectedVersion, Position, REDACTED, StreamId, Timestamp, Version,
};
use crate::options::Durability;
use crate::storage::{Claim, Family};
use crate::sync::Mutex;
use crate::validate::LastEvent;

/// A batch is written once it holds this many events or bytes.
const BATCH_EVENTS_MAX: usize = 1_000;
const BATCH_LEN_MAX: usize = 4 << 20;

/// Builds the store, which is empty.
pub(crate) fn import_with_positions(
    target: Destination<'_>,
    claim: &Mutex<Option<Claim>>,
    input: &mut dyn BufRead,
    progress: &mut dyn FnMut(Imported),
) -> Result<Imported> {
    let mut build = Build {
        target,
        claim,
        next: Position::FIRST,
        open: None,
        batch: Vec::new(),
        batch_len: 0,
        deleted: Decided::default(),
        holes: Vec::new(),
        last_time: None,
        deletions: Deletions::default(),
        has_deletions: false,
        end_in_streams: None,
        newest: None,
        recorded: None,
        report: Imported::default(),
    };
    let read = build.read(input, progress).and_then(|()| build.end());
    read.map_err(|stop| match stop {
        Stop::Store(error) => error,
        Stop::Line(line, cause) => Error::ImportLine { line, lines_kept: 0, cause },
        Stop::Input(error) => {
            let line = build.report.lines;
            Error::ImportInput { line, lines_kept: 0, cause: Cause::new(error) }
        }
    })?;
    progress(build.report);
    Ok(build.report)
}

/// The error of an input whose store does not verify.
pub(crate) fn contradictory(lines: u64, found: String) -> Error {
    let cause = Cause::new(LineFault::Contradictory(found));
    Error::ImportLine { line: lines, lines_kept: 0, cause }
}

/// Why the import fails.
enum Stop {
    Line(u64, Cause),
    Input(std::io::Error),
    Store(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

struct Build<'s> {
    target: Destination<'s>,
    claim: &'s Mutex<Option<Claim>>,
    /// The position of the next event or hole.
    next: Position,
    /// The commit whose lines are being collected.
    open: Option<OpenCommit>,
    batch: Vec<OpenCommit>,
    batch_len: usize,
    /// The holes of streams that are not written yet.
    deleted: Decided,
    /// The holes of the log before the next event.
    holes: Vec<(FrameHeader<'static>, Hole)>,
    /// When the last event or hole was recorded.
    last_time: Option<Timestamp>,
    /// The record of deletions.
    deletions: Deletions,
    /// Whether the store is marked as one from which events were deleted.
    has_deletions: bool,
    /// The last position in a hole of a stream, and the line of the hole.
    end_in_streams: Option<(Position, u64)>,
    /// The number of the newest deletion that a hole names, and of the last one that is recorded.
    newest: Option<Version>,
    recorded: Option<Version>,
    report: Imported,
}

/// Consecutive lines of one commit, or of what is left of it.
struct OpenCommit {
    first_line: u64,
    span: (Position, Position),
    part: (u32, u32),
    /// The holes before it.
    holes: Vec<(FrameHeader<'static>, Hole)>,
    append: Append,
    events: usize,
    len: usize,
    /// The first version of each stream in it.
    versions: Vec<(StreamId, Version)>,
}

impl Build<'_> {
    fn read(
        &mut self,
        input: &mut dyn BufRead,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<(), Stop> {
        let len_max = line_len_max(self.target.limits);
        let mut line = Vec::new();
        loop {
            let number = self.report.lines + 1;
            match read_line(input, len_max, &mut line).map_err(Stop::Input)? {
                ReadLine::End => return Ok(()),
                ReadLine::TooLong => return refuse(number, LineFault::TooLong { len_max }),
                ReadLine::Line { len } => self.report.bytes += len,
            }
            if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            self.report.lines = number;
            if !line.trim_ascii().is_empty() {
                self.take(number, &line)?;
            }
            if number.is_multiple_of(PROGRESS_LINES) {
                progress(self.report);
            }
        }
    }

    /// Handles a line.
    fn take(&mut self, number: u64, text: &[u8]) -> Result<(), Stop> {
        // `Places::parse` refuses a line without an id.
        let none = EventId::from_bytes([0; 16]);
        match parse(text, none) {
            Ok(line) => {
                let places = Places::parse(text).or_else(|fault| refuse(number, fault))?;
                self.event(number, line, &places)
            }
            Err(fault) => {
                let hole = parse_hole(text).unwrap_or(Err(fault));
                match hole.or_else(|fault| refuse(number, fault))? {
                    HoleLine::Hole(hole) => self.hole(number, &hole),
                    HoleLine::StreamHole(hole) => self.stream_hole(number, &hole),
                }
            }
        }
    }

    /// Adds the event of a line to its commit.
    fn event(&mut self, number: u64, line: Line, places: &Places) -> Result<(), Stop> {
        let part = places.commit(self.next).or_else(|fault| refuse(number, fault))?;
        if self.open.as_ref().is_some_and(|open| open.span != places.commit_span()) {
            self.close_commit()?;
        }
        let event = line.event.with_recorded_at(line.time);
        event.check(self.target.limits).or_else(|error| refuse(number, Error::from(error)))?;
        if event.content_type().as_str() == REDACTED {
            self.note_deleted(places.position)?;
        }
        self.advance_time(number, line.time)?;
        let open = self.open.get_or_insert_with(|| OpenCommit {
            first_line: number,
            span: places.commit_span(),
            part,
            holes: std::mem::take(&mut self.holes),
            append: Append::new(),
            events: 0,
            len: 0,
            versions: Vec::new(),
        });
        if !open.versions.iter().any(|(stream, _)| *stream == line.stream) {
            open.versions.push((line.stream.clone(), places.version));
        }
        open.events += 1;
        open.len += event.text_len();
        let append = std::mem::take(&mut open.append);
        open.append = append.to(line.stream, ExpectedVersion::Any, [event]);
        check_len(&open.append, (open.events, open.len), self.target.limits)
            .or_else(|error| refuse(number, error))?;
        self.next = places.position.next();
        if self.next > open.span.1 { self.close_commit() } else { Ok(()) }
    }

    /// Puts the collected commit into the batch.
    fn close_commit(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let is_deletion =
            open.versions.iter().all(|(stream, _)| stream.as_str() == DELETIONS_STREAM);
        if !is_deletion {
            let checked = open.append.validate(self.target.limits);
            checked.or_else(|error| refuse(open.first_line, error))?;
        }
        self.batch_len += open.len;
        self.batch.push(open);
        let events: usize = self.batch.iter().map(|open| open.events).sum();
        if events >= BATCH_EVENTS_MAX || self.batch_len >= BATCH_LEN_MAX {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Writes the batch.
    fn write_batch(&mut self) -> Result<(), Stop> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_len = 0;
        if !self.deleted.tips.is_empty() {
            self.write_deleted()?;
        }
        let Some(first) = batch.first() else { return Ok(()) };
        let first_line = first.first_line;
        let prepared = batch.iter_mut().map(|open| {
            let kinds = self.target.index_kinds;
            let mut prepared = Prepared::indexed(&open.append, kinds, LookedUp::default());
            prepared.shape.may_be_retry = false;
            prepared.part = Some(open.part);
            prepared.holes = std::mem::take(&mut open.holes);
            prepared
        });
        let submission = Submission::of(prepared, Durability::Buffered);
        let answer = match self.target.committer.submit(submission) {
            Ok(answer) => answer,
            Err(
                error @ (Error::RecordedAtBeforeHead { .. }
                | Error::Tombstoned { .. }
                | Error::InvalidArgument(_)),
            ) => return refuse(first_line, error),
            Err(error) => return Err(Stop::Store(error)),
        };
        for (open, appended) in batch.iter().zip(&answer.appended) {
            open.check_versions(appended.versions())?;
            for (stream, versions) in appended.versions() {
                if stream.as_str() == DELETIONS_STREAM {
                    self.recorded = Some(*versions.end());
                }
            }
            self.report.added += open.events as u64;
        }
        Ok(())
    }

    /// Adds the hole of a line to those before the next event.
    fn hole(&mut self, number: u64, line: &LogHoleLine) -> Result<(), Stop> {
        self.close_commit()?;
        let (header, hole) = line.hole(self.next).or_else(|fault| refuse(number, fault))?;
        self.advance_time(number, header.recorded_at)?;
        self.advance_time(number, hole.last_recorded_at)?;
        let last = header.last_position();
        self.note_deleted(last)?;
        self.newest = self.newest.max(Some(hole.deletion));
        self.holes.push((header, hole));
        self.report.holes += 1;
        self.next = last.next();
        Ok(())
    }

    /// Checks that times do not go back.
    fn advance_time(&mut self, number: u64, time: Timestamp) -> Result<(), Stop> {
        match self.last_time {
            Some(last) if time < last => {
                let found = format!("the time {time} is before {last}, that of the line before");
                refuse(number, LineFault::Contradictory(found))
            }
            _ => {
                self.last_time = Some(time);
                Ok(())
            }
        }
    }

    /// Adds the hole of a stream to those that are to be written.
    fn stream_hole(&mut self, number: u64, line: &StreamHoleLine) -> Result<(), Stop> {
        self.close_commit()?;
        if !self.batch.is_empty() {
            self.write_batch()?;
        }
        let (header, hole) = line.hole().or_else(|fault| refuse(number, fault))?;
        let last = hole.end.map(|end| (end.position, number));
        self.end_in_streams = self.end_in_streams.max(last);
        let key = stream_key(line.stream.as_str(), Version::FIRST);
        self.deleted.rows.put(Family::Streams, key, encode_hole(&header, &hole));
        let (version, id, state) = (line.last_version, line.last_id, line.state);
        self.deleted.tips.push((line.stream.clone(), LastEvent { version, id, state }));
        self.newest = self.newest.max(Some(line.deletion));
        self.mark()?;
        if self.deleted.tips.len() >= BATCH_EVENTS_MAX { self.write_deleted() } else { Ok(()) }
    }

    /// Notes that the event of a position was deleted or redacted.
    fn note_deleted(&mut self, position: Position) -> Result<(), Stop> {
        self.deletions.up_to = self.deletions.up_to.max(Some(position));
        self.mark()
    }

    /// Marks the store as one from which events were deleted.
    fn mark(&mut self) -> Result<(), Stop> {
        if !self.has_deletions {
            self.claim.lock().as_mut().map(Claim::add_deletions).ok_or(Error::Closed)??;
            self.has_deletions = true;
        }
        Ok(())
    }

    /// Writes the holes that are not written yet.
    fn write_deleted(&mut self) -> Result<(), Stop> {
        let decided = std::mem::take(&mut self.deleted);
        let submission = Submission {
            deletes: Some(Box::new(decided)),
            ..Submission::of([], Durability::Buffered)
        };
        self.target.committer.submit(submission)?;
        Ok(())
    }

    /// Writes the rest, and makes everything durable.
    fn end(&mut self) -> Result<(), Stop> {
        self.close_commit()?;
        self.write_batch()?;
        if let Some(number) = self.newest
            && (!self.holes.is_empty() || Some(number) > self.recorded)
        {
            return refuse(self.report.lines, LineFault::NoDeletion { number });
        }
        if let Some((last, line)) = self.end_in_streams.filter(|(last, _)| *last >= self.next) {
            let found =
                format!("the hole of a stream reaches position {last}, and the log does not");
            return refuse(line, LineFault::Contradictory(found));
        }
        if self.has_deletions {
            let record = encode_deletions(&self.deletions);
            self.deleted.rows.put(Family::Meta, DELETIONS_RECORD.to_vec(), record);
            self.write_deleted()?;
        }
        Ok(self.target.committer.sync()?)
    }
}

impl OpenCommit {
    /// Checks that the events got the versions that their lines give.
    fn check_versions(
        &self,
        versions: &[(StreamId, std::ops::RangeInclusive<Version>)],
    ) -> Result<(), Stop> {
        for ((stream, given), (_, got)) in self.versions.iter().zip(versions) {
            if given != got.start() {
                let (stream, next) = (stream.clone(), *got.start());
                let fault = LineFault::OtherVersion { stream, given: *given, next };
                return refuse(self.first_line, fault);
            }
        }
        Ok(())
    }
}

fn refuse<T>(line: u64, cause: impl std::error::Error + Send + Sync + 'static) -> Result<T, Stop> {
    Err(Stop::Line(line, Cause::new(cause)))
}
