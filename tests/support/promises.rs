//! Records the promises of a store and checks that it keeps them. [`Heard`] wraps a store and
//! records its acknowledgements in a file outside the store; every second call goes through the
//! async API. [`Promises`] reads that file and checks a store against it, after any fault of the
//! process, the file system or the machine.
//!
//! Each promise is one line, written by one `write` call:
//!
//! ```text
//! ? id                                 this event is about to be appended
//! + durability position stream version id   this event was acknowledged
//! ! id                                 it was refused, so it does not exist
//! = position                           everything up to here was reported durable
//! b name position                      a backup with this name, up to this position, is about to begin
//! c name                               it was made
//! e name                               it was opened for writing, which begins an epoch
//! k durability key result              this was the answer to the request with this key
//! x deletion                           this deletion is about to be decided
//! s category                           a scavenge is about to begin, with a retention
//! y number deletion                    this deletion was carried out
//! n                                    nothing more was deleted
//! ```
//!
//! The checks: every acknowledged event that must survive is at its place with its bytes (G5); the
//! store contains only events that were submitted; log and streams are gapless (G2, G3) and agree;
//! appends are whole (G1); a request with a key is done once, and has its key exactly if it has its
//! events (G15); exactly what was decided is deleted (G17); verify finds no damage; and appending
//! continues (G10, G11).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use annals::prelude::*;
use annals::testing::{Decorated, Decorator};
use annals::{
    AsyncStore, DELETIONS_STREAM, Deletion, Durability, Error, IdempotencyKey, KeyedResult,
    KeyedSubmission, KeyedWork, Position, RequestDigest, ScavengeOptions, Submitted, Version,
};
use futures_lite::future::block_on;

use super::deletions::{Asked, name_of};
use super::random::Random;

/// The stream that the checks append to.
pub(crate) const CHECKS: &str = "checks-1";

/// An event whose payload is derived from its id.
pub(crate) fn event(name: &str, len: usize) -> NewEvent {
    let id = EventId::random();
    let event = NewEvent::bytes(name, payload(id, len)).unwrap().with_id(id);
    // Each event has entries in the index, one of them for a tag that few others have.
    let event = event.with_tag("promised").with_tag(format!("id:{}", id.as_bytes()[15] % 16));
    event.with_metadata("len", len.to_string())
}

/// The key of a request. Its events name it in their metadata.
pub(crate) fn request_key(name: &str) -> IdempotencyKey {
    IdempotencyKey::new("promises", name, RequestDigest::of(name)).unwrap()
}

/// A result in one word, without spaces.
fn text_of(result: &KeyedResult) -> String {
    match result {
        KeyedResult::Nothing => "nothing".to_owned(),
        KeyedResult::Rejected(reason) => format!("refusal:{}", reason.len()),
        KeyedResult::Appended(appended) => {
            format!("{}:{}", appended.first_position(), appended.last_position())
        }
    }
}

/// Bytes without repetition, so that they do not compress.
fn payload(id: EventId, len: usize) -> Vec<u8> {
    let seed = id.as_bytes().iter().fold(0, |sum: u64, byte| sum.rotate_left(8) ^ u64::from(*byte));
    let mut random = Random(seed);
    std::iter::repeat_with(|| random.next().to_be_bytes()).flatten().take(len).collect()
}

/// Records the acknowledgements of a store.
pub(crate) struct Book {
    durability: Durability,
    file: Mutex<File>,
    /// The async API, which does not keep the store open.
    tasks: AsyncStore<Arc<dyn EventStore>>,
    calls: AtomicUsize,
}

/// A store whose acknowledgements are recorded.
pub(crate) type Heard = Decorated<Book>;

/// Wraps a store that was opened with this durability.
pub(crate) fn heard(store: &Store, durability: Durability, book: &Path) -> Heard {
    let mut file = File::options().create(true).read(true).append(true).open(book).unwrap();
    // Drop a line that a kill cut short, so that it does not become the beginning of the next line.
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64).unwrap();
    let (file, tasks) = (Mutex::new(file), AsyncStore::new(store.handle()));
    Decorated::new(store, Book { durability, file, tasks, calls: AtomicUsize::new(0) })
}

impl Book {
    /// The async API, whose calls are not recorded.
    pub(crate) fn tasks(&self) -> &AsyncStore<Arc<dyn EventStore>> {
        &self.tasks
    }

    /// Whether this call goes through the async API: every second one does.
    fn is_by_task(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) % 2 == 1
    }

    /// Submits as a task. If the future is dropped, the outcome is recorded as unknown.
    pub(crate) async fn submit_as_task(&self, append: Append) -> annals::Result<Appended> {
        let tried = self.attempt(Some(&append));
        let answer = self.tasks.submit(append).await;
        self.answered(&tried, &answer);
        answer
    }

    /// Submits a request as a task. If the future is dropped, the outcome is recorded as unknown.
    pub(crate) async fn submit_once_as_task(
        &self,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> annals::Result<Submitted> {
        let tried = self.attempt(events_of(&submission));
        let answer = self.tasks.submit_once(key, submission).await;
        self.answered_once(key, &tried, &answer);
        answer
    }

    /// Records that these events are about to be appended.
    fn attempt(&self, append: Option<&Append>) -> Tried {
        let mut tried = Tried { events: Vec::new(), durability: self.durability };
        if let Some(append) = append {
            let events = append.events();
            tried.events = events.map(|(stream, event)| (stream.clone(), event.id())).collect();
            tried.durability = append.durability().unwrap_or(self.durability);
        }
        self.write(&tried.lines('?'));
        tried
    }

    fn answered(&self, tried: &Tried, answer: &annals::Result<Appended>) {
        match answer {
            Ok(appended) => self.write(&tried.acknowledged(appended)),
            Err(Error::Indeterminate { .. }) => {}
            Err(_) => self.write(&tried.lines('!')),
        }
    }

    fn answered_once(
        &self,
        key: &IdempotencyKey,
        tried: &Tried,
        answer: &annals::Result<Submitted>,
    ) {
        match answer {
            Ok(Submitted { result, is_retry }) => {
                let durability = tried.durability;
                let mut lines = format!("k {durability:?} {} {}\n", key.key(), text_of(result));
                if let KeyedResult::Appended(appended) = result
                    && !is_retry
                {
                    lines += &tried.acknowledged(appended);
                }
                self.write(&lines);
            }
            Err(Error::Indeterminate { .. }) => {}
            Err(_) => self.write(&tried.lines('!')),
        }
    }

    /// Calls `Store::sync` and records it.
    pub(crate) fn sync(&self, store: &Store) -> annals::Result<()> {
        let head = store.head()?;
        store.sync()?;
        self.promise(head);
        Ok(())
    }

    /// Records that everything up to here is durable.
    pub(crate) fn promise(&self, head: Option<Position>) {
        self.write(&format!("= {}\n", head.map_or(0, Position::get)));
    }

    /// Calls `Store::backup` and records it.
    pub(crate) fn backup(&self, store: &Store, to: &Path) -> annals::Result<()> {
        let name = to.file_name().unwrap().to_str().unwrap();
        let head = store.head()?.map_or(0, Position::get);
        self.write(&format!("b {name} {head}\n"));
        store.backup(to)?;
        self.write(&format!("c {name}\n"));
        Ok(())
    }

    /// Calls `Store::delete` and records it.
    pub(crate) fn delete(&self, store: &Store, deletion: &Deletion) -> annals::Result<()> {
        let name = name_of(deletion);
        self.write(&format!("x {name}\n"));
        let deleted = store.delete(deletion)?;
        match deleted.number.zip(deleted.position) {
            Some((number, at)) => self.write(&format!("y {number} {name}\n= {at}\n")),
            None => self.write("n \n"),
        }
        Ok(())
    }

    /// Calls `Store::scavenge`, with a retention of this category, and records it.
    pub(crate) fn scavenge(&self, store: &Store, category: &str) -> annals::Result<()> {
        self.write(&format!("s {category}\n"));
        let done = store.scavenge(&ScavengeOptions::new().unthrottled(), |_| {})?;
        assert!(!done.is_incomplete);
        for it in store.deletions()? {
            let (number, at, name) = (it.number, it.position, name_of(&it.deletion));
            self.write(&format!("y {number} {name}\n= {at}\n"));
        }
        self.write("n \n");
        Ok(())
    }

    /// Opens a backup for writing, which begins an epoch, closes it, and records this.
    pub(crate) fn go_on_with_backup(&self, backup: &Path) -> annals::Result<()> {
        let name = backup.file_name().unwrap().to_str().unwrap();
        let copy = Store::open(backup)?;
        assert!(!copy.info()?.is_backup);
        self.write(&format!("e {name}\n"));
        copy.close()
    }

    fn write(&self, lines: &str) {
        self.file.lock().unwrap().write_all(lines.as_bytes()).unwrap();
    }
}

/// The events of an append, each with its stream, and the durability that was asked for.
struct Tried {
    events: Vec<(StreamId, EventId)>,
    durability: Durability,
}

impl Tried {
    fn lines(&self, mark: char) -> String {
        self.events.iter().fold(String::new(), |lines, (_, id)| lines + &format!("{mark} {id}\n"))
    }

    fn acknowledged(&self, appended: &Appended) -> String {
        let durability = self.durability;
        let mut next: HashMap<_, _> =
            appended.versions().iter().map(|(s, v)| (s.clone(), v.start().get())).collect();
        let mut text = String::new();
        for (position, (stream, id)) in appended.positions().zip(&self.events) {
            let version = next.get_mut(stream).unwrap();
            writeln!(text, "+ {durability:?} {position} {stream} {version} {id}").unwrap();
            *version += 1;
        }
        text
    }
}

fn events_of(submission: &KeyedSubmission) -> Option<&Append> {
    match submission.work() {
        KeyedWork::Append(append) => Some(append),
        _ => None,
    }
}

impl Decorator for Book {
    fn submit(&self, store: &dyn EventStore, append: Append) -> annals::Result<Appended> {
        if self.is_by_task() {
            return block_on(self.submit_as_task(append));
        }
        let tried = self.attempt(Some(&append));
        let answer = store.submit(append);
        self.answered(&tried, &answer);
        answer
    }

    fn submit_once(
        &self,
        store: &dyn EventStore,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> annals::Result<Submitted> {
        if self.is_by_task() {
            return block_on(self.submit_once_as_task(key, submission));
        }
        let tried = self.attempt(events_of(&submission));
        let answer = store.submit_once(key, submission);
        self.answered_once(key, &tried, &answer);
        answer
    }

    fn find_submitted(
        &self,
        store: &dyn EventStore,
        key: &IdempotencyKey,
    ) -> annals::Result<Option<KeyedResult>> {
        if self.is_by_task() {
            return block_on(self.tasks.find_submitted(key));
        }
        store.find_submitted(key)
    }

    fn stream_version(
        &self,
        store: &dyn EventStore,
        stream: &StreamId,
    ) -> annals::Result<Option<Version>> {
        if self.is_by_task() {
            return block_on(self.tasks.stream_version(stream));
        }
        store.stream_version(stream)
    }
}

/// The events that may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayBeGone {
    /// None: the process died, or a write failed.
    Nothing,
    /// From some position on, those acknowledged as `Buffered` and never synced: the power failed.
    Buffered,
}

/// All promises of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promises {
    /// Stream, version and id, by position.
    acknowledged: BTreeMap<u64, String>,
    durable: u64,
    /// Ids of events that were submitted and not reported as refused.
    possible: HashSet<String>,
    /// The answers to requests with a key, and whether they are durable.
    keys: BTreeMap<String, (String, bool)>,
    backups: BTreeMap<String, Copied>,
    /// The deletions.
    pub(crate) asked: Asked,
}

/// The promises about a backup.
#[derive(Debug, Clone, Copy)]
struct Copied {
    /// The last position that it must contain.
    up_to: u64,
    is_made: bool,
    /// Whether it was opened for writing, which gives it a separate epoch.
    is_original: bool,
}

impl Promises {
    /// Reads the promises from the file; none if it does not exist. An incomplete line is ignored.
    pub(crate) fn read(book: &Path) -> Self {
        let mut promises = Self::default();
        promises.add(&std::fs::read_to_string(book).unwrap_or_default());
        promises
    }

    pub(crate) fn add(&mut self, text: &str) {
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (mark, rest) = line.split_once(' ').unwrap();
            match mark {
                "?" => drop(self.possible.insert(rest.to_owned())),
                "!" => drop(self.possible.remove(rest)),
                "b" => {
                    let (name, up_to) = rest.split_once(' ').unwrap();
                    let up_to = up_to.parse().unwrap();
                    let copied = Copied { up_to, is_made: false, is_original: false };
                    self.backups.insert(name.to_owned(), copied);
                }
                "e" => self.backups.get_mut(rest).unwrap().is_original = true,
                "c" => self.backups.get_mut(rest).unwrap().is_made = true,
                "k" => {
                    let [durability, key, result] =
                        rest.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
                    let (known, durable) =
                        self.keys.entry(key.to_owned()).or_insert((result.to_owned(), false));
                    assert_eq!(*known, result, "the same request again: {key}");
                    *durable |= durability == "Sync";
                }
                "x" | "s" | "y" | "n" => self.asked.add(mark, rest),
                "=" => self.durable = self.durable.max(rest.parse().unwrap()),
                "+" => {
                    let (durability, rest) = rest.split_once(' ').unwrap();
                    let (position, rest) = rest.split_once(' ').unwrap();
                    let position = position.parse().unwrap();
                    if durability == "Sync" {
                        self.durable = self.durable.max(position);
                    }
                    // Only a retry may repeat a line.
                    let before = self.acknowledged.insert(position, rest.to_owned());
                    assert!(before.is_none_or(|before| before == rest), "{position} twice");
                }
                _ => panic!("{line}"),
            }
        }
    }

    /// The promises that remain after a power loss: events that were not durable may be lost, and
    /// other events may have their places.
    pub(crate) fn after_power_loss(mut self) -> Self {
        self.acknowledged.retain(|position, _| *position <= self.durable);
        self.keys.retain(|_, (_, durable)| *durable);
        self
    }

    /// The position up to which every event must survive any fault.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// How many keys must survive any fault.
    pub(crate) fn durable_keys(&self) -> usize {
        self.keys.values().filter(|(_, durable)| *durable).count()
    }

    /// How many events were acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Checks the finished and unfinished backups in a directory against their promises (G14), then
    /// makes missing ones again from `store`.
    pub(crate) fn check_backups(&self, store: &Store, directory: &Path) {
        let original = store.epochs().unwrap().current();
        for (name, Copied { up_to, is_made, is_original }) in &self.backups {
            let mut promised = self.clone();
            promised.acknowledged.retain(|position, _| position <= up_to);
            promised.durable = *up_to;
            // Only for keys with events it is known whether the copy must have them.
            promised.keys.retain(|_, (result, durable)| {
                let last = result.split_once(':').and_then(|(_, last)| last.parse::<u64>().ok());
                *durable = last.is_some_and(|last| last <= *up_to) && !result.starts_with('r');
                *durable
            });
            let check = |path: &Path| match Store::options().read_only(true).open(path) {
                Ok(copy) => {
                    promised.check(&copy, MayBeGone::Buffered);
                    let is_backup = copy.info().unwrap().is_backup;
                    assert!(!(is_backup && *is_original), "{name}: its epoch is lost");
                    let epochs = copy.epochs().unwrap();
                    assert_eq!(is_backup, epochs.current() == original, "{name}: {epochs:?}");
                    let shared = epochs.shared_up_to(original);
                    assert!(is_backup || shared == copy.head().unwrap(), "{name}: {epochs:?}");
                }
                Err(Error::TornLog { .. }) if *is_made => {
                    let copy = Store::open(path).unwrap();
                    promised.check(&copy, MayBeGone::Buffered);
                }
                Err(error) if *is_made => panic!("{name} was made: {error}"),
                Err(Error::NotAStore { .. }) => {}
                // `STORE` is the last file to be written before a copy gets its name.
                Err(Error::Corruption { location, .. })
                    if location.to_string().ends_with("STORE") => {}
                Err(error) => panic!("{name}: {error}"),
            };
            let (whole, partial) =
                (directory.join(name), directory.join(format!("{name}.partial")));
            if whole.exists() || *is_made {
                check(&whole);
                continue;
            }
            check(&partial);
            store.backup(&whole).unwrap();
            assert!(!partial.exists(), "{name}: what was cut short is gone");
            let copy = Store::options().read_only(true).open(&whole).unwrap();
            assert_eq!(copy.head().unwrap(), store.head().unwrap());
        }
    }

    /// How many backups were begun.
    pub(crate) fn backups(&self) -> usize {
        self.backups.len()
    }

    /// Checks an open store against the promises; returns its head.
    pub(crate) fn check(&self, store: &Store, may_be_gone: MayBeGone) -> u64 {
        let mut tips: HashMap<StreamId, Vec<EventId>> = HashMap::new();
        let (mut ids, mut missing) = (HashSet::new(), BTreeSet::new());
        let mut head = 0;
        let gone = self.asked.check(store);
        for event in store.read_log() {
            let event = event.unwrap();
            let hole = head + 1..event.position().get();
            gone.check_hole(self.acknowledged.range(hole.clone()));
            missing.extend(hole);
            head = event.position().get();
            gone.check_left(&event);
            let place = format!("{} {} {}", event.stream(), event.version(), event.id());
            if let Some(promised) = self.acknowledged.get(&head) {
                assert_eq!(place, *promised, "position {head}");
            }
            assert!(ids.insert(event.id()), "twice in the log: {place}");
            let was_tried = self.possible.contains(&event.id().to_string());
            let is_ours = [CHECKS, DELETIONS_STREAM].contains(&event.stream().as_str());
            assert!(was_tried || is_ours, "nobody appended {place}, or it was refused");
            if let Some((_, len)) = event.metadata().iter().find(|(key, _)| *key == "len") {
                assert_eq!(event.payload(), payload(event.id(), len.parse().unwrap()), "{place}");
            }
            let stream = tips.entry(event.stream().clone()).or_default();
            stream.push(event.id());
            let version = gone.first(event.stream()) + stream.len() as u64 - 1;
            assert_eq!(event.version().get(), version, "a stream has no gap: {place}");
        }
        assert_eq!(head, store.head().unwrap().map_or(0, Position::get), "the log has no gap");
        gone.check_ends(store, &missing);
        for event in store.read_log().into_iter().map(Result::unwrap) {
            let end = event.commit().end().get();
            assert!(end <= head, "position {} ends at {end}: appends are whole", event.position());
        }
        let newest = self.acknowledged.keys().next_back().copied().unwrap_or_default();
        let needed = if may_be_gone == MayBeGone::Nothing { newest } else { self.durable };
        assert!(head >= needed, "acknowledged up to {needed}, found up to {head}");
        for (stream, ids) in tips {
            let events = store.read_stream(stream).into_iter();
            assert!(
                events.map(|event| event.unwrap().id()).eq(ids),
                "a stream is what the log says"
            );
        }
        let is_gone = |at: &u64| missing.contains(at) || gone.is_redacted(*at);
        self.check_keys(store, may_be_gone, is_gone);
        let report = store.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.damage);
        head
    }

    /// Checks that the answers to requests with a key are still there, that each was done once, and
    /// that a key is there exactly if its events are.
    fn check_keys(&self, store: &Store, may_be_gone: MayBeGone, is_gone: impl Fn(&u64) -> bool) {
        for (name, (answer, durable)) in &self.keys {
            let found = store.find_submitted(&request_key(name)).unwrap();
            if *durable || may_be_gone == MayBeGone::Nothing {
                assert_eq!(found.as_ref().map(text_of), Some(answer.clone()), "key {name}");
            }
        }
        let mut done: HashMap<String, (u64, u64)> = HashMap::new();
        for event in store.read_log().into_iter().map(Result::unwrap) {
            let commit = (event.commit().start().get(), event.commit().end().get());
            let Some(name) = event.metadata().get("key") else { continue };
            let first = *done.entry(name.to_owned()).or_insert(commit);
            assert_eq!(first, commit, "request {name} was done twice");
        }
        for (name, (first, last)) in &done {
            let found = store.find_submitted(&request_key(name)).unwrap();
            let found = found.unwrap_or_else(|| panic!("{name} has its events and no key"));
            assert_eq!(text_of(&found), format!("{first}:{last}"), "key {name}");
        }
        // A key whose events are not there.
        for name in self.keys.keys().filter(|name| !done.contains_key(*name)) {
            let found = store.find_submitted(&request_key(name)).unwrap();
            if let Some(KeyedResult::Appended(appended)) = found {
                let mut positions = appended.positions().map(Position::get);
                assert!(positions.all(|at| is_gone(&at)), "{name} has no events");
            }
        }
    }

    /// Opens a store, checks the promises and runs the additional checks, appends, and opens it
    /// again. Returns the head after the first open.
    pub(crate) fn check_and_go_on(
        &self,
        path: &Path,
        may_be_gone: MayBeGone,
        also: impl Fn(&Store),
    ) -> u64 {
        // Small memtables, because their size determines the space reserved for the write-ahead
        // log. No reserve, because the disk may be small.
        let open = || Store::options().memtable_bytes(1 << 20).disk_reserve_bytes(0).open(path);
        let store = open().unwrap();
        let head = self.check(&store, may_be_gone);
        also(&store);
        let one_more = NewEvent::json("Checked", &head).unwrap();
        let appended = store.append(CHECKS, ExpectedVersion::Any, [one_more]).unwrap();
        assert_eq!(appended.last_position().get(), head + 1);
        store.close().unwrap();
        let store = open().unwrap();
        assert_eq!(store.head().unwrap().map(Position::get), Some(head + 1));
        assert!(store.verify(|_| {}).unwrap().is_sound());
        store.close().unwrap();
        head
    }
}
