//! Commands that explain events: causes, effects, read models.

use std::time::Duration;

use crate::workspace::{Workspace, text};

/// Shows an event's causes and effects, and the read model of a projection.
#[test]
fn causes_effects_and_read_models_are_shown() {
    let desk = Workspace::new();
    let ids = ["01890a5d-ac96-774b-bcce-b302099a8051", "01890a5d-ac96-774b-bcce-b302099a8052"];
    let line = |stream: &str, id: &str, cause: &str| {
        let metadata = format!(r#""metadata":{{"$causation_id":"{cause}"}}"#);
        let place = format!(r#""stream":"{stream}","type":"T","time":"2026-01-01T00:00:00Z""#);
        format!("{{{place},\"data\":{{}},\"id\":\"{id}\",{metadata}}}\n")
    };
    desk.write("in", line("order-1", ids[0], "click-7") + &line("payment-1", ids[1], ids[0]));
    desk.ok(&["import", "s", "in"]);
    let trace = desk.ok(&["trace", "s", ids[1]]);
    assert!(
        trace.contains("because of") && trace.contains("order-1") && trace.contains("click-7"),
        "{trace}"
    );
    assert!(trace.contains("No effects."), "{trace}");
    let trace = desk.ok(&["trace", "s", ids[0], "--json"]);
    assert_eq!(trace.lines().count(), 2, "the event and its effect: {trace}");
    for name in ["1", "order-1@1"] {
        assert_eq!(desk.ok(&["trace", "s", name, "--json"]), trace, "{name}");
    }
    // The commands that show its id.
    for args in [&["log", "s", "--ids"][..], &["read", "s", "order-1", "--ids"]] {
        assert!(desk.ok(args).contains(&format!("  {}  T  ", ids[0])), "{args:?}");
    }
    assert!(!desk.ok(&["log", "s", "--limit", "1"]).contains(ids[0]));

    assert_eq!(desk.ok(&["views", "s"]), "");
    let store = annals::Store::open(desk.path("s")).unwrap();
    let projections = annals::ProjectionManager::new(&store).register(Counted).unwrap();
    projections.start().unwrap();
    let counted = projections.projection("counted").unwrap();
    counted.wait_for(annals::Position::new(2).unwrap(), Duration::from_secs(60)).unwrap();
    drop((projections, store));
    assert_eq!(desk.ok(&["views", "s"]), "       2  counted  v1, has every event\n");
    assert_eq!(desk.ok(&["views", "s", "counted"]), "order-1/1  true\npayment-1/1  true\n");
    let last = desk.json(&["views", "s", "counted", "--backward", "--limit", "1", "--json"]);
    // The text and, after its terminator, the number.
    let hex = "7061796d656e742d31000000000000000001";
    assert_eq!(last, serde_json::json!({ "key": "payment-1/1", "key_hex": hex, "value": true }));
    assert_eq!(desk.ok(&["views", "s", "counted", "--under", "order-1"]), "order-1/1  true\n");
}

/// A read model with missing events does not look like a complete one.
#[test]
fn parked_and_discarded_events_are_shown() {
    use annals::prelude::*;
    use annals::{OnFailure, ViewStore};
    let desk = Workspace::new();
    let line = |stream| {
        format!(
            "{{\"stream\":\"{stream}\",\"type\":\"T\",\"time\":\"2026-01-01T00:00:00Z\",\"data\":{{}}}}\n"
        )
    };
    desk.write("in", ["a-1", "b-1", "a-1"].map(line).concat());
    desk.ok(&["import", "s", "in"]);
    let store = Store::open(desk.path("s")).unwrap();
    let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
    let projections = ProjectionManager::new(&store).register_with(Refusing, options).unwrap();
    projections.start().unwrap();
    projections.wait_for_head(Duration::from_secs(60)).unwrap();
    let parked = projections.projection("counted").unwrap().parked(9).unwrap();
    projections.projection("counted").unwrap().discard_parked(&parked[0]).unwrap();
    projections.stop();
    // Another program writes a view without a projection.
    let own = annals::ViewCommit {
        view: "mine".into(),
        expected: None,
        changes: Vec::new(),
        checkpoint: Some(annals::Checkpoint { position: None, state: b"?".to_vec() }),
        follows_other_log: true,
    };
    store.commit_view(&own).unwrap();
    drop((projections, store));

    let shown = desk.ok(&["views", "s"]);
    assert!(
        shown.contains(
            "3  counted  v1, 1 event of 1 stream parked, 1 event skipped, 1 event discarded\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("0  mine  not created by a projection\n"), "{shown}");
    let shown = desk.ok(&["views", "s", "--json"]);
    let counted: serde_json::Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(counted["parked_events"], 1);
    assert_eq!(counted["skipped_events"], 1);
    assert_eq!(counted["discarded_events"], 1);
    let shown = desk.ok(&["views", "s", "counted", "--parked"]);
    assert!(shown.contains("a-1  T  waits for an earlier one of its stream\n"), "{shown}");
    let shown = desk.json(&["views", "s", "counted", "--skipped", "--json"]);
    assert_eq!((&shown["position"], &shown["reason"]), (&1.into(), &"not a".into()));
    let shown = desk.json(&["views", "s", "counted", "--discarded", "--json"]);
    assert_eq!((&shown["position"], &shown["reason"]), (&1.into(), &"not a".into()));
    // A number of any size is shown as stored.
    assert_eq!(
        desk.ok(&["views", "s", "counted"]),
        "b-1  340282366920938463463374607431768211455\n"
    );
    assert!(desk.fails(1, &["views", "s", "count"]).contains("there is no read model count"));
    desk.fails(2, &["views", "s", "--parked"]);

    desk.fails(2, &["views", "s", "--remove"]);
    desk.fails(2, &["views", "s", "counted", "--remove", "--parked"]);
    assert!(
        desk.fails(1, &["views", "s", "mine", "--remove"]).contains("not created by a projection")
    );
    desk.ok(&["views", "s", "counted", "--remove"]);
    assert!(!desk.ok(&["views", "s"]).contains("counted"));
    assert!(
        desk.fails(1, &["views", "s", "counted", "--remove"])
            .contains("there is no read model counted")
    );
    desk.fails(1, &["views", "nowhere", "counted", "--remove"]);
    assert!(!desk.path("nowhere").exists(), "no store is created");
}

#[test]
fn stat_shows_keys_and_views() {
    use annals::{KeyedSubmission, OnFailure, RequestDigest, prelude::*};
    let desk = Workspace::new();
    for stream in ["a-1", "b-1"] {
        desk.ok(&["append", "s", stream, "T", "{}"]);
    }
    let store = Store::open(desk.path("s")).unwrap();
    let options = ProjectionOptions::new().retries(0).on_failure(OnFailure::Park);
    let projections = ProjectionManager::new(&store).register_with(Refusing, options).unwrap();
    projections.start().unwrap();
    projections.wait_for_head(Duration::from_secs(60)).unwrap();
    let key = annals::IdempotencyKey::new("cli", "1", RequestDigest::of("")).unwrap();
    store.submit_once(&key, KeyedSubmission::nothing()).unwrap();
    drop((projections, store));
    desk.ok(&["append", "s", "b-1", "T", "{}"]);

    let stat = desk.json(&["stat", "s", "--json"]);
    assert_eq!(stat["keys"], 1);
    let counted = &stat["views"][0];
    assert_eq!((&counted["behind"], &counted["parked_events"]), (&1.into(), &1.into()));
    assert!(stat["disk_free_bytes"].as_u64() > Some(1 << 20), "{stat}");
    let stat = desk.ok(&["stat", "s"]);
    assert!(stat.contains("keys         1 idempotency key ever recorded\n"), "{stat}");
    let counted = "counted  v1, 1 event behind, 1 event of 1 stream parked\n";
    assert!(stat.contains(&format!("read model   {counted}")), "{stat}");
    assert!(stat.contains("disk free    "), "{stat}");
}

/// Rejects the events of `a`.
struct Refusing;

impl annals::Projection for Refusing {
    type Event = Anything;

    fn name(&self) -> &'static str {
        "counted"
    }

    fn handle(
        &self,
        event: &annals::TypedEvent<Anything>,
        view: &mut annals::ViewWriter,
    ) -> Result<(), annals::HandlerError> {
        if event.stream().category() == "a" {
            Err("not a")?;
        }
        Ok(view.put(event.stream(), &u128::MAX)?)
    }
}

/// A name that does not exist is reported; an empty answer would look like a result.
#[test]
fn missing_items_are_reported_as_missing() {
    let desk = Workspace::new();
    for stream in ["a-1", "b-1", "a-1"] {
        desk.ok(&["append", "s", stream, "T"]);
    }
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8051";
    for (name, complaint) in [
        ("4", "the log has not reached position 4: it is at 3"),
        ("a-1@3", "stream a-1 has no version 3: it is at version 2"),
        ("c-1@1", "stream c-1 has no events"),
        (unknown, "no event of this store has the id"),
    ] {
        for json in [&[][..], &["--json"]] {
            let said = desk.fails(1, &[&["trace", "s", name], json].concat());
            assert!(said.contains(complaint), "{said}");
        }
    }
    for name in ["seven", "0", "a-1@0", "a-1@", "@1"] {
        assert!(desk.fails(2, &["trace", "s", name]).contains("invalid value"), "{name}");
    }
    // A command's id is not an event's id, but it has effects.
    let place = r#""stream":"a-1","type":"T","time":"2026-01-01T00:00:00Z","data":1"#;
    let metadata = format!(r#""metadata":{{"$causation_id":"{unknown}"}}"#);
    desk.write("in", format!("{{{place},{metadata}}}\n"));
    desk.ok(&["import", "t", "in"]);
    assert!(desk.ok(&["trace", "t", unknown]).contains("Effects:"));

    for (args, note) in [
        (&["log", "s", "--type", "X"][..], "the log has no such events"),
        (&["log", "s", "--after", "3"], "the log has no such events"),
        (&["log", "s", "--as-of-position", "4"], "has not reached position 4: it is at 3"),
        (&["read", "s", "a-1", "--as-of-version", "3"], "has not reached version 3: it is at 2"),
        (&["read", "s", "a-1", "--as-of-version", "3", "--json"], "has not reached version 3"),
        (&["read", "s", "a-1", "--type", "X"], "stream a-1 has no such events"),
        (&["read", "s", "c-1"], "stream c-1 has no events"),
        (&["streams", "s", "--prefix", "c"], "the store has no such streams"),
    ] {
        let output = desk.run(args);
        assert!(output.status.success(), "{args:?}");
        assert!(text(&output.stderr).contains(note), "{args:?}: {}", text(&output.stderr));
    }
    for args in [
        &["log", "s", "--type", "T"][..],
        &["log", "s", "--as-of-position", "3"],
        &["read", "s", "a-1", "--as-of-version", "2"],
        &["log", "s", "--type", "X", "--json"],
    ] {
        assert_eq!(text(&desk.run(args).stderr), "", "{args:?}");
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Anything {}
annals::domain_events! { Anything => "T" }

struct Counted;

impl annals::Projection for Counted {
    type Event = Anything;

    fn name(&self) -> &'static str {
        "counted"
    }

    fn handle(
        &self,
        event: &annals::TypedEvent<Anything>,
        view: &mut annals::ViewWriter,
    ) -> Result<(), annals::HandlerError> {
        Ok(view.put((event.stream(), event.version()), &true)?)
    }
}

/// A view that a program writes without a projection is shown as stored.
#[test]
fn entries_of_a_view_without_projection_are_shown() {
    use annals::{Checkpoint, Position, Store, ViewChange, ViewCommit, ViewStore};
    let desk = Workspace::new();
    desk.ok(&["append", "s", "a", "T"]);
    let store = Store::open(desk.path("s")).unwrap();
    let put = |key: &[u8], value: &[u8]| ViewChange::Put { key: key.into(), value: value.into() };
    let view = ViewCommit {
        view: "kept".into(),
        expected: None,
        changes: vec![
            put(b"a", b"{\"n\":\n 123456789012345678901234567890}"),
            put(b"b", b"plain \x1b"),
            put(b"b\0c", b""),
            put(b"\xff\0", b"\x00\xff"),
        ],
        checkpoint: Some(Checkpoint { position: Position::new(1), state: b"mine".to_vec() }),
        follows_other_log: true,
    };
    store.commit_view(&view).unwrap();
    store.close().unwrap();
    assert_eq!(desk.ok(&["views", "s"]), "       1  kept  not created by a projection\n");
    let shown = desk.json(&["views", "s", "--json"]);
    let expected = serde_json::json!({ "view": "kept", "position": 1, "is_projection": false });
    assert_eq!(shown, expected);

    let a = "a  {\"n\":  123456789012345678901234567890}\n";
    let b = "b  \"plain \\u{1b}\"\n";
    let below = "b\\u0000c  \"\"\n";
    let bytes = "ff00 (2 bytes)  00ff (2 bytes)\n";
    assert_eq!(desk.ok(&["views", "s", "kept"]), [a, b, below, bytes].concat());
    assert_eq!(desk.ok(&["views", "s", "kept", "--prefix", "b"]), [b, below].concat());
    assert_eq!(desk.ok(&["views", "s", "kept", "--under", "b"]), below);
    let last = ["views", "s", "kept", "--backward", "--limit", "2"];
    assert_eq!(desk.ok(&last), [bytes, below].concat());
    let shown = desk.ok(&["views", "s", "kept", "--json"]);
    let shown: Vec<_> = shown.lines().collect();
    assert!(shown[0].ends_with("\"value\":{\"n\":  123456789012345678901234567890}}"));
    assert_eq!(shown[1], r#"{"key":"b","key_hex":"62","value_base64":"cGxhaW4gGw=="}"#);
    assert_eq!(shown[3], r#"{"key":null,"key_hex":"ff00","value_base64":"AP8="}"#);
    assert!(
        desk.fails(1, &["views", "s", "kept", "--parked"]).contains("not created by a projection")
    );
}
