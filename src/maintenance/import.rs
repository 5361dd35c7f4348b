//! Import appends events in the [line form](super::lines), in batches. It adds each line once,
//! however often the import is repeated.
//!
//! A chain of hashes makes it resumable: `h(i)`, the UUID v5 of line `i` under `h(i-1)`, identifies
//! the first `i` lines of an input, blank lines included. Each batch also writes a record of the
//! number of imported lines and of `h` at the last of them. The key of the record is `h` at the
//! first line that is not blank. An input is recognised by that key; if `h` agrees at the recorded
//! line, the import continues after it. So an input may be truncated, repeated or extended, and
//! lines after the imported ones may be corrected. Memory does not grow with the input.
//!
//! `h(i)` is also the event id if line `i` gives none.

use std::io::{BufRead, ErrorKind};
use std::ops::ControlFlow;

use uuid::Uuid;

use super::lines::{CommitMark, Line, LineFault, line_len_max, parse};
use super::placed::parse_hole;
use crate::commit::{Committer, IndexKinds, LookedUp, Prepared, Submission};
use crate::error::{Cause, Error, Location, Result};
use crate::event_store::{Append, EventStore};
use crate::extension::EventStoreExt;
use crate::format::{decode_record, encode_record};
use crate::model::limits::APPEND_STREAMS_MAX;
use crate::model::{
    CheckError, DELETIONS_STREAM, EventId, EventRef, ExpectedVersion, LimitExceeded, Limits,
    NewEvent, StreamId, Timestamp,
};
use crate::options::Durability;
use crate::storage::{Family, Storage};

/// A batch is written once it holds this many events or bytes, at the next end of a commit.
const BATCH_EVENTS_MAX: usize = 1_000;
const BATCH_LEN_MAX: usize = 4 << 20;
/// A mark that some programs put at the beginning of UTF-8 text. It is not part of the first line.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The number of lines between two reports of progress.
pub(super) const PROGRESS_LINES: u64 = 1_000;
/// The initial value of the chain, `h(0)`, for every input.
const CHAIN_START: Uuid = Uuid::from_u128(0x0a9a_15e1_7f3d_4c52_9d36_5b1b_8a4c_60e7);
/// The prefix of the keys in `meta` for records of inputs; 16 bytes of the chain follow.
const RECORD_PREFIX: &[u8] = b"import/";

/// Options of [`Store::import`](crate::Store::import).
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// use annals::{ImportOptions, Store};
/// let store = Store::open(directory.path())?;
/// let input = br#"{"stream":"a-1","type":"Opened","time":"2011-10-01T00:38:44.546+02:00","data":{"by":"Ada"}}"#;
/// let imported = store.import(&input[..], ImportOptions::default(), |_| {})?;
/// assert_eq!(imported.added, 1);
/// let again = store.import(&input[..], ImportOptions::default(), |_| {})?;
/// assert_eq!((again.added, again.already_there), (0, 1));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportOptions {
    clamp_times: bool,
}

impl ImportOptions {
    /// Whether an event whose time goes back gets the time of the previous event. By default, its
    /// line is rejected.
    pub fn clamp_times(mut self, clamp: bool) -> Self {
        self.clamp_times = clamp;
        self
    }
}

/// The progress of an import and, at its end, its result.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines read, blank ones included.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Events added.
    pub added: u64,
    /// Events that an earlier import of the same input had added.
    pub already_there: u64,
    /// Added events that were recorded at the time of the previous event, because their own was
    /// earlier.
    pub clamped: u64,
    /// Lines of holes and of the stream [`DELETIONS_STREAM`](crate::DELETIONS_STREAM), which were
    /// skipped: each store records its own deletions.
    pub skipped: u64,
    /// Holes of the log that were added, of an import with positions.
    pub holes: u64,
    /// Added events whose time was truncated to the microsecond, or lost its leap second.
    pub times_cut: u64,
}

/// The parts of a store, open for writing, that an import needs.
pub(crate) struct Destination<'s> {
    pub(crate) store: &'s dyn EventStore,
    pub(crate) committer: &'s Committer,
    pub(crate) storage: &'s Storage,
    pub(crate) limits: &'s Limits,
    pub(crate) index_kinds: IndexKinds,
}

/// Imports an input. The caller ensures that a store runs one import at a time.
pub(crate) fn import(
    target: Destination<'_>,
    input: &mut dyn BufRead,
    options: ImportOptions,
    progress: &mut dyn FnMut(Imported),
) -> Result<Imported> {
    let mut import = Import::new(target, options)?;
    let ended = import.read(input, progress);
    import.end(ended, progress)
}

/// Why an import stops before the end of its input.
enum Stop {
    /// The line is rejected.
    Line(u64, Cause),
    /// Reading the input failed.
    Input(std::io::Error),
    /// The input begins like one that was imported before, but differs from it.
    Differs(u64),
    Store(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// A place in the input: the number of lines before it, and the chain there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    lines: u64,
    chain: Uuid,
}

struct Import<'s> {
    target: Destination<'s>,
    options: ImportOptions,
    /// The input was read up to here.
    at: Mark,
    /// The key of this input's record, known from its first line that is not blank.
    key: Option<Vec<u8>>,
    /// An earlier import added the lines up to here.
    done: Option<Mark>,
    /// The last line of an event that was skipped because an earlier import added it.
    last_known: Mark,
    /// The commit of the last line that an earlier import added, until the next line is read.
    closed: Option<CommitMark>,
    /// Whether a new line was read.
    has_begun: bool,
    /// The commit whose lines are being collected.
    open: Option<OpenCommit>,
    batch: Vec<Prepared>,
    batch_len: usize,
    batch_first_line: u64,
    batch_counts: Counts,
    /// The end of the batch in the input.
    batch_end: Mark,
    /// The number of lines at the beginning of the input that are in the store.
    lines_kept: u64,
    /// The time of the last event that was read, or else of the last event in the store.
    last_time: Option<Timestamp>,
    report: Imported,
}

/// Consecutive lines that become one append.
struct OpenCommit {
    mark: Option<CommitMark>,
    first_line: u64,
    end: Mark,
    append: Append,
    count: usize,
    len: usize,
    counts: Counts,
}

/// The counts that a commit or a batch adds to the report once it is written.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    events: u64,
    clamped: u64,
    times_cut: u64,
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.events += more.events;
        self.clamped += more.clamped;
        self.times_cut += more.times_cut;
    }
}

impl<'s> Import<'s> {
    fn new(target: Destination<'s>, options: ImportOptions) -> Result<Self> {
        let start = Mark { lines: 0, chain: CHAIN_START };
        let last_time = target.store.read_log().last()?.map(|event| event.recorded_at());
        Ok(Self {
            target,
            options,
            at: start,
            key: None,
            done: None,
            last_known: start,
            closed: None,
            has_begun: false,
            open: None,
            batch: Vec::new(),
            batch_len: 0,
            batch_first_line: 0,
            batch_counts: Counts::default(),
            batch_end: start,
            lines_kept: 0,
            last_time,
            report: Imported::default(),
        })
    }

    /// Reads and handles all lines, up to the end of the input or the first failure.
    fn read(
        &mut self,
        input: &mut dyn BufRead,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<(), Stop> {
        let len_max = line_len_max(self.target.limits);
        let (mut line, mut last) = (Vec::new(), Vec::new());
        loop {
            let number = self.at.lines + 1;
            match read_line(input, len_max, &mut line).map_err(Stop::Input)? {
                ReadLine::End => {
                    self.compare_shorter(&last)?;
                    return self.close_commit();
                }
                ReadLine::TooLong => return refuse(number, LineFault::TooLong { len_max }),
                ReadLine::Line { len } => self.report.bytes += len,
            }
            if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            self.report.lines = number;
            let chain = Uuid::new_v5(&self.at.chain, &line);
            self.at = Mark { lines: number, chain };
            if !line.trim_ascii().is_empty() {
                if self.key.is_none() {
                    self.recognise()?;
                }
                match self.done {
                    Some(done) if number <= done.lines => {
                        self.report.already_there += 1;
                        if !is_skipped(&line) {
                            self.last_known = self.at;
                            last.clone_from(&line);
                        }
                    }
                    _ => self.take(number, &line)?,
                }
            }
            if self.done.is_some_and(|done| done.lines == number) {
                self.compare(&line, &last)?;
            }
            if number.is_multiple_of(PROGRESS_LINES) {
                progress(self.report);
            }
        }
    }

    /// Looks up the record of an input that begins like this one.
    fn recognise(&mut self) -> Result<(), Stop> {
        let key = [RECORD_PREFIX, self.at.chain.as_bytes()].concat();
        if let Some(record) = self.target.storage.with(|disk| disk.get(Family::Meta, &key))? {
            self.done = Some(decode_mark(&key, &record)?);
        }
        self.key = Some(key);
        Ok(())
    }

    /// At the line where an earlier import stopped: checks whether it imported this same input, and
    /// whether its last event is still there. It is not after a loss that was accepted.
    fn compare(&mut self, line: &[u8], last: &[u8]) -> Result<(), Stop> {
        if self.done != Some(self.at) {
            return Err(Stop::Differs(self.at.lines));
        }
        self.check_known(last)?;
        self.lines_kept = self.at.lines;
        self.closed = parse(line, self.id()).ok().and_then(|line| line.commit);
        Ok(())
    }

    /// At the end of an input that is shorter than the earlier one: checks whether its last line is
    /// in the store. If that line has no id, its event id is the chain, which covers all lines
    /// before it.
    fn compare_shorter(&mut self, last: &[u8]) -> Result<(), Stop> {
        if self.done.is_none_or(|done| done.lines <= self.at.lines) {
            return Ok(());
        }
        self.check_known(last)?;
        self.lines_kept = self.at.lines;
        Ok(())
    }

    /// Checks that the event of the last line that is known is in the store, or was deleted.
    fn check_known(&self, last: &[u8]) -> Result<(), Stop> {
        if last.is_empty() {
            // No line of an event: there is nothing to find.
            return Ok(());
        }
        let differs = || Stop::Differs(self.last_known.lines);
        let line = parse(last, EventId::from(self.last_known.chain)).map_err(|_| differs())?;
        let (is_there, has_hole) = find(self.target.store, &line.stream, line.event.id())?;
        if is_there || has_hole { Ok(()) } else { Err(differs()) }
    }

    /// The id of the current line's event if the line gives none.
    fn id(&self) -> EventId {
        EventId::from(self.at.chain)
    }

    /// Handles a new line.
    fn take(&mut self, number: u64, text: &[u8]) -> Result<(), Stop> {
        let line = match parse(text, self.id()) {
            Ok(line) => line,
            Err(fault) => {
                parse_hole(text).unwrap_or(Err(fault)).or_else(|fault| refuse(number, fault))?;
                self.closed = None;
                self.report.skipped += 1;
                return self.close_commit();
            }
        };
        if self.open.as_ref().is_some_and(|open| open.mark != line.commit) {
            self.close_commit()?;
        }
        if line.stream.as_str() == DELETIONS_STREAM {
            self.report.skipped += 1;
            return Ok(());
        }
        if self.closed.take().is_some_and(|closed| line.commit == Some(closed)) {
            return refuse(number, LineFault::CommitWasClosed);
        }
        if !std::mem::replace(&mut self.has_begun, true) && self.done.is_none() {
            self.refuse_known(number, &line)?;
        }
        let (time, counts) = self.time(number, &line)?;
        let event = line.event.with_recorded_at(time);
        event.check(self.target.limits).or_else(|error| refuse_check(number, error))?;
        let open = self.open.get_or_insert_with(|| OpenCommit::new(line.commit, number, self.at));
        open.push(line.stream, event, self.at, counts);
        check_len(&open.append, (open.count, open.len), self.target.limits)
            .or_else(|error| refuse(number, error))?;
        let is_whole = open.mark.is_none();
        self.last_time = Some(time);
        if is_whole { self.close_commit() } else { Ok(()) }
    }

    /// The time to record for a line's event.
    fn time(&self, number: u64, line: &Line) -> Result<(Timestamp, Counts), Stop> {
        let mut counts = Counts { events: 1, clamped: 0, times_cut: u64::from(line.is_time_cut) };
        match self.last_time {
            Some(last) if line.time < last => {
                if !self.options.clamp_times {
                    return refuse(number, LineFault::TimeGoesBack { given: line.time, last });
                }
                counts.clamped = 1;
                Ok((last, counts))
            }
            _ => Ok((line.time, counts)),
        }
    }

    /// Refuses an input that has no record, but whose first event is already in the store. Most
    /// likely, the input is an export of this same store.
    fn refuse_known(&self, number: u64, line: &Line) -> Result<(), Stop> {
        let id = line.event.id();
        if line.has_id && find(self.target.store, &line.stream, id)?.0 {
            return refuse(number, LineFault::AlreadyThere { id, stream: line.stream.clone() });
        }
        Ok(())
    }

    /// Puts the collected commit into the batch, because no further line belongs to it.
    fn close_commit(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let checked = open.append.validate(self.target.limits);
        checked.or_else(|error| refuse(open.first_line, error))?;
        let kinds = self.target.index_kinds;
        let mut prepared = Prepared::indexed(&open.append, kinds, LookedUp::default());
        prepared.shape.may_be_retry = false;
        if self.batch.is_empty() {
            self.batch_first_line = open.first_line;
        }
        self.batch.push(prepared);
        self.batch_len += open.len;
        self.batch_counts.add(open.counts);
        self.batch_end = open.end;
        let events = usize::try_from(self.batch_counts.events).unwrap_or(usize::MAX);
        if events >= BATCH_EVENTS_MAX || self.batch_len >= BATCH_LEN_MAX {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Writes the batch, together with the record of how many lines are imported.
    fn write_batch(&mut self) -> Result<(), Stop> {
        let Some(key) = self.key.as_ref().filter(|_| !self.batch.is_empty()) else {
            return Ok(());
        };
        let record = encode_mark(key, self.batch_end);
        let appends = std::mem::take(&mut self.batch);
        let record = Some((key.clone(), record));
        let submission = Submission { record, ..Submission::of(appends, Durability::Buffered) };
        match self.target.committer.submit(submission) {
            Ok(_) => {}
            // Another caller has appended meanwhile, at a later time than these events have.
            Err(error @ Error::RecordedAtBeforeHead { .. }) => {
                return refuse(self.batch_first_line, error);
            }
            Err(error) => return Err(Stop::Store(error)),
        }
        let counts = std::mem::take(&mut self.batch_counts);
        self.report.added += counts.events;
        self.report.clamped += counts.clamped;
        self.report.times_cut += counts.times_cut;
        self.batch_len = 0;
        self.lines_kept = self.batch_end.lines;
        Ok(())
    }

    /// Writes the remaining whole commits, makes them durable, and returns the result. The commit
    /// that was being collected is not whole: the failed line may have belonged to it.
    fn end(
        mut self,
        ended: Result<(), Stop>,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported> {
        let ended = match ended {
            Err(Stop::Store(error)) => return Err(error),
            ended => match self.write_batch() {
                Ok(()) => ended,
                Err(stop) => Err(stop),
            },
        };
        if self.report.added > 0 {
            self.target.committer.sync()?;
        }
        progress(self.report);
        match ended {
            Ok(()) => Ok(self.report),
            Err(Stop::Line(line, cause)) => {
                Err(Error::ImportLine { line, lines_kept: self.lines_kept, cause })
            }
            Err(Stop::Differs(lines)) => Err(Error::ImportDiffers { lines }),
            Err(Stop::Input(error)) => {
                let (line, lines_kept) = (self.at.lines, self.lines_kept);
                Err(Error::ImportInput { line, lines_kept, cause: Cause::new(error) })
            }
            Err(Stop::Store(error)) => Err(error),
        }
    }
}

impl OpenCommit {
    fn new(mark: Option<CommitMark>, first_line: u64, end: Mark) -> Self {
        Self {
            mark,
            first_line,
            end,
            append: Append::new(),
            count: 0,
            len: 0,
            counts: Counts::default(),
        }
    }

    fn push(&mut self, stream: StreamId, event: NewEvent, end: Mark, counts: Counts) {
        self.end = end;
        self.count += 1;
        self.len = self.len.saturating_add(event.text_len());
        self.counts.add(counts);
        let append = std::mem::take(&mut self.append);
        self.append = append.to(stream, ExpectedVersion::Any, [event]);
    }
}

/// Checks the limits of one append before more lines are collected.
pub(super) fn check_len(
    append: &Append,
    (events, len): (usize, usize),
    limits: &Limits,
) -> Result<(), LimitExceeded> {
    LimitExceeded::check("append_events_max", limits.append_events_max(), events)?;
    LimitExceeded::check("append_len_max", limits.append_len_max(), len)?;
    LimitExceeded::check("append_streams_max", APPEND_STREAMS_MAX, append.expectations().len())
}

fn refuse<T>(line: u64, cause: impl std::error::Error + Send + Sync + 'static) -> Result<T, Stop> {
    Err(Stop::Line(line, Cause::new(cause)))
}

fn refuse_check<T>(line: u64, error: CheckError) -> Result<T, Stop> {
    refuse(line, Error::from(error))
}

fn encode_mark(key: &[u8], mark: Mark) -> Vec<u8> {
    let mut body = mark.lines.to_be_bytes().to_vec();
    body.extend(mark.chain.as_bytes());
    encode_record(key, &body)
}

fn decode_mark(key: &[u8], record: &[u8]) -> Result<Mark> {
    let location = || Location::Key { family: Family::Meta.name(), key: key.to_vec() };
    let body = decode_record(key, record).map_err(|malformed| malformed.at(location()))?;
    let mark = body.split_first_chunk::<8>().and_then(|(lines, chain)| {
        let chain = Uuid::from_slice(chain).ok()?;
        Some(Mark { lines: u64::from_be_bytes(*lines), chain })
    });
    mark.ok_or_else(|| {
        let found = format!("{} bytes", body.len());
        Error::corruption(location(), found, "24 bytes: lines and chain")
    })
}

/// Whether an import skips a line: it is one of a hole or of the system stream.
fn is_skipped(line: &[u8]) -> bool {
    let holds = |text: &[u8]| line.windows(text.len()).any(|part| part == text);
    // Few lines need to be parsed.
    if !holds(b"_hole\"") && !holds(b"\"hole\"") && !holds(DELETIONS_STREAM.as_bytes()) {
        return false;
    }
    let of_deletions = |line: Line| line.stream.as_str() == DELETIONS_STREAM;
    parse_hole(line).is_some() || parse(line, EventId::from_bytes([0; 16])).is_ok_and(of_deletions)
}

/// Whether a stream holds an event with this id, and whether some of its events are deleted.
fn find(store: &dyn EventStore, stream: &StreamId, id: EventId) -> Result<(bool, bool)> {
    let (mut is_there, mut has_hole) = (false, false);
    let visit = |event: EventRef<'_>| {
        is_there = event.id() == id;
        if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let read = store.read_stream(stream).backward();
    match read.for_each_around_holes(visit, |_| has_hole = true) {
        Err(Error::Tombstoned { .. }) => Ok((false, true)),
        read => read.map(|()| (is_there, has_hole)),
    }
}

pub(super) enum ReadLine {
    /// The buffer holds a line without its line end; `len` includes the line end.
    Line {
        len: u64,
    },
    TooLong,
    End,
}

/// Reads a line of at most `len_max` bytes. It ends with `\n`, `\r\n` or the end of the input. If
/// the input was truncated, the last line may end with `\r`.
pub(super) fn read_line(
    input: &mut dyn BufRead,
    len_max: usize,
    line: &mut Vec<u8>,
) -> std::io::Result<ReadLine> {
    line.clear();
    let mut len: u64 = 0;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            drop_return(line);
            return Ok(if len == 0 { ReadLine::End } else { ReadLine::Line { len } });
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (part, _) = buffer.split_at(end.unwrap_or(buffer.len()));
        if line.len() + part.len() > len_max {
            return Ok(ReadLine::TooLong);
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        len += used as u64;
        input.consume(used);
        if end.is_some() {
            drop_return(line);
            return Ok(ReadLine::Line { len });
        }
    }
}

fn drop_return(line: &mut Vec<u8>) {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
}
