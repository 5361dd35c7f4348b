//! Events selected by tag, type, stream, category and prefix, for `log` and `export`.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::workspace::{Workspace, spawn};

/// Seven events in four commits, one of them with events of several streams.
fn enrolments() -> Workspace {
    let desk = Workspace::new();
    let line = |stream: &str, event_type: &str, commit: u32, tags: &[&str]| {
        let place = format!(r#""stream":"{stream}","type":"{event_type}","commit":{commit}"#);
        format!("{{{place},\"time\":\"2026-01-01T00:00:00Z\",\"data\":1,\"tags\":{tags:?}}}\n")
    };
    let lines = [
        line("course-c1", "Defined", 1, &["course:c1"]),
        line("events", "Enrolled", 2, &["course:c1", "student:s1"]),
        line("course-c1", "Filled", 2, &["course:c1"]),
        line("events", "Enrolled", 2, &["course:c2", "student:s1"]),
        line("events", "Enrolled", 5, &["course:c11", "student:s1"]),
        line("events", "Left", 6, &["course:c1", "student:s1", "student:s1"]),
        line("events", "Moved", 6, &[]),
    ];
    desk.write("in", lines.concat());
    desk.ok(&["import", "s", "in"]);
    desk
}

fn positions(desk: &Workspace, selection: &[&str]) -> Vec<u64> {
    let lines = desk.ok(&[&["log", "s", "--json"], selection].concat());
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| event.get("position").unwrap().as_u64().unwrap()).collect()
}

/// Tags are AND-ed, types and streams OR-ed, and different options AND-ed.
#[test]
fn selection_combines_its_options() {
    let desk = enrolments();
    let selections: [(&[&str], &[u64]); 9] = [
        (&["--tag", "course:c1"], &[1, 2, 3, 6]),
        (&["--tag", "course:c1", "--tag", "student:s1"], &[2, 6]),
        (&["--tag", "course:c1", "--tag", "student:s1", "--type", "Enrolled"], &[2]),
        (&["--tag", "student:s1", "--type", "Left", "--type", "Enrolled"], &[2, 4, 5, 6]),
        (&["--tag", "course:c1", "--category", "course"], &[1, 3]),
        (&["--stream", "course-c1", "--type", "Filled"], &[3]),
        (&["--stream", "course-c1", "--stream", "events", "--type", "Moved"], &[7]),
        (&["--stream-prefix", "ev", "--tag", "course:c1", "--backward", "--limit", "1"], &[6]),
        (&["--tag", "course"], &[]),
    ];
    for (selection, expected) in selections {
        assert_eq!(positions(&desk, selection), expected, "{selection:?}");
    }
    // A follower ends by itself at its limit.
    let follow = ["--tag", "course:c1", "--tag", "student:s1", "--follow", "--limit", "2"];
    assert_eq!(positions(&desk, &follow), [2, 6]);
}

/// The index is shown, switched and built again; nothing is changed without an option.
#[test]
fn index_is_shown_switched_and_built_again() {
    let desk = enrolments();
    let shown =
        |types| format!("tags         all events\ntypes        {types}\ncategories   off\n");
    assert_eq!(desk.ok(&["index", "s"]), shown("off"));
    assert_eq!(desk.ok(&["index", "s", "--types", "on"]), shown("all events"));
    assert_eq!(positions(&desk, &["--type", "Left", "--type", "Filled"]), [3, 6]);
    let verified = desk.json(&["verify", "s", "--json"]);
    assert_eq!(verified["index_entries"], 10 + 7);
    assert_eq!(desk.ok(&["index", "s", "--rebuild"]), shown("all events"));
    let stat = desk.ok(&["stat", "s"]);
    assert!(stat.contains("index        tags: all events, types: all events\n"), "{stat}");
    assert_eq!(desk.ok(&["index", "s", "--types", "off"]), shown("off"));
    let index = desk.json(&["index", "s", "--json"]);
    assert_eq!((&index["tags_from"], &index["types_from"]), (&1.into(), &Value::Null));
    assert_eq!(index["complete"], true);
    desk.fails(2, &["index", "s", "--types", "maybe"]);
    desk.fails(1, &["index", "nowhere", "--types", "on"]);
    assert!(!desk.path("nowhere").exists(), "no store is created");
}

/// A follower prints a later event only if it matches.
#[test]
fn follower_prints_only_selected_events() {
    let desk = enrolments();
    let args = ["log", "s", "--tag", "student:s1", "--type", "Left", "--follow", "--json"];
    let mut follower = spawn(&mut desk.command(&args));
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        event["position"].as_u64().unwrap()
    };
    assert_eq!(next(), 6);
    for (event_type, tag) in [("Left", "student:s2"), ("Moved", "student:s1")] {
        desk.ok(&["append", "s", "events", event_type, "1", "--tag", tag]);
    }
    desk.ok(&["append", "s", "events", "Left", "1", "--tag", "x", "--tag", "student:s1"]);
    assert_eq!(next(), 10);
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// The export of a selection holds the selected lines of the whole export unchanged. Importing it
/// groups them by commit, and gives them new positions.
#[test]
fn export_of_a_selection_can_be_imported() {
    let desk = enrolments();
    let whole = desk.ok(&["export", "s"]);
    let lines: Vec<_> = whole.lines().collect();
    let selection = ["--tag", "student:s1"];
    let selected = desk.ok(&[&["export", "s"], &selection[..]].concat());
    assert_eq!(selected, [1, 3, 4, 5].map(|at| lines[at].to_owned() + "\n").concat());
    let report = desk.ok(&["export", "s", "out.gz", "--tag", "student:s1", "--json"]);
    assert!(report.contains("\"events\":4"), "{report}");
    desk.ok(&["import", "t", "out.gz"]);
    let imported = desk.ok(&["log", "t", "--json"]);
    let events = imported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let places = events
        .map(|event| ["position", "version", "commit"].map(|field| event[field].as_u64().unwrap()));
    assert!(places.eq([[1, 1, 1], [2, 2, 1], [3, 3, 3], [4, 4, 4]]), "{imported}");
    assert_eq!(desk.ok(&["export", "s", "--tag", "none"]), "");
}

/// An invalid selection is an error before anything is opened or created.
#[test]
fn invalid_selection_is_refused() {
    let desk = enrolments();
    for (option, value, reason) in [
        ("--tag", "", "tag is empty"),
        ("--tag", "a\nb", "tag"),
        ("--category", "course-c1", "course-c1"),
        ("--stream", "", "stream"),
        ("--type", "", "type"),
    ] {
        for args in [&["log", "s"][..], &["log", "none", "--follow"], &["export", "s", "out"]] {
            let said = desk.fails(2, &[args, &[option, value]].concat());
            assert!(said.contains(reason), "{option} {value:?}: {said}");
        }
    }
    assert!(!desk.path("out").exists() && !desk.path("none").exists());
}
