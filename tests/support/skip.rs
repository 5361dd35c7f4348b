//! Tests that cannot run on a machine: counted, so that nobody takes them for tests that passed.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Prints past the harness, which keeps what `eprintln!` prints of a test that passes.
#[expect(clippy::explicit_write, reason = "the harness captures what eprintln! prints")]
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// Records that `test`, or a part of it, cannot run here. `make test` and `.ci/run` print the lines
/// of this file.
pub(crate) fn skipped(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {}", reason.replace('\n', " "));
    say(&line);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    // One write, so that lines of tests that run at once do not mix.
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}
