//! The loan applications of the example `loans`, killed while their log is imported and their read
//! models are built: after every kill, each read model equals a direct evaluation of the log up to
//! its checkpoint (G12).
//!
//! The child process is this test binary; an environment variable makes it import and build.

#[path = "../../examples/loans/check.rs"]
mod check;
#[path = "../../examples/loans/input.rs"]
mod input;
#[path = "../../examples/loans/read_models.rs"]
mod read_models;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::application::{
    Application, ApplicationCommand, ApplicationError, ApplicationEvent, Stage,
};
use crate::support::SOON;
use crate::support::random::Random;
use annals::prelude::*;
use annals::testing::Scenario;
use annals::{Date, Durability, ImportOptions, Position, ProjectionManager, ProjectionOptions};
use check::{Expected, expected};
use read_models::{Stages, Weeks, Whereabouts, duration_of, open_by_week};

const DIRECTORY: &str = "ANNALS_TEST_LOANS";

#[test]
fn application_can_be_cancelled_until_decided() {
    let given = |events: &[ApplicationEvent]| Scenario::<Application>::given(events.to_vec());
    let submitted = ApplicationEvent::Submitted { amount: "5000".to_owned() };
    let cancel = ApplicationCommand::Cancel;
    given(&[]).when(cancel.clone()).then_error(ApplicationError::Unknown);
    given(&[submitted.clone(), ApplicationEvent::PreAccepted])
        .when(cancel.clone())
        .then([ApplicationEvent::Cancelled]);
    let decided = ApplicationError::Decided { stage: Stage::Declined };
    given(&[submitted.clone(), ApplicationEvent::Declined]).when(cancel).then_error(decided);
    given(&[submitted]).when(ApplicationCommand::Cancel).then_state(|application| {
        (application.stage, application.amount) == (Stage::Cancelled, 5000)
    });
}

fn open(directory: &Path) -> Store {
    let options = Store::options().durability(Durability::Buffered).memtable_bytes(1);
    options.open(directory.join("loans")).unwrap()
}

fn follow(store: &Store) -> ProjectionManager {
    let small = ProjectionOptions::new().batch_events(9).partitions(2);
    let projections = ProjectionManager::new(store).register_with(Weeks, small.clone()).unwrap();
    let projections = projections.register_with(Stages, small).unwrap();
    projections.start().unwrap();
    projections
}

/// Runs in the child process; not a separate test.
#[test]
#[ignore = "another test starts it, as a process"]
fn child() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let store = open(&PathBuf::from(directory));
    let _projections = follow(&store);
    store.import(input::made_up().as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    thread::sleep(SOON);
}

/// Evaluates the log up to a position, without any read model.
fn plain(store: &Store, up_to: Option<Position>) -> Expected {
    let mut lines = Vec::new();
    store.export(&mut lines, |_| {}).unwrap();
    let count = up_to.map_or(0, Position::get);
    let ends = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let end = ends.take(usize::try_from(count).unwrap()).last().unwrap_or(0);
    expected(lines.get(..end).unwrap()).unwrap()
}

/// The content of a read model and its checkpoint.
type Told<T> = (T, Option<Position>);

/// Reads both read models.
fn found(store: &Store) -> (Told<Vec<(Date, i64)>>, Told<Expected>) {
    let (weeks, stages) = (store.view("weeks"), store.view("stages"));
    let open = open_by_week(&weeks).unwrap();
    let mut told = Expected::default();
    for entry in stages.entries().under("at").iter::<Whereabouts>() {
        let (_, at) = entry.unwrap();
        *told.stages.entry(at.stage.name().to_owned()).or_default() += 1;
    }
    let all = [Stage::Submitted, Stage::PreAccepted, Stage::Accepted, Stage::Finalized];
    let durations = all.iter().filter_map(|stage| {
        let (count, median, _) = duration_of(&stages, *stage).unwrap()?;
        Some((stage.name().to_owned(), (count, median)))
    });
    told.durations = durations.collect::<BTreeMap<_, _>>();
    ((open, weeks.position().unwrap()), (told, stages.position().unwrap()))
}

fn check(store: &Store) {
    let ((open, weeks_at), (told, stages_at)) = found(store);
    assert_eq!(open, plain(store, weeks_at).open, "up to {weeks_at:?}");
    let plain = plain(store, stages_at);
    assert_eq!((told.durations, told.stages), (plain.durations, plain.stages), "{stages_at:?}");
}

#[test]
fn loan_read_models_equal_the_log_after_random_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::from_entropy();
    for kill in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "loans::child", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(15 + kill * 5 + random.below(64) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        check(&open(directory.path()));
    }
    // A complete import at the end gives the complete read models.
    let store = open(directory.path());
    store.import(input::made_up().as_bytes(), ImportOptions::default(), |_| {}).unwrap();
    let projections = follow(&store);
    for projection in projections.projections() {
        projection.wait_for(store.head().unwrap().unwrap(), SOON).unwrap();
    }
    check(&store);
    assert_eq!(
        plain(&store, store.head().unwrap()),
        expected(input::made_up().as_bytes()).unwrap()
    );
}
