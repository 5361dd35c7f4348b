//! `annals export`: the whole log in the line form.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use annals::{EventStore, Exported, Position, Store};
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use super::shell::{Failure, Shell, count, progress};

/// Write the whole log, one JSON object a line, in the form that import reads
///
/// Import of an export gives the same log, whatever the events hold; only the store id differs. A file is written
/// beside its place as FILE.partial and renamed when it is whole: what stood there before is replaced, or kept if the
/// export fails.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals export bank.annals bank.jsonl.gz\n  \
    annals export bank.annals | jq -r .type | sort | uniq -c")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// Where to write; a name that ends in .gz is compressed; - is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let total = store.head()?.map_or(0, Position::get);
    let bar = progress(Some(total), "{bar:30} {pos} of {len} events (about {eta} left)");
    if args.file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            // The events themselves are the progress.
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        write(&store, out, &bar)?;
        return Ok(());
    }
    if is_within(&args.file, &args.dir) {
        let file = args.file.display();
        return Err(Failure::Usage(format!("{file} lies within the store: it would damage it")));
    }
    let exported = to_file(&store, &args.file, &bar)?;
    let mut out = io::stdout().lock();
    if shell.json {
        writeln!(out, "{}", json!({ "events": exported.events, "bytes": exported.bytes }))?;
    } else {
        writeln!(out, "wrote {} to {}", count(exported.events, "event"), args.file.display())?;
    }
    Ok(())
}

/// Whether a file that may not be there yet lies within a directory, whatever way its path takes.
fn is_within(file: &Path, dir: &Path) -> bool {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let places = [fs::canonicalize(file), fs::canonicalize(parent.unwrap_or(Path::new(".")))];
    let dir = fs::canonicalize(dir);
    dir.is_ok_and(|dir| places.iter().flatten().any(|place| place.starts_with(&dir)))
}

fn write(store: &Store, out: impl Write, bar: &ProgressBar) -> Result<Exported, Failure> {
    let exported = store.export(out, |so_far| bar.set_position(so_far.events));
    bar.finish_and_clear();
    Ok(exported?)
}

fn to_file(store: &Store, path: &Path, bar: &ProgressBar) -> Result<Exported, Failure> {
    let failed = |doing: &str| {
        let doing = format!("{doing} {}", path.display());
        move |error| Failure::file(doing, error)
    };
    // A device or a pipe is written to, not replaced.
    let is_special = fs::metadata(path).is_ok_and(|about| !about.is_file());
    let target = if is_special { path.to_owned() } else { partial(path) };
    let file = File::create(&target).map_err(failed("creating"))?;
    let written = to_stream(store, path, &file, bar);
    if is_special {
        return written;
    }
    let placed = written.and_then(|exported| {
        file.sync_all().map_err(failed("syncing"))?;
        fs::rename(&target, path).map_err(failed("renaming"))?;
        Ok(exported)
    });
    if placed.is_err() {
        // What is left of a failed export is of no use; the failure itself is what must be told.
        let _ = fs::remove_file(&target);
    }
    placed
}

fn to_stream(
    store: &Store,
    path: &Path,
    file: &File,
    bar: &ProgressBar,
) -> Result<Exported, Failure> {
    let out = BufWriter::with_capacity(1 << 16, file);
    if path.extension().is_none_or(|extension| extension != "gz") {
        return write(store, out, bar);
    }
    let mut out = GzEncoder::new(out, Compression::default());
    let exported = write(store, &mut out, bar)?;
    let finished = out.finish().and_then(|mut out| out.flush());
    finished.map_err(|error| Failure::file(format!("writing {}", path.display()), error))?;
    Ok(exported)
}

fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}
