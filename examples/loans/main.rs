//! Loan applications: the state of one, how many are open at the end of each week, and how long
//! each stage takes. All results are checked against one pass over the input.
//!
//! `cargo run --release --all-features --example loans -- LOG.jsonl.gz open.svg` reads a log in the
//! form that `annals import` takes, such as that of the BPI Challenge 2012 (262,200 events of
//! 13,087 applications at a Dutch bank), and draws the open applications. Without arguments it
//! generates a small log.

#![expect(clippy::print_stdout, reason = "an example talks")]

mod application;
mod calendar;
mod check;
mod input;
mod read_models;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{
    Date, Durability, ExecuteError, HandlerError, ImportOptions, ProjectionManager,
    ProjectionOptions, Repository,
};
use application::{Application, ApplicationCommand, Stage};
use flate2::read::GzDecoder;
use read_models::{Stages, Weeks, Whereabouts, duration_of, open_by_week};

const STAGES: [Stage; 4] =
    [Stage::Submitted, Stage::PreAccepted, Stage::Accepted, Stage::Finalized];

fn main() -> Result<(), HandlerError> {
    let mut arguments = std::env::args().skip(1);
    let log = arguments.next().map(PathBuf::from);
    let svg = arguments.next().map(PathBuf::from);
    let directory = tempfile::tempdir()?;
    let store = Store::options()
        .durability(Durability::Buffered)
        .open(directory.path().join("loans.annals"))?;

    let began = Instant::now();
    let imported = match &log {
        Some(path) => store.import(open_log(path)?, ImportOptions::default(), |_| {})?,
        None => store.import(input::made_up().as_bytes(), ImportOptions::default(), |_| {})?,
    };
    println!("imported {} events in {:.1?}", imported.added, began.elapsed());

    let began = Instant::now();
    let parallel = ProjectionOptions::new().partitions(2);
    let projections =
        ProjectionManager::new(&store).register(Weeks)?.register_with(Stages, parallel)?;
    projections.start()?;
    let head = store.head()?.ok_or("the log is empty")?;
    for projection in projections.projections() {
        projection.wait_for(head, Duration::from_secs(600))?;
        println!("{}", projection.status()?);
    }
    println!("two read models built in {:.1?}", began.elapsed());

    let open = open_by_week(&store.view("weeks"))?;
    let stages = where_they_are(&store)?;
    let durations = durations(&store)?;
    show(&open, &stages, &store)?;
    one_application(&store)?;

    let expected = match &log {
        Some(path) => check::expected(open_log(path)?)?,
        None => check::expected(input::made_up().as_bytes())?,
    };
    let found = check::Expected { open, durations, stages };
    assert_eq!(found, expected, "the read models say what the input says");
    println!("\nAll of it is what a plain walk over the input says too.");
    if let Some(svg) = svg {
        std::fs::write(&svg, draw(&found.open))?;
        println!("{} shows the open applications.", svg.display());
    }
    Ok(())
}

/// Opens a file, and decompresses it if its name ends in `.gz`.
fn open_log(path: &Path) -> Result<Box<dyn BufRead>, HandlerError> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if is_packed {
        Box::new(BufReader::new(GzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    })
}

fn where_they_are(store: &Store) -> annals::Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for entry in store.view("stages").entries().under("at").iter::<Whereabouts>() {
        let (_, at) = entry?;
        *counts.entry(at.stage.name().to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn durations(store: &Store) -> annals::Result<BTreeMap<String, (usize, u64)>> {
    let stages = store.view("stages");
    let all = [STAGES.as_slice(), &[Stage::Activated, Stage::Declined, Stage::Cancelled]].concat();
    let mut found = BTreeMap::new();
    for stage in all {
        if let Some((count, median, _)) = duration_of(&stages, stage)? {
            found.insert(stage.name().to_owned(), (count, median));
        }
    }
    Ok(found)
}

fn show(
    open: &[(Date, i64)],
    stages: &BTreeMap<String, usize>,
    store: &Store,
) -> annals::Result<()> {
    println!("\nOpen at the end of the week that began on");
    let most = open.iter().map(|(_, open)| *open).max().unwrap_or(1).max(1);
    for (week, open) in open {
        let bar = usize::try_from(open * 50 / most).unwrap_or_default();
        println!("  {week}  {open:>6}  {}", "▇".repeat(bar));
    }
    println!("\nWhere they are now");
    for (stage, count) in stages {
        println!("  {stage:<14} {count:>7}");
    }
    println!("\nHow long they stay      left   half within   nine of ten within");
    for stage in STAGES {
        if let Some((count, median, ninth)) = duration_of(&store.view("stages"), stage)? {
            println!("  {:<14} {count:>10} {:>13} {:>20}", stage.name(), time(median), time(ninth));
        }
    }
    Ok(())
}

/// Shows one application, now and before its decision, and the command that its rules reject.
fn one_application(store: &Store) -> Result<(), HandlerError> {
    let applications = Repository::<Application>::new(store);
    let applications = applications.on_unreadable(annals::OnUnreadable::Skip);
    let decided = store.read_log().types(["A_ACTIVATED"]).first()?.ok_or("none was activated")?;
    let id = decided.stream().as_str().trim_start_matches("application-").to_owned();
    let now = applications.load(&id)?;
    let before = decided.version().previous().ok_or("it begins with its end")?;
    let then = applications.load_as_of_version(&id, before)?;
    println!(
        "\n{} over {}: {}, and just before {}",
        decided.stream(),
        now.state().amount,
        now.state().stage.name(),
        then.state().stage.name()
    );
    assert_eq!((now.state().stage, then.state().stage), (Stage::Activated, Stage::Finalized));
    match applications.execute(&id, &ApplicationCommand::Cancel) {
        Err(ExecuteError::Rejected(refusal)) => println!("It cannot be cancelled: {refusal}."),
        other => return Err(format!("it was not refused: {other:?}").into()),
    }
    Ok(())
}

fn time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Draws the open applications as a bar chart in SVG.
fn draw(open: &[(Date, i64)]) -> String {
    let (width, height) = (24 * open.len() + 60, 260);
    let most = open.iter().map(|(_, open)| *open).max().unwrap_or(1).max(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"10\">\n<text x=\"10\" y=\"16\" font-size=\"13\">Open applications at the end of each week</text>\n"
    );
    for (at, (week, open)) in open.iter().enumerate() {
        let (x, tall) = (30 + 24 * at, open * 150 / most);
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"18\" height=\"{tall}\" fill=\"#4878a8\"><title>{week}: {open}</title></rect>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{open}</text>\n\
             <text transform=\"translate({},{}) rotate(60)\">{week}</text>",
            190 - tall,
            x + 9,
            186 - tall,
            x + 4,
            200
        );
    }
    svg.push_str("</svg>\n");
    svg
}
