//! A process that uses a store is killed again and again, without warning, at random moments. The
//! next open must always find every acknowledged event at its place with its bytes, a log and
//! streams without a gap, and continue (G1, G2, G3, G5 for a process crash, G10, and G11: no open
//! may take an ordinary crash for lost history). A request with a key is done once, although each
//! process sends it again (G15). Threads and tasks write, and futures of tasks are dropped at
//! random polls: see `tasks`. A follower has received every event once, and none
//! that does not exist (G7). Read models equal the fold of the log up to their checkpoint (G12),
//! whether they are killed while they follow or during a rebuild. A killed backup leaves a whole
//! copy or none, and the store unchanged (G14).
//!
//! The child is this test binary; an environment variable tells it to write. It records each
//! acknowledgement in a file next to the store, and the parent compares the store with that file.
//! Its followers write the positions of received events to separate files.

#[cfg(target_os = "linux")]
mod at_each_change;
#[cfg(target_os = "linux")]
pub(crate) mod deletions;
#[cfg(target_os = "linux")]
pub(crate) mod failed_backup;
mod tasks;
#[cfg(target_os = "linux")]
pub(crate) mod views;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::support::SOON;
use crate::support::promises::{self, Heard, MayBeGone, Promises, heard};
use crate::support::random::Random;
use crate::{append_to, report_panics_to};
use annals::prelude::*;
use annals::{AsyncStore, Durability, Error, Position, Query, ViewWriter};
use serde::{Deserialize, Serialize};

const DIRECTORY: &str = "ANNALS_TEST_CHILD_DIRECTORY";
const WRITERS: u8 = 4;
/// The files of the followers: a thread and a task.
const FOLLOWERS: [&str; 2] = ["followed", "followed-by-a-task"];
/// The file of the child's panics.
const PANICS: &str = "panics";
/// A new store is created after this many kills, so that creation is killed too and no store grows
/// without bound.
const KILLS_EACH: u64 = 10;

/// The payload: a text of one repeated letter, so that a wrong byte shows.
#[derive(Debug, Serialize, Deserialize)]
enum Written {
    Own { writer: u8, text: String },
    Shared { writer: u8, text: String },
}

annals::domain_events! { Written { Own => "Own", Shared => "Shared" } }

impl Written {
    fn new(writer: u8, len: usize) -> [Self; 2] {
        let text = String::from(char::from(b'a' + writer)).repeat(len);
        [Self::Own { writer, text: text.clone() }, Self::Shared { writer, text }]
    }

    fn is_whole(&self) -> bool {
        let (Self::Own { writer, text } | Self::Shared { writer, text }) = self;
        text.bytes().all(|letter| letter == b'a' + writer)
    }
}

/// For each stream: the number of events, the number of letters, and the version of the last.
type Counts = (u64, usize, u64);

fn count(counts: &mut Counts, event: &TypedEvent<Written>) {
    let (Written::Own { text, .. } | Written::Shared { text, .. }) = &event.event;
    *counts = (counts.0 + 1, counts.1 + text.len(), event.version().get());
}

/// The read model of the counts; one follows the log, the other is rebuilt continuously.
struct Counting(&'static str);

impl Projection for Counting {
    type Event = Written;

    fn name(&self) -> &str {
        self.0
    }

    fn handle(
        &self,
        event: &TypedEvent<Written>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        Ok(view.update(event.stream(), |counts| count(counts, event))?)
    }
}

fn projections(store: &Store) -> ProjectionManager {
    let manager = ProjectionManager::new(store).register(Counting("followed")).unwrap();
    manager.register(Counting("rebuilt")).unwrap()
}

/// Not a test of its own: the child process.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let directory = PathBuf::from(directory);
    report_panics_to(directory.join(PANICS));
    // Small memtables, so that flushes and compactions run too.
    let store = Store::options()
        .memtable_bytes(1)
        .disk_reserve_bytes(0)
        .pack_bytes(400)
        .open(directory.join("store"))
        .unwrap();
    let heard = Arc::new(heard(&store, Durability::Sync, &directory.join("acknowledged")));
    let projections = projections(&store);
    projections.start().unwrap();
    let [by_thread, by_task] = FOLLOWERS.map(|name| directory.join(name));
    let tasks = AsyncStore::new(store.clone());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let heard = &heard;
            scope.spawn(move || {
                for round in 0_usize.. {
                    append(heard, writer, round);
                }
            });
        }
        scope.spawn(|| tasks::run(&heard));
        scope.spawn(|| follow(&store, &by_thread));
        scope.spawn(|| tasks::follow(&tasks, &by_task));
        scope.spawn(|| {
            let rebuilt = projections.projection("rebuilt").unwrap();
            loop {
                rebuilt.rebuild().unwrap();
                rebuilt.wait_for_rebuild(SOON, |_| {}).unwrap();
            }
        });
    });
}

/// Every second append is a request with a key. A child that is started again sends the requests of
/// the one before again, and each has the answer that it had then (G15).
fn append(store: &Heard, writer: u8, round: usize) {
    let name = format!("{writer}-{round}");
    let key = (round % 2 == 1).then_some(&name);
    let [own, shared] = Written::new(writer, round % 3_000).map(|event| {
        let event = event.encode().unwrap();
        key.into_iter().fold(event, |event, key| event.with_metadata("key", key))
    });
    let durability = if round.is_multiple_of(7) { Durability::Sync } else { Durability::Buffered };
    // Only this thread uses its tag, and it has read up to the head.
    let tag = format!("writer:{writer}");
    let request = Append::new()
        .fail_if(Query::tag(&tag))
        .after(store.head().unwrap())
        .to(format!("own-{writer}"), ExpectedVersion::Any, [own.with_tag(&tag)])
        .to(format!("shared-{}", round % 5), ExpectedVersion::Any, [shared])
        .with_durability(durability);
    match key {
        Some(key) => drop(store.submit_once(&promises::request_key(key), request.into()).unwrap()),
        None => drop(store.submit(request).unwrap()),
    }
}

/// Follows the log from the end of the file.
fn follow(store: &Store, path: &Path) {
    let mut file = append_to(path);
    let before = lines(path).last().and_then(|line| Position::new(line.parse().unwrap()));
    for event in store.subscribe().after(before).start().unwrap() {
        writeln!(file, "{}", event.unwrap().position()).unwrap();
    }
}

/// The complete lines of a file. A line truncated by a kill is ignored and removed.
fn lines(path: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let (whole, torn) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
    if !torn.is_empty() {
        fs::write(path, whole).unwrap();
    }
    whole.lines().map(str::to_owned).collect()
}

fn start_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn acknowledged_events_survive_random_kills() {
    let kills: u64 = std::env::var("ANNALS_TEST_KILLS").map_or(50, |text| text.parse().unwrap());
    let mut random = Random::from_entropy();
    let (mut done, mut events, mut of_tasks, mut behind) = (0, 0, 0, 0);
    while done < kills {
        let directory = tempfile::tempdir().unwrap();
        let mut before = Checked::default();
        for kill in 0..KILLS_EACH.min(kills - done) {
            let mut child = start_child(directory.path());
            // The first kills come while the store is being created, the later ones while it is in
            // use.
            let delay = if kill < 3 { random.below(40) } else { 40 + random.below(300) };
            thread::sleep(Duration::from_millis(delay as u64));
            child.kill().unwrap();
            child.wait().unwrap();
            for _ in 0..2 {
                let now = check(directory.path());
                assert!(
                    now.head >= before.head,
                    "the log went from {} to {}",
                    before.head,
                    now.head
                );
                behind += u64::from(now.lag > 0);
                before = now;
            }
        }
        done += KILLS_EACH.min(kills - done);
        events += before.head;
        of_tasks += before.of_tasks;
        if kills > 50 {
            eprintln!(
                "{done} of {kills} kills, {events} events, {of_tasks} of them of tasks, \
                 {behind} times a read model was behind"
            );
        }
    }
    assert!(of_tasks > 100 && events - of_tasks > 100, "{of_tasks} of {events} events of tasks");
    assert!(behind > 0, "no kill came between an event and its projection");
}

/// What a check found.
#[derive(Debug, Clone, Copy, Default)]
struct Checked {
    head: u64,
    /// How many events are in the streams of tasks.
    of_tasks: u64,
    /// How far the read models were behind.
    lag: u64,
}

/// Compares the store with the acknowledgements and with the events that the followers received,
/// and the read models with the log; then lets all of them continue.
fn check(directory: &Path) -> Checked {
    let panics = fs::read_to_string(directory.join(PANICS)).unwrap_or_default();
    assert!(panics.is_empty(), "the child panicked: {panics}");
    let promises = Promises::read(&directory.join("acknowledged"));
    let found = Cell::new(Checked::default());
    let path = directory.join("store");
    let head = promises.check_and_go_on(&path, MayBeGone::Nothing, |store| {
        found.set(check_followers(store, directory));
    });
    Checked { head, ..found.get() }
}

fn check_followers(store: &Store, directory: &Path) -> Checked {
    let log = read_log(store);
    let head = log.len() as u64;
    for follower in FOLLOWERS {
        let followed = lines(&directory.join(follower));
        let expected = (1..=followed.len()).map(|position| position.to_string());
        assert!(followed.iter().cloned().eq(expected), "{follower}: each event once, in order");
        assert!(followed.len() as u64 <= head, "{follower}: a received event is missing");
    }
    let mut lag = 0;
    for name in ["followed", "rebuilt"] {
        let at = store.view(name).position().unwrap().map_or(0, Position::get);
        assert!(at <= head, "{name} is at {at}, beyond {head}");
        assert_eq!(counts(store, name), fold(&log, at), "{name} at {at}");
        lag += head - at;
    }
    let projections = projections(store);
    projections.start().unwrap();
    if let Some(head) = Position::new(head) {
        for name in ["followed", "rebuilt"] {
            projections.wait_for(name, head, SOON).unwrap();
            assert_eq!(counts(store, name), fold(&log, head.get()), "{name} caught up");
        }
    }
    let counts = counts(store, "followed").into_iter();
    let of_tasks = counts.filter(|(stream, _)| stream.starts_with("task-"));
    Checked { head, of_tasks: of_tasks.map(|(_, counts)| counts.0).sum(), lag }
}

/// The whole log, without the events of the checks themselves.
fn read_log(store: &Store) -> Vec<Option<TypedEvent<Written>>> {
    let decoder = annals::Decoder::<Written>::new();
    let decode = |event: annals::Result<annals::RecordedEvent>| {
        let event = event.unwrap();
        if event.stream().as_str() == promises::CHECKS {
            return None;
        }
        let event = decoder.decode(event).unwrap().pop();
        assert!(event.iter().all(|event| event.event.is_whole()), "{event:?}");
        event
    };
    store.read_log().into_iter().map(decode).collect()
}

/// What a read model must hold at this position.
fn fold(log: &[Option<TypedEvent<Written>>], at: u64) -> BTreeMap<String, Counts> {
    let mut folded: BTreeMap<String, Counts> = BTreeMap::new();
    let upto = usize::try_from(at).unwrap();
    for event in log.iter().take(upto).flatten() {
        count(folded.entry(event.stream().to_string()).or_default(), event);
    }
    folded
}

fn counts(store: &Store, name: &str) -> BTreeMap<String, Counts> {
    let entries = store.view(name).entries().iter::<Counts>();
    entries.map(|entry| entry.map(|(key, counts)| (key.to_string(), counts)).unwrap()).collect()
}

const COPIED: &str = "ANNALS_TEST_COPIED_DIRECTORY";

/// Not a test of its own: appends, and makes a backup after each append; before each backup,
/// records what it must contain.
#[test]
#[ignore = "another test starts it, as a process"]
fn child_that_makes_backups() {
    let directory = std::env::var(COPIED).unwrap();
    let directory = Path::new(&directory);
    let store = Store::options()
        .memtable_bytes(1)
        .disk_reserve_bytes(0)
        .pack_bytes(400)
        .durability(Durability::Buffered);
    let store = store.open(directory.join("store")).unwrap();
    for number in directory.read_dir().unwrap().count().. {
        let events = (0..100).map(|n| NewEvent::bytes("Happened", vec![7; n * 9]).unwrap());
        let appended = store.append("a", ExpectedVersion::Any, events).unwrap();
        let head = appended.last_position().to_string();
        fs::write(directory.join(format!("expected-{number}")), head).unwrap();
        store.backup(directory.join(format!("copy-{number}"))).unwrap();
    }
}

/// G14: after a kill at any moment, a copy is whole or absent, and the next backup to its path
/// succeeds.
#[test]
fn backup_is_whole_or_absent_after_a_kill() {
    let kills: u64 = std::env::var("ANNALS_TEST_KILLS").map_or(8, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::from_entropy();
    let (mut whole, mut cut_short) = (0, 0);
    for _ in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_that_makes_backups", "--ignored", "--nocapture"])
            .env(COPIED, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(60 + random.below(200) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let Some(number) = name.strip_prefix("copy-") else { continue };
            let number = number.strip_suffix(".partial").unwrap_or(number);
            let expected = directory.path().join(format!("expected-{number}"));
            let expected: u64 = fs::read_to_string(expected).unwrap().parse().unwrap();
            if name.ends_with(".partial") {
                cut_short += 1;
                // Whole but not yet renamed, or not a store.
                match Store::options().read_only(true).open(&path) {
                    Ok(copy) => assert_eq!(copy.head().unwrap().map(Position::get), Some(expected)),
                    Err(error) => assert!(matches!(error, Error::NotAStore { .. }), "{error}"),
                }
                store.backup(path.with_extension("")).unwrap();
                assert!(!path.exists());
                fs::remove_dir_all(path.with_extension("")).unwrap();
            } else {
                whole += 1;
                let copy = Store::open(&path).unwrap();
                assert_eq!(copy.head().unwrap().map(Position::get), Some(expected), "{name}");
                assert!(copy.verify(|_| {}).unwrap().is_sound());
                drop(copy);
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
    println!("{kills} kills: {whole} whole copies, {cut_short} cut short");
    assert!(whole > 0, "no copy was made");
}
