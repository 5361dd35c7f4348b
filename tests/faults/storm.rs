//! A storm of cancellations: thousands of tasks append, send requests with keys and execute
//! commands. Their futures are dropped at random polls, by timeouts and by aborted tasks;
//! subscriptions are opened and dropped; the store is closed in the middle; and the process is
//! killed. Then everything is sent again. At the end each operation is stored exactly once, whole,
//! and where it was acknowledged before (G1, G5, G10, G15).
//!
//! `ANNALS_TEST_STORM` sets the number of operations. The child is this test binary.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    AsyncRepository, AsyncStore, Durability, Error, IdempotencyKey, KeyedResult, KeyedSubmission,
    Position, RequestDigest,
};
use futures_lite::future;
use serde::{Deserialize, Serialize};

use crate::support::random::Random;
use crate::support::skip::say;
use crate::{append_to, report_panics_to};

/// The child's directory, and the operations that it is to do: `first end`.
const DIRECTORY: &str = "ANNALS_TEST_STORM_DIRECTORY";
const OPERATIONS: &str = "ANNALS_TEST_STORM_OPERATIONS";
/// Operations of one child, each on its own task.
const OPERATIONS_EACH: u64 = 5_000;
const FEEDS: u64 = 20;
const LEDGERS: u64 = 400;

/// An aggregate that accepts every entry.
#[derive(Debug, Clone, Default)]
struct Ledger;

#[derive(Debug, Serialize, Deserialize)]
struct Entered;

annals::domain_events! { Entered => "Entered" }

impl Aggregate for Ledger {
    const CATEGORY: &'static str = "ledger";
    type Event = Entered;
    type Command = ();
    type Error = std::convert::Infallible;

    fn apply(&mut self, Entered: Entered) {}

    fn handle(&self, (): &()) -> Result<Vec<Entered>, Self::Error> {
        Ok(vec![Entered, Entered])
    }
}

/// An operation, known by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Operation(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// New streams, known by the ids of their events.
    Append,
    Request,
    Command,
    /// Records only its key.
    KeyAlone,
}

impl Operation {
    fn kind(self) -> Kind {
        match self.0 % 8 {
            0 | 1 => Kind::Append,
            2..=4 => Kind::Request,
            5 | 6 => Kind::Command,
            _ => Kind::KeyAlone,
        }
    }

    /// How many events it stores.
    fn events(self) -> u64 {
        match self.kind() {
            Kind::Append | Kind::Command => 2,
            Kind::Request => 1 + self.0 % 3,
            Kind::KeyAlone => 0,
        }
    }

    fn key(self) -> IdempotencyKey {
        let name = self.0.to_string();
        IdempotencyKey::new("storm", &name, RequestDigest::of(&name)).unwrap()
    }

    fn append(self, durability: Durability) -> Append {
        let event = |number: u64| {
            let id = (u128::from(self.0) << 64 | u128::from(number)).to_be_bytes();
            let event = NewEvent::json("Done", &self.0).unwrap().with_id(EventId::from_bytes(id));
            event.with_metadata("op", self.0.to_string())
        };
        let append = if self.kind() == Kind::Append {
            let stream = |part: &str| format!("{part}-{}", self.0);
            Append::new().to(stream("one"), ExpectedVersion::NoStream, [event(1)]).to(
                stream("two"),
                ExpectedVersion::NoStream,
                [event(2)],
            )
        } else {
            let events = (0..self.events()).map(event);
            Append::new().to(format!("log-{}", self.0 % 50), ExpectedVersion::Any, events)
        };
        append.with_durability(durability)
    }
}

/// The answer to an operation: the position of its first event, or 0; and whether it was stored
/// before.
type Answer = (u64, bool);

#[derive(Clone)]
struct Handles {
    store: AsyncStore,
    ledgers: AsyncRepository<Ledger>,
}

impl Handles {
    fn open(path: PathBuf) -> Self {
        let options = Store::options()
            .durability(Durability::Buffered)
            .memtable_bytes(1)
            .disk_reserve_bytes(0)
            .pack_bytes(4_000);
        let store = options.open_within(path, Duration::from_secs(60)).unwrap();
        let ledgers = Repository::<Ledger>::new(&store).cache(100);
        Self { store: AsyncStore::new(store), ledgers: AsyncRepository::new(ledgers) }
    }

    /// Does an operation; `None` if it must be sent again.
    async fn run(self, operation: Operation, durability: Durability) -> Option<Answer> {
        let (store, key) = (&self.store, operation.key());
        match operation.kind() {
            Kind::Append => {
                let appended = answered(store.submit(operation.append(durability)).await)?;
                Some((appended.first_position().get(), appended.is_retry()))
            }
            Kind::Request | Kind::KeyAlone => {
                let submission = match operation.kind() {
                    Kind::Request => operation.append(durability).into(),
                    _ => KeyedSubmission::nothing().with_durability(durability),
                };
                let submitted = answered(store.submit_once(&key, submission).await)?;
                let position = match submitted.result {
                    KeyedResult::Appended(appended) => appended.first_position().get(),
                    KeyedResult::Nothing => 0,
                    KeyedResult::Rejected(_) => panic!("nothing was rejected"),
                };
                Some((position, submitted.is_retry))
            }
            Kind::Command => {
                let command = self.ledgers.command(operation.0 % LEDGERS).idempotency_key(key);
                let command = command.with_metadata("op", operation.0.to_string());
                match command.durability(durability).run(()).await {
                    Ok(done) => {
                        let position = done.appended().unwrap().first_position().get();
                        Some((position, done.is_retry()))
                    }
                    Err(ExecuteError::Store(Error::Closed) | ExecuteError::Conflict { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

fn answered<T>(answer: Result<T, Error>) -> Option<T> {
    match answer {
        Ok(done) => Some(done),
        Err(Error::Closed) => None,
        Err(error) => panic!("{error}"),
    }
}

/// What the child did, in a file next to the store.
struct Notes {
    file: Mutex<fs::File>,
    dropped: AtomicU64,
}

impl Notes {
    fn write(&self, line: &str) {
        self.file.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Does an operation once, or drops its future before it is done.
async fn attempt(handles: Handles, operation: Operation, notes: Arc<Notes>) {
    let mut random = Random::from_entropy();
    let durability = if random.is_one_of(20) { Durability::Sync } else { Durability::Buffered };
    let run = handles.run(operation, durability);
    let answer = match random.below(5) {
        0 => Some(run.await),
        1 => {
            let limit = Duration::from_micros(random.below(40_000) as u64);
            tokio::time::timeout(limit, run).await.ok()
        }
        2 => {
            let task = tokio::spawn(run);
            for _ in 0..random.below(8) {
                tokio::task::yield_now().await;
            }
            task.abort();
            task.await.ok()
        }
        _ => {
            let (mut run, mut answer) = (pin!(run), None);
            for _ in 0..random.below(12) {
                answer = future::poll_once(&mut run).await;
                if answer.is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            answer
        }
    };
    match answer {
        Some(Some((position, _))) => notes.write(&format!("+ {} {position}\n", operation.0)),
        Some(None) => {}
        None => drop(notes.dropped.fetch_add(1, Ordering::SeqCst)),
    }
}

/// Opens subscriptions and drops them, some while they wait, until the store is closed.
async fn follow(store: AsyncStore) {
    let mut random = Random::from_entropy();
    loop {
        let head = match store.head() {
            Ok(head) => head.map_or(0, Position::get),
            Err(Error::Closed) => return,
            Err(error) => panic!("{error}"),
        };
        let after = random.below(usize::try_from(head).unwrap() + 1) as u64;
        let started = store.subscribe().after(Position::new(after)).start().await;
        let Some(mut feed) = answered(started) else { return };
        let mut expected = after;
        for _ in 0..random.below(400) {
            let limit = Duration::from_millis(random.below(20) as u64);
            match tokio::time::timeout(limit, feed.next()).await {
                Ok(Some(Ok(Delivery::Event(event)))) => {
                    expected += 1;
                    assert_eq!(event.position().get(), expected, "a feed has no gap");
                }
                Ok(Some(Err(error))) => panic!("{error}"),
                Ok(None) => return,
                // A future that is dropped loses no event.
                Ok(Some(Ok(_))) | Err(_) => {}
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Not a test of its own: the child process.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    report_panics_to(directory.join("panics"));
    let operations = std::env::var(OPERATIONS).unwrap();
    let (first, end) = operations.split_once(' ').unwrap();
    let operations = first.parse().unwrap()..end.parse().unwrap();
    let file = Mutex::new(append_to(&directory.join("notes")));
    let notes = Arc::new(Notes { file, dropped: AtomicU64::new(0) });
    let mut random = Random::from_entropy();
    for _ in 0..2 {
        runtime().block_on(async {
            let handles = Handles::open(directory.join("store"));
            let feeds = (0..FEEDS).map(|_| tokio::spawn(follow(handles.store.clone())));
            let mut tasks: Vec<_> = feeds.collect();
            let attempts = operations.clone().map(|number| {
                tokio::spawn(attempt(handles.clone(), Operation(number), notes.clone()))
            });
            tasks.extend(attempts);
            // Mostly in the middle.
            let close = Duration::from_millis(random.below(300) as u64);
            tokio::time::sleep(close).await;
            handles.store.close().await.unwrap();
            for task in tasks {
                task.await.unwrap();
            }
        });
        notes.write(&format!("closed {}\n", notes.dropped.swap(0, Ordering::SeqCst)));
    }
}

/// The outcome of the storm so far.
#[derive(Default)]
struct Tally {
    /// The acknowledged positions.
    acknowledged: HashMap<Operation, u64>,
    kills: u64,
    closings: u64,
    dropped: u64,
    /// Operations without an answer that were stored nevertheless.
    stored_unanswered: u64,
}

/// Runs a child, and kills it at a random moment if it has not ended by then.
fn storm(directory: &Path, operations: &std::ops::Range<u64>, tally: &mut Tally) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storm::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(OPERATIONS, format!("{} {}", operations.start, operations.end))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(40 + Random::from_entropy().below(900) as u64));
    child.kill().unwrap();
    let has_ended = child.wait().unwrap().code().is_some();
    tally.kills += u64::from(!has_ended);
    let panics = fs::read_to_string(directory.join("panics")).unwrap_or_default();
    assert!(panics.is_empty(), "the child panicked: {panics}");
    let notes = fs::read_to_string(directory.join("notes")).unwrap_or_default();
    // A kill may have cut the last line short.
    for line in notes.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        if words[0] == "closed" {
            tally.closings += 1;
            tally.dropped += number(1);
            continue;
        }
        let (operation, position) = (Operation(number(1)), number(2));
        let before = tally.acknowledged.insert(operation, position);
        assert!(before.is_none_or(|before| before == position), "{operation:?} was done twice");
    }
    let _ = fs::remove_file(directory.join("notes"));
}

/// Sends all operations again, until each is answered.
fn send_again(path: &Path, operations: std::ops::Range<u64>, tally: &mut Tally) {
    runtime().block_on(async {
        let handles = Handles::open(path.to_owned());
        let tasks = operations.map(|number| {
            let (handles, operation) = (handles.clone(), Operation(number));
            let run = async move {
                loop {
                    let run = handles.clone().run(operation, Durability::Buffered);
                    if let Some(answer) = run.await {
                        return (operation, answer);
                    }
                }
            };
            tokio::spawn(run)
        });
        for task in tasks.collect::<Vec<_>>() {
            let (operation, (position, is_retry)) = task.await.unwrap();
            match tally.acknowledged.insert(operation, position) {
                Some(before) => {
                    assert!(is_retry, "{operation:?} was acknowledged and is lost");
                    assert_eq!(position, before, "{operation:?} is at another position");
                }
                None => tally.stored_unanswered += u64::from(is_retry),
            }
        }
        handles.store.close().await.unwrap();
    });
}

/// Checks that each operation is stored exactly once, where it was acknowledged. Returns the number
/// of events.
fn check(path: &Path, operations: u64, tally: &Tally) -> u64 {
    let store = Store::open(path).unwrap();
    let mut stored: HashMap<Operation, (u64, u64)> = HashMap::new();
    let mut head = 0;
    for event in store.read_log().into_iter().map(Result::unwrap) {
        head += 1;
        assert_eq!(event.position().get(), head, "the log has no gap");
        let operation = Operation(event.metadata().get("op").unwrap().parse().unwrap());
        let first = event.commit().start().get();
        assert_eq!(event.commit().end().get() - first + 1, operation.events(), "it is whole");
        let (commit, count) = stored.entry(operation).or_insert((first, 0));
        assert_eq!(*commit, first, "{operation:?} was done twice");
        *count += 1;
    }
    for operation in (0..operations).map(Operation) {
        let position = tally.acknowledged[&operation];
        if operation.events() > 0 {
            let expected = (position, operation.events());
            assert_eq!(stored.get(&operation), Some(&expected), "{operation:?}");
        } else {
            let found = store.find_submitted(&operation.key()).unwrap();
            assert_eq!(found, Some(KeyedResult::Nothing), "{operation:?}");
        }
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
    head
}

#[test]
fn each_operation_is_stored_once_after_a_cancellation_storm() {
    let operations =
        std::env::var("ANNALS_TEST_STORM").map_or(12_000, |text| text.parse().unwrap());
    let (began, directory) = (Instant::now(), tempfile::tempdir().unwrap());
    let path = directory.path().join("store");
    let mut tally = Tally::default();
    let mut first = 0;
    while first < operations {
        let each = first..operations.min(first + OPERATIONS_EACH);
        first = each.end;
        storm(directory.path(), &each, &mut tally);
        send_again(&path, each, &mut tally);
    }
    let events = check(&path, operations, &tally);
    let Tally { kills, closings, dropped, stored_unanswered, .. } = tally;
    say(&format!(
        "faults: cancellation storm: {operations} operations, {events} events; {kills} kills, \
         {closings} closings, at least {dropped} dropped futures; {stored_unanswered} operations \
         were stored without an answer; each stored once, {} s",
        began.elapsed().as_secs()
    ));
    assert!(stored_unanswered > 0, "no future was dropped after its submission");
}
