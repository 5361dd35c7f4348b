//! Import and export through the public API.

use std::io::{BufReader, Read};

use annals::prelude::*;
use annals::{
    ContentType, Durability, Error, EventType, ImportOptions, Imported, Limits, Position,
    Timestamp, Version,
};
use proptest::prelude::*;
use rocksdb::IteratorMode;

use crate::support::{database, edit, log};

fn new_store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::options().durability(Durability::Buffered).open(directory.path()).unwrap();
    (directory, store)
}

fn import(store: &Store, input: impl AsRef<[u8]>) -> Result<Imported, Error> {
    store.import(input.as_ref(), ImportOptions::default(), |_| {})
}

fn export(store: &Store) -> String {
    let mut out = Vec::new();
    store.export(&mut out, |_| {}).unwrap();
    String::from_utf8(out).unwrap()
}

fn line(stream: &str, second: usize, rest: &str) -> String {
    format!(
        r#"{{"stream":"{stream}","type":"T","time":"2020-01-01T00:{:02}:{:02}Z","data":{second}{rest}}}"#,
        second / 60,
        second % 60
    )
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|n| line(&format!("s-{}", n % 7), n, "")).collect()
}

#[test]
fn repeated_import_adds_only_new_lines() {
    let (_directory, store) = new_store();
    let all = lines(2_500);
    let first = import(&store, all[..1_700].join("\n")).unwrap();
    assert_eq!((first.added, first.already_there, first.lines), (1_700, 0, 1_700));
    for _ in 0..2 {
        let again = import(&store, all[..1_700].join("\r\n")).unwrap();
        assert_eq!((again.added, again.already_there), (0, 1_700));
    }
    // Truncated in the middle of a line end.
    let again = import(&store, all[..1_700].join("\r\n") + "\r").unwrap();
    assert_eq!((again.added, again.already_there), (0, 1_700));
    let shorter = import(&store, all[..3].join("\n")).unwrap();
    assert_eq!((shorter.added, shorter.already_there), (0, 3));
    let grown = import(&store, all.join("\n")).unwrap();
    assert_eq!((grown.added, grown.already_there), (800, 1_700));

    let (_other, once) = new_store();
    import(&once, all.join("\n")).unwrap();
    assert_eq!(log(&store), log(&once));
}

#[test]
fn input_that_differs_after_a_common_prefix_is_refused() {
    let (_directory, store) = new_store();
    let all = lines(50);
    import(&store, all.join("\n")).unwrap();
    let mut changed = lines(60);
    changed[20] = changed[20].replace("\"data\":20", "\"data\":21");
    let error = import(&store, changed.join("\n")).unwrap_err();
    assert!(matches!(error, Error::ImportDiffers { lines: 50 }), "{error}");
    // Shorter than the log: changed in its last line, changed before it, or with an invalid line.
    for len in [21_u64, 30] {
        let shorter = changed[..usize::try_from(len).unwrap()].join("\n");
        let error = import(&store, shorter).unwrap_err();
        assert!(matches!(error, Error::ImportDiffers { lines } if lines == len), "{error}");
    }
    let error = import(&store, format!("{}\ngarbage", all[0])).unwrap_err();
    assert!(matches!(error, Error::ImportDiffers { lines: 2 }), "{error}");
    assert_eq!(store.head().unwrap(), Position::new(50));
}

#[test]
fn bad_line_keeps_earlier_lines_and_can_be_corrected() {
    let (_directory, store) = new_store();
    let mut all = lines(2_500);
    let good = all[2_100].clone();
    all[2_100] = good.replace("\"type\"", "\"tpye\"");
    let error = import(&store, all.join("\n")).unwrap_err();
    let Error::ImportLine { line: 2_101, lines_kept: 2_100, .. } = &error else {
        panic!("{error}")
    };
    assert!(error.to_string().contains("tpye"), "{error}");
    assert_eq!(store.head().unwrap(), Position::new(2_100));
    all[2_100] = good;
    let rest = import(&store, all.join("\n")).unwrap();
    assert_eq!((rest.added, rest.already_there), (400, 2_100));
}

#[test]
fn bad_line_rejects_its_whole_commit() {
    let (_directory, store) = new_store();
    let good = [
        line("a", 0, r#","commit":1"#),
        line("b", 1, r#","commit":1"#),
        line("a", 2, r#","commit":"1""#),
        line("b", 3, r#","commit":"1""#),
    ];
    let bad = format!("{}\n{{", good[..3].join("\n"));
    let error = import(&store, bad).unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 4, lines_kept: 2, .. }), "{error}");
    assert_eq!(store.head().unwrap(), Position::new(2));
    assert_eq!(import(&store, good.join("\n")).unwrap().added, 2);
    let commits: Vec<_> = log(&store).iter().map(|event| event.commit().start().get()).collect();
    assert_eq!(commits, [1, 1, 3, 3]);
}

#[test]
fn truncated_commit_is_not_added_in_two_parts() {
    let (_directory, store) = new_store();
    let all = [0, 1, 2].map(|n| line("a", n, r#","commit":9"#));
    assert_eq!(import(&store, all[..2].join("\n")).unwrap().added, 2);
    let error = import(&store, all.join("\n")).unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 3, lines_kept: 2, .. }), "{error}");
}

/// A line that import skips, because it stands for a deleted event.
const HOLE: &str = r#"{"hole":{"position":3,"last_position":3,"time":"2020-01-01T00:00:00Z","last_time":"2020-01-01T00:00:00Z","commit":1,"commit_last":4,"streams":1,"deletion":1}}"#;

#[test]
fn commit_around_a_deleted_event_is_continued() {
    let (_directory, store) = new_store();
    let of_commit = |second| line("s", second, r#","commit":1"#);
    let all = [of_commit(0), of_commit(1), HOLE.to_owned(), of_commit(2)];
    assert_eq!(import(&store, all[..3].join("\n")).unwrap().added, 2);
    let rest = import(&store, all.join("\n")).unwrap();
    assert_eq!((rest.added, rest.already_there, rest.skipped), (1, 2, 1));
}

#[test]
fn shorter_input_is_recognised_by_its_last_event() {
    let (_directory, store) = new_store();
    let decision = line("$deletions", 9, "");
    let long = [HOLE.to_owned(), line("s", 0, ""), line("s", 1, ""), line("s", 2, "")];
    import(&store, long.join("\n")).unwrap();
    // It begins in the same way, and ends with lines that are skipped.
    let other = [HOLE.to_owned(), line("s", 5, ""), decision.clone()];
    let answer = import(&store, other.join("\n"));
    assert!(matches!(answer, Err(Error::ImportDiffers { .. })), "{answer:?}");
    let shorter = import(&store, long[..2].join("\n")).unwrap();
    assert_eq!((shorter.added, shorter.already_there), (0, 2));
    assert_eq!(import(&store, HOLE).unwrap().added, 0);
}

#[test]
fn decreasing_time_is_refused_or_clamped_on_request() {
    let (_directory, store) = new_store();
    let all = [line("a", 5, ""), String::new(), line("a", 4, ""), line("a", 6, "")].join("\n");
    let error = import(&store, &all).unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 3, lines_kept: 1, .. }), "{error}");
    let clamp = ImportOptions::default().clamp_times(true);
    let clamped = store.import(all.as_bytes(), clamp, |_| {}).unwrap();
    assert_eq!((clamped.added, clamped.clamped, clamped.lines), (2, 1, 4));
    let seconds: Vec<_> =
        log(&store).iter().map(|event| event.recorded_at().as_micros() / 1_000_000 % 60).collect();
    assert_eq!(seconds, [5, 5, 6]);

    // The last event of the store sets the earliest time.
    let error = import(&store, line("b", 1, "")).unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 1, lines_kept: 0, .. }), "{error}");
    assert_eq!(store.head().unwrap(), Position::new(3));
}

#[test]
fn import_into_the_exported_store_is_refused() {
    let (_directory, store) = new_store();
    store.append("a", ExpectedVersion::Any, [NewEvent::json("T", &1).unwrap()]).unwrap();
    let error = import(&store, export(&store)).unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 1, lines_kept: 0, .. }), "{error}");
    assert_eq!(store.head().unwrap(), Some(Position::FIRST));
}

#[test]
fn read_error_of_an_input_names_the_last_line() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no more"))
        }
    }
    let (_directory, store) = new_store();
    let text = lines(3).join("\n") + "\n{\"str";
    let input = BufReader::new(text.as_bytes().chain(Broken));
    let error = store.import(input, ImportOptions::default(), |_| {}).unwrap_err();
    let kept =
        "lines 1 to 3 are in the store, and importing the complete input continues after them";
    let expected = format!("reading the input failed after line 3: no more; {kept}");
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, Error::ImportInput { line: 3, lines_kept: 3, .. }));
    assert_eq!(store.head().unwrap(), Position::new(3));
}

#[test]
fn line_longer_than_any_event_is_refused_early() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits::default().with_payload_len_max(100);
    let store = Store::options().limits(limits).open(directory.path()).unwrap();
    let endless = BufReader::new(std::io::repeat(b' '));
    let error = store.import(endless, ImportOptions::default(), |_| {}).unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 1, .. }), "{error}");
    let long = line("a", 0, &format!(r#","data_base64":"{}""#, "A".repeat(200)))
        .replace(",\"data\":0", "");
    let error = import(&store, long).unwrap_err();
    assert!(error.to_string().contains("payload_len_max"), "{error}");
}

#[test]
fn read_only_store_refuses_an_import() {
    let (directory, store) = new_store();
    store.close().unwrap();
    let store = Store::options().read_only(true).open(directory.path()).unwrap();
    assert!(matches!(import(&store, line("a", 0, "")), Err(Error::ReadOnly)));
}

#[test]
fn concurrent_imports_of_one_input_add_it_once() {
    let (_directory, store) = new_store();
    let text = lines(3_000).join("\n");
    let added: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..3).map(|_| scope.spawn(|| import(&store, &text).unwrap().added)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(added, 3_000);
    assert_eq!(store.head().unwrap(), Position::new(3_000));
}

#[test]
fn import_fails_when_an_append_overtakes_its_times() {
    let (_directory, store) = new_store();
    let text = lines(2_500).join("\n");
    let mut has_appended = false;
    let error = store
        .import(text.as_bytes(), ImportOptions::default(), |_| {
            if !std::mem::replace(&mut has_appended, true) {
                let event = NewEvent::json("Now", &1).unwrap();
                store.append("now", ExpectedVersion::NoStream, [event]).unwrap();
            }
        })
        .unwrap_err();
    assert!(matches!(error, Error::ImportLine { line: 1_001, lines_kept: 1_000, .. }), "{error}");
    let clamp = ImportOptions::default().clamp_times(true);
    let rest = store.import(text.as_bytes(), clamp, |_| {}).unwrap();
    assert_eq!((rest.added, rest.clamped), (1_500, 1_500));
}

#[test]
fn duplicate_event_id_in_a_stream_round_trips() {
    let (_directory, store) = new_store();
    let event = NewEvent::json("T", &1).unwrap();
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Exact(Version::FIRST)] {
        store.append("a", expected, [event.clone()]).unwrap();
    }
    let (_other, copy) = new_store();
    assert_eq!(import(&copy, export(&store)).unwrap().added, 2);
    assert_eq!(log(&copy), log(&store));
}

#[test]
fn largest_events_and_appends_round_trip() {
    use annals::limits::{APPEND_STREAMS_MAX, PAYLOAD_LEN_MAX};
    let (_directory, store) = new_store();
    let kind = EventType::new("T").unwrap();
    let bytes = NewEvent::new(kind.clone(), vec![0xff; PAYLOAD_LEN_MAX]);
    let text = NewEvent::json("T", &"x".repeat(PAYLOAD_LEN_MAX - 2)).unwrap();
    let wide = (0..APPEND_STREAMS_MAX).fold(Append::new(), |append, n| {
        append.to(format!("s-{n}"), ExpectedVersion::Any, [NewEvent::new(kind.clone(), [])])
    });
    store.submit(wide).unwrap();
    store.append("a", ExpectedVersion::Any, [bytes, text]).unwrap();
    let (_other, copy) = new_store();
    let exported = export(&store);
    import(&copy, &exported).unwrap();
    assert!(export(&copy) == exported && log(&copy) == log(&store));
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"null".to_vec()),
        Just(b"".to_vec()),
        Just(b" 1".to_vec()),
        Just(b"1\n".to_vec()),
        Just(b"{\"a\": 1.0e+00 ,\"a\":2}".to_vec()),
        Just(b"{\n}".to_vec()),
        Just(b"{\r}".to_vec()),
        Just(b"\"\\ud800\"".to_vec()),
        Just("\"\u{9b}\u{7f}\u{2028}\u{feff}\"".into()),
        Just("\u{feff}1".into()),
        Just([b"[".repeat(3_000), b"]".repeat(3_000)].concat()),
        Just(b"1 2".to_vec()),
        Just(b"nul".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        any::<String>().prop_map(|text| serde_json::to_vec(&text).unwrap()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{1,2}(-[0-9])?", "[^\\p{Cc}$]{1,8}", Just("\"\\/\u{2028}".to_owned())]
}

fn event() -> impl Strategy<Value = (NewEvent, i64)> {
    let content_type = prop_oneof![
        4 => Just(ContentType::JSON),
        1 => Just(ContentType::BYTES),
        1 => Just(ContentType::TEXT),
        1 => name().prop_map(|name| ContentType::new(name).unwrap()),
    ];
    let metadata = proptest::collection::vec((".{1,5}", any::<String>()), 0..4);
    let rest = (1u32.., proptest::collection::vec(name(), 0..3), 0..3i64, any::<Option<u8>>());
    (name(), payload(), content_type, metadata, rest).prop_map(
        |(name, payload, content_type, metadata, (schema, tags, wait, id))| {
            let metadata = metadata.into_iter().filter(|(key, _)| !key.starts_with('$'));
            let mut event = NewEvent::new(EventType::new(name).unwrap(), payload)
                .with_content_type(content_type)
                .with_schema_version(schema)
                .with_all_metadata(metadata.collect())
                .with_metadata(annals::CORRELATION_ID, "c");
            for tag in tags {
                event = event.with_tag(tag);
            }
            // Repeated ids: a log may hold them, even in one stream.
            if let Some(id) = id {
                event = event.with_id(EventId::from_bytes([id % 4; 16]));
            }
            (event, wait)
        },
    )
}

/// A stream, an event for it, and how many microseconds later than the previous one it is recorded.
type Given = (String, (NewEvent, i64));

/// Appends of several events each, at times that never decrease and may reach the last valid time.
fn appends() -> impl Strategy<Value = (i64, Vec<Vec<Given>>)> {
    let start = prop_oneof![
        Just(-377_705_023_200_999_000),
        Just(253_402_207_200_999_000),
        -10..10i64,
        Just(1_700_000_000_123_456)
    ];
    (start, proptest::collection::vec(proptest::collection::vec((name(), event()), 1..6), 1..8))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn import_of_an_export_gives_the_same_log((mut time, appends) in appends()) {
        let (_a, original) = new_store();
        for append in appends {
            let mut submitted = Append::new();
            for (stream, (event, wait)) in append {
                time += wait;
                let event = event.with_recorded_at(Timestamp::from_micros(time));
                // An exact version, so that an event is appended even if the stream already holds
                // its id.
                let tip = original.stream_version(&StreamId::new(&stream).unwrap()).unwrap();
                submitted = submitted.to(stream, tip.into(), [event]);
            }
            match original.submit(submitted) {
                Ok(_) | Err(Error::InvalidArgument(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let exported = export(&original);
        let (_b, copy) = new_store();
        let events = original.head().unwrap().map_or(0, Position::get);
        prop_assert_eq!(import(&copy, &exported).unwrap().added, events);
        prop_assert_eq!(log(&copy), log(&original));
        prop_assert_eq!(export(&copy), exported.clone());
        prop_assert_eq!(import(&copy, &exported).unwrap().added, 0);

        // An import in two parts, split between two commits.
        let all: Vec<_> = exported.lines().collect();
        let commits: Vec<_> = log(&original).iter().map(RecordedEvent::commit).collect();
        let middle = commits.get(all.len() / 2).map_or(0, |c| usize::try_from(c.start().get()).unwrap() - 1);
        let (_c, twice) = new_store();
        import(&twice, all[..middle].join("\n")).unwrap();
        import(&twice, &exported).unwrap();
        prop_assert_eq!(log(&twice), log(&original));
    }

    #[test]
    fn numbers_of_any_length_round_trip(
        numbers in proptest::collection::vec(
            "-?[1-9][0-9]{0,50}(\\.[0-9]{1,50})?([eE][+-]?[0-9]{1,4})?",
            1..20,
        )
    ) {
        let line = |(at, number): (usize, &String)| {
            let data = format!(r#"{{ "n" :[{number}, {{"n":{number} }}]}}"#);
            let commit = "7".repeat(40);
            let event = r#""stream":"s","type":"T","time":"2020-01-01T00:00:00Z""#;
            format!(r#"{{{event},"commit":{commit}{at},"position":{number},"data":{data}}}"#)
        };
        let input = numbers.iter().enumerate().map(line).collect::<Vec<_>>().join("\n");
        let (_a, one) = new_store();
        prop_assert_eq!(import(&one, &input).unwrap().added, numbers.len() as u64);
        for (event, number) in log(&one).iter().zip(&numbers) {
            let data = format!(r#"{{ "n" :[{number}, {{"n":{number} }}]}}"#);
            prop_assert_eq!(std::str::from_utf8(event.payload()).unwrap(), data);
            prop_assert_eq!(*event.commit().start(), event.position());
        }
        let (_b, other) = new_store();
        import(&other, export(&one)).unwrap();
        prop_assert_eq!(export(&other), export(&one));
    }
}

/// After an accepted loss, the record of an import may name lines whose events are lost.
#[test]
fn import_does_not_skip_lines_whose_events_are_lost() {
    let all = lines(50);
    let (whole, store) = new_store();
    import(&store, all.join("\n")).unwrap();
    store.close().unwrap();
    let (short, store) = new_store();
    import(&store, all[..20].join("\n")).unwrap();
    store.close().unwrap();
    let record_of = |path: &std::path::Path| {
        let db = database(path);
        let meta = db.cf_handle("meta").unwrap();
        let mut rows = db.iterator_cf(meta, IteratorMode::Start).map(Result::unwrap);
        rows.find(|(key, _)| key.starts_with(b"import/")).unwrap()
    };
    let (key, record) = record_of(whole.path());
    assert_eq!(record_of(short.path()).0, key);
    edit(short.path(), "meta", &key, |bytes| *bytes = record.to_vec());

    let store = Store::open(short.path()).unwrap();
    let answer = import(&store, all.join("\n"));
    assert!(matches!(answer, Err(Error::ImportDiffers { .. })), "{answer:?}");
    assert_eq!(store.head().unwrap(), Position::new(20));
}
