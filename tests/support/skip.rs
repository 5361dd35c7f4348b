//! Reports tests that cannot run on this machine, so that they do not count as passed.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Prints without the test harness, which hides the `eprintln!` output of a test that passes.
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
    // One write, so that the lines of concurrent tests do not mix.
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}
