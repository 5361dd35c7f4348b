//! Output that another program reads at its own pace: `| less`, `| head`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use annals::{Checkpoint, ProjectionManager, Store, ViewChange, ViewCommit, ViewStore};

use crate::workspace::{Workspace, spawn, text};

/// More items of each kind than all buffers between a command and its reader hold.
const MANY: usize = 12_000;
const CAUSE: &str = "01890a5d-ac96-774b-bcce-b302099a8051";

/// A store in which every reading command has much to print.
fn large(desk: &Workspace, store: &str) {
    let mut lines = String::new();
    let time = "2026-01-01T00:00:00Z";
    let _ = writeln!(
        lines,
        r#"{{"stream":"first","type":"T","time":"{time}","id":"{CAUSE}","data":0}}"#
    );
    for n in 0..MANY {
        let place = format!(r#""type":"T","time":"{time}","data":{n}"#);
        let caused = format!(r#""metadata":{{"$causation_id":"{CAUSE}"}}"#);
        let _ = writeln!(lines, r#"{{"stream":"long",{place},{caused}}}"#);
        let _ = writeln!(lines, r#"{{"stream":"{n:0>90}",{place}}}"#);
    }
    desk.write("lines", lines);
    desk.ok(&["import", store, "lines"]);
    let put = |n| ViewChange::Put { key: format!("{n:0>90}").into(), value: b"true".to_vec() };
    let view = ViewCommit {
        view: "kept".into(),
        expected: None,
        changes: (0..MANY).map(put).collect(),
        checkpoint: Some(Checkpoint::default()),
        follows_other_log: true,
    };
    let store = Store::open(desk.path(store)).unwrap();
    store.commit_view(&view).unwrap();
    store.close().unwrap();
}

/// Starts a command and reads one line of its output.
fn begun(desk: &Workspace, args: &[&str]) -> (Child, String, BufReader<ChildStdout>) {
    let mut child = spawn(&mut desk.command(args));
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    (child, line, output)
}

/// Waits for a command that must end without being killed.
fn ended(mut child: Child) -> (ExitStatus, String) {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("the command does not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    (output.status, text(&output.stderr))
}

#[test]
fn slow_reader_does_not_keep_the_store() {
    let desk = Workspace::new();
    large(&desk, "s");
    for args in [
        &["log", "s"][..],
        &["log", "s", "--json", "--type", "T"],
        &["log", "s", "--backward", "--limit", "20000"],
        &["log", "s", "--as-of-time", "2026-01-02T00:00:00Z"],
        &["read", "s", "long"],
        &["read", "s", "long", "--backward", "--after", "11990"],
        &["read", "s", "long", "--from", "5", "--json"],
        &["export", "s"],
        &["streams", "s", "--prefix", "0"],
        &["streams", "s", "--prefix", "0", "--limit", "11000", "--json"],
        &["views", "s", "kept"],
        &["views", "s", "kept", "--backward", "--limit", "11000", "--json"],
        &["trace", "s", CAUSE],
        &["trace", "s", CAUSE, "--json"],
    ] {
        let expected = desk.ok(args);
        let (child, mut printed, mut output) = begun(&desk, args);
        // It fails after two seconds if another process holds the store.
        desk.ok(&["append", "s", "meanwhile", "Other"]);
        output.read_to_string(&mut printed).unwrap();
        let (status, complaint) = ended(child);
        assert!(status.success(), "{args:?}: {complaint}");
        assert_eq!(complaint, "", "{args:?}");
        assert!(printed == expected, "{args:?}: {} for {}", printed.len(), expected.len());
    }
}

#[test]
fn output_continues_when_a_writer_closes_the_store() {
    let desk = Workspace::new();
    large(&desk, "s");
    let expected = desk.ok(&["export", "s"]);
    let (child, mut printed, mut output) = begun(&desk, &["export", "s"]);
    // Waits until the command releases the store.
    thread::sleep(Duration::from_secs(1));
    let store = Store::open(desk.path("s")).unwrap();
    let reader = thread::spawn(move || {
        output.read_to_string(&mut printed).unwrap();
        printed
    });
    thread::sleep(Duration::from_millis(500));
    assert!(!reader.is_finished());
    store.close().unwrap();
    assert!(reader.join().unwrap() == expected);
    let (status, complaint) = ended(child);
    assert!(status.success());
    assert!(complaint.contains("the output continues when it is closed there"), "{complaint}");
}

#[test]
fn output_ends_with_an_error_if_the_store_is_another_one() {
    let desk = Workspace::new();
    large(&desk, "s");
    desk.ok(&["append", "other", "a", "T"]);
    desk.ok(&["backup", "s", "older"]);
    desk.ok(&["append", "s", "a", "T"]);
    for (replacement, reason) in [
        (Some("other"), "holds another store now"),
        (Some("older"), "went back from position 24002 to 24001"),
        (None, "does not exist"),
    ] {
        let (child, _, mut output) = begun(&desk, &["log", "s"]);
        // Waits until the command releases the store.
        thread::sleep(Duration::from_secs(1));
        drop(Store::open(desk.path("s")).unwrap());
        fs::rename(desk.path("s"), desk.path("away")).unwrap();
        if let Some(replacement) = replacement {
            fs::rename(desk.path(replacement), desk.path("s")).unwrap();
        }
        output.read_to_end(&mut Vec::new()).unwrap();
        let (status, complaint) = ended(child);
        assert_eq!(status.code(), Some(1), "{complaint}");
        assert!(complaint.contains(reason), "{complaint}");
        if replacement.is_some() {
            fs::remove_dir_all(desk.path("s")).unwrap();
        }
        fs::rename(desk.path("away"), desk.path("s")).unwrap();
    }
}

#[test]
fn entries_of_a_rebuilt_read_model_are_not_mixed() {
    let desk = Workspace::new();
    large(&desk, "s");
    project(&desk, 1);
    let args = ["views", "s", "named"];
    let expected = desk.ok(&args);
    for version in [1, 2] {
        let (child, mut printed, mut output) = begun(&desk, &args);
        thread::sleep(Duration::from_secs(1));
        project(&desk, version);
        output.read_to_string(&mut printed).unwrap();
        let (status, complaint) = ended(child);
        assert_eq!(status.success(), version == 1, "{complaint}");
        assert_eq!(complaint.contains("while it was being read; read it again"), version == 2);
        assert_eq!(printed == expected, version == 1);
    }
}

/// Lets this version of a projection catch up.
fn project(desk: &Workspace, version: u32) {
    let store = Store::open(desk.path("s")).unwrap();
    let projections = ProjectionManager::new(&store).register(Named(version)).unwrap();
    projections.start().unwrap();
    projections.wait_for_head(Duration::from_secs(60)).unwrap();
    projections.stop();
    drop(projections);
    store.close().unwrap();
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Number(u32);
annals::domain_events! { Number => "T" }

/// Keeps the last number of each stream.
struct Named(u32);

impl annals::Projection for Named {
    type Event = Number;

    fn name(&self) -> &'static str {
        "named"
    }

    fn version(&self) -> u32 {
        self.0
    }

    fn handle(
        &self,
        event: &annals::TypedEvent<Number>,
        view: &mut annals::ViewWriter,
    ) -> Result<(), annals::HandlerError> {
        Ok(view.put(event.stream(), &event.event.0)?)
    }
}

#[cfg(unix)]
#[test]
fn follower_ends_when_its_reader_goes_away() {
    let desk = Workspace::new();
    desk.ok(&["append", "s", "a", "T"]);
    let (child, line, output) = begun(&desk, &["log", "s", "--follow"]);
    assert!(line.contains("a@1"));
    drop(output);
    // No further event comes.
    let (status, complaint) = ended(child);
    assert!(status.success());
    assert_eq!(complaint, "");

    // The same while another process holds the store.
    let held = Store::open(desk.path("s")).unwrap();
    let mut child = spawn(&mut desk.command(&["log", "s", "--follow"]));
    thread::sleep(Duration::from_millis(200));
    drop(child.stdout.take());
    assert!(ended(child).0.success());
    drop(held);
}
