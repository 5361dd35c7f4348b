//! `annals bench`: what it prints, what it refuses, and that it leaves nothing behind. Never how
//! fast it was.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::history;
use crate::workspace::{Workspace, spawn};

/// Small enough for a test. What is measured so has no meaning.
const TINY: [&str; 8] =
    ["--events", "400", "--streams", "30", "--payload", "40", "--seconds", "0.005"];
const GROUPS: [&str; 10] = [
    "append",
    "aggregate",
    "fill",
    "replay",
    "streams",
    "follow",
    "verify",
    "backup",
    "open",
    "project",
];

fn names(desk: &Workspace) -> Vec<String> {
    let names = fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn benchmark_shows_each_figure_with_its_baseline() {
    let desk = Workspace::new();
    let table = desk.ok(&[&["bench", "--report", "page.html"][..], &TINY].concat());
    let page = fs::read_to_string(desk.path("page.html")).unwrap();
    for row in [
        "append 1 event, synced  ",
        "append 1 event, synced, 32 threads",
        "append 1 event, buffered",
        "append 10 events, buffered",
        "append 100 events, buffered",
        "load an aggregate of 1,000 events  ",
        "load an aggregate of 1,000 events, from a snapshot",
        "fill the log, 10 events an append",
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
        let line = table.lines().find(|line| line.contains(row));
        let line = line.unwrap_or_else(|| panic!("no {row:?} in {table}"));
        let ratio = line.split_whitespace().last().unwrap();
        assert!(ratio.parse::<f64>().unwrap() >= 0.0, "{line}");
        assert!(page.contains(row.trim_end()), "no {row:?} on the page");
    }
    // One file, with all that it needs, in light and in dark.
    assert_eq!(page.matches("<svg").count(), 19);
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(!page.contains("http") && !page.contains("src=") && !page.contains("@import"));
    assert_eq!(names(&desk), ["page.html"]);
}

#[test]
fn benchmark_json_has_the_requested_figures() {
    let desk = Workspace::new();
    let all = desk.json(&[&["bench", "--json"][..], &TINY].concat());
    let mut groups: Vec<_> =
        all["figures"].as_array().unwrap().iter().map(|figure| &figure["group"]).collect();
    groups.dedup();
    assert_eq!(groups, GROUPS);
    for figure in all["figures"].as_array().unwrap() {
        for side in ["store", "baseline"] {
            let of = |key: &str| figure[side][key].as_f64().unwrap();
            assert!(of("count") > 0.0 && of("seconds") > 0.0, "{figure}");
            assert!(of("per_second").is_finite() && of("per_second") > 0.0, "{figure}");
        }
        // Both sides did the same work, where it is counted in events.
        if figure["unit"] == "event" && figure["group"] != "follow" {
            assert_eq!(figure["store"]["count"], figure["baseline"]["count"], "{figure}");
        }
        let speed = |side: &str| figure[side]["per_second"].as_f64().unwrap();
        let ratio = figure["ratio"].as_f64().unwrap();
        assert!((ratio - speed("store") / speed("baseline")).abs() <= ratio * 1e-6, "{figure}");
    }
    let fill = all["figures"].as_array().unwrap().iter().find(|f| f["group"] == "fill").unwrap();
    assert_eq!(fill["store"]["count"], 400);
    assert!(fill["store"]["p99_us"].as_f64() >= fill["store"]["p50_us"].as_f64());
    assert!(all["machine"]["cores"].as_u64() > Some(0));

    let some = desk.json(&[&["bench", "--json", "--only", "replay,open"][..], &TINY].concat());
    let some = some["figures"].as_array().unwrap();
    assert!(some.iter().all(|figure| figure["group"] == "replay" || figure["group"] == "open"));
    assert_eq!(some.len(), 4);
    assert!(names(&desk).is_empty());
}

#[test]
fn benchmark_of_an_own_log_imports_reads_and_projects() {
    let desk = Workspace::new();
    desk.write("h", history(2_000));
    fs::create_dir(desk.path("work")).unwrap();
    let args = ["bench", "--dir", "work", "--input", "h", "--seconds", "0.01", "--json"];
    let measured = desk.json(&args);
    let figures = measured["figures"].as_array().unwrap();
    let count = |name: &str| {
        let figure = figures.iter().find(|figure| figure["name"].as_str() == Some(name));
        figure.unwrap_or_else(|| panic!("no {name:?} in {measured}"))["store"]["count"].clone()
    };
    for name in [
        "import 2,000 lines",
        "replay the log as values",
        "verify the log and all streams",
        "rebuild a read model, an entry an event",
    ] {
        assert_eq!(count(name), 2_000, "{name}");
    }
    // Each of the 101 streams, as often as there was time for.
    let loads = count("load streams of 20 events, warm").as_u64().unwrap();
    assert!(loads > 0 && loads.is_multiple_of(101), "{loads}");
    assert!(figures.iter().all(|f| f["group"] != "append" && f["group"] != "aggregate"));
    assert_eq!(names(&desk), ["h", "work"]);
    assert_eq!(fs::read_dir(desk.path("work")).unwrap().count(), 0);
}

#[test]
fn impossible_benchmark_is_refused_and_leaves_nothing() {
    let desk = Workspace::new();
    desk.write("empty", "");
    desk.write("broken", history(10).replacen("\"type\":\"T7\"", "", 1));
    let before = names(&desk);
    for (code, args, why) in [
        (2, &["--dir", "missing"][..], "no such directory"),
        (2, &["--dir", "empty"], "no such directory"),
        (2, &["--events", "0"], "--events"),
        (2, &["--streams", "0"], "--streams"),
        (2, &["--per-append", "1001"], "--per-append"),
        (2, &["--payload", "15"], "--payload"),
        (2, &["--payload", "1048577"], "--payload"),
        (2, &["--seconds", "0"], "from 0.001 to 3600"),
        (2, &["--seconds", "NaN"], "from 0.001 to 3600"),
        (2, &["--seconds", "soon"], "--seconds"),
        (2, &["--only", "nothing"], "nothing"),
        (2, &["--report", "."], "it is a directory"),
        (2, &["--report", "missing/page.html"], "the directory above it is missing"),
        (2, &["--input", "empty", "--events", "5"], "cannot be used with"),
        (2, &["--input", "."], "is a directory"),
        (1, &["--input", "missing"], "opening missing"),
        (1, &["--input", "empty"], "empty holds no events"),
        (1, &["--input", "broken"], "line 8"),
    ] {
        let said = desk.fails(code, &[&["bench"], args].concat());
        assert!(said.contains(why), "{args:?}: {said}");
        assert_eq!(names(&desk), before, "{args:?}");
    }
}

#[test]
#[cfg(unix)]
fn interrupted_benchmark_leaves_nothing() {
    for signal in ["-INT", "-TERM"] {
        let desk = Workspace::new();
        let only = ["bench", "--seconds", "600", "--only", "append,replay"];
        let child = spawn(&mut desk.command(&only));
        let began = Instant::now();
        let is_at_work = || {
            let inside = names(&desk).first().map(|name| desk.path(name).join("append-synced-1-1"));
            inside.is_some_and(|store| store.join("STORE").exists())
        };
        while !is_at_work() {
            assert!(began.elapsed() < Duration::from_secs(60), "it did not begin");
            thread::sleep(Duration::from_millis(5));
        }
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal}");
        assert!(output.stdout.is_empty());
        assert!(names(&desk).is_empty(), "{signal}: {:?}", names(&desk));
    }
}
