//! Snapshots and the other small records: any bytes are read or refused, with memory in proportion
//! to them. A snapshot of any bytes never fails a load, and changes its result only if it claims to
//! belong to this very history.

use std::num::NonZeroUsize;

use annals::__internals::{
    decode_checkpoint, decode_key_count, decode_key_record, decode_record, decode_snapshot,
    encode_checkpoint, encode_key_record, encode_record, encode_snapshot, snapshot_key,
};
use annals::{
    Aggregate, Bincode, Checkpoint, Codec, DomainEvent, EventStore, EventStoreExt, ExpectedVersion,
    Json, MemoryStore, Position, Repository, Snapshot, SnapshotPolicy, SnapshotStore, StreamId,
    Version,
};

use super::bank::{Account, BankEvent};
use super::events::{event_id, seal, time, version};
use crate::allocation::within;
use crate::input::Input;

/// What decoding may allocate beyond a copy of the state: the texts of an error.
const DECODE_MAX: usize = 1 << 10;
/// What decoding an idempotency key may allocate for each of its bytes. A place of four bytes takes
/// 64 with the name of its stream, in a list that doubles as it grows and is copied once.
const KEY_FACTOR: usize = 48;
const KIND: &str = "account";
const STREAM: &str = "account-1";

pub fn snapshots(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0..48 => decode(b"key", input.rest()),
        48..96 => hostile_record(&mut input),
        96..144 => hostile_body(&mut input),
        144..192 => structured(&mut input),
        192..224 => load::<Json>(&mut input),
        _ => load::<Bincode>(&mut input),
    }
}

/// Reads bytes as each kind of record.
fn decode(key: &[u8], bytes: &[u8]) {
    within(DECODE_MAX, "decoding a record", || drop(decode_record(key, bytes)));
    let bound = DECODE_MAX + bytes.len();
    within(bound, "decoding a checkpoint", || drop(decode_checkpoint(key, bytes)));
    let bound_of_key = DECODE_MAX + KEY_FACTOR * bytes.len();
    within(bound_of_key, "decoding an idempotency key", || drop(decode_key_record(key, bytes)));
    within(DECODE_MAX, "decoding a count of keys", || drop(decode_key_count(bytes)));
    let parts = (KIND, STREAM, Version::FIRST);
    within(bound, "decoding a snapshot", || drop(decode_snapshot(key, parts, bytes)));
}

/// Any bytes after a right checksum.
fn hostile_record(input: &mut Input<'_>) {
    let bytes = seal(version(input), input.rest());
    decode(b"", &bytes);
    decode(b"key", &bytes);
}

/// Any content in a valid record.
fn hostile_body(input: &mut Input<'_>) {
    let key = input.piece();
    let bytes = encode_record(key, input.rest());
    decode(key, &bytes);
    if let Ok(checkpoint) = decode_checkpoint(key, &bytes) {
        assert_eq!(decode_checkpoint(key, &encode_checkpoint(key, &checkpoint)), Ok(checkpoint));
    }
    if let Ok(record) = decode_key_record(key, &bytes) {
        assert_eq!(decode_key_record(key, &encode_key_record(key, &record)), Ok(record));
    }
}

fn structured(input: &mut Input<'_>) {
    let (kind, stream) = (input.text(), input.text());
    let stream = StreamId::new(stream).unwrap_or_else(|_| StreamId::new(STREAM).unwrap());
    let snapshot = Snapshot {
        kind,
        stream: stream.clone(),
        version: Version::new(input.number()).unwrap_or(Version::FIRST),
        event_id: event_id(input),
        schema_version: u32::from(input.byte()),
        taken_at: time(input),
        state: input.piece().to_vec(),
    };
    let parts = (snapshot.kind.as_str(), stream.as_str(), snapshot.version);
    let key = snapshot_key(parts.0, parts.1, parts.2);
    let record = encode_snapshot(&key, &snapshot);
    assert_eq!(decode_snapshot(&key, parts, &record), Ok(snapshot.clone()));
    let checkpoint =
        Checkpoint { position: Position::new(input.number()), state: snapshot.state.clone() };
    let record_of_view = encode_checkpoint(&key, &checkpoint);
    assert_eq!(decode_checkpoint(&key, &record_of_view), Ok(checkpoint));
    // Under another key, truncated, or with a flipped bit, it is refused.
    assert!(decode_record(&key[1..], &record).is_err());
    let at = usize::try_from(input.number() % (record.len() as u64)).unwrap();
    assert!(decode_snapshot(&key, parts, &record[..at]).is_err());
    let mut damaged = record;
    damaged[at] ^= 1 << (input.byte() % 8);
    assert!(decode_snapshot(&key, parts, &damaged).is_err());
}

/// Loads an aggregate next to snapshots of any content.
fn load<C: Codec>(input: &mut Input<'_>) {
    let store = MemoryStore::new();
    let happened = [
        BankEvent::Opened { owner: "Ada".to_owned(), limit: None },
        BankEvent::Deposited(7),
        BankEvent::Moved(String::new(), -1, true),
    ];
    let events = happened.clone().map(|event| event.encode().unwrap());
    let ids = events.each_ref().map(|event| event.id());
    store.append(STREAM, ExpectedVersion::NoStream, events).unwrap();
    let mut expected = Account::default();
    happened.into_iter().for_each(|event| expected.apply(event));
    let mut may_fit = false;
    for _ in 0..1 + input.below(3) {
        let version = input.below(5);
        let is_known = input.flag();
        let event_id = ids.get(version).copied().filter(|_| is_known);
        let mut state = Vec::new();
        if input.byte() > 16 {
            state.extend_from_slice(C::content_type().as_str().as_bytes());
            state.push(0);
        }
        state.extend_from_slice(input.piece());
        may_fit |= event_id.is_some();
        let snapshot = Snapshot {
            kind: KIND.to_owned(),
            stream: StreamId::new(STREAM).unwrap(),
            version: Version::new(version as u64 + 1).unwrap(),
            event_id: event_id.unwrap_or(super::events::event_id(input)),
            schema_version: u32::from(input.byte() < 250),
            taken_at: time(input),
            state,
        };
        store.save_snapshot(&snapshot, NonZeroUsize::MAX).unwrap();
    }
    let accounts =
        Repository::<Account>::new(&store).snapshots_as::<C>(&store, SnapshotPolicy::always());
    let loaded = within(LOAD_MAX, "loading next to hostile snapshots", || accounts.load("1"));
    let loaded = loaded.expect("a snapshot never fails a load");
    assert_eq!(loaded.version(), Version::new(3));
    if !may_fit {
        assert_eq!(loaded.state(), &expected);
    }
    assert_eq!(store.head().unwrap().map(Position::get), Some(3));
    let report = accounts.check_snapshots("1").expect("a snapshot never fails a check");
    assert!(!report.to_string().is_empty());
}

/// Memory that bincode may reserve for claimed lengths, in states of less than 64 KiB.
const LOAD_MAX: usize = 2 << 20;
