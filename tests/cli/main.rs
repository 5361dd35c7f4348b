//! Tests the command line as users run it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod copying;
mod deleting;
mod inputs;
mod piping;
mod reading;
mod selecting;
#[path = "../support/mod.rs"]
mod support;
mod workspace;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::damage_packs;
use support::files::contents;
use support::skip::skipped;
use workspace::{Workspace, spawn, text};

/// A history of loans: some commits have several lines, some fields occur only in some lines.
fn history(events: usize) -> String {
    let mut out = String::new();
    for n in 0..events {
        let stream = format!("loan-{}", n * 7919 % 101);
        let (minute, micros) = (n / 60 % 60, n);
        let time = format!(
            "2020-01-{:02}T{:02}:{minute:02}:{:02}.{micros:06}+01:00",
            1 + n / 86_400,
            n / 3_600 % 24,
            n % 60
        );
        let rest = match n % 5 {
            0 => format!(r#","commit":{n},"data":{{"n":{n}}}"#),
            1 => format!(r#","commit":{},"data":[ {n} ],"tags":["odd","é"]"#, n - 1),
            2 => r#","data":null,"metadata":{"z":"1","a":"2"}"#.to_owned(),
            3 => r#","data_base64":"AP8=","schema_version":3"#.to_owned(),
            _ => format!(r#","data":"{n}","content_type":"text/x""#),
        };
        let line = format!(r#""stream":"{stream}","type":"T{}","time":"{time}"{rest}"#, n % 36);
        out.extend(["{", &line, "}\n"]);
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn history_survives_import_export_import() {
    let desk = Workspace::new();
    desk.write("history.jsonl", history(3_000));
    assert!(
        desk.ok(&["import", "a", "history.jsonl"])
            .starts_with("added 3,000 events from 3,000 lines")
    );
    let again = desk.json(&["import", "a", "history.jsonl", "--json"]);
    assert_eq!((&again["added"], &again["already_there"]), (&0.into(), &3_000.into()));

    let stat = desk.json(&["stat", "a", "--json"]);
    assert_eq!(stat["events"], 3_000);
    assert_eq!(stat["streams"], 101);
    assert_eq!(stat["types"], 36);
    assert_eq!(stat["head"], 3_000);
    assert_eq!(stat["event_types"]["T0"], 84);
    assert!(desk.ok(&["stat", "a"]).contains("events       3,000\n"));

    let exported = desk.ok(&["export", "a"]);
    assert_eq!(exported.lines().count(), 3_000);
    desk.ok(&["export", "a", "out.jsonl"]);
    desk.ok(&["export", "a", "out.jsonl.gz"]);
    assert_eq!(fs::read_to_string(desk.path("out.jsonl")).unwrap(), exported);
    assert!(
        !desk.path("out.jsonl.partial").exists() && !desk.path("out.jsonl.gz.partial").exists()
    );
    desk.ok(&["import", "b", "out.jsonl.gz"]);
    assert_eq!(desk.ok(&["export", "b"]), exported);

    // What `log --json` prints can be imported too.
    let log = desk.ok(&["log", "b", "--json"]);
    let piped = desk.with_input(&["import", "c", "-", "--json"], log.as_bytes());
    assert!(piped.status.success());
    assert_eq!(desk.ok(&["export", "c"]), exported);
}

#[test]
fn import_reads_all_gzip_members() {
    let desk = Workspace::new();
    let history = history(100);
    let (first, second) = history.split_at(history.len() / 2);
    desk.write("h", [gzip(first.as_bytes()), gzip(second.as_bytes())].concat());
    assert_eq!(desk.json(&["import", "a", "h", "--json"])["added"], 100);
    let whole = gzip(history.as_bytes());
    let output = desk.with_input(&["import", "b", "-", "--json"], &whole);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["added"], 100);
}

#[test]
fn import_of_truncated_gzip_keeps_and_reports_earlier_lines() {
    let desk = Workspace::new();
    let mut broken = gzip(history(5_000).as_bytes());
    broken.truncate(broken.len() / 2);
    desk.write("h.gz", &broken);
    let complaint = desk.fails(1, &["import", "a", "h.gz"]);
    assert!(complaint.starts_with("annals: reading the input failed after line "), "{complaint}");
    let events = desk.json(&["stat", "a", "--json"])["events"].as_u64().unwrap();
    assert!(events > 1_000);
    let kept = format!(
        "its gzip data ends too early, so the input is incomplete; lines 1 to {events} are in the store, and \
         importing the complete input continues after them\n"
    );
    assert!(complaint.ends_with(&kept), "{complaint}");
    desk.write("h.gz", gzip(history(5_000).as_bytes()));
    desk.ok(&["import", "a", "h.gz"]);
    desk.ok(&["import", "b", "h.gz"]);
    assert_eq!(desk.ok(&["export", "a"]), desk.ok(&["export", "b"]));
}

#[test]
fn import_killed_many_times_gives_the_same_log() {
    let desk = Workspace::new();
    desk.write("h", history(60_000));
    desk.ok(&["import", "clean", "h"]);
    let mut kills = 0;
    let mut before = 0;
    for round in 0..40 {
        let mut child = spawn(&mut desk.command(&["import", "killed", "h"]));
        thread::sleep(Duration::from_millis(60 + round * 37 % 240));
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let stat = desk.run(&["stat", "killed", "--json"]);
        // Killed before the store existed, it left nothing that counts.
        let Ok(stat) = serde_json::from_slice::<Value>(&stat.stdout) else { continue };
        let events = stat["events"].as_u64().unwrap();
        assert!(events >= before, "acknowledged events are gone: {before}, then {events}");
        before = events;
        if events == 60_000 {
            break;
        }
    }
    assert!(kills > 1, "no import was killed in its middle");
    desk.ok(&["import", "killed", "h"]);
    assert!(desk.ok(&["export", "killed"]) == desk.ok(&["export", "clean"]));
}

#[test]
fn import_names_a_bad_line_and_resumes_once_corrected() {
    let desk = Workspace::new();
    let good = history(1_500);
    desk.write("h", good.replacen("\"type\":\"T4\"", "\"typ\":\"T4\"", 40));
    let complaint = desk.fails(1, &["import", "a", "h"]);
    assert!(complaint.starts_with("annals: line 5: unknown field `typ`"), "{complaint}");
    assert!(complaint.contains("lines 1 to 4 are in the store"), "{complaint}");
    assert_eq!(complaint.lines().count(), 1);
    desk.write("h", good);
    let report = desk.json(&["import", "a", "h", "--json"]);
    assert_eq!((&report["added"], &report["already_there"]), (&1_496.into(), &4.into()));
}

#[test]
fn decreasing_time_is_refused_or_clamped() {
    let desk = Workspace::new();
    let line = |second| {
        format!(
            "{{\"stream\":\"a\",\"type\":\"T\",\"time\":\"2020-01-01T00:00:0{second}Z\",\"data\":1}}\n"
        )
    };
    desk.write("h", line(2) + &line(1));
    let complaint = desk.fails(1, &["import", "a", "h"]);
    assert!(complaint.contains("line 2") && complaint.contains("clamp"), "{complaint}");
    let report = desk.json(&["import", "a", "h", "--clamp-times", "--json"]);
    assert_eq!((&report["added"], &report["clamped"]), (&1.into(), &1.into()));
}

#[test]
fn appended_event_is_read() {
    let desk = Workspace::new();
    let append = |args: &[&str]| desk.ok(&[&["append", "a", "account-1"], args].concat());
    let opened = append(&["Opened", r#" {"by": "Ada"} "#, "--expected", "none"]);
    assert_eq!(opened, "position 1, version 1 of account-1\n");
    append(&["Deposited", "-5.50", "--expected", "1", "--tag", "eur", "--metadata", "user=a=b"]);
    append(&["Noted", "hello \u{1b}[31m", "--text", "--schema-version", "2"]);
    append(&["Closed"]);
    let photo = desk.with_input(&["append", "a", "photo-1", "Taken", "-", "--bytes"], &[0, 255]);
    assert!(photo.status.success());

    let events: Vec<Value> = desk
        .ok(&["read", "a", "account-1", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 4);
    assert_eq!(events[1]["data"].to_string(), "-5.5");
    assert_eq!(events[1]["metadata"]["user"], "a=b");
    assert_eq!(events[1]["tags"][0], "eur");
    assert_eq!(events[2]["schema_version"], 2);
    assert_eq!(events[3]["data"], Value::Null);
    let people = desk.ok(&["log", "a"]);
    assert!(!people.contains('\u{1b}') && people.contains("#eur  user=a=b"), "{people}");
    assert!(people.contains("00ff (2 bytes)"), "{people}");

    // The payload keeps its exact bytes.
    assert!(desk.ok(&["export", "a"]).contains(r#""data":{"by": "Ada"}}"#));

    let id = "0f6a1c1e-6d3e-4c59-9a55-2f7c1e0d9b11";
    let once = desk.json(&["append", "a", "x", "T", "1", "--id", id, "--json"]);
    let twice = desk.json(&["append", "a", "x", "T", "1", "--id", id, "--json"]);
    assert_eq!((&once["position"], &once["is_retry"]), (&twice["position"], &false.into()));
    assert_eq!(twice["is_retry"], true);

    let complaint = desk.fails(1, &["append", "a", "account-1", "T", "1", "--expected", "none"]);
    let why = "stream account-1: expected no stream, but it is at version 4";
    assert_eq!(complaint, format!("annals: {why}: read it again, decide again, and retry\n"));
}

#[test]
fn reading_is_bounded_and_filtered() {
    let desk = Workspace::new();
    for (stream, kind) in [("a-1", "X"), ("b-1", "Y"), ("a-1", "Y"), ("a-2", "X"), ("ab", "X")] {
        desk.ok(&["append", "s", stream, kind]);
    }
    let positions = |args: &[&str]| -> Vec<u64> {
        let lines = desk.ok(&[args, &["--json"]].concat());
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.map(|event| event["position"].as_u64().unwrap()).collect()
    };
    assert_eq!(positions(&["log", "s"]), [1, 2, 3, 4, 5]);
    assert_eq!(positions(&["log", "s", "--from", "4"]), [4, 5]);
    assert_eq!(positions(&["log", "s", "--after", "4"]), [5]);
    assert_eq!(positions(&["log", "s", "--backward", "--limit", "2"]), [5, 4]);
    assert_eq!(positions(&["log", "s", "--type", "Y"]), [2, 3]);
    assert_eq!(
        positions(&["log", "s", "--type", "Y", "--type", "X", "--category", "a"]),
        [1, 3, 4]
    );
    assert_eq!(positions(&["log", "s", "--stream-prefix", "a"]), [1, 3, 4, 5]);
    assert_eq!(positions(&["log", "s", "--as-of-position", "2"]), [1, 2]);
    assert_eq!(positions(&["log", "s", "--as-of-time", "2001-01-01T00:00:00Z"]), [0; 0]);
    assert_eq!(positions(&["read", "s", "a-1"]), [1, 3]);
    assert_eq!(positions(&["read", "s", "a-1", "--after", "1"]), [3]);
    assert_eq!(positions(&["read", "s", "a-1", "--as-of-version", "1"]), [1]);
    assert_eq!(positions(&["read", "s", "a-1", "--backward", "--from", "1"]), [1]);
    assert_eq!(positions(&["read", "s", "none"]), [0; 0]);
    assert_eq!(desk.ok(&["streams", "s", "--prefix", "a-"]), "       2  a-1\n       1  a-2\n");
    let first = desk.json(&["streams", "s", "--limit", "1", "--json"]);
    assert_eq!((&first["stream"], &first["version"]), (&"a-1".into(), &2.into()));
}

#[test]
fn closed_output_pipe_is_not_a_failure() {
    let desk = Workspace::new();
    desk.write("h", history(20_000));
    desk.ok(&["import", "a", "h"]);
    for args in [
        &["log", "a"][..],
        &["log", "a", "--json"],
        &["log", "a", "--follow"],
        &["export", "a"],
        &["export", "a", "-"],
    ] {
        let mut child = spawn(&mut desk.command(args));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
    // If the output fits into a pipe, the command finds the pipe closed from the start.
    for args in [&["streams", "a"][..], &["stat", "a"], &["read", "a", "loan-1"]] {
        let mut child = spawn(&mut desk.command(args));
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stderr).as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
}

#[test]
fn follower_prints_new_events_and_allows_writers() {
    let desk = Workspace::new();
    desk.ok(&["append", "a", "s", "First"]);
    let mut child = spawn(&mut desk.command(&["log", "a", "--follow", "--json"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["type"], "First");
    for n in 2..5 {
        desk.ok(&["append", "a", "s", "Next", &n.to_string()]);
        assert_eq!(next()["data"], n);
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let limited = desk.ok(&["log", "a", "--follow", "--after", "1", "--limit", "2", "--json"]);
    assert_eq!(limited.lines().count(), 2);
}

#[test]
fn store_open_elsewhere_is_not_changed() {
    let desk = Workspace::new();
    desk.ok(&["append", "a", "s", "T"]);
    let held = annals::Store::open(desk.path("a")).unwrap();
    let begun = Instant::now();
    let complaint = desk.fails(1, &["append", "a", "s", "T"]);
    assert!(complaint.contains("open elsewhere"), "{complaint}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "it retries for a while");
    let mut follower = spawn(&mut desk.command(&["log", "a", "--follow", "--limit", "1"]));
    thread::sleep(Duration::from_millis(300));
    held.close().unwrap();
    let mut printed = String::new();
    follower.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed.lines().count(), 1);
    assert!(follower.wait().unwrap().success());
}

#[test]
fn reading_commands_never_create_and_never_change() {
    let desk = Workspace::new();
    for args in [
        &["read", "none", "s"][..],
        &["log", "none"],
        &["log", "none", "--follow"],
        &["streams", "none"],
        &["stat", "none"],
        &["export", "none"],
        &["import", "none", "no-such-file"],
    ] {
        desk.fails(1, args);
        assert!(!desk.path("none").exists(), "{args:?}");
    }
    desk.ok(&["append", "a", "s", "T"]);
    let before = contents(&desk.path("a")).unwrap();
    for args in [
        &["read", "a", "s"][..],
        &["log", "a"],
        &["streams", "a"],
        &["stat", "a"],
        &["export", "a"],
    ] {
        desk.ok(args);
    }
    assert_eq!(contents(&desk.path("a")).unwrap(), before);
}

#[test]
fn foreign_directory_is_refused_unchanged() {
    let desk = Workspace::new();
    fs::create_dir(desk.path("photos")).unwrap();
    desk.write("photos/cat.png", "meow");
    desk.write("h", history(3));
    for args in [
        &["import", "photos", "h"][..],
        &["append", "photos", "s", "T"],
        &["stat", "photos"],
        &["log", "h"],
    ] {
        let complaint = desk.fails(1, args);
        assert!(complaint.contains("not an annals store"), "{complaint}");
    }
    assert_eq!(contents(&desk.path("photos")).unwrap().len(), 1);
}

#[test]
fn wrong_usage_has_its_exit_code_and_leaves_nothing() {
    let desk = Workspace::new();
    for args in [
        &[][..],
        &["frobnicate"],
        &["read", "a"],
        &["read", "a", "$s"],
        &["read", "a", "s", "--from", "0"],
        &["read", "a", "s", "--from", "1", "--after", "1"],
        &["log", "a", "--as-of-time", "yesterday"],
        &["log", "a", "--follow", "--backward"],
        &["append", "a", "s", "T", "{bad json"],
        &["append", "a", "s", "", "1"],
        &["append", "a", "s", "T", "1", "--expected", "0"],
        &["append", "a", "s", "T", "1", "--schema-version", "0"],
        &["append", "a", "s", "T", "1", "--metadata", "$x=1"],
        &["append", "a", "s", "T", "1", "--metadata", "x"],
        &["append", "a", "s", "T", "1", "--metadata", "x=1", "--metadata", "x=2"],
        &["append", "a", "s", "T", "1", "--text", "--bytes"],
        &["append", "a", "s", "T", "1", "--id", "7"],
        &["import", "a", "."],
        &["stat", "a", "--memtable-mib", "0"],
    ] {
        desk.fails(2, args);
        assert!(!desk.path("a").exists(), "{args:?}");
    }
    assert!(desk.ok(&["--help"]).contains("Exit codes:"));
    assert!(desk.ok(&["--version"]).starts_with("annals "));
}

#[test]
fn failed_export_keeps_the_previous_file() {
    let desk = Workspace::new();
    desk.ok(&["append", "a", "s", "T"]);
    desk.write("out", "former");
    fs::create_dir(desk.path("out.partial")).unwrap();
    desk.fails(1, &["export", "a", "out"]);
    assert_eq!(fs::read_to_string(desk.path("out")).unwrap(), "former");
    fs::remove_dir(desk.path("out.partial")).unwrap();
    desk.ok(&["export", "a", "out"]);
    assert!(fs::read_to_string(desk.path("out")).unwrap().contains("\"T\""));
}

#[test]
fn real_log_round_trips_value_for_value() {
    let desk = Workspace::new();
    let Some(path) = std::env::var_os("ANNALS_REAL_LOG").map(PathBuf::from) else {
        return skipped("the real log", "no log is named in ANNALS_REAL_LOG");
    };
    desk.ok(&["import", "a", path.to_str().unwrap()]);
    let stat = desk.json(&["stat", "a", "--json"]);
    assert_eq!(
        (&stat["events"], &stat["streams"], &stat["types"]),
        (&262_200.into(), &13_087.into(), &36.into())
    );
    assert_eq!(desk.json(&["import", "a", path.to_str().unwrap(), "--json"])["added"], 0);

    let input = BufReader::new(flate2::read::MultiGzDecoder::new(fs::File::open(&path).unwrap()));
    let exported = desk.ok(&["export", "a"]);
    let mut exported = exported.lines();
    for line in input.lines() {
        let given: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let found: Value = serde_json::from_str(exported.next().unwrap()).unwrap();
        for field in ["stream", "type", "data"] {
            assert_eq!(given[field], found[field]);
        }
        let time = |of: &Value| of["time"].as_str().unwrap().parse::<annals::Timestamp>().unwrap();
        assert_eq!(time(&given), time(&found));
    }
    assert_eq!(exported.next(), None);
}

#[test]
fn verify_reports_sound_or_the_damage_and_its_place() {
    let desk = Workspace::new();
    desk.write("in.jsonl", history(3_000));
    desk.ok(&["import", "store", "in.jsonl"]);
    assert!(desk.ok(&["verify", "store"]).starts_with("sound: 3,000 events"));
    let report = desk.json(&["verify", "store", "--json"]);
    assert_eq!((&report["sound"], &report["events"]), (&Value::from(true), &Value::from(3_000)));

    damage_packs(&desk.path("store"));
    let output = desk.run(&["verify", "store"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("NOT sound"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("restore a backup"));
    let output = desk.run(&["verify", "store", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sound"], false);
    assert!(!report["damage"].as_array().unwrap().is_empty());
}

#[test]
fn export_into_the_store_itself_is_refused() {
    let desk = Workspace::new();
    desk.write("in.jsonl", history(3));
    desk.ok(&["import", "store", "in.jsonl"]);
    for file in ["store/STORE", "store/new", "store/db/CURRENT", "./store/../store/watermark"] {
        assert!(desk.fails(2, &["export", "store", file]).contains("is within the store"));
    }
    assert!(desk.ok(&["verify", "store"]).starts_with("sound: 3 events"));
    assert!(desk.fails(2, &["log", "store", "--category", "a-1"]).contains("prefix"));
}
