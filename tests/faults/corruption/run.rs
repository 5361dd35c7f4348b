//! Runs cases in child processes: a case that panics, aborts or hangs is named, and the other cases
//! continue.
//!
//! A child is this test binary. Environment variables tell it where the stores are and which cases
//! to run. It writes a line to a file before and after each case, so a case that began and did not
//! end is the one that killed it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annals::prelude::*;

use super::check::{OUTCOMES, Outcome, check_answer};
use super::damage::{Case, copy};
use super::stores::{Built, SHAPES};

const STORES: &str = "ANNALS_TEST_DAMAGE_STORES";
const LANE: &str = "ANNALS_TEST_DAMAGE_LANE";
/// Time limit of one case: it opens and reads a few hundred events, on a machine that is busy with
/// other work.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

/// The outcome of a case, and the details.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) case: Case,
    pub(crate) outcome: Outcome,
    pub(crate) told: String,
}

/// Not a test of its own: the child process.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let (stores, lane) = (std::env::var(STORES).unwrap(), std::env::var(LANE).unwrap());
    let (stores, lane) = (PathBuf::from(stores), PathBuf::from(lane));
    let mut known: HashMap<String, (Built, Vec<RecordedEvent>)> = HashMap::new();
    let mut out = File::options().create(true).append(true).open(lane.join("outcomes")).unwrap();
    for line in fs::read_to_string(lane.join("cases")).unwrap().lines() {
        let case: Case = line.parse().unwrap();
        let (built, log) = known.entry(case.shape.clone()).or_insert_with(|| {
            let built =
                SHAPES.iter().find(|shape| shape.name == case.shape).unwrap().build(&stores);
            let log = built.truth.log();
            (built, log)
        });
        writeln!(out, "begin").unwrap();
        let copied = lane.join("store");
        copy(built, &copied);
        let ended = if case.apply(built, &copied) {
            let checked = std::panic::catch_unwind(|| {
                check_answer(&copied, &built.truth, log, case.is_thorough())
            });
            let (outcome, told) =
                checked.unwrap_or_else(|_| (Outcome::Panic, "see the output".to_owned()));
            let is_known = outcome == Outcome::Wrong && case.is_beyond_notice(built);
            let outcome = if is_known { Outcome::Unseen } else { outcome };
            format!("{outcome:?} {}", told.replace('\n', " "))
        } else {
            "nothing".to_owned()
        };
        writeln!(out, "{ended}").unwrap();
    }
}

/// Runs cases in a separate directory, one child after the other. Calls `ended` with each case as
/// it ends; omits cases that change nothing.
pub(crate) fn run(
    stores: &Path,
    lane: &Path,
    cases: impl IntoIterator<Item = Case>,
    ended: &mut dyn FnMut(Ended),
) {
    fs::create_dir_all(lane).unwrap();
    let mut left: Vec<Case> = cases.into_iter().collect();
    while !left.is_empty() {
        let lines: Vec<_> = left.iter().map(|case| format!("{case}\n")).collect();
        fs::write(lane.join("cases"), lines.concat()).unwrap();
        let _ = fs::remove_file(lane.join("outcomes"));
        let died = watch(stores, lane);
        let file = BufReader::new(File::open(lane.join("outcomes")).unwrap());
        let mut lines = file.lines().map(Result::unwrap);
        let mut done = 0;
        while let Some(begin) = lines.next() {
            assert_eq!(begin, "begin");
            let case = left[done].clone();
            done += 1;
            let line = lines.next();
            let (outcome, told) = match line.as_deref().map(|line| line.split_once(' ')) {
                None => (died, "the process died".to_owned()),
                Some(None) => continue,
                Some(Some((outcome, told))) => (outcome_named(outcome), told.to_owned()),
            };
            ended(Ended { case, outcome, told });
        }
        assert!(done > 0, "the child did nothing: see its output");
        left.drain(..done);
    }
}

fn outcome_named(name: &str) -> Outcome {
    OUTCOMES.into_iter().find(|known| format!("{known:?}") == name).unwrap()
}

/// Waits for a child while it makes progress. Returns why it died, if it did.
fn watch(stores: &Path, lane: &Path) -> Outcome {
    let outcomes = lane.join("outcomes");
    File::create(&outcomes).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "corruption::run::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(STORES, stores)
        .env(LANE, lane)
        .stdout(Stdio::null())
        .stderr(File::create(lane.join("output")).unwrap())
        .spawn()
        .unwrap();
    let (mut len, mut since) = (0, Instant::now());
    loop {
        if child.try_wait().unwrap().is_some() {
            return Outcome::Abort;
        }
        let now = fs::metadata(&outcomes).unwrap().len();
        if now != len {
            (len, since) = (now, Instant::now());
        }
        if since.elapsed() > CASE_TIME_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            return Outcome::Hang;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
