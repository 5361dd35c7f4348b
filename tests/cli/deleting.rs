//! Deletion, retention and scavenging: carried out, previewed, listed, repeated (G17).

use std::fs;

use serde_json::Value;

use crate::support::files::fingerprint;
use crate::workspace::{Workspace, text};

/// A store of twelve events: two sessions of five events, and two others.
fn filled() -> Workspace {
    let desk = Workspace::new();
    let mut lines = Vec::new();
    for n in 0..10 {
        let stream = format!("session-{}", n % 2);
        lines.push(format!(
            "{{\"stream\":\"{stream}\",\"type\":\"Seen\",\"time\":\"2020-01-01T00:00:{n:02}Z\",\
             \"data\":{n},\"tags\":[\"n:{n}\"]}}\n"
        ));
    }
    for (word, tag) in [("hunter2", "weak"), ("ok", "strong")] {
        lines.push(format!(
            "{{\"stream\":\"account-1\",\"type\":\"Set\",\"time\":\"2020-01-02T00:00:00Z\",\
             \"data\":\"{word}\",\"tags\":[\"{tag}\"],\"metadata\":{{\"w\":\"{word}\"}}}}\n"
        ));
    }
    desk.write("in", lines.concat());
    desk.ok(&["import", "a", "in"]);
    desk
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn store_is_truncated_redacted_and_scavenged() {
    let desk = filled();
    let said = desk.ok(&["truncate", "a", "session-0", "--before", "3", "--reason", "old"]);
    assert!(said.starts_with("deleted 2 events of session-0, about "), "{said}");
    assert!(said.ends_with(": deletion 1\n"), "{said}");
    let again = desk.ok(&["truncate", "a", "session-0", "--before", "3"]);
    assert_eq!(again, "nothing to delete: no such events are left in stream session-0\n");
    let redaction = ["redact", "a", "account-1@1", "--reason", "a password", "--by", "Ada"];
    let report = desk.json(&[&redaction[..], &["--remove-tag", "weak", "--json"]].concat());
    assert_eq!((&report["number"], &report["events"]), (&2.into(), &1.into()));
    assert_eq!(
        (&report["event"]["position"], &report["event"]["type"]),
        (&11.into(), &"Set".into())
    );
    let bytes = fingerprint(&desk.path("a")).into_values().flatten();
    let has_it = bytes.filter(|file| file.windows(7).any(|found| found == b"hunter2")).count();
    assert_eq!(has_it, 0, "the redacted text is in a file of the store");

    desk.ok(&["retain", "a", "--category", "session", "--max-count", "2", "--max-age", "90m"]);
    desk.ok(&["retain", "a", "--stream", "session-1", "--max-count", "4"]);
    let stat = desk.json(&["stat", "a", "--json"]);
    assert_eq!((&stat["events"], &stat["deleted_events"]), (&12.into(), &2.into()));
    assert_eq!((&stat["deletions"], &stat["due"]["events"]), (&2.into(), &4.into()));
    let said = desk.ok(&["stat", "a"]);
    assert!(said.contains("deleted      2 events by 2 deletions\n"), "{said}");
    let retention = "retention    category session: kept for 90m, up to 2 events of each stream\n";
    assert!(said.contains(retention), "{said}");
    assert!(said.contains("due          a scavenge would delete 4 events"), "{said}");

    let done = desk.json(&["scavenge", "a", "--archive", "old.jsonl", "--unthrottled", "--json"]);
    assert_eq!((&done["events"], &done["truncated_streams"]), (&4.into(), &2.into()));
    let archived = lines(&fs::read_to_string(desk.path("old.jsonl")).unwrap());
    assert_eq!(archived.iter().map(|line| &line["data"]).collect::<Vec<_>>(), [4, 6, 8, 1]);
    let report = desk.json(&["verify", "a", "--json"]);
    assert_eq!((&report["sound"], &report["deleted_events"]), (&true.into(), &6.into()));
    assert!(desk.ok(&["verify", "a"]).trim_end().ends_with("; 6 events deleted"));
    let left = lines(&desk.ok(&["read", "a", "session-1", "--json"]));
    assert_eq!(left.iter().map(|line| &line["version"]).collect::<Vec<_>>(), [2, 3, 4, 5]);
    let output = desk.run(&["read", "a", "session-1"]);
    let said = text(&output.stderr);
    assert_eq!(said, "annals: the events of stream session-1 up to version 1 were deleted\n");
}

#[test]
fn deleted_stream_begins_again_and_tombstone_never() {
    let desk = filled();
    desk.ok(&["delete-stream", "a", "session-0"]);
    assert!(!desk.ok(&["streams", "a"]).contains("session-0"));
    let appended = desk.json(&["append", "a", "session-0", "T", "--expected", "none", "--json"]);
    assert_eq!(appended["version"], 6);
    let said = desk.ok(&["delete-stream", "a", "session-1", "--tombstone", "--json"]);
    assert_eq!(lines(&said)[0]["events"], 5);
    for args in [&["read", "a", "session-1"][..], &["append", "a", "session-1", "T"]] {
        assert!(desk.fails(1, args).contains("was deleted for good"));
    }
    assert!(desk.fails(2, &["delete-stream", "a", "none", "--tombstone"]).contains("no events"));
    assert_eq!(desk.json(&["verify", "a", "--json"])["sound"], true);
}

#[test]
fn system_stream_is_shown_by_every_reading_command() {
    let desk = filled();
    desk.ok(&["truncate", "a", "session-0", "--before", "2", "--reason", "old", "--by", "Ada"]);
    let read = lines(&desk.ok(&["read", "a", "$deletions", "--json"]));
    assert_eq!(
        (&read[0]["type"], &read[0]["data"]["reason"]),
        (&"$deletion".into(), &"old".into())
    );
    assert_eq!(lines(&desk.ok(&["log", "a", "--stream", "$deletions", "--json"])), read);
    assert!(desk.ok(&["streams", "a"]).contains("1  $deletions\n"));
    let said = desk.ok(&["deletions", "a"]);
    assert!(said.ends_with("session-0 before version 2  \"old\"  by Ada\n"), "{said}");
    for args in [
        &["append", "a", "$deletions", "T"][..],
        &["truncate", "a", "$deletions", "--before", "2"],
        &["delete-stream", "a", "$deletions"],
        &["retain", "a", "--stream", "$deletions", "--max-count", "1"],
        &["retain", "a", "--category", "$deletions", "--max-count", "1"],
        &["read", "a", "$other"],
    ] {
        assert!(desk.fails(2, args).contains("begins with '$'"), "{args:?}");
    }
    let position = read[0]["position"].to_string();
    let redaction = ["redact", "a", &position, "--reason", "r"];
    assert!(desk.fails(2, &redaction).contains("begins with '$'"));
}

#[test]
fn dry_run_changes_nothing() {
    let desk = filled();
    desk.ok(&["truncate", "a", "session-0", "--before", "2"]);
    desk.ok(&["retain", "a", "--category", "session", "--max-age", "30d"]);
    desk.ok(&["deletions", "a"]);
    desk.write("list", desk.ok(&["deletions", "a", "--json"]));
    let before = fingerprint(&desk.path("a"));
    for (args, said) in [
        (
            &["truncate", "a", "session-0", "--before", "4"][..],
            "would delete 2 events of session-0",
        ),
        (&["delete-stream", "a", "session-1"], "would delete 5 events of session-1"),
        (&["delete-stream", "a", "session-1", "--tombstone"], "would delete 5 events of session-1"),
        (&["redact", "a", "12", "--reason", "r"], "would redact position 12, account-1@2 Set "),
        (&["retain", "a", "--stream", "account-1", "--max-age", "12h"], "would be kept for 12h"),
        (&["scavenge", "a"], "would delete 9 events of 2 of 2 streams, about "),
        (&["deletions", "a", "--replay", "list"], ""),
    ] {
        let found = desk.ok(&[args, &["--dry-run"]].concat());
        assert!(found.contains(said), "{args:?}: {found}");
        assert!(fingerprint(&desk.path("a")) == before, "{args:?}");
        for line in lines(&desk.ok(&[args, &["--dry-run", "--json"]].concat())) {
            assert!(line.is_object(), "{args:?}");
        }
    }
}

#[test]
fn impossible_deletion_is_refused_unchanged() {
    let desk = filled();
    desk.ok(&["truncate", "a", "session-0", "--before", "2"]);
    desk.write("bad", "{\"number\":1}\n");
    desk.write("exists", "");
    let facts = || {
        let of = |command| desk.ok(&[command, "a", "--json"]);
        (of("log"), of("deletions"), of("retain"))
    };
    let before = facts();
    let redact = |event: &'static str| ["redact", "a", event, "--reason", "r"];
    let retain = |age: &'static str| ["retain", "a", "--category", "session", "--max-age", age];
    let stranger = "0f6a1c1e-6d3e-4c59-9a55-2f7c1e0d9b11";
    for (code, args, why) in [
        (1, &redact("1")[..], "the event at position 1 was deleted"),
        (1, &redact("99"), "the log has not reached position 99: it is at 13"),
        (1, &redact("session-0@1"), "version 1 of stream session-0 was deleted"),
        (1, &redact("session-0@9"), "has no version 9"),
        (1, &redact("none@1"), "stream none has no events"),
        (1, &redact(stranger), "no event of this store has the id"),
        (2, &redact("x"), "neither a position"),
        (2, &["redact", "a", "2"], "--reason <TEXT>"),
        (2, &["truncate", "a", "session-0"], "--before <VERSION>"),
        (2, &["truncate", "a", "session-0", "--before", "0"], "--before"),
        (2, &retain("0d"), "an age of 0 keeps nothing"),
        (2, &retain("30"), "a whole number and a unit"),
        (2, &retain("1.5d"), "a whole number and a unit"),
        (2, &retain("30dd"), "a whole number and a unit"),
        (2, &retain("99999999999999999w"), "too long"),
        (2, &retain("é"), "a whole number and a unit"),
        (2, &["retain", "a", "--category", "session-0", "--max-count", "1"], "contains a '-'"),
        (2, &["retain", "a", "--category", "session"], "give --max-age, --max-count, or --unset"),
        (2, &["retain", "a", "--max-count", "1"], "give --stream or --category"),
        (2, &["retain", "a", "--category", "s", "--max-count", "0"], "--max-count"),
        (2, &["scavenge", "a", "--archive", "a/db/old"], "is within the store"),
        (1, &["deletions", "a", "--replay", "missing"], "opening missing"),
        (2, &["deletions", "a", "--replay", "bad"], "line 1 of bad is not a deletion"),
        (2, &["deletions", "a", "--dry-run"], "--replay"),
    ] {
        let said = desk.fails(code, args);
        assert!(said.contains(why), "{args:?}: {said}");
        assert_eq!(facts(), before, "{args:?}");
    }
    assert!(desk.fails(1, &["scavenge", "a", "--archive", "exists"]).contains("exists"));
    for command in [&["scavenge", "none"][..], &["truncate", "none", "a", "--before", "2"]] {
        desk.fails(1, command);
        assert!(!desk.path("none").exists());
    }
}

#[test]
fn deletions_are_repeated_in_restored_backup() {
    let desk = filled();
    desk.ok(&["truncate", "a", "session-0", "--before", "2"]);
    desk.ok(&["backup", "a", "monday"]);
    desk.ok(&["append", "a", "late-1", "T"]);
    desk.ok(&["append", "a", "account-1", "Set"]);
    desk.ok(&["truncate", "a", "session-0", "--before", "4", "--reason", "old"]);
    desk.ok(&["redact", "a", "11", "--reason", "r", "--remove-tag", "weak"]);
    desk.ok(&["redact", "a", "15", "--reason", "r"]);
    desk.ok(&["delete-stream", "a", "account-1"]);
    desk.ok(&["delete-stream", "a", "session-1", "--tombstone"]);
    desk.ok(&["delete-stream", "a", "late-1", "--tombstone"]);
    let listed = desk.ok(&["deletions", "a", "--json"]);
    desk.write("list", &listed);
    assert_eq!(listed.lines().count(), 7);
    assert_eq!(desk.ok(&["deletions", "a", "--lacks", "list"]), "");

    let output = desk.run(&["restore", "monday", "b"]);
    assert!(text(&output.stderr).contains("annals deletions b --lacks"));
    // The oldest is there already; three concern events that the backup never had.
    let lacking: String =
        [1, 2, 4, 5].map(|at| listed.lines().nth(at).unwrap().to_owned() + "\n").concat();
    assert_eq!(desk.ok(&["deletions", "b", "--lacks", "list", "--json"]), lacking);
    assert_eq!(desk.ok(&["deletions", "b", "--replay", "list", "--dry-run", "--json"]), lacking);
    let piped = desk.with_input(&["deletions", "b", "--replay", "-", "--json"], listed.as_bytes());
    assert_eq!(text(&piped.stdout), lacking);
    assert_eq!(desk.ok(&["deletions", "b", "--lacks", "list"]), "");
    assert_eq!(desk.json(&["verify", "b", "--json"])["sound"], true);
    assert!(desk.fails(1, &["read", "b", "session-1"]).contains("deleted for good"));
    let own = |dir| desk.ok(&["read", dir, "session-0", "--json"]);
    assert_eq!(own("b"), own("a"));
}

#[test]
fn export_holds_what_is_left_and_can_be_imported() {
    let desk = filled();
    let whole = desk.ok(&["export", "a"]);
    desk.ok(&["truncate", "a", "session-0", "--before", "3"]);
    desk.ok(&["delete-stream", "a", "account-1"]);
    desk.ok(&["scavenge", "a"]);
    let left = desk.ok(&["export", "a", "--json"]);
    let expected = lines(&whole).into_iter().filter(|line| {
        let is_old = ["0", "2"].contains(&line["data"].to_string().as_str());
        line["stream"] != "account-1" && !is_old
    });
    assert_eq!(lines(&left), expected.collect::<Vec<_>>());
    desk.write("left", &left);
    desk.ok(&["import", "b", "left"]);
    let without_commits = |text: &str| {
        let mut lines = lines(text);
        for line in &mut lines {
            line["commit"] = Value::Null;
        }
        lines
    };
    assert_eq!(without_commits(&desk.ok(&["export", "b"])), without_commits(&left));
    assert_eq!(desk.json(&["verify", "b", "--json"])["deleted_events"], 0);

    // What `log --json` prints has the deletions too, which import skips.
    desk.write("log", desk.ok(&["log", "a", "--json"]));
    let imported = desk.json(&["import", "c", "log", "--json"]);
    assert_eq!((&imported["added"], &imported["skipped"]), (&8.into(), &2.into()));
    assert_eq!(desk.ok(&["export", "c"]), desk.ok(&["export", "b"]));
    desk.ok(&["import", "c", "log"]);
}

#[test]
fn export_with_positions_builds_the_same_store() {
    let desk = filled();
    desk.ok(&["truncate", "a", "session-0", "--before", "3"]);
    desk.ok(&["delete-stream", "a", "account-1", "--tombstone"]);
    let log = desk.ok(&["log", "a", "--json"]);
    let said = desk.ok(&["export", "a", "a.jsonl.gz", "--positions"]);
    assert_eq!(said, "wrote 10 events to a.jsonl.gz\n");
    let said = desk.ok(&["import", "b", "a.jsonl.gz", "--keep-positions"]);
    assert!(said.starts_with("added 10 events from 15 lines "), "{said}");
    assert!(said.ends_with("3 holes, where events were deleted\n"), "{said}");
    assert_eq!(desk.ok(&["log", "b", "--json"]), log);
    assert!(desk.fails(1, &["append", "b", "account-1", "Set"]).contains("deleted for good"));

    // Through a pipe, as a report, and without positions.
    desk.write("lines", desk.ok(&["export", "b", "--positions"]));
    let report = desk.json(&["import", "c", "lines", "--keep-positions", "--json"]);
    assert_eq!((&report["added"], &report["holes"]), (&10.into(), &3.into()));
    let report = desk.json(&["import", "d", "lines", "--json"]);
    assert_eq!((&report["added"], &report["skipped"]), (&8.into(), &7.into()));

    let said = desk.fails(1, &["import", "c", "lines", "--keep-positions"]);
    assert!(said.contains("something is already there"), "{said}");
    desk.write("plain", desk.ok(&["export", "b"]));
    let said = desk.fails(1, &["import", "e", "plain", "--keep-positions"]);
    assert!(said.contains("annals export --positions") && said.contains("nothing was added"));
    desk.fails(2, &["export", "a", "--positions", "--tag", "weak"]);
    desk.fails(2, &["import", "e", "lines", "--keep-positions", "--clamp-times"]);
    assert!(!desk.path("e").exists());
}
