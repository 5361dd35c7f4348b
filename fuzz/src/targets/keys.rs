//! Keys: any bytes are a valid key or are refused; a decoded key encodes to the same bytes; and
//! keys sort like their meaning. Records in `meta` are decoded or refused.

use annals::__internals::{
    DELETIONS_RECORD, INDEXED_RECORD, IndexKind, decode_deletions, decode_indexed,
    decode_retention, encode_deletions, encode_indexed, encode_record, encode_retention,
    index_entries, index_key, index_of, index_prefix, log_key, parse_log_key, position_of,
    prefix_end, retention_key, retention_of, snapshot_key, snapshot_of, snapshot_prefix,
    stream_key, stream_of, stream_prefix, view_key, view_of, view_prefix,
};
use annals::{Position, RetentionScope, StreamId, Version, ViewKey};

use crate::input::Input;

pub fn keys(data: &[u8]) {
    any_bytes(data);
    let mut input = Input::new(data);
    let (left, right) = (Place::take(&mut input), Place::take(&mut input));
    round_trip(&left);
    order(&left, &right);
    keys_of_views(&mut input, &left, &right);
}

fn any_bytes(bytes: &[u8]) {
    if let Some(position) = parse_log_key(bytes) {
        assert_eq!(log_key(position), bytes);
    }
    if let Some((stream, version)) = stream_of(bytes) {
        assert_eq!(stream_key(stream, version), bytes);
    }
    if let Some((kind, stream, version)) = snapshot_of(bytes) {
        assert_eq!(snapshot_key(kind, stream, version), bytes);
    }
    if let Some((kind, text, position)) = index_of(bytes) {
        assert_eq!(index_key(kind, text, position), bytes);
        assert_eq!(position_of(bytes), Some(position));
    }
    for record in [bytes, &encode_record(INDEXED_RECORD, bytes)] {
        if let Ok(indexed) = decode_indexed(record) {
            assert_eq!(decode_indexed(&encode_indexed(indexed)), Ok(indexed));
        }
    }
    for record in [bytes, &encode_record(DELETIONS_RECORD, bytes)] {
        if let Ok(deletions) = decode_deletions(record) {
            assert_eq!(decode_deletions(&encode_deletions(&deletions)), Ok(deletions));
        }
    }
    if let Some(scope) = retention_of(bytes) {
        assert_eq!(retention_key(&scope), bytes);
    }
    let key = retention_key(&RetentionScope::Category("a".to_owned()));
    if let Ok(retention) = decode_retention(&key, &encode_record(&key, bytes)) {
        let again = encode_retention(&key, retention);
        assert_eq!(decode_retention(&key, &again), Ok(retention));
    }
    if let Some((view, key)) = view_of(bytes) {
        assert_eq!(view_key(view, key), bytes);
    }
    match ViewKey::from_bytes(bytes) {
        Ok(key) => assert!(!key.to_string().contains(char::is_control)),
        Err(refused) => assert!(bytes.len() > ViewKey::LEN_MAX, "{refused}"),
    }
}

/// The parts of a key. Names are valid in a store.
struct Place {
    kind: String,
    stream: String,
    number: u64,
}

impl Place {
    fn take(input: &mut Input<'_>) -> Self {
        let mut name = || match input.text() {
            text if StreamId::new(&text).is_ok() => text,
            text => format!("n{}", text.len()),
        };
        Self { kind: name(), stream: name(), number: input.number().max(1) }
    }

    fn version(&self) -> Version {
        Version::new(self.number).unwrap()
    }

    fn position(&self) -> Position {
        Position::new(self.number).unwrap()
    }
}

fn round_trip(place: &Place) {
    let Place { kind, stream, .. } = place;
    let (version, position) = (place.version(), place.position());
    assert_eq!(parse_log_key(&log_key(position)), Some(position));
    assert_eq!(stream_of(&stream_key(stream, version)), Some((stream.as_str(), version)));
    let found = (kind.as_str(), stream.as_str(), version);
    assert_eq!(snapshot_of(&snapshot_key(kind, stream, version)), Some(found));
    for index in IndexKind::ALL {
        let key = index_key(index, stream, position);
        assert_eq!(index_of(&key), Some((index, stream.as_str(), position)));
        let (first, end) = index.bounds();
        assert!(*key >= first[..] && *key < end[..]);
    }
    // Each tag has one entry, and so have the type and the category.
    let mut entries = Vec::new();
    let tags = [kind, stream, kind].into_iter().map(String::as_str);
    index_entries((kind, stream), &tags, |index, text, _| entries.push((index, text)));
    let count = entries.len();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!((entries.len(), count), (count, 3 + usize::from(kind != stream)));
}

fn order(left: &Place, right: &Place) {
    let log = |place: &Place| log_key(place.position());
    assert_eq!(log(left).cmp(&log(right)), left.number.cmp(&right.number));
    let stream = |place: &Place| stream_key(&place.stream, place.version());
    let meant = |place: &Place| (place.stream.clone(), place.number);
    assert_eq!(stream(left).cmp(&stream(right)), meant(left).cmp(&meant(right)));
    let snapshot = |place: &Place| snapshot_key(&place.kind, &place.stream, place.version());
    let meant = |place: &Place| (place.kind.clone(), place.stream.clone(), place.number);
    assert_eq!(snapshot(left).cmp(&snapshot(right)), meant(left).cmp(&meant(right)));
    let index = |place: &Place| index_key(IndexKind::Tag, &place.stream, place.position());
    let meant = |place: &Place| (place.stream.clone(), place.number);
    assert_eq!(index(left).cmp(&index(right)), meant(left).cmp(&meant(right)));
    // The keys of one id are never among those of another.
    let is_same = left.stream == right.stream;
    assert_eq!(stream(left).starts_with(&stream_prefix(&right.stream)), is_same);
    let prefix = index_prefix(IndexKind::Tag, &right.stream);
    assert_eq!(index(left).starts_with(&prefix), is_same);
    let is_same = is_same && left.kind == right.kind;
    let prefix = snapshot_prefix(&right.kind, &right.stream);
    assert_eq!(snapshot(left).starts_with(&prefix), is_same);
}

fn keys_of_views(input: &mut Input<'_>, left: &Place, right: &Place) {
    let (a, b) = (input.piece(), input.piece());
    let key = |place: &Place, key: &[u8]| view_key(&place.kind, key);
    let meant = (&left.kind, a).cmp(&(&right.kind, b));
    assert_eq!(key(left, a).cmp(&key(right, b)), meant);
    assert_eq!(key(left, a).starts_with(&view_prefix(&right.kind)), left.kind == right.kind);
    let read = Some((left.kind.as_str(), a)).filter(|_| !a.is_empty());
    assert_eq!(view_of(&key(left, a)), read);
    let is_before_end = prefix_end(a).is_none_or(|end| b < end.as_slice());
    assert_eq!(b >= a && is_before_end, b.starts_with(a));
    // Parts of keys: a text, a number, a text. The text has no 0 byte: a number after it may begin
    // with the byte that marks a 0 byte of a text.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "0");
    let (a, b) = (text(a), text(b));
    let parts = |text: &str, place: &Place| ViewKey::new((text, place.number, text));
    let meant = (&*a, left.number).cmp(&(&*b, right.number));
    if let (Ok(left), Ok(right)) = (parts(&a, left), parts(&b, right)) {
        assert_eq!(left.cmp(&right), meant);
    }
}
