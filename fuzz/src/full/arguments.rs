//! Arguments of the command line: for any arguments, the program does its work or reports why not;
//! wrong usage leaves no files behind; and no command leaves an unsound store.
//!
//! It runs in this process, in a separate directory. File names cannot lead out of it: they contain
//! no `/`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Once;

use annals::Position;
use annals::prelude::*;
use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::template;
use crate::input::Input;

// The command line is a program over the public API, so no library exports it: its sources are
// mounted here. A copy in the library would be compiled into every build with all features.
#[path = "../../../src/bin/annals/main.rs"]
#[allow(dead_code)]
mod cli;

const WORDS: [&str; 96] = [
    "import",
    "export",
    "read",
    "log",
    "streams",
    "trace",
    "views",
    "stat",
    "verify",
    "append",
    "help",
    "store",
    "store",
    "store",
    "new",
    "lines",
    "lines.gz",
    "bad",
    "missing",
    "out",
    "out.gz",
    "-",
    "a-1",
    "account-1",
    "b",
    "none-1",
    "a-1@1",
    "a-1@99",
    "Opened",
    "balances",
    "--json",
    "--from",
    "--after",
    "--backward",
    "--limit",
    "--type",
    "--category",
    "--stream-prefix",
    "--stream",
    "--as-of-position",
    "--as-of-version",
    "--as-of-time",
    "--ids",
    "--follow",
    "--prefix",
    "--under",
    "--clamp-times",
    "--expected",
    "any",
    "none",
    "exists",
    "--id",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "--schema-version",
    "--content-type",
    "image/png",
    "--text",
    "--bytes",
    "--metadata",
    "k=v",
    "--tag",
    "--block-cache-mib",
    "--memtable-mib",
    "0",
    "1",
    "18",
    "1048576",
    "18446744073709551615",
    "2011-10-01T00:38:44.546+02:00",
    "{\"owner\":\"Ada\"}",
    "--help",
    "--version",
    "--",
    "--positions",
    "--keep-positions",
    "truncate",
    "delete-stream",
    "redact",
    "retain",
    "scavenge",
    "deletions",
    "backup",
    "restore",
    "index",
    "--before",
    "--reason",
    "--by",
    "--tombstone",
    "--max-count",
    "--max-age",
    "--unset",
    "--dry-run",
    "--archive",
    "--lacks",
    "--replay",
    "--remove-tag",
];

pub fn arguments(data: &[u8]) {
    let mut input = Input::new(data);
    let mut arguments = vec![OsString::from("annals")];
    while !input.is_empty() && arguments.len() < 24 {
        arguments.push(argument(&mut input));
    }
    let parsed = match cli::Cli::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(refused) => return assert!(!refused.to_string().is_empty()),
    };
    // It would never end.
    if arguments.iter().any(|argument| argument == "--follow") {
        return;
    }
    let (directory, store) = template::store();
    prepare(directory.path());
    std::env::set_current_dir(directory.path()).unwrap();
    let before = entries(directory.path());
    let done = silently(|| cli::run(&parsed));
    let mut is_refused = false;
    if let Err(failure) = done {
        let text = failure.to_string();
        assert!(!text.is_empty());
        let failure = format!("{failure:?}");
        let begins = |with: &&str| failure.starts_with(*with);
        is_refused =
            ["Usage(", "Store(InvalidArgument(", "Store(LimitExceeded("].iter().any(begins);
        // Only the store can show these, so it was opened.
        let is_of_store =
            ["Store(InvalidArgument(NothingToTombstone", "Store(InvalidArgument(OtherEvent"];
        if is_refused && !is_of_store.iter().any(begins) {
            assert_eq!(entries(directory.path()), before, "{text}");
        }
    }
    for path in [store, directory.path().join("new")] {
        if path.join("STORE").exists() {
            let store = template::options().open(path).unwrap();
            assert!(store.verify(|_| {}).unwrap().is_sound());
            if is_refused {
                assert_eq!(store.head().unwrap(), Position::new(template::EVENTS));
            }
            let one_more = NewEvent::json("Changed", &1).unwrap();
            let at_end = store.read_log().last().unwrap().map(|last| last.recorded_at());
            let one_more = at_end.map_or(one_more.clone(), |time| one_more.with_recorded_at(time));
            store.append("checked", ExpectedVersion::Any, [one_more]).unwrap();
        }
    }
}

/// A word with a meaning, or any text or bytes.
fn argument(input: &mut Input<'_>) -> OsString {
    let choice = input.byte();
    let word = WORDS.get(usize::from(choice) % 104);
    let no_path = |byte: &u8| if *byte == b'/' { b'_' } else { *byte };
    match (word, choice) {
        (Some(word), _) => OsString::from(*word),
        (None, 240..) => {
            let joined = format!("{}={}", input.of(&WORDS), input.of(&WORDS));
            OsString::from(joined)
        }
        _ => OsString::from_vec(input.piece().iter().map(no_path).collect()),
    }
}

/// Makes the files next to the store.
fn prepare(directory: &Path) {
    let line = |second| {
        format!(
            "{{\"stream\":\"i\",\"type\":\"T\",\"time\":\"9999-01-01T00:00:0{second}Z\",\"data\":1}}\n"
        )
    };
    let lines = line(1) + &line(2);
    fs::write(directory.join("lines"), &lines).unwrap();
    fs::write(directory.join("bad"), lines + "{}").unwrap();
    let file = File::create(directory.join("lines.gz")).unwrap();
    let mut gz = GzEncoder::new(file, Compression::fast());
    gz.write_all(line(3).as_bytes()).unwrap();
    gz.finish().unwrap();
}

/// The names and lengths of the files in a directory and in the store's database.
fn entries(directory: &Path) -> Vec<(OsString, u64)> {
    let mut entries = Vec::new();
    for directory in [directory.to_owned(), directory.join("store/db")] {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            entries.push((entry.file_name(), entry.metadata().unwrap().len()));
        }
    }
    entries.sort();
    entries
}

/// Runs with empty standard input, and discards standard output.
fn silently<T>(run: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    ONCE.call_once(|| unsafe {
        libc::dup2(null.as_raw_fd(), 0);
    });
    let out = unsafe { libc::dup(1) };
    unsafe { libc::dup2(null.as_raw_fd(), 1) };
    let done = run();
    unsafe {
        libc::dup2(out, 1);
        libc::close(out);
    }
    done
}
