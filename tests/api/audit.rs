//! Questions about the past: readable lines, and chains and trees of causes that agree with a plain
//! search, for any ids that events name as causes.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::audit::{self, Effect, Entry, Origin};
use annals::prelude::*;
use annals::{CAUSATION_ID, ContentType, Error, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{events, place, quick};

fn id(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

fn event(number: u8) -> NewEvent {
    NewEvent::json("Happened", &number).unwrap().with_id(id(number))
}

fn lines(store: &dyn EventStore, stream: &str) -> Vec<String> {
    audit::history(store, stream).map(|entry| entry.unwrap().to_string()).collect()
}

#[test]
fn history_prints_one_aligned_line_per_event() {
    let (_directory, path) = place();
    let stores: [Arc<dyn EventStore>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(quick().open(path).unwrap())];
    let of_type = |content_type, payload: &[u8]| {
        NewEvent::bytes("Added", payload).unwrap().with_content_type(content_type)
    };
    let spaced =
        "{ \"a b\" : [ 1,\n 2 ], \"q\\\\\\\" \" : \"\u{202e} x\", \"\\\\\" : 3 }".as_bytes();
    let written = [
        NewEvent::json("Opened", &json!({ "owner": "Ada" }))
            .unwrap()
            .caused_by("c-1")
            .correlated_by("w"),
        of_type(ContentType::JSON, spaced)
            .with_schema_version(2)
            .with_metadata("user", "a\nb")
            .with_tag("eur"),
        of_type(ContentType::JSON, b"{ \"cut"),
        of_type(ContentType::TEXT, "zwei\nZeilen".as_bytes()),
        of_type(ContentType::BYTES, &[0xfe; 20]),
        of_type(ContentType::BINCODE, b"text?"),
        of_type(ContentType::BYTES, b""),
        NewEvent::json("Noted", &"x".repeat(500)).unwrap().with_metadata("long", "y".repeat(500)),
    ];
    let time = Timestamp::from_micros(1_500_000);
    let written = written.map(|event| event.with_recorded_at(time));
    let expected = [
        r#"Opened                    {"owner":"Ada"}  caused_by=c-1  correlated_by=w"#.to_owned(),
        r#"Added (schema 2)          {"a b":[1,2],"q\\\" ":"\u202e x","\\":3}  user=a\u000ab  #eur"#
            .to_owned(),
        r#"Added                     application/json, "{ \"cut""#.to_owned(),
        r#"Added                     text/plain; charset=utf-8, "zwei\nZeilen""#.to_owned(),
        format!(
            "Added                     application/octet-stream, 20 bytes: {}…",
            "fe".repeat(16)
        ),
        "Added                     application/x-bincode, 5 bytes: 746578743f".to_owned(),
        r#"Added                     application/octet-stream, """#.to_owned(),
        format!(
            "Noted                     \"{}… (502 bytes)  long={}… (500 bytes)",
            "x".repeat(119),
            "y".repeat(120)
        ),
    ];
    for store in stores {
        store
            .append("other", ExpectedVersion::NoStream, [event(1).with_recorded_at(time)])
            .unwrap();
        store.append("a", ExpectedVersion::NoStream, written.clone()).unwrap();
        for (at, (line, expected)) in lines(&store, "a").iter().zip(&expected).enumerate() {
            assert_eq!(line, &format!("     {}  1970-01-01T00:00:01.5Z       {expected}", at + 1));
        }
        assert_eq!(lines(&store, "a").len(), expected.len());
        let short = audit::history(&store, "a").payload_chars(3).last().unwrap().unwrap();
        assert!(short.to_string().ends_with("\"xx… (502 bytes)  long=yyy… (500 bytes)"));
        assert_eq!((short.version().get(), short.causation_id()), (8, None));

        assert_eq!(lines(&store, "nothing"), Vec::<String>::new());
        let refused = audit::history(&store, "").next().unwrap().unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument(_)));
        store.append("many", ExpectedVersion::NoStream, events(3_000)).unwrap();
        assert_eq!(audit::history(&store, "many").map(Result::unwrap).count(), 3_000);
    }
}

/// Builds a log with a command that moves money: two events in two streams, one of which causes a
/// chain of two more.
fn moved() -> (MemoryStore, [EventId; 4]) {
    let store = MemoryStore::new();
    let of = |number: u8, cause: &dyn std::fmt::Display| {
        event(number).caused_by(cause).correlated_by("w-1")
    };
    store.append("noise", ExpectedVersion::Any, [event(9), event(8).caused_by(id(9))]).unwrap();
    store.append("account-1", ExpectedVersion::Any, [of(1, &"transfer-1")]).unwrap();
    store.append("account-2", ExpectedVersion::Any, [of(2, &"transfer-1")]).unwrap();
    store.append("mail-1", ExpectedVersion::Any, [of(3, &id(1))]).unwrap();
    let shouted = id(3).to_string().to_uppercase();
    store.append("mail-1", ExpectedVersion::Any, [of(4, &shouted).correlated_by("w-2")]).unwrap();
    (store, [id(1), id(2), id(3), id(4)])
}

#[test]
fn causes_lead_back_to_the_first_command() {
    let (store, ids) = moved();
    let why = audit::causes(&store, ids[3]).unwrap();
    assert_eq!(why.iter().map(|entry| entry.id()).collect::<Vec<_>>(), [ids[3], ids[2], ids[0]]);
    assert_eq!(why.origin(), &Origin::Outside("transfer-1".into()));
    let text = why.payload_chars(0).to_string();
    let text: Vec<_> = text.lines().collect();
    assert!(text[0].starts_with("mail-1@2  Happened  "), "{text:?}");
    assert!(text[1].starts_with("  because of mail-1@1  Happened  "));
    assert!(
        text[2].starts_with("  because of account-1@1  Happened  ")
            && text[2].contains("  … (1 bytes)  ")
    );
    assert_eq!(text[3], "  because of transfer-1, which is no event before it");

    let why = audit::causes(&store, id(8)).unwrap();
    assert_eq!((why.iter().count(), why.origin()), (2, &Origin::Event));
    assert!(why.to_string().ends_with("\n  no cause"));
    let why = audit::causes(&store, id(77)).unwrap();
    assert_eq!((why.iter().count(), why.origin()), (0, &Origin::Outside(id(77).to_string())));
    assert_eq!(why.to_string(), format!("{} is no event of this log", id(77)));
}

#[test]
fn effects_are_a_tree_across_streams() {
    let (store, ids) = moved();
    let effects = audit::effects(&store, "transfer-1").unwrap().payload_chars(9);
    let found: Vec<_> = effects.iter().map(|effect| (effect.id(), effect.depth())).collect();
    assert_eq!(found, [(ids[0], 1), (ids[2], 2), (ids[3], 3), (ids[1], 1)]);
    let text = effects.to_string();
    let text: Vec<_> = text.lines().map(|line| line.split("  Happened").next().unwrap()).collect();
    assert_eq!(
        text,
        [
            "transfer-1, which is no event of this log",
            "├─ account-1@1",
            "│  └─ mail-1@1",
            "│     └─ mail-1@2",
            "└─ account-2@1",
        ]
    );

    let effects = audit::effects(&store, ids[2]).unwrap();
    assert_eq!(effects.event().map(|entry| entry.id()), Some(ids[2]));
    assert!(effects.to_string().starts_with("mail-1@1  Happened  "));
    assert_eq!(effects.iter().map(|effect| effect.id()).collect::<Vec<_>>(), [ids[3]]);
    assert_eq!(audit::effects(&store, ids[3]).unwrap().iter().count(), 0);
}

#[test]
fn correlated_events_are_found_in_log_order() {
    let (store, ids) = moved();
    let found = audit::correlated(&store, "w-1").unwrap();
    assert_eq!(found.iter().map(|entry| entry.id()).collect::<Vec<_>>(), ids[..3]);
    assert!(found[1].to_string().starts_with("       4  account-2@1               20"));
    assert!(audit::correlated(&store, "w-3").unwrap().is_empty());
}

#[test]
fn causal_chain_of_any_depth_is_followed_and_drawn() {
    let store = MemoryStore::new();
    let mut chain = events(20_000);
    for at in 1..chain.len() {
        let cause = chain[at - 1].id();
        chain[at] = chain[at].clone().caused_by(cause);
    }
    let (first, last) = (chain[0].id(), chain.last().unwrap().id());
    for chunk in chain.chunks(1_000) {
        store.append("a", ExpectedVersion::Any, chunk.to_vec()).unwrap();
    }
    assert_eq!(audit::causes(&store, last).unwrap().iter().count(), 20_000);
    let effects = audit::effects(&store, first).unwrap();
    assert_eq!(effects.iter().last().map(Effect::depth), Some(19_999));
    let drawn = effects.to_string();
    assert!(drawn.lines().last().unwrap().starts_with("(19999)    "));
    assert!(drawn.lines().all(|line| line.chars().count() < 300));
}

/// Returns the position in the log of an event's cause; an unknown id or a later event is no cause.
fn cause_of(causes: &[Option<u8>], at: usize) -> Option<usize> {
    let cause = usize::from(causes[at]?);
    (cause < at).then_some(cause)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Each event may name any event as its cause, even itself or a later one: cycles, and causes
    /// that do not exist.
    #[test]
    fn causes_and_effects_agree_with_a_plain_search(
        causes in prop::collection::vec(prop::option::weighted(0.8, 0..14_u8), 1..14),
    ) {
        let store = MemoryStore::new();
        for (number, cause) in (0..).zip(&causes) {
            let event = event(number);
            let event = cause.iter().fold(event, |event, cause| event.caused_by(id(*cause)));
            let stream = format!("s-{}", number % 3);
            store.append(stream.as_str(), ExpectedVersion::Any, [event]).unwrap();
        }
        let number = |entry: &Entry| usize::from(entry.id().as_bytes()[0]);
        let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in 0..causes.len() {
            children.entry(cause_of(&causes, at).unwrap_or(usize::MAX)).or_default().push(at);
        }
        for (at, of) in (0..).zip(0..causes.len()) {
            let expected: Vec<_> = std::iter::successors(Some(of), |at| cause_of(&causes, *at)).collect();
            let why = audit::causes(&store, id(at)).unwrap();
            prop_assert_eq!(why.iter().map(number).collect::<Vec<_>>(), expected.clone());
            let named = causes[*expected.last().unwrap()];
            let origin = named.map_or(Origin::Event, |named| Origin::Outside(id(named).to_string()));
            prop_assert_eq!(why.origin(), &origin);

            let effects = audit::effects(&store, id(at)).unwrap();
            let found: Vec<_> = effects.iter().map(|effect| (number(effect), effect.depth())).collect();
            let mut expected = Vec::new();
            let mut pending = vec![(of, 0)];
            while let Some((at, depth)) = pending.pop() {
                expected.extend((depth > 0).then_some((at, depth)));
                let below = children.get(&at).into_iter().flatten().rev();
                pending.extend(below.map(|at| (*at, depth + 1)));
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(effects.event().map(number), Some(of));
            prop_assert!(effects.event().unwrap().metadata().get(CAUSATION_ID).is_some() == causes[of].is_some());
        }
    }
}
