//! Compares what a damaged store answers with what it must hold: runs every query, for reading and
//! for writing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use annals::prelude::*;
use annals::{
    Error, Position, SnapshotStore, StoreOptions, StreamsRequest, Version, ViewScan, ViewStore,
};

use super::stores::{
    KEPT, KIND, ROUND, SUMMED, Truth, VIEW, checkpoint_at, entries_at, snapshot_at,
};
use crate::support::files;

/// The outcome of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Everything is present; verify finds no damage.
    Whole,
    /// Everything is present; verify names the damage.
    Verify,
    /// A read model or snapshots are in an earlier state that agrees with the log.
    Behind,
    /// The log is a prefix, as after a crash, with everything that is durable.
    Prefix,
    /// Opening gives a typed error, and changes nothing.
    Refused,
    /// It opens. A read gives a typed error; everything returned before it is right. Verify names
    /// the damage.
    Read,
    /// A different answer that no check can detect: docs/GUARANTEES.md names it.
    Unseen,
    /// A shorter or different answer, an error without a type, or a file changed by a refused open.
    Wrong,
    Panic,
    Abort,
    Hang,
}

pub(crate) const OUTCOMES: [Outcome; 11] = [
    Outcome::Whole,
    Outcome::Verify,
    Outcome::Behind,
    Outcome::Prefix,
    Outcome::Refused,
    Outcome::Read,
    Outcome::Unseen,
    Outcome::Wrong,
    Outcome::Panic,
    Outcome::Abort,
    Outcome::Hang,
];

/// Opens a damaged store for reading, then for writing, and runs every query.
///
/// Without `is_all_asked`, a store that an open for reading refuses is not opened for writing,
/// which begins the same way, and the store is not checked to continue.
pub(crate) fn check_answer(
    path: &Path,
    truth: &Truth,
    log: &[RecordedEvent],
    is_all_asked: bool,
) -> (Outcome, String) {
    let before = contents(path);
    let reading = options().read_only(true).open(path);
    // The state after a power loss: only an open for writing can decide what remains.
    let is_torn = matches!(reading, Err(Error::TornLog { .. }));
    let (for_reading, told) = check_opened(reading, truth, log);
    if contents(path) != before {
        return (Outcome::Wrong, format!("changed by an open for reading, which gave: {told}"));
    }
    if for_reading >= Outcome::Wrong {
        return (for_reading, format!("reading: {told}"));
    }
    if for_reading == Outcome::Refused && !is_all_asked && !is_torn {
        return (for_reading, told);
    }
    let writing = options().create(false).open(path);
    let is_refused = writing.is_err();
    let (for_writing, told_too) = check_opened(writing, truth, log);
    if is_refused && contents(path) != before {
        return (Outcome::Wrong, format!("changed by an open that was refused: {told_too}"));
    }
    if for_writing <= Outcome::Prefix
        && is_all_asked
        && let Err(why) = goes_on(path, for_writing, log)
    {
        return (Outcome::Wrong, format!("continuing: {why}"));
    }
    let told = if told == told_too { told } else { format!("{told_too} (reading: {told})") };
    (for_writing, told)
}

/// Uses little memory: in an in-memory file system, space preallocated for files counts as used.
fn options() -> StoreOptions {
    Store::options().block_cache_bytes(1 << 20).memtable_bytes(1)
}

/// The files of a store without RocksDB's own log files.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = files::contents(path).unwrap();
    contents.retain(|file, _| !file.starts_with("log"));
    contents
}

fn check_opened(
    opened: Result<Store, Error>,
    truth: &Truth,
    log: &[RecordedEvent],
) -> (Outcome, String) {
    match opened {
        Ok(store) => {
            let mut asked =
                Asked { store: &store, wrong: vec![], errors: vec![], is_behind: false };
            let outcome = asked.everything(truth, log);
            let told = asked.wrong.first().or(asked.errors.first());
            (outcome, told.cloned().unwrap_or_default())
        }
        Err(error) if is_typed(&error) => (Outcome::Refused, error.to_string()),
        Err(error) => (Outcome::Wrong, format!("refused without a type: {error:?}")),
    }
}

/// Whether an error says that something is damaged, and where.
fn is_typed(error: &Error) -> bool {
    matches!(
        error,
        Error::Corruption { .. }
            | Error::HistoryLost { .. }
            | Error::TornLog { .. }
            | Error::UnsupportedFormat { .. }
            | Error::NotAStore { .. }
    )
}

/// Checks that a store that returned everything accepts appends, and has them after a reopen.
fn goes_on(path: &Path, outcome: Outcome, log: &[RecordedEvent]) -> Result<(), String> {
    let failed = |error: Error| error.to_string();
    let store = options().create(false).open(path).map_err(failed)?;
    let event = NewEvent::json("More", &1).map_err(failed)?;
    let before = store.head().map_err(failed)?;
    let appended = store.append("more", ExpectedVersion::NoStream, [event]).map_err(failed)?;
    store.close().map_err(failed)?;
    let store = options().read_only(true).open(path).map_err(failed)?;
    let found: Vec<_> = store.read_log().into_iter().collect::<Result<_, _>>().map_err(failed)?;
    let kept = found.len() - 1;
    let next = before.map_or(1, Position::get) + u64::from(before.is_some());
    if appended.last_position().get() != next
        || found[..kept] != log[..kept]
        || (outcome != Outcome::Prefix && kept != log.len())
    {
        return Err(format!("{} events, then {}", log.len(), found.len()));
    }
    let report = store.verify(|_| {}).map_err(failed)?;
    if outcome != Outcome::Verify && !report.is_sound() {
        return Err(format!("{:?}", report.damage));
    }
    Ok(())
}

/// A store, and the findings of its queries.
struct Asked<'s> {
    store: &'s Store,
    wrong: Vec<String>,
    errors: Vec<String>,
    is_behind: bool,
}

impl Asked<'_> {
    fn everything(&mut self, truth: &Truth, log: &[RecordedEvent]) -> Outcome {
        let head = self.store.head().unwrap().map_or(0, Position::get);
        let whole = truth.rounds * ROUND;
        let is_commit = log.iter().any(|event| event.commit().end().get() == head);
        if head < truth.durable * ROUND || head > whole || !is_commit {
            self.wrong.push(format!("the head is {head} of {whole}"));
            return Outcome::Wrong;
        }
        let log = &log[..usize::try_from(head).unwrap()];
        self.events(log);
        self.snapshots(truth, log);
        self.views(truth.rounds, head);
        let is_sound = match self.store.verify(|_| {}) {
            Ok(report) => {
                // Unsound stores must be reported with their damage.
                self.check("verify", report.is_sound() || !report.damage.is_empty(), || {
                    "not sound, and no damage".to_owned()
                });
                report.is_sound()
            }
            Err(error) => {
                self.error("verify", &error);
                false
            }
        };
        if is_sound && !self.errors.is_empty() {
            self.wrong.push(format!("verify finds no damage, but {}", self.errors[0]));
        }
        match () {
            () if !self.wrong.is_empty() => Outcome::Wrong,
            () if !self.errors.is_empty() => Outcome::Read,
            () if !is_sound => Outcome::Verify,
            () if head < whole => Outcome::Prefix,
            () if self.is_behind => Outcome::Behind,
            () => Outcome::Whole,
        }
    }

    fn error(&mut self, what: &str, error: &Error) {
        if is_typed(error) {
            self.errors.push(format!("{what}: {error}"));
        } else {
            self.wrong.push(format!("{what}: an error without a type: {error:?}"));
        }
    }

    fn check(&mut self, what: impl fmt::Display, is_right: bool, found: impl FnOnce() -> String) {
        if !is_right {
            self.wrong.push(format!("{what}: {}", found()));
        }
    }

    /// Every item must be expected; the list may end with an error.
    fn list<T: PartialEq + fmt::Debug>(
        &mut self,
        what: &str,
        read: impl Iterator<Item = Result<T, Error>>,
        expected: impl IntoIterator<Item = T>,
    ) {
        let mut expected = expected.into_iter();
        for item in read {
            match item {
                Ok(item) => {
                    let is_right = expected.next().as_ref() == Some(&item);
                    self.check(what, is_right, || format!("a different answer: {item:?}"));
                }
                Err(error) => return self.error(what, &error),
            }
        }
        let is_whole = expected.next().is_none();
        self.check(what, is_whole, || "a shorter answer".to_owned());
    }

    fn events(&mut self, log: &[RecordedEvent]) {
        let store = self.store;
        let all = || log.iter().cloned();
        self.list("the log", store.read_log().into_iter(), all());
        self.list("the log backward", store.read_log().backward().into_iter(), all().rev());
        let mut tips = BTreeMap::new();
        for event in log {
            tips.insert(event.stream().clone(), event.version());
        }
        for (stream, tip) in &tips {
            let of_stream = || all().filter(|event| event.stream() == stream);
            let what = format!("stream {stream}");
            self.list(&what, store.read_stream(stream).into_iter(), of_stream());
            let backward = store.read_stream(stream).backward().into_iter();
            self.list(&what, backward, of_stream().collect::<Vec<_>>().into_iter().rev());
            match store.stream_version(stream) {
                Ok(found) => self.check(what, found == Some(*tip), || format!("tip {found:?}")),
                Err(error) => self.error(&what, &error),
            }
        }
        let request = StreamsRequest { streams_max: usize::MAX, ..StreamsRequest::default() };
        match store.list_streams(&request) {
            Ok(found) => {
                let found: Vec<_> = found.into_iter().map(|info| (info.id, info.version)).collect();
                let is_right = found == tips.into_iter().collect::<Vec<_>>();
                self.check("streams", is_right, || format!("{found:?}"));
            }
            Err(error) => self.error("streams", &error),
        }
    }

    /// Each snapshot found must be one that was taken. Some may be missing: they are a cache.
    fn snapshots(&mut self, truth: &Truth, log: &[RecordedEvent]) {
        let stream = StreamId::new(SUMMED).unwrap();
        let tip = log.iter().filter(|event| *event.stream() == stream).count() as u64;
        let taken: Vec<_> =
            (1..=truth.rounds).rev().filter_map(|n| snapshot_at(n, truth.salt)).collect();
        let (mut up_to, mut found) = (Some(Version::MAX), Vec::new());
        while let Some(version) = up_to {
            let mut damaged = Vec::new();
            let mut note = |_, error| damaged.push(error);
            let loaded = self.store.load_snapshot_with(KIND, &stream, version, &mut note);
            for error in damaged {
                self.error("snapshots", &error);
            }
            match loaded {
                Ok(Some(snapshot)) => {
                    let is_right = taken.contains(&snapshot) && snapshot.version.get() <= tip;
                    self.check("snapshots", is_right, || format!("{snapshot:?}"));
                    up_to = snapshot.version.previous();
                    found.push(snapshot);
                }
                Ok(None) => break,
                Err(error) => return self.error("snapshots", &error),
            }
        }
        self.is_behind |= found != taken[..taken.len().min(KEPT)];
    }

    /// Values and checkpoint must be from the same moment, not after the end of the log.
    fn views(&mut self, rounds: u64, head: u64) {
        let checkpoint = match self.store.checkpoint(VIEW) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return self.error("checkpoint", &error),
        };
        match self.store.list_views() {
            Ok(views) => {
                let is_right = views.iter().eq(checkpoint.iter().map(|_| VIEW));
                self.check("views", is_right, || format!("{views:?}"));
            }
            Err(error) => self.error("views", &error),
        }
        let scan = ViewScan { view: VIEW.to_owned(), entries_max: 1_000, ..ViewScan::default() };
        let page = match self.store.scan_view(&scan) {
            Ok(page) => page,
            Err(error) => return self.error("view", &error),
        };
        let Some(checkpoint) = checkpoint else {
            self.check("view", page.entries.is_empty(), || "values and no checkpoint".to_owned());
            self.is_behind |= rounds >= 2;
            return;
        };
        let n = checkpoint.state.as_slice().try_into().map_or(0, u64::from_be_bytes);
        let is_one = n >= 2 && n <= rounds && checkpoint == checkpoint_at(n);
        self.check("checkpoint", is_one, || format!("{checkpoint:?}"));
        let is_ahead = checkpoint.position.map_or(0, Position::get) > head;
        self.check("checkpoint", !is_ahead, || "ahead of the log".to_owned());
        if is_one {
            let expected = entries_at(n);
            let is_right = page.entries == expected;
            self.check("view", is_right, || format!("not of round {n}: {:?}", page.entries));
            for (key, value) in expected {
                match self.store.view_value(VIEW, &key) {
                    Ok(found) => {
                        let is_right = found.as_ref() == Some(&value);
                        self.check("value", is_right, || format!("{found:?}"));
                    }
                    Err(error) => self.error("value", &error),
                }
            }
            self.is_behind |= n < rounds - rounds % 2;
        }
    }
}
