//! Export and import with positions: every event at its place, and nothing that was deleted (G2,
//! G3, G17).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use annals::prelude::*;
use annals::{
    Append, Deletion, Durability, Error, Hole, ImportOptions, Imported, Limits, Position, Query,
    StoreOptions, Timestamp, Version,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::log;

fn options() -> StoreOptions {
    // Small packs, so that holes are beside events as well as between packs.
    Store::options().durability(Durability::Buffered).index_types(true).pack_bytes(400)
}

fn export(store: &Store) -> Vec<u8> {
    let mut lines = Vec::new();
    store.export_with_positions(&mut lines, |_| {}).unwrap();
    lines
}

fn import(path: &Path, lines: impl AsRef<[u8]>) -> Result<Imported, Error> {
    options().import_with_positions(path, lines.as_ref(), |_| {})
}

fn stream(number: u8) -> StreamId {
    StreamId::new(format!("s-{number}")).unwrap()
}

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    /// A commit of events of these streams.
    Append(Vec<u8>),
    Truncate(u8, u64),
    Delete(u8),
    Tombstone(u8),
    /// The event at this part of the log.
    Redact(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(0..5u8, 1..7).prop_map(Step::Append),
        3 => (0..5u8, 2..9u64).prop_map(|(stream, before)| Step::Truncate(stream, before)),
        1 => (0..5u8).prop_map(Step::Delete),
        1 => (3..5u8).prop_map(Step::Tombstone),
        1 => any::<u8>().prop_map(Step::Redact),
    ]
}

/// Does the steps that the store accepts.
fn filled(path: &Path, steps: &[Step]) -> Store {
    let store = options().open(path).unwrap();
    for (number, step) in steps.iter().enumerate() {
        let done = match step {
            Step::Append(streams) => {
                let append = streams.iter().fold(Append::new(), |append, it| {
                    let event =
                        NewEvent::json("Said", &number).unwrap().with_tag(format!("t:{it}"));
                    append.to(stream(*it), ExpectedVersion::Any, [event])
                });
                store.submit(append).map(drop)
            }
            Step::Truncate(it, before) => {
                store.delete(&Deletion::truncate(&stream(*it), version(*before))).map(drop)
            }
            Step::Delete(it) => store.delete(&Deletion::delete(&stream(*it))).map(drop),
            Step::Tombstone(it) => store.delete(&Deletion::tombstone(&stream(*it))).map(drop),
            Step::Redact(at) => redact(&store, *at),
        };
        match done {
            Ok(()) | Err(Error::InvalidArgument(_) | Error::Tombstoned { .. }) => {}
            Err(error) => panic!("{step:?}: {error}"),
        }
    }
    store
}

fn redact(store: &Store, at: u8) -> Result<(), Error> {
    let events = log(store);
    let own: Vec<_> =
        events.iter().filter(|event| !event.stream().as_str().starts_with('$')).collect();
    let Some(event) = own.get(usize::from(at) % own.len().max(1)) else { return Ok(()) };
    let tag = event.tags().first().cloned();
    let deletion = Deletion::redact(event.position(), event.id()).removing_tags(tag);
    store.delete(&deletion).map(drop)
}

/// The version and the holes of a stream; the error, if it was deleted for good.
type OfStream = Result<(Option<Version>, Vec<Hole>), String>;

/// Everything that can be read of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    log: Vec<RecordedEvent>,
    holes: Vec<Hole>,
    streams: BTreeMap<String, OfStream>,
    tagged: Vec<Vec<Position>>,
    typed: usize,
    deletions: String,
}

fn seen(store: &Store) -> Seen {
    let of_stream = |id: &StreamId| {
        let version = store.stream_version(id).map_err(|error| error.to_string())?;
        let holes = store.read_stream(id).holes().map_err(|error| error.to_string())?;
        Ok((version, holes))
    };
    let find = |query: Query| store.read_log().query(query).into_iter().map(Result::unwrap);
    Seen {
        log: log(store),
        holes: store.read_log().holes().unwrap(),
        streams: (0..5).map(|it| (stream(it).to_string(), of_stream(&stream(it)))).collect(),
        tagged: (0..5)
            .map(|it| find(Query::tag(format!("t:{it}"))).map(|event| event.position()).collect())
            .collect(),
        typed: find(Query::types(["Said"])).count(),
        deletions: format!("{:?}", store.deletions().unwrap()),
    }
}

/// Neighbouring holes as one: their bounds follow the packs, which differ in the copy.
fn merged(holes: &[Hole]) -> Vec<(u64, u64)> {
    holes.iter().fold(Vec::new(), |mut merged: Vec<(u64, u64)>, hole| {
        match merged.last_mut() {
            Some((_, last)) if *last + 1 == hole.first => *last = hole.last,
            _ => merged.push((hole.first, hole.last)),
        }
        merged
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_event_and_every_hole_keeps_its_place(
        steps in proptest::collection::vec(step(), 1..40),
        later in proptest::collection::vec(step(), 0..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(&directory.path().join("store"), &steps);
        let lines = export(&store);
        let copy = directory.path().join("copy");
        let imported = import(&copy, &lines).unwrap();
        let before = seen(&store);
        prop_assert_eq!(imported.added, before.log.len() as u64);

        let copy = options().open(copy).unwrap();
        let report = copy.verify(|_| {}).unwrap();
        prop_assert!(report.is_sound(), "{:?}", report.damage);
        prop_assert_eq!(&seen(&copy), &before);
        prop_assert!(export(&copy) == lines);
        for recorded in store.deletions().unwrap() {
            prop_assert!(!copy.lacks(&recorded.deletion).unwrap());
        }

        // Both go on in the same way: versions, retries, deletions.
        let has_events = !before.log.is_empty();
        drop((store, copy));
        let again: Vec<_> = ["store", "copy"].iter().map(|name| {
            let store = filled(&directory.path().join(name), &later);
            assert!(store.verify(|_| {}).unwrap().is_sound());
            let places = |event: &RecordedEvent| (event.stream().clone(), event.version(), event.position());
            let places: Vec<_> = log(&store).iter().map(places).collect();
            (places, merged(&store.read_log().holes().unwrap()), store.info().unwrap().streams)
        }).collect();
        prop_assert!(!has_events || !again[0].0.is_empty());
        prop_assert_eq!(&again[0], &again[1]);

        // Without positions, the rest is a log of its own.
        let plain = options().open(directory.path().join("plain")).unwrap();
        let own = before.log.iter().filter(|event| event.stream().as_str() != "$deletions").count();
        let imported = plain.import(&lines[..], ImportOptions::default(), |_| {}).unwrap();
        prop_assert_eq!(imported.added, own as u64);
        prop_assert_eq!(imported.added + imported.skipped, imported.lines);
    }
}

/// A store with a deleted beginning, a commit that has lost its middle, a stream that was deleted
/// and created again, and one that was deleted for good.
fn with_holes(directory: &TempDir) -> Store {
    let steps = [
        Step::Append(vec![0, 0, 0, 1, 1, 0]),
        Step::Append(vec![2, 3]),
        Step::Delete(1),
        Step::Truncate(0, 3),
        Step::Append(vec![1]),
        Step::Tombstone(3),
    ];
    filled(&directory.path().join("store"), &steps)
}

#[test]
fn commit_that_has_lost_events_keeps_its_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_holes(&directory);
    let copy = directory.path().join("copy");
    import(&copy, export(&store)).unwrap();
    let copy = options().open(copy).unwrap();
    let commits: Vec<_> = log(&copy).iter().map(RecordedEvent::commit).collect();
    let of = |first, last| Position::new(first).unwrap()..=Position::new(last).unwrap();
    assert_eq!(commits[..3], [of(1, 6), of(1, 6), of(7, 8)]);
}

#[test]
fn deleted_place_stays_deleted_in_the_copy() {
    let directory = tempfile::tempdir().unwrap();
    let store = options().open(directory.path().join("store")).unwrap();
    let said = |number: u8| NewEvent::json("Said", &number).unwrap();
    let retried = said(1);
    store.append(stream(0), ExpectedVersion::NoStream, [retried.clone()]).unwrap();
    for number in 2..4 {
        store.append(stream(0), ExpectedVersion::Any, [said(number)]).unwrap();
    }
    store.delete(&Deletion::truncate(&stream(0), version(3)).because("old").by("us")).unwrap();
    let copy = directory.path().join("copy");
    import(&copy, export(&store)).unwrap();

    let copy = options().open(copy).unwrap();
    let answer = copy.append(stream(0), ExpectedVersion::NoStream, [retried]);
    assert!(matches!(answer, Err(Error::Deleted { .. })), "{answer:?}");
    let behind = Append::of([said(4)]).fail_if(Query::tag("none")).after(Position::FIRST);
    let answer = copy.submit(behind);
    assert!(matches!(answer, Err(Error::Deleted { .. })), "{answer:?}");
    assert_eq!(copy.deletions().unwrap()[0].deletion.author(), "us");
}

/// Changes of an export after which it cannot be right, each with the reason.
const CHANGES: [(&str, &str, &str); 17] = [
    (r#""last_version":2,"#, r#""last_version":1,"#, "has version 3"),
    (r#""state":"deleted""#, r#""state":"tombstoned""#, "deleted for good"),
    (r#""state":"deleted""#, r#""state":"gone""#, "unknown variant `gone`"),
    (r#""state":"deleted""#, r#""status":"deleted""#, "unknown field `status`"),
    (r#"{"hole":{"position":1,"#, r#"{"hole":{"position":0,"#, "places count from 1"),
    (r#""last_position":2,"#, r#""last_position":18446744073709551615,"#, "contradicts itself"),
    (
        r#"{"position":1,"last_position":2,"#,
        r#"{"position":1,"last_position":4294967296,"#,
        "apart",
    ),
    (r#"{"position":4,"last_position":5,"#, r#"{"position":4,"last_position":3,"#, "go back"),
    (r#""commit":1,"commit_last":6,"data""#, r#""commit":9,"commit_last":6,"data""#, "go back"),
    (r#""commit_last":6,"streams":1,"#, r#""commit_last":6,"streams":9,"#, "contradicts itself"),
    (r#""commit_last":8,"streams":4,"#, r#""commit_last":8,"streams":5,"#, "contradicts itself"),
    (r#""streams":1,"#, r#""streams":18446744073709551615,"#, "18446744073709551615 streams"),
    (r#""commit_last":6,"streams":1,"#, r#""commit_last":6,"streams":3,"#, "3 streams have events"),
    (r#""last_time":"2"#, r#""last_time":"1"#, "contradicts itself"),
    (r#"{"position":3,"version"#, r#"{"place":3,"version"#, "unknown field `place`"),
    (r#","id":""#, r#","event_id":""#, "unknown field `event_id`"),
    (r#""type":"$deletion""#, r#""type""#, "expected `:`"),
];

/// Other inputs that cannot be right, each with its reason.
fn bad_inputs(lines: &str) -> Vec<(String, &'static str)> {
    let without = |text: &str| {
        let left: Vec<_> = lines.lines().filter(|line| !line.contains(text)).collect();
        assert_eq!(left.len() + 1, lines.lines().count(), "{text}");
        left.join("\n")
    };
    let last = lines.lines().last().unwrap();
    let hole = lines.lines().find(|line| line.contains("stream_hole")).unwrap();
    let (start, rest) = hole.split_once(r#""stream":"s-0""#).unwrap();
    let (middle, end) = rest.split_once(r#""last_position":2,"#).unwrap();
    let far = format!(r#"{start}"stream":"s-9"{middle}"last_position":1000,{end}"#);
    vec![
        (format!("{lines}{far}"), "reaches position 1000, and the log does not"),
        (without(r#"{"position":7,"#), "has position 8, but 7 comes next"),
        (without(r#"{"hole":{"position":1,"#), "has position 3, but 1 comes next"),
        (without(r#""stream_hole":{"stream":"s-0""#), "but 1 comes next"),
        (without(last), "does not record deletion 3"),
        (format!("{lines}{last}"), "but 13 comes next"),
        (lines.trim_end().trim_end_matches('}').to_owned(), "EOF"),
        (format!("{lines}nothing"), "not a JSON object"),
    ]
}

#[test]
fn input_that_cannot_be_right_leaves_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let lines = String::from_utf8(export(&with_holes(&directory))).unwrap();
    let changed = CHANGES.iter().map(|(from, to, reason)| {
        assert!(lines.contains(from), "{from}: {lines}");
        (lines.replacen(from, to, 1), *reason)
    });
    for (lines, reason) in changed.chain(bad_inputs(&lines)) {
        let answer = import(&directory.path().join("copy"), &lines);
        let Err(error @ Error::ImportLine { .. }) = answer else {
            panic!("{reason}: {answer:?}: {lines}")
        };
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains("nothing was added"), "{reason}: {text}");
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["store"], "{reason}");
    }
}

#[test]
fn import_that_cannot_begin_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let lines = export(&with_holes(&directory));
    let at = |name: &str| directory.path().join(name);
    let answer = import(&at("store"), &lines);
    assert!(matches!(answer, Err(Error::CopyRefused { .. })), "{answer:?}");
    let reading = options().read_only(true).import_with_positions(at("copy"), &lines[..], |_| {});
    assert!(matches!(reading, Err(Error::ReadOnly)), "{reading:?}");
    let small = Limits::default().with_payload_len_max(0);
    let limited = options().limits(small).import_with_positions(at("copy"), &lines[..], |_| {});
    assert!(matches!(limited, Err(Error::ImportLine { .. })), "{limited:?}");
    let broken = (&lines[..]).take(600).chain(Broken);
    let failed =
        options().import_with_positions(at("copy"), std::io::BufReader::new(broken), |_| {});
    assert!(matches!(failed, Err(Error::ImportInput { lines_kept: 0, .. })), "{failed:?}");
    assert!(!at("copy").exists() && !at("copy.partial").exists());
    // It can begin again.
    import(&at("copy"), &lines).unwrap();
}

/// An input that fails.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the cable came off"))
    }
}

#[test]
fn long_log_is_imported_in_batches() {
    let directory = tempfile::tempdir().unwrap();
    let store = options().open(directory.path().join("store")).unwrap();
    for number in 0..3_000_u32 {
        let at = Timestamp::from_micros(i64::from(number));
        let event = NewEvent::json("Said", &number).unwrap().with_recorded_at(at);
        let id = StreamId::new(format!("s-{}", number % 1_500)).unwrap();
        store.append(&id, ExpectedVersion::Any, [event]).unwrap();
    }
    for number in 0..1_200 {
        let id = StreamId::new(format!("s-{number}")).unwrap();
        store.delete(&Deletion::truncate(&id, version(2))).unwrap();
    }
    let mut reports = 0;
    let lines = export(&store);
    let copy = directory.path().join("copy");
    let imported = options().import_with_positions(&copy, &lines[..], |_| reports += 1).unwrap();
    assert_eq!(
        (imported.added, imported.lines),
        (4_200 - 1_200, lines.split(|b| *b == b'\n').count() as u64 - 1)
    );
    assert!(reports > 2 && imported.holes > 0);
    assert_eq!(log(&options().open(copy).unwrap()), log(&store));
}
