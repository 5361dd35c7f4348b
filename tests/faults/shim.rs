//! Starts this test binary again as a child, under the shim `shim.c`, and reads the trace that the
//! shim leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

/// Tells the child which plan to run.
pub(crate) const PLAN: &str = "ANNALS_TEST_FAULTS_PLAN";
/// Tells the child where its place is.
pub(crate) const PLACE: &str = "ANNALS_TEST_FAULTS_PLACE";

/// Time limit of a child: far longer than any child takes. If no file can be removed, eleven
/// deletions wait ten seconds each.
const PATIENCE: Duration = Duration::from_secs(900);

/// The reason for a missing shim.
pub(crate) const NO_SHIM: &str = "the shim needs x86-64, glibc and a C compiler";

/// The directory that represents a disk, and the files next to it.
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("disk")).unwrap();
        Self { root: root.to_owned() }
    }

    /// The place that a child was given.
    pub(crate) fn of_child() -> Option<Self> {
        std::env::var(PLACE).ok().map(|root| Self { root: root.into() })
    }

    /// The directory that represents the disk: the shim watches all of it.
    pub(crate) fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.disk().join("store")
    }

    /// The promises, outside the directory that represents the disk.
    pub(crate) fn book(&self) -> PathBuf {
        self.root.join("book")
    }

    pub(crate) fn trace(&self) -> PathBuf {
        self.root.join("trace")
    }

    /// The call that the fault hit: `s …/db/000004.log`; `None` if the fault did not occur.
    pub(crate) fn fired(&self) -> Option<String> {
        let told = fs::read_to_string(self.root.join("fired")).ok()?;
        told.lines().next().map(str::to_owned)
    }
}

impl Place {
    /// Starts over: earlier promises and hits no longer count.
    pub(crate) fn forget(&self) {
        for path in [self.book(), self.root.join("fired")] {
            if path.exists() {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Read,
    Write,
    Sync,
    Rename,
    Unlink,
    /// Making directories and links, truncating, allocating.
    Other,
    /// Any call that changes or syncs.
    Any,
}

impl Call {
    fn letter(self) -> char {
        match self {
            Self::Open => 'o',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Sync => 's',
            Self::Rename => 'n',
            Self::Unlink => 'u',
            Self::Other => 'm',
            Self::Any => '*',
        }
    }
}

/// The effect on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The call fails with an I/O error.
    Eio,
    /// The call fails: no space left.
    Enospc,
    /// The process ends.
    Kill,
    /// The file system is shut down without its journal, and the process ends.
    CutPower,
}

/// A fault, and when it occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    /// Counts from 1.
    pub(crate) nth: usize,
    pub(crate) for_ever: bool,
    pub(crate) blow: Blow,
    /// Counts and hits only calls on files whose names end with this.
    pub(crate) only: &'static str,
}

impl Fault {
    fn text(self) -> String {
        let code = match self.blow {
            Blow::Eio => 5,
            Blow::Enospc => 28,
            Blow::Kill => 1000,
            Blow::CutPower => 1001,
        };
        format!("{} {} {} {code}", self.call.letter(), self.nth, u8::from(self.for_ever))
    }
}

/// What the shim does to a child.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watch {
    pub(crate) trace: bool,
    pub(crate) fault: Option<Fault>,
    /// Microseconds that a sync takes; `None` for a real sync.
    pub(crate) sync_takes: Option<u32>,
}

/// Runs the plan in a child; `None` if the shim is not available on this machine.
pub(crate) fn run(plan: &str, place: &Place, watch: Watch) -> Option<Output> {
    let shim = library()?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "workload::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLAN, plan)
        .env(PLACE, &place.root)
        .env("LD_PRELOAD", shim)
        .env("ANNALS_SHIM_ROOT", place.disk())
        .env("ANNALS_SHIM_ACKS", place.book())
        .env("ANNALS_SHIM_FIRED", place.root.join("fired"))
        .stdin(Stdio::null());
    if watch.trace {
        command.env("ANNALS_SHIM_TRACE", place.trace());
    }
    if let Some(fault) = watch.fault {
        command.env("ANNALS_SHIM_FAULT", fault.text()).env("ANNALS_SHIM_ONLY", fault.only);
    }
    if let Some(micros) = watch.sync_takes {
        command.env("ANNALS_SHIM_SYNC", micros.to_string());
    }
    Some(finish(command))
}

/// Waits for a child; stops one that hangs, and reports it.
fn finish(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    let (over, is_over) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let hangs = is_over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if hangs {
            // So that it leaves a backtrace.
            Command::new("kill").args(["-ABRT", &id]).status().unwrap();
        }
        hangs
    });
    let mut output = child.wait_with_output().unwrap();
    drop(over);
    if watchdog.join().unwrap() {
        output.stderr.extend_from_slice(b"the child hangs");
    }
    output
}

/// The shim, compiled once; `None`, with a message, if that is not possible.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(compile).as_deref()
}

fn compile() -> Option<PathBuf> {
    if !cfg!(all(target_env = "gnu", target_arch = "x86_64")) {
        return None;
    }
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let (made, library) =
        (directory.join(format!("shim.{}", std::process::id())), directory.join("shim.so"));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(compiler)
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&made, &source])
        .args(["-ldl", "-lpthread"])
        .output();
    match compiled {
        Ok(output) if output.status.success() => {
            fs::rename(made, &library).unwrap();
            Some(library)
        }
        Ok(output) => panic!("shim.c: {}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => None,
    }
}

/// One event, as the shim records it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create {
        path: PathBuf,
        ino: u64,
    },
    Write {
        ino: u64,
        at: u64,
        data: Vec<u8>,
    },
    Truncate {
        ino: u64,
        len: u64,
    },
    BeginSync {
        number: u64,
    },
    /// The end of the sync that began with this number.
    EndSync {
        ino: u64,
        number: u64,
        is_ok: bool,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    Mkdir {
        path: PathBuf,
        ino: u64,
    },
    Rmdir {
        path: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    /// Not a change to the disk: these lines were written to the file of acknowledgements.
    Noted(String),
}

/// The trace of a place, in order.
pub(crate) fn read_trace(place: &Place) -> Vec<Event> {
    let bytes = fs::read(place.trace()).unwrap();
    let mut events = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((record, tail)) = rest.split_first_chunk::<32>() {
        let long = |at: usize| number(&record[at..at + 8]);
        let short = |at: usize| usize::try_from(number(&record[at..at + 4])).unwrap();
        let (path, tail) = tail.split_at(short(20));
        let (data, tail) = tail.split_at(short(24));
        rest = tail;
        let path_of = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap());
        let (ino, at, path) = (long(0), long(8), path_of(path));
        events.push(match record[28] {
            b'C' => Event::Create { path, ino },
            b'W' => Event::Write { ino, at, data: data.to_vec() },
            b'T' => Event::Truncate { ino, len: at },
            b'B' => Event::BeginSync { number: at },
            b'E' => Event::EndSync { ino, number: at, is_ok: short(16) == 0 },
            b'R' => Event::Rename { from: path, to: path_of(data) },
            b'U' => Event::Unlink { path },
            b'M' => Event::Mkdir { path, ino },
            b'D' => Event::Rmdir { path },
            b'L' => Event::Link { from: path, to: path_of(data) },
            b'K' => Event::Noted(String::from_utf8(data.to_vec()).unwrap()),
            other => panic!("the trace holds {other}"),
        });
    }
    assert!(rest.is_empty(), "the trace ends within a record");
    events
}

/// A little-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
