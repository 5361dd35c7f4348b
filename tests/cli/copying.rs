//! Backups: created, verified, refused, restored (G14).

use std::fs;
use std::path::Path;

use annals::prelude::*;
use serde_json::Value;

use crate::history;
use crate::support::damage_packs;
use crate::support::files::{copy, names};
use crate::workspace::{Workspace, text};

#[test]
fn store_is_backed_up_verified_and_restored() {
    let desk = Workspace::new();
    desk.write("h", history(3_000));
    desk.ok(&["import", "bank", "h"]);
    let log = desk.ok(&["export", "bank"]);
    let said = desk.ok(&["backup", "bank", "monday", "--verify"]);
    assert!(said.starts_with("copied 3,000 events to monday: "), "{said}");
    assert!(said.ends_with("the copy is sound\n"), "{said}");
    let report = desk.json(&["backup", "bank", "tuesday", "--verify", "--json"]);
    assert_eq!((&report["head"], &report["sound"]), (&3_000.into(), &true.into()));
    assert!(report["bytes"].as_u64() > Some(10_000) && report["files"].as_u64() > Some(5));
    assert!(report["shared_bytes"].as_u64() <= report["bytes"].as_u64());
    assert_eq!(desk.json(&["backup", "bank", "wednesday", "--json"])["sound"], Value::Null);

    // The store is lost. The copy replaces it and continues.
    fs::remove_dir_all(desk.path("bank")).unwrap();
    let noted = desk.json(&["stat", "tuesday", "--json"]);
    assert_eq!(noted["is_backup"], true);
    let said = desk.ok(&["restore", "tuesday", "bank", "--verify"]);
    assert!(said.starts_with("copied 3,000 events to bank: "), "{said}");
    let restored = desk.json(&["stat", "bank", "--json"]);
    assert_eq!(restored["is_backup"], false);
    assert_ne!(restored["epoch"], noted["epoch"]);
    assert!(desk.ok(&["stat", "bank"]).contains(restored["epoch"].as_str().unwrap()));
    assert!(desk.ok(&["stat", "tuesday"]).contains("a backup"));
    desk.ok(&["append", "bank", "loan-1", "Repaid"]);
    assert_eq!(desk.json(&["stat", "bank", "--json"])["events"], 3_001);
    for copy in ["monday", "tuesday", "wednesday"] {
        assert_eq!(desk.ok(&["export", copy]), log, "{copy}");
    }
}

#[test]
fn impossible_backup_is_refused_with_a_reason() {
    let desk = Workspace::new();
    desk.ok(&["append", "bank", "a-1", "T"]);
    for (to, why) in [
        ("bank", "something is already there"),
        ("bank/copy", "within the store"),
        ("missing/copy", "the directory above it cannot be opened"),
    ] {
        let said = desk.fails(1, &["backup", "bank", to, "--verify"]);
        assert!(said.contains(why), "{said}");
    }
    for command in ["backup", "restore"] {
        assert!(desk.fails(1, &[command, "nothing", "copy"]).contains("not an annals store"));
    }
    assert!(desk.fails(1, &["restore", "bank", "bank"]).contains("something is already there"));
    desk.fails(2, &["backup", "bank", ""]);
    assert!(!desk.path("copy").exists() && !desk.path("copy.partial").exists());
}

/// Verifying the copy finds damage that opening it does not.
#[test]
fn backup_with_verify_finds_copied_damage() {
    let desk = Workspace::new();
    desk.write("h", history(20_000));
    desk.ok(&["import", "bank", "h"]);
    damage_packs(&desk.path("bank"));
    desk.ok(&["backup", "bank", "unseen"]);
    let output = desk.run(&["backup", "bank", "copy", "--verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.contains("the log, position ") && said.ends_with("the copy is NOT sound\n"),
        "{said}"
    );
    let output = desk.run(&["backup", "bank", "again", "--verify", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["sound"], false);
    assert_eq!(output.status.code(), Some(1));
}

/// Whether or not a reader consumes the output.
#[test]
fn exit_code_reports_damage_without_a_reader() {
    let desk = Workspace::new();
    desk.write("h", history(20_000));
    desk.ok(&["import", "bank", "h"]);
    damage_packs(&desk.path("bank"));
    for args in [&["verify", "bank"][..], &["backup", "bank", "copy", "--verify"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = desk.command(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("found; restore a backup"), "{args:?}");
    }
}

/// G11: lost history is reported, and accepted only when its position is named.
#[test]
fn lost_history_is_accepted_only_by_name_and_into_a_copy() {
    let desk = Workspace::new();
    desk.ok(&["append", "bank", "a-1", "T"]);
    desk.ok(&["append", "bank", "a-1", "T"]);
    desk.ok(&["backup", "bank", "monday"]);
    desk.ok(&["append", "bank", "a-1", "T"]);
    // The database, and nothing else, is replaced by an earlier state.
    fs::remove_dir_all(desk.path("bank/db")).unwrap();
    fs::rename(desk.path("monday/db"), desk.path("bank/db")).unwrap();

    let lost = desk.fails(1, &["stat", "bank"]);
    assert!(lost.contains("ends at position 2") && lost.contains("position 3"), "{lost}");
    assert!(desk.fails(1, &["accept-loss", "bank", "left", "--after", "1"]).contains("ends at 2"));
    desk.fails(2, &["accept-loss", "bank", "left"]);
    assert!(!desk.path("left").exists());
    let said = desk.ok(&["accept-loss", "bank", "left", "--after", "2"]);
    assert!(said.contains("copied 2 events") && said.contains("positions 3 to 3"), "{said}");
    let said = desk.json(&["accept-loss", "bank", "again", "--after", "2", "--json"]);
    assert_eq!(said, serde_json::json!({ "head": 2, "lost_from": 3, "lost_to_at_least": 3 }));
    assert!(desk.fails(1, &["stat", "bank"]).contains("history is lost"), "bank is unchanged");
    let epoch = |dir| desk.json(&["stat", dir, "--json"])["epoch"].clone();
    assert_ne!(epoch("left"), epoch("again"), "each copy has its own epoch");
    desk.ok(&["append", "left", "a-1", "T"]);
    assert_eq!(desk.json(&["stat", "left", "--json"])["events"], 3);
    let nothing = desk.fails(1, &["accept-loss", "left", "more", "--after", "3"]);
    assert!(nothing.contains("has lost nothing"), "{nothing}");
}

/// G11: a lost log may be torn as well, so that it cannot be read before its tail is cut off.
#[test]
fn lost_history_of_a_torn_log_is_accepted() {
    let desk = Workspace::new();
    let store = Store::open(desk.path("live")).unwrap();
    for _ in 0..3 {
        let event = NewEvent::json("T", &"x".repeat(300)).unwrap();
        store.append("a-1", ExpectedVersion::Any, [event]).unwrap();
    }
    // As after a crash.
    copy(&desk.path("live"), &desk.path("bank"));
    store.close().unwrap();
    let is_log = |name: &String| Path::new(name).extension().is_some_and(|end| end == "log");
    let log = names(&desk.path("bank/db")).into_iter().rfind(is_log).unwrap();
    let log = desk.path("bank/db").join(log);
    let mut bytes = fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 200..].fill(0);
    fs::write(&log, bytes).unwrap();

    let lost = desk.fails(1, &["append", "bank", "a-1", "T"]);
    assert!(lost.contains("ends at position 2") && lost.contains("position 3"), "{lost}");
    assert!(desk.fails(1, &["accept-loss", "bank", "left", "--after", "1"]).contains("ends at 2"));
    let said = desk.ok(&["accept-loss", "bank", "left", "--after", "2"]);
    assert!(said.contains("copied 2 events"), "{said}");
    assert!(!desk.path("left.torn").exists());
    desk.ok(&["append", "left", "a-1", "T"]);
    assert_eq!(desk.json(&["stat", "left", "--json"])["events"], 3);
    assert!(desk.ok(&["verify", "left"]).contains("sound"));
    desk.fails(1, &["append", "bank", "a-1", "T"]);
}
