//! A store with arbitrary contents and right checksums: every query is answered or refused.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use annals::__internals::{FrameDraft, FrameHeader, Pack, TailRow, log_key, stream_key, tail_key};
use annals::prelude::*;
use annals::{
    Durability, ImportOptions, Position, SnapshotStore, Timestamp, Version, ViewStore, audit,
};
use rocksdb::{DB, Options};

use super::template::{KIND, STREAMS, VIEW, options, store};
use crate::input::Input;
use crate::targets::events::{event, seal, time};

pub fn stores(data: &[u8]) {
    let mut input = Input::new(data);
    let (_directory, path) = store();
    damage(&path, &mut input);
    if let Ok(store) = options().read_only(true).open(&path) {
        ask(&store);
        let _ = store.close();
    }
    if let Ok(store) = options().open(&path) {
        change(&store, &mut input);
        ask(&store);
        let _ = store.close();
    }
}

/// Puts a few records into the families.
fn damage(path: &Path, input: &mut Input<'_>) {
    let (options, path) = (Options::default(), path.join("db"));
    let families = DB::list_cf(&options, &path).unwrap();
    let db = DB::open_cf(&options, &path, &families).unwrap();
    for _ in 0..1 + input.below(3) {
        let (key, value) = match input.below(3) {
            0 => {
                frame(&db, input);
                continue;
            }
            1 => (input.piece().to_vec(), seal(1, input.piece())),
            _ => {
                let key = key(input);
                let record = annals::__internals::encode_record(&key, input.piece());
                (key, record)
            }
        };
        let family = db.cf_handle(&input.of(&families)).unwrap();
        db.put_cf(family, key, value).unwrap();
    }
}

/// A key with a meaning.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    let stream = input.of(&STREAMS);
    let number = annals::Version::new(input.number().max(1)).unwrap();
    match input.below(8) {
        0 => stream_key(stream, number),
        1 => annals::__internals::snapshot_key(KIND, stream, number),
        2 => VIEW.as_bytes().to_vec(),
        3 => annals::__internals::view_key(&format!("${VIEW}@1"), input.piece()),
        4 => b"identity".to_vec(),
        5 => log_key(annals::Position::new(number.get()).unwrap()).to_vec(),
        6 => tail_key(u32::from(input.byte())).to_vec(),
        _ => input.piece().to_vec(),
    }
}

/// Puts a frame into its stream and into the log: one that may continue the log, or not.
fn frame(db: &DB, input: &mut Input<'_>) {
    let stream = input.of(&["a-1", "account-1", "b", "new", "$x", "a\n"]);
    let position = if input.flag() { 19 } else { input.number().max(1) };
    let version = if input.flag() { 7 } else { input.number().max(1) };
    let count = 1 + input.below(2);
    let mut draft = FrameDraft::new(stream, 0);
    for _ in 0..count {
        draft.push(&event(input), input.number() >> 1);
    }
    let number = |input: &mut Input<'_>| u32::try_from(input.number() & 0xffff_ffff).unwrap();
    let header = FrameHeader {
        first_position: annals::Position::new(position).unwrap(),
        stream,
        first_version: annals::Version::new(version).unwrap(),
        recorded_at: time(input),
        commit_before: if input.flag() { 0 } else { number(input) },
        commit_len: if input.flag() { 2 } else { number(input) },
        streams_after: if input.flag() { 3 } else { input.number() },
        count: if input.byte() > 8 { u32::try_from(count).unwrap() } else { number(input) },
    };
    let bytes = draft.finish(&header);
    let family = |name| db.cf_handle(name).unwrap();
    let first = header.first_position;
    match input.byte() {
        // Only in its stream.
        0..16 => {}
        // In a pack of one frame.
        16..128 => {
            let last = first.get().saturating_add(u64::from(header.count.max(1)) - 1);
            let last = annals::Position::new(last).unwrap();
            let mut pack = Pack::default();
            pack.push(first, last, bytes);
            db.put_cf(family("packs"), log_key(last), pack.seal().bytes()).unwrap();
        }
        // Named by a row: the first one continues the log.
        choice => {
            let mut row = TailRow::default();
            row.begin(first);
            row.push(stream, header.first_version, bytes);
            let number = if choice < 240 { 0 } else { u32::from(input.byte()) };
            db.put_cf(family("tail"), tail_key(number), row.encode()).unwrap();
        }
    }
    if input.byte() != 255 {
        db.put_cf(family("streams"), stream_key(stream, header.first_version), bytes).unwrap();
    }
}

/// Runs every query.
fn ask(store: &Store) {
    let _ = store.info();
    let head = store.head().unwrap();
    for read in [store.read_log(), store.read_log().backward()] {
        let _ = read.clone().into_iter().count();
        let _ = read.clone().types(["T"]).limit(2).into_iter().count();
        let _ = read.as_of_time(Timestamp::from_micros(0)).for_each(|_| ControlFlow::Continue(()));
    }
    if let Some(head) = head {
        let _ = store.read_log().from(head).into_iter().count();
        let _ = store.read_log().as_of_position(head).backward().limit(1).first();
    }
    let streams: Vec<_> = store.streams().into_iter().flatten().map(|stream| stream.id).collect();
    for stream in streams.iter().map(StreamId::as_str).chain(STREAMS) {
        let Ok(id) = StreamId::new(stream) else { continue };
        let _ = store.stream_version(&id);
        let _ = store.read_stream(&id).into_iter().count();
        let _ = store.read_stream(&id).backward().limit(3).into_iter().count();
        let _ = store.read_stream(&id).as_of_time(Timestamp::from_micros(0)).last();
        let _ = store.load_snapshot(KIND, &id, Version::MAX);
        for entry in audit::history(store, &id) {
            let _ = entry.map(|entry| entry.to_string());
        }
    }
    if let Ok(mut following) = store.subscribe().start() {
        for _ in 0..40 {
            if following.recv_timeout(Duration::ZERO).is_err() {
                break;
            }
        }
    }
    let first = store.read_log().first().ok().flatten().map(|event| event.id());
    if let Some(id) = first {
        let _ = (audit::causes(store, id), audit::effects(store, id));
    }
    for view in store.list_views().unwrap_or_default() {
        let _ = ViewStore::checkpoint(store, &view);
        let _ = store.view(&view).position();
        let _ = store.view(&view).entries().iter::<serde_json::Value>().count();
    }
    let _ = store.export(std::io::sink(), |_| {});
    let report = store.verify(|_| {}).map(|report| report.is_sound());
    if report.is_ok_and(|is_sound| is_sound) {
        // A store that verifies as sound returns everything.
        let log: Result<Vec<_>, _> = store.read_log().into_iter().collect();
        assert_eq!(log.unwrap().len() as u64, head.map_or(0, Position::get));
    }
}

/// Makes every kind of change.
fn change(store: &Store, input: &mut Input<'_>) {
    let event = || NewEvent::json("Changed", &1).unwrap();
    let _ = store.append("new", ExpectedVersion::NoStream, [event(), event()]);
    for stream in STREAMS {
        let _ = store.append(stream, ExpectedVersion::Any, [event()]);
        let _ = store.append(stream, ExpectedVersion::StreamExists, [event()]);
    }
    let both = Append::new().to("a-1", ExpectedVersion::Any, [event()]);
    let both = both.to("newer", ExpectedVersion::Any, [event()]).with_durability(Durability::Sync);
    let _ = store.submit(both);
    let line = br#"{"stream":"i","type":"T","time":"9999-01-01T00:00:00Z","data":1}"#;
    let _ = store.import(&line[..], ImportOptions::default().clamp_times(input.flag()), |_| {});
    let _ = store.drop_view(VIEW);
    let _ = store.delete_snapshots(KIND, &StreamId::new(STREAMS[1]).unwrap());
    let _ = store.sync();
}
