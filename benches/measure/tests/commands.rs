//! The commands: what they report, what they refuse, and that they leave no files. Speed is never
//! checked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Small enough for a test; the figures have no meaning.
const TINY: &str = "engine --events 400 --streams 30 --payload 40 --seconds 0.005";

fn command(directory: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_measure"));
    command.current_dir(directory).args(args.split_whitespace());
    command
}

fn run(directory: &Path, args: &str) -> Output {
    command(directory, args).output().unwrap()
}

/// Runs a command that succeeds, and returns what it printed and its JSON.
fn measured(directory: &Path, args: &str) -> (String, Value) {
    let output = run(directory, &format!("{args} --json out.json --svg out.svg"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = fs::read_to_string(directory.join("out.json")).unwrap();
    assert!(fs::read_to_string(directory.join("out.svg")).unwrap().ends_with("</svg>\n"));
    (String::from_utf8(output.stdout).unwrap(), serde_json::from_str(&json).unwrap())
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn engine_reports_every_row_with_its_baseline() {
    let directory = TempDir::new().unwrap();
    let (text, json) = measured(directory.path(), TINY);
    for row in [
        "append 1 event, synced ",
        "append 1 event, synced, 32 threads",
        "append 1 event, buffered",
        "append 10 events, buffered",
        "append 100 events, buffered",
        "load an aggregate of 1,000 events ",
        "append 1 event, synced, 64 writers of one stream",
        "load an aggregate of 1,000 events, from a snapshot",
        "replay the log as references",
        "replay the log as values",
        "events, warm",
        "events, first after opening",
        "catch up with the log",
        "append, buffered, until a live subscriber has it",
        "verify the log and all streams",
        "back up the store",
        "open, after closing",
        "open, after a crash with 4 MiB unflushed",
        "rebuild a read model, an entry an event",
    ] {
        assert!(text.lines().any(|line| line.starts_with('|') && line.contains(row)), "no {row:?}");
    }
    let figures = json["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 19);
    for figure in figures {
        let speed = |side: &str| figure[side]["per_second"].as_f64().unwrap();
        let ratio = figure["ratio"].as_f64().unwrap();
        assert!((ratio - speed("store") / speed("baseline")).abs() <= ratio * 1e-6, "{figure}");
        // If each run is a whole pass, both sides did the same work.
        if figure["store"]["p50_us"].is_null() {
            assert_eq!(figure["store"]["count"], figure["baseline"]["count"], "{figure}");
        }
    }
    assert_eq!(names(directory.path()), ["out.json", "out.svg"]);
}

#[test]
fn engine_measures_imported_events() {
    let directory = TempDir::new().unwrap();
    let line = |number: usize| {
        let (stream, kind) = (number % 7, number % 3);
        format!(
            "{{\"stream\":\"s-{stream}\",\"type\":\"T{kind}\",\"data\":1,\
             \"time\":\"2011-10-01T00:00:00Z\"}}\n"
        )
    };
    fs::write(directory.path().join("in"), (0..70).map(line).collect::<String>()).unwrap();
    let (_, json) = measured(directory.path(), "engine --input in --seconds 0.005");
    let figures = json["figures"].as_array().unwrap();
    for name in ["import 70 lines", "replay the log as values", "verify the log and all streams"] {
        let figure = figures.iter().find(|figure| figure["name"] == name).unwrap();
        assert_eq!(figure["store"]["count"], 70, "{name}");
    }
    assert!(figures.iter().all(|f| f["group"] != "append" && f["group"] != "aggregate"));
}

#[test]
fn tasks_reports_every_case_of_both_doors() {
    let directory = TempDir::new().unwrap();
    let tiny = "tasks --tasks 1,20 --threads 3 --subscribers 2,200 --events 20 --pace 1000 \
                --seconds 0.05 --rounds 1";
    let (text, json) = measured(directory.path(), tiny);
    let rows = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(
        [rows("| 1 task "), rows("| 20 tasks "), rows("| 3 threads ")],
        [4; 3],
        "synced and buffered, own streams and one"
    );
    // More threads than 100 do not follow.
    assert_eq!(
        ["| 2 tasks ", "| 200 tasks ", "| 2 threads ", "| 200 threads "].map(rows),
        [1, 1, 1, 0]
    );
    let figures = json["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 4 * 3 + 3);
    for figure in figures {
        assert!(figure["median"]["per_second"].as_f64().unwrap() > 0.0, "{figure}");
        let (workers, threads) = (&figure["workers"], &figure["median"]["threads"]);
        let needs_a_thread_each = figure["by_tasks"] == false;
        if needs_a_thread_each {
            assert!(threads.as_u64() > workers.as_u64(), "{figure}");
        }
    }
    assert_eq!(names(directory.path()), ["out.json", "out.svg"]);
}

#[test]
fn peers_and_growth_report_and_leave_nothing() {
    let directory = TempDir::new().unwrap();
    let peers = "peers --events 300 --payload 100 --threads 1,8 --seconds 0.005 --rounds 1 \
                 --only annals,rocksdb,file";
    let (text, json) = measured(directory.path(), peers);
    assert!(text.contains("## Overview") && text.contains("| rocksdb"));
    // Neither of the baselines is a peer.
    assert!(text.contains("## Where a peer is ahead of annals\n\nNone.\n"), "{text}");
    assert!(json["questions"].as_array().unwrap().len() > 10);
    let (text, json) = measured(directory.path(), "growth --events 10000");
    assert!(text.contains("## As the log grows"));
    assert_eq!(json["log_grows"][0]["events"], 10_000);
    assert_eq!(names(directory.path()), ["out.json", "out.svg"]);
}

#[test]
fn workloads_report_every_contender_and_leave_nothing() {
    let directory = TempDir::new().unwrap();
    let workloads = "workloads --streams 20 --workers 1,8 --seconds 0.005 --warmup 0 --rounds 1 \
                     --only annals,rocksdb,file";
    let (text, json) = measured(directory.path(), workloads);
    let questions = json["questions"].as_array().unwrap();
    let names = ["write-stream-unconditional", "write-stream-conditional", "read-stream"];
    assert_eq!(questions.len(), 2 * names.len());
    // Only a store that many threads may use runs with 8, and only one that can be read is read.
    for (name, contenders) in names.into_iter().zip([[3, 2], [3, 2], [2, 2]]) {
        assert!(text.contains(&format!("\n## {name}\n\n| events/s")), "{text}");
        let of = |one: &&Value| one["question"].as_str().unwrap().starts_with(name);
        let answers = |one: &Value| one["answers"].as_array().unwrap().len();
        let found: Vec<_> = questions.iter().filter(of).map(answers).collect();
        assert_eq!(found, contenders, "{name}");
    }
    assert!(text.contains("not run: axonserver"), "{text}");
    assert_eq!(self::names(directory.path()), ["out.json", "out.svg"]);
}

#[test]
fn invalid_arguments_are_refused_and_leave_nothing() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    for (code, args, why) in [
        (2, "engine --dir missing", "no such directory"),
        (2, "engine --dir empty", "no such directory"),
        (2, "engine --events 0", "--events"),
        (2, "engine --payload 15", "--payload"),
        (2, "engine --seconds NaN", "from 0.001 to 3600"),
        (2, "engine --only nothing", "nothing"),
        (2, "engine --svg .", "it is a directory"),
        (2, "peers --json missing/out", "the directory above it is missing"),
        (2, "engine --input empty --events 5", "cannot be used with"),
        (2, "peers --only nobody", "there are annals"),
        (2, "growth --events 9", "--events"),
        (2, "workloads --workers 0", "--workers"),
        (2, "workloads --warmup 3601", "from 0 to 3600"),
        (1, "engine --input missing", "missing: No such file"),
        (1, "engine --input empty", "empty holds no events"),
    ] {
        let output = run(directory.path(), args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args}: {said}");
        assert!(said.contains(why), "{args}: {said}");
        assert_eq!(names(directory.path()), ["empty"], "{args}");
    }
}

#[test]
fn interrupted_run_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let mut command = command(directory.path(), "engine --seconds 600 --only append");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let store = || Some(directory.path().join(names(directory.path()).first()?).join("append"));
    while !store().is_some_and(|store| store.join("STORE").exists()) {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not begin");
        thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(output.stdout.is_empty() && names(directory.path()).is_empty());
}
