//! Measures annals: next to RocksDB alone, next to alternative stores, with the workloads of a
//! public benchmark, as it grows, its async API, its tags and conditions, and its scavenge.
//! docs/PERFORMANCE.md explains the figures.

mod boundaries;
mod chart;
mod deletion;
mod engine;
mod growth;
mod machine;
mod measure;
mod peers;
mod place;
mod report;
mod source;
mod tasks;
mod workloads;

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use place::Place;
use report::Report;

/// Measure how fast annals is on this machine and disk
///
/// The figures go to standard output, as Markdown; progress goes to standard error. The program
/// works in its own directory below --dir, annals-measure-NUMBER, and removes it at the end, even
/// when it is interrupted.
#[derive(Debug, Parser)]
#[command(name = "measure")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    Engine(engine::Args),
    Peers(peers::Args),
    Workloads(workloads::Args),
    Growth(growth::Args),
    Tasks(tasks::Args),
    Boundaries(boundaries::Args),
    Deletion(deletion::Args),
    /// One case of `tasks`, in a process of its own
    #[command(hide = true)]
    TaskCase(tasks::CaseArgs),
}

/// Options of every command.
#[derive(Debug, Args)]
struct Common {
    /// Directory to work in, on the disk that is to be measured
    #[arg(long, global = true, value_name = "DIR", default_value = ".", value_parser = directory)]
    dir: PathBuf,
    /// Also write all results as JSON
    #[arg(long, global = true, value_name = "FILE", value_parser = output)]
    json: Option<PathBuf>,
    /// Also write a chart
    #[arg(long, global = true, value_name = "FILE.svg", value_parser = output)]
    svg: Option<PathBuf>,
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("no such directory".to_owned()) }
}

/// Checks that a file can be written at the end: better to fail now than after an hour.
fn output(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    match () {
        () if path.is_dir() => Err("it is a directory".to_owned()),
        () if above.is_some_and(|above| !above.is_dir()) => {
            Err("the directory above it is missing".to_owned())
        }
        () => Ok(path),
    }
}

/// Why something could not be measured.
#[derive(Debug)]
pub enum Failure {
    /// A stream was not as expected; nothing was appended.
    Conflict,
    /// Anything else: the run is void.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl<E> From<E> for Failure
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => out.write_str("a stream was not as expected"),
            Self::Broken(error) => error.fmt(out),
        }
    }
}

/// Adds the path of the file to an error.
fn at<T>(path: &Path, done: std::io::Result<T>) -> Result<T> {
    done.map_err(|error| format!("{}: {error}", path.display()).into())
}

fn run(cli: &Cli) -> Result<()> {
    if let Command::TaskCase(args) = &cli.command {
        return tasks::run_case(args);
    }
    // Some peers write to standard output, which is reserved for the report.
    let mut stdout = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    let mut about = machine::about(&cli.common.dir)?;
    let place = Place::below(&cli.common.dir)?;
    let report = match &cli.command {
        Command::Engine(args) => engine::run(args, &place),
        Command::Peers(args) => peers::run(args, &place),
        Command::Workloads(args) => workloads::run(args, &place),
        Command::Growth(args) => growth::run(args, &place),
        Command::Tasks(args) => tasks::run(args, &place),
        Command::Boundaries(args) => boundaries::run(args, &place),
        Command::Deletion(args) => deletion::run(args, &place),
        Command::TaskCase(_) => unreachable!("it was run above"),
    };
    drop(place);
    let Report { text, mut json, svg, failures } = report?;
    about.push(("load average after".to_owned(), machine::load()));
    let lines: Vec<_> = about.iter().map(|(name, value)| format!("- {name}: {value}")).collect();
    write!(stdout, "{}\n\n{}\n\n{text}", machine::line(&cli.common.dir)?, lines.join("\n"))?;
    if let Some(file) = &cli.common.json {
        json["about"] = about.into_iter().collect();
        at(file, fs::write(file, format!("{json:#}\n")))?;
    }
    if let Some(file) = &cli.common.svg {
        at(file, fs::write(file, svg))?;
    }
    match failures {
        0 => Ok(()),
        failures => Err(format!("{failures} runs failed: the report says which").into()),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}
