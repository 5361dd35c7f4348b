//! Runs cases in child processes: one that panics, aborts or hangs is named, and the others go on.
//!
//! A child is this test binary, told by environment variables where the stores are and which cases
//! are its own. Before a case and after it, it writes a line to a file. Which was begun and not
//! ended is the one that it died of.

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
/// How long one case may take: opening and reading a few hundred events, on a machine that is busy
/// with other things.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

/// What became of a case, and what was said.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) case: Case,
    pub(crate) outcome: Outcome,
    pub(crate) told: String,
}

/// Not a test of its own: what a child does.
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

/// Runs cases, in a directory of their own, one child after the other. `ended` is called with each
/// as it ends; cases that change nothing are left out.
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
                None => (died, "the process died of it".to_owned()),
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

/// Waits for a child, as long as it gets on. Returns what it died of, if it did.
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
