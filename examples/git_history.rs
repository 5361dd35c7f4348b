//! Turns the history of a git repository into events, as JSON lines for `annals import`.
//!
//! `cargo run --release --example git_history -- PATH` (`.` by default). Each git commit becomes
//! one event `Committed` in the stream `author-<email>`, then one event for each file it touched
//! (`FileAdded`, `FileChanged`, `FileDeleted`) in the stream `file-<path>`. The commit's hash is
//! their correlation id. Times are the committer's. They may go back from one commit to the next,
//! so import with `--clamp-times`.

use std::error::Error;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::{Command, ExitCode};
use std::slice::Split;

use annals::limits::STREAM_ID_LEN_MAX;
use serde_json::{Value, json};

/// The format of one commit. Fields and paths end with a NUL, which neither can contain.
const FORMAT: &str = "--format=tformat:%H%x00%cI%x00%aN%x00%aE%x00%s";
/// A status is one letter, while a hash is longer.
const STATUS_LEN: usize = 1;

fn main() -> ExitCode {
    let repository = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let out = BufWriter::new(io::stdout().lock());
    match convert(&repository, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let pipe = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if pipe == Some(ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("git_history: {error}");
            ExitCode::FAILURE
        }
    }
}

fn convert(repository: &str, mut out: impl Write) -> Result<(), Box<dyn Error>> {
    git(repository, &["rev-parse", "--git-dir"])?;
    if git(repository, &["rev-parse", "--verify", "HEAD"]).is_err() {
        let refused = "has no commits yet: there is no history to convert";
        return Err(format!("{repository} {refused}").into());
    }
    let log = ["log", "--reverse", "-z", "--no-renames", "--name-status", "--no-color", FORMAT];
    let history = git(repository, &log)?;
    for event in Events::of(&history) {
        writeln!(out, "{event}")?;
    }
    Ok(out.flush()?)
}

/// Runs git, and returns its output.
fn git(repository: &str, arguments: &[&str]) -> Result<Vec<u8>, Box<dyn Error>> {
    let run = Command::new("git").arg("-C").arg(repository).args(arguments).output();
    let output = run.map_err(|error| format!("git cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("git, in {repository}: {}", complaint.trim()).into())
}

type IsNul = fn(&u8) -> bool;

/// Walks the NUL-separated fields of `git log`.
struct Events<'a> {
    fields: Split<'a, u8, IsNul>,
    hash: String,
    time: String,
}

impl<'a> Events<'a> {
    fn of(history: &'a [u8]) -> Self {
        let is_nul: IsNul = |byte| *byte == 0;
        Self { fields: history.split(is_nul), hash: String::new(), time: String::new() }
    }

    fn field(&mut self) -> Option<String> {
        self.fields.next().map(|field| String::from_utf8_lossy(field).into_owned())
    }

    fn event(&self, stream: &str, event_type: &str, data: &Value) -> Value {
        json!({
            "stream": stream,
            "type": event_type,
            "time": self.time,
            "data": data,
            "metadata": { annals::CORRELATION_ID: self.hash },
        })
    }
}

impl Iterator for Events<'_> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        // A line break precedes the first status of a commit.
        let first = self.field()?.trim_start_matches('\n').to_owned();
        if first.is_empty() {
            return None;
        }
        if first.len() == STATUS_LEN {
            let event_type = match first.as_str() {
                "A" => "FileAdded",
                "D" => "FileDeleted",
                _ => "FileChanged",
            };
            let path = self.field()?;
            let data = json!({ "commit": self.hash, "path": path });
            return Some(self.event(&stream_id("file", &path), event_type, &data));
        }
        self.hash = first;
        self.time = self.field()?;
        let (name, email, subject) = (self.field()?, self.field()?, self.field()?);
        let data = json!({ "commit": self.hash, "author": name, "subject": subject });
        Some(self.event(&stream_id("author", &email), "Committed", &data))
    }
}

/// Makes a stream id, which has no control characters and at most [`STREAM_ID_LEN_MAX`] bytes. A
/// name that must be changed gets a hash of the whole name at its end, so that different names
/// remain different streams.
fn stream_id(category: &str, name: &str) -> String {
    let mut id = format!("{category}-{name}");
    let has_control = id.chars().any(char::is_control);
    if !has_control && id.len() <= STREAM_ID_LEN_MAX {
        return id;
    }
    let hash = format!("~{:016x}", fnv(name));
    id = id.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let len_max = STREAM_ID_LEN_MAX - hash.len();
    id.truncate((0..=len_max.min(id.len())).rev().find(|at| id.is_char_boundary(*at)).unwrap_or(0));
    id + &hash
}

/// FNV-1a: the same on every machine.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_unprintable_name_becomes_a_stream_id_of_its_own() {
        assert_eq!(stream_id("file", "src/ü.rs"), "file-src/ü.rs");
        let long = stream_id("file", &"ü".repeat(300));
        assert!(long.len() <= STREAM_ID_LEN_MAX && long.starts_with("file-ü"));
        assert_ne!(long, stream_id("file", &"ü".repeat(301)));
        let (tab, bell) = (stream_id("file", "a\tb"), stream_id("file", "a\u{7}b"));
        assert!(tab.starts_with("file-a\u{fffd}b~") && tab != bell);
        assert!(annals::StreamId::new(&tab).is_ok() && annals::StreamId::new(&long).is_ok());
    }

    #[test]
    fn paths_with_line_breaks_and_commits_without_files_are_read_right() {
        let history = b"aa\x002024-01-01T00:00:00Z\0N\0n@e\0first\0\nA\0a\0M\0b\nc\0\
            bb\x002024-01-02T00:00:00Z\0N\0n@e\0\0";
        let events: Vec<_> = Events::of(history).collect();
        let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["Committed", "FileAdded", "FileChanged", "Committed"]);
        assert_eq!(events[2]["data"]["path"], "b\nc");
        assert_eq!(events[3]["metadata"]["$correlation_id"], "bb");
    }
}
