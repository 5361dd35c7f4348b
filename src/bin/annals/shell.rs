//! Code shared by all commands: options, opening the store, failures, progress.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use annals::{DELETIONS_STREAM, Error, InvalidArgument, Store, StoreOptions, StreamId};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long a command waits for a store that is open elsewhere, so that a brief overlap with the
/// previous command or with a follower is not a failure.
const OPEN_WAIT: Duration = Duration::from_secs(2);

/// Options of every command.
#[derive(clap::Args)]
pub(crate) struct Shell {
    /// Print one JSON object per line, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Memory for blocks read from disk [default: 64]
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    block_cache_mib: Option<u32>,
    /// Memory for events not yet in a table file; also bounds the time to open after a crash
    /// [default: 64]
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    memtable_mib: Option<u32>,
}

impl Shell {
    pub(crate) fn options(&self) -> StoreOptions {
        let mib = |mib: u32| usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX);
        let mut options = Store::options();
        if let Some(memory) = self.block_cache_mib {
            options = options.block_cache_bytes(mib(memory));
        }
        if let Some(memory) = self.memtable_mib {
            options = options.memtable_bytes(mib(memory));
        }
        options
    }

    /// Opens for writing; creates the store if it does not exist.
    pub(crate) fn open(&self, path: &Path) -> Result<Store, Failure> {
        open_patiently(&self.options(), path)
    }

    /// Opens for reading only: nothing is created or changed.
    pub(crate) fn open_to_read(&self, path: &Path) -> Result<Store, Failure> {
        open_patiently(&self.options().read_only(true), path)
    }
}

pub(crate) fn open_patiently(options: &StoreOptions, path: &Path) -> Result<Store, Failure> {
    Ok(options.clone().open_within(path, OPEN_WAIT)?)
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments are invalid.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Store(#[from] Error),
    #[error("{doing}: {cause}")]
    File {
        doing: String,
        #[source]
        cause: io::Error,
    },
    /// The requested item does not exist.
    #[error("{0}")]
    Missing(String),
    /// The store was replaced while the output of the command waited.
    #[error("{0}")]
    Changed(String),
    /// Verify completed and printed damage in the store.
    #[error("{}", damage_found(*.0))]
    Damaged(u64),
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub(crate) fn file(doing: impl Into<String>, cause: io::Error) -> Self {
        Self::File { doing: doing.into(), cause }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Store(Error::InvalidArgument(_) | Error::LimitExceeded(_)) => {
                ExitCode::from(2)
            }
            _ => ExitCode::FAILURE,
        }
    }

    /// Whether the reader of our output exited.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let error = match self {
            Self::Output(error) => Some(error),
            Self::Store(Error::Storage { cause, .. }) => cause.downcast_ref(),
            _ => None,
        };
        error.is_some_and(|error: &io::Error| error.kind() == ErrorKind::BrokenPipe)
    }
}

fn damage_found(damages: u64) -> String {
    format!("{} found; restore a backup", count(damages, "damage"))
}

/// Whether a file, which may not exist yet, is within a directory once its path is resolved.
fn is_within(file: &Path, dir: &Path) -> bool {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let places = [fs::canonicalize(file), fs::canonicalize(parent.unwrap_or(Path::new(".")))];
    let dir = fs::canonicalize(dir);
    dir.is_ok_and(|dir| places.iter().flatten().any(|place| place.starts_with(&dir)))
}

/// Refuses a file to write that is within the store.
pub(crate) fn check_outside(file: &Path, dir: &Path) -> Result<(), Failure> {
    if is_within(file, dir) {
        let file = file.display();
        return Err(Failure::Usage(format!("{file} is within the store, which it would damage")));
    }
    Ok(())
}

/// Parses the name of a stream that is read. A system stream is one.
pub(crate) fn readable_stream(text: &str) -> Result<StreamId, InvalidArgument> {
    if text == DELETIONS_STREAM { Ok(StreamId::deletions()) } else { StreamId::new(text) }
}

/// Shows progress on standard error if that is a terminal. `total` is in bytes or in events.
pub(crate) fn progress(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Formats a number for people: 262,200.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 event`, `262,200 events`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// Formats a duration for people: 1.5s, 3 days, 12 years.
pub(crate) fn long(time: Duration) -> String {
    const DAY: u64 = 86_400;
    match time.as_secs() / DAY {
        0 | 1 => format!("{time:.1?}"),
        days if days < 2 * 365 => format!("{days} days"),
        days => format!("{} years", grouped(days / 365)),
    }
}

/// Prints a message to standard error that is not output.
pub(crate) fn note(text: &str) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "annals: {text}");
}
