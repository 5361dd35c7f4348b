//! The n-th call of a kind fails, once or forever, for n = 1, 2, 3… until the workload finishes
//! without reaching the fault (G9). A failing operation returns a typed error. After a failed write
//! nothing is acknowledged until the store is reopened. Then everything acknowledged is present,
//! nothing refused is, and no event is duplicated or missing. An indeterminate append can be
//! retried, and the store continues.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use annals::prelude::*;
use annals::{
    Checkpoint, Error, Position, ProjectionError, Snapshot, SnapshotStore, Timestamp, Version,
    ViewCommit, ViewStore,
};

use crate::caught;
use crate::deletions::STEPS;
use crate::example_bank::check_read_models;
use crate::power::disk::{Bytes, Disk, Names, write_image};
use crate::shim::{Blow, Call, Event, Fault, NO_SHIM, Place, Watch, read_trace, run};
use crate::support::memory;
use crate::support::promises::{Heard, MayBeGone, Promises, heard, request_key};
use crate::support::random::Random;
use crate::support::skip::{say, skipped};
use crate::workload::{Plan, business, is_everything, own, projections};

/// A child that expects to fail.
pub(crate) fn child(plan: &Plan, place: &Place) {
    let mut indeterminate = Vec::new();
    for open in 0..3 {
        let options = Store::options()
            .durability(plan.durability)
            .memtable_bytes(1)
            .disk_reserve_bytes(0)
            .pack_bytes(400);
        let store = match options.open(place.store()) {
            Ok(store) => store,
            Err(error) => {
                assert_is_of_the_disk(&error);
                continue;
            }
        };
        let heard = heard(&store, plan.durability, &place.book());
        for append in std::mem::take(&mut indeterminate) {
            retry(&heard, append, &mut indeterminate);
        }
        if open < plan.opens && plan.deletes() {
            delete(&store, &heard);
        } else if open < plan.opens {
            work(plan, &store, &heard, &mut indeterminate);
        }
        if store.info().unwrap().poisoned.is_some() {
            assert_is_poisoned(&store);
        }
        assert_reads_what_is_there(&store);
        let was_poisoned = store.info().unwrap().poisoned.is_some();
        match store.close() {
            Ok(()) => assert!(!was_poisoned, "a poisoned store does not close well"),
            Err(error) => assert_is_of_the_disk(&error),
        }
    }
}

/// Appends and deletes until an error requires a reopen.
fn delete(store: &Store, heard: &Heard) {
    for step in STEPS {
        let Err(error) = step.run(0, store, heard) else { continue };
        assert_is_of_the_disk(&error);
        if store.info().unwrap().poisoned.is_some() {
            return;
        }
    }
}

fn work(plan: &Plan, store: &Store, heard: &Heard, indeterminate: &mut Vec<Append>) {
    // The reads at the start may fail too; then this run has none.
    let projections = plan.has_bank.then(|| projections(store));
    let projections = projections.and_then(|begun| match begun {
        Ok(begun) => Some(begun),
        Err(ProjectionError::Store(error)) => {
            assert_is_of_the_disk(&error);
            None
        }
        Err(error) => panic!("{error}"),
    });
    let failed = Mutex::new(Vec::new());
    write_view(store);
    thread::scope(|scope| {
        for writer in 0..plan.writers {
            let failed = &failed;
            scope.spawn(move || write(plan, heard, writer, failed));
        }
        if plan.has_bank {
            scope.spawn(|| {
                for answer in business(store, heard, plan.rounds) {
                    answer.unwrap_or_else(|error| assert_is_of_the_disk(&error));
                }
            });
        }
    });
    indeterminate.extend(failed.into_inner().unwrap());
    if let Some(projections) = projections {
        projections.stop();
    }
}

/// Writes until an error requires a reopen. A call that failed otherwise has changed nothing, and
/// is repeated.
fn write(plan: &Plan, heard: &Heard, writer: usize, failed: &Mutex<Vec<Append>>) {
    for round in 0..plan.rounds {
        let tip = match heard.stream_version(&own(writer)) {
            Ok(tip) => tip,
            Err(error) => {
                assert_is_of_the_disk(&error);
                continue;
            }
        };
        let key = (round % 2 == 1).then(|| format!("{writer}-{}", tip.map_or(0, Version::get)));
        let key = key.as_deref();
        let read = (tip, heard.head().unwrap());
        let append = plan.append(writer, round, read, key);
        match send(heard, append.clone()) {
            Ok(()) => {}
            Err(error @ (Error::Indeterminate { .. } | Error::Poisoned { .. })) => {
                if let Error::Indeterminate { .. } = error {
                    failed.lock().unwrap().push(append);
                }
                // No part of it is published, however far it got (G6).
                match heard.stream_version(&own(writer)) {
                    Ok(after) => assert_eq!(after, tip, "after {error}"),
                    Err(error) => assert_is_of_the_disk(&error),
                }
                match key.map_or(Ok(None), |key| heard.find_submitted(&request_key(key))) {
                    Ok(found) => assert_eq!(found, None, "after {error}"),
                    Err(error) => assert_is_of_the_disk(&error),
                }
                let later = heard.submit(plan.append(writer, round, read, None)).unwrap_err();
                assert!(matches!(later, Error::Poisoned { .. }), "after {error}: {later}");
                return;
            }
            Err(error) => assert_is_of_the_disk(&error),
        }
    }
}

/// Submits an append, with the key that its events name, if they name one.
fn send(heard: &Heard, append: Append) -> annals::Result<()> {
    let first = append.events().next();
    let key = first.and_then(|(_, event)| event.metadata().get("key")).map(request_key);
    match key {
        Some(key) => heard.submit_once(&key, append.into()).map(drop),
        None => heard.submit(append).map(drop),
    }
}

/// Writes derived data, with no concurrent writer. A failure there poisons the log too: they share
/// a write-ahead log.
fn write_view(store: &Store) {
    let written = ViewStore::checkpoint(store, "derived").and_then(|expected| {
        let state = expected.as_ref().map_or(0, |found| found.state.len()) + 1;
        let checkpoint = Some(Checkpoint { position: None, state: vec![7; state] });
        let (view, changes) = ("derived".into(), Vec::new());
        store.commit_view(&ViewCommit {
            view,
            expected,
            changes,
            checkpoint,
            follows_other_log: true,
        })
    });
    if let Err(error) = written {
        assert_is_of_the_disk(&error);
        let is_poisoned = store.info().unwrap().poisoned.is_some();
        assert!(is_poisoned || !matches!(error, Error::Indeterminate { .. }), "{error}");
    }
}

/// Retries with the same events: stored ones are recognised, missing ones are appended.
fn retry(heard: &Heard, append: Append, indeterminate: &mut Vec<Append>) {
    match send(heard, append.clone()) {
        Ok(()) => {}
        Err(Error::Indeterminate { .. }) => indeterminate.push(append),
        Err(error) => {
            assert_is_of_the_disk(&error);
            // Not written now; whether it was written before is unknown.
            indeterminate.push(append);
        }
    }
}

/// A failing disk is neither damage nor a fault of the caller.
fn assert_is_of_the_disk(error: &Error) {
    let is_expected = matches!(
        error,
        Error::Storage { .. } | Error::Indeterminate { .. } | Error::Poisoned { .. }
    );
    assert!(is_expected, "{error:?}");
}

fn assert_is_poisoned(store: &Store) {
    let poisoned = |what: &str, answer: annals::Result<()>| {
        assert!(matches!(answer, Err(Error::Poisoned { .. })), "{what}: {answer:?}");
    };
    let event = NewEvent::json("Late", &1).unwrap();
    let appended = store.append("late-1", ExpectedVersion::Any, [event.clone()]);
    poisoned("append", appended.map(drop));
    poisoned("sync", store.sync());
    let checkpoint = Some(Checkpoint { position: None, state: Vec::new() });
    let commit = ViewCommit {
        view: "late".into(),
        expected: None,
        changes: Vec::new(),
        checkpoint,
        follows_other_log: true,
    };
    poisoned("view", store.commit_view(&commit));
    let snapshot = Snapshot {
        kind: "late".into(),
        stream: own(0),
        version: Version::FIRST,
        event_id: event.id(),
        schema_version: 1,
        taken_at: Timestamp::from_micros(0),
        state: Vec::new(),
    };
    poisoned("snapshot", store.save_snapshot(&snapshot, NonZeroUsize::MIN));
}

/// Reads and verifies up to the head, or until the disk fails.
fn assert_reads_what_is_there(store: &Store) {
    let head = store.head().unwrap().map_or(0, Position::get);
    let mut last = 0;
    for event in store.read_log() {
        match event {
            // Nothing is missing but what was deleted: the promises are checked later.
            Ok(event) if event.position().get() > last => last = event.position().get(),
            Ok(event) => panic!("position {} after {last}", event.position()),
            Err(error) => return assert_is_of_the_disk(&error),
        }
    }
    assert_eq!(last, head);
    match store.verify(|_| {}) {
        Ok(report) => assert!(report.is_sound(), "{:?}", report.damage),
        Err(error) => assert_is_of_the_disk(&error),
    }
}

/// What was tried, and the results.
#[derive(Default)]
struct Tally {
    runs: usize,
    /// Which calls were hit, by the kind of file.
    hit: BTreeMap<String, usize>,
    cuts: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// Counts a run, and shows progress.
    fn count(&mut self, plan: &Plan, fault: Fault) {
        self.runs += 1;
        if self.runs.is_multiple_of(100) {
            let (runs, wrong) = (self.runs, self.wrong.len());
            say(&format!("faults: {}: {runs} runs, {wrong} wrong, at {fault:?}", plan.name));
        }
    }
}

/// Runs one workload with one fault. Returns whether the fault occurred.
fn hit(plan: &Plan, fault: Fault, tally: &Mutex<Tally>) -> Result<bool, String> {
    let directory = memory();
    let place = Place::new(directory.path());
    let before = Disk::of(&place.disk());
    let is_traced = fault.call == Call::Sync;
    let watch = Watch { trace: is_traced, fault: Some(fault), sync_takes: Some(100) };
    let output = run(&format!("errors {}", plan.name), &place, watch).unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let Some(fired) = place.fired() else { return Ok(false) };
    *tally.lock().unwrap().hit.entry(kind_of(&fired)).or_default() += 1;
    let also = |store: &Store| {
        if plan.has_bank {
            check_read_models(store);
        }
    };
    if is_traced {
        // Data of a failed sync never reaches the disk, even if a later sync succeeds.
        cut_power_at_end(&before, &place, also)?;
        tally.lock().unwrap().cuts += 1;
    }
    let promises = Promises::read(&place.book());
    caught(|| promises.check_and_go_on(&place.store(), MayBeGone::Nothing, also))?;
    Ok(true)
}

fn cut_power_at_end(before: &Disk, place: &Place, also: impl Fn(&Store)) -> Result<(), String> {
    let (mut disk, mut promises) = (before.clone(), Promises::default());
    for event in read_trace(place) {
        disk.apply(&event);
        if let Event::Noted(lines) = &event {
            promises.add(lines);
        }
    }
    let directory = memory();
    write_image(&disk.cut(Bytes::Synced, Names::Synced, &mut Random(0)), directory.path());
    let path = directory.path().join("store");
    caught(|| promises.check_and_go_on(&path, MayBeGone::Buffered, also))
        .map(drop)
        .map_err(|why| format!("after a power cut at the end: {why}"))
}

/// `s …/db/000004.log` is a sync of a log.
fn kind_of(fired: &str) -> String {
    let (call, path) = fired.split_once(' ').unwrap();
    let name = path.rsplit('/').next().unwrap();
    let name: String = match name.rsplit_once('.') {
        Some((number, ending)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            format!("*.{ending}")
        }
        _ => name.chars().filter(|c| !c.is_ascii_digit()).collect(),
    };
    format!("{call} {name}")
}

const CALLS: [Call; 7] =
    [Call::Write, Call::Sync, Call::Open, Call::Rename, Call::Unlink, Call::Other, Call::Read];

/// The calls to try: all, or those that `ANNALS_TEST_CALLS` names, such as `write,sync`. A long run
/// can be done in parts.
fn calls() -> Vec<Call> {
    let Ok(wanted) = std::env::var("ANNALS_TEST_CALLS") else { return CALLS.to_vec() };
    let find = |name: &str| {
        let call = CALLS.iter().find(|call| format!("{call:?}").eq_ignore_ascii_case(name));
        *call.unwrap_or_else(|| panic!("ANNALS_TEST_CALLS names {name:?}; the calls are {CALLS:?}"))
    };
    wanted.split(',').map(find).collect()
}

fn every_call_fails(name: &str, blow: Blow, growth: usize) {
    let began = Instant::now();
    let plan = Plan::named(name);
    let directory = memory();
    let probe = Watch { trace: false, fault: None, sync_takes: Some(100) };
    match run(&format!("errors {name}"), &Place::new(directory.path()), probe) {
        None => return skipped(&format!("{blow:?} of each call, {name}"), NO_SHIM),
        Some(output) => assert!(output.status.success(), "{output:?}"),
    }
    let tally = Mutex::new(Tally::default());
    let sweeps = calls().into_iter().flat_map(|call| [(call, false), (call, true)]);
    let sweeps: Vec<_> = sweeps.map(|(call, for_ever)| Sweep::new(call, for_ever, blow)).collect();
    // A deletion waits long for files that cannot be removed.
    let threads = if plan.deletes() { 12 } else { 2 };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for sweep in &sweeps {
                    sweep.run(&plan, growth, &tally);
                }
            });
        }
    });
    let Tally { runs, hit, cuts, wrong } = tally.into_inner().unwrap();
    let hits: usize = hit.values().sum();
    say(&format!(
        "faults: {blow:?}, {name}: {runs} runs, {hits} calls hit, {cuts} power cuts after a failed sync, {} wrong, \
         {} s",
        wrong.len(),
        began.elapsed().as_secs()
    ));
    if is_everything() {
        say(&format!("faults: {blow:?}, {name}: {hit:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(10)].join("\n\n"));
}

/// Fails the n-th call of a kind, for n = 1, 2, 3…; or for a sample of these, each a multiple of the
/// one before. Any number of threads share the runs.
struct Sweep {
    /// The next fault; `None` after one that met no call.
    next: Mutex<Option<Fault>>,
}

impl Sweep {
    fn new(call: Call, for_ever: bool, blow: Blow) -> Self {
        Self { next: Mutex::new(Some(Fault { call, nth: 1, for_ever, blow, only: "" })) }
    }

    /// The next fault of this sweep.
    fn take(&self, growth: usize) -> Option<Fault> {
        let mut next = self.next.lock().unwrap();
        let fault = *next.as_ref()?;
        let step = if is_everything() { 1 } else { 1 + fault.nth * growth };
        *next = Some(Fault { nth: fault.nth + step, ..fault });
        Some(fault)
    }

    fn run(&self, plan: &Plan, growth: usize, tally: &Mutex<Tally>) {
        while let Some(fault) = self.take(growth) {
            tally.lock().unwrap().count(plan, fault);
            match hit(plan, fault, tally) {
                Ok(true) => {}
                Ok(false) => *self.next.lock().unwrap() = None,
                Err(why) => {
                    let why = format!("{}: {fault:?}: {why}", plan.name);
                    tally.lock().unwrap().wrong.push(why);
                }
            }
        }
    }
}

#[test]
fn small_workload_survives_eio_at_each_call() {
    every_call_fails("small", Blow::Eio, 3);
}

#[test]
fn small_workload_survives_enospc_at_each_call() {
    every_call_fails("small", Blow::Enospc, 3);
}

/// G17: what was decided is carried out, and nothing else is gone.
#[test]
fn deletions_survive_eio_at_each_call() {
    every_call_fails("deletions", Blow::Eio, 7);
}

#[test]
fn deletions_survive_enospc_at_each_call() {
    every_call_fails("deletions", Blow::Enospc, 9);
}

#[test]
fn grouped_workload_survives_eio_at_each_call() {
    every_call_fails("synced", Blow::Eio, 1);
}

#[test]
fn grouped_workload_survives_enospc_at_each_call() {
    every_call_fails("mixed", Blow::Enospc, 1);
}

/// Hits the most important calls one after the other. An append whose write or sync fails is not
/// published (G6), even if only the watermark could not be written and the events can already be
/// found.
#[test]
fn failed_append_is_not_published_at_any_write_or_sync() {
    let tally = Mutex::new(Tally::default());
    let began = Instant::now();
    for nth in 1..=6 {
        for (call, for_ever, only) in [
            (Call::Write, false, ".log"),
            (Call::Write, false, "watermark"),
            (Call::Sync, false, ".log"),
            (Call::Sync, true, ".log"),
        ] {
            let fault = Fault { call, nth, for_ever, blow: Blow::Eio, only };
            tally.lock().unwrap().runs += 1;
            if let Err(why) = hit(&Plan::named("small"), fault, &tally) {
                panic!("{fault:?}: {why}");
            }
        }
    }
    let Tally { runs, hit, .. } = tally.into_inner().unwrap();
    let hits: usize = hit.values().sum();
    say(&format!(
        "faults: Eio of an append: {runs} runs, {hits} calls hit, 0 wrong, {} s",
        began.elapsed().as_secs()
    ));
    assert!(hits > 12, "{hits}");
}

/// A full disk that only RocksDB's background work meets: the write-ahead log has room, but the
/// table for the flushed memtables does not. RocksDB used to wait for space on its own, and
/// deadlocked with the writer that waited for it.
#[test]
fn append_does_not_hang_when_a_flush_finds_no_space() {
    let tally = Mutex::new(Tally::default());
    let began = Instant::now();
    for (nth, for_ever) in [(1, false), (1, true), (3, false), (4, true)] {
        for call in [Call::Write, Call::Sync] {
            let fault = Fault { call, nth, for_ever, blow: Blow::Enospc, only: ".sst" };
            tally.lock().unwrap().runs += 1;
            match hit(&Plan::named("mixed"), fault, &tally) {
                Ok(has_fired) => assert!(has_fired, "{fault:?}"),
                Err(why) => panic!("{fault:?}: {why}"),
            }
        }
    }
    let Tally { runs, cuts, .. } = tally.into_inner().unwrap();
    say(&format!(
        "faults: no space for tables: {runs} runs, {cuts} power cuts after a failed sync, 0 wrong, {} s",
        began.elapsed().as_secs()
    ));
}
