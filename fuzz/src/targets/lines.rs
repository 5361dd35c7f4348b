//! Lines of an import: any line is read or refused, with memory in proportion to it and a readable
//! reason; and a line written from an event is read as that event.

use annals::__internals::{Line, RECORDED, parse_line};
use annals::{
    Append, EventId, ExpectedVersion, JsonLine, Limits, NewEvent, Position, RecordedAs,
    RecordedEvent, StreamId, Timestamp, Version,
};

use super::events::{event, event_id, time, unplaced};
use crate::allocation::within_bound_of;
use crate::input::Input;

/// The id of an event whose line has none.
const OWN: EventId = EventId::from_bytes([7; 16]);
/// Longest reason for a refusal.
const REASON_LEN_MAX: usize = 2_000;

pub fn lines(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0..128 => drop(read(input.rest())),
        128..192 => drop(read(&fields(&mut input))),
        _ => written(&mut input),
    }
}

/// The texts and the payload of a line are copied. A text with escapes is assembled in a buffer
/// that doubles as it grows; the old and the new buffer briefly exist together. Each of the few
/// pairs and tags that a line may hold costs a little more.
///
/// Where a text should be a number, a list or an object, the JSON parser repeats the text in its
/// refusal. One byte can take six there (`\u{7f}`), in a buffer that doubles and is copied once.
fn bound<T, E>(line: &[u8], parsed: &Result<T, E>) -> usize {
    let factor = if parsed.is_ok() { 5 } else { 6 * 4 };
    factor * line.len() + (64 << 10)
}

/// Reads a line; its event can be recorded and written as a line again, unless it exceeds the
/// limits.
fn read(line: &[u8]) -> Option<Line> {
    let bound = |parsed: &_| bound(line, parsed);
    let parsed = within_bound_of(bound, "reading a line", || {
        parse_line(line, OWN).map_err(|fault| {
            let reason = fault.to_string();
            assert!(reason.len() <= REASON_LEN_MAX, "a reason of {} bytes", reason.len());
        })
    });
    let line = parsed.ok()?;
    assert!(line.has_id || line.event.id() == OWN);
    if fits(&line.event) {
        again(&line.event, &line.stream, line.time);
    }
    Some(line)
}

/// Writes a line of an event and reads it.
fn again(event: &NewEvent, stream: &StreamId, time: Timestamp) {
    let place = RecordedAs {
        stream: stream.clone(),
        version: Version::FIRST,
        position: Position::FIRST,
        recorded_at: time,
        commit: Position::FIRST..=Position::FIRST,
    };
    let recorded = RecordedEvent::new(event.clone(), place);
    let text = JsonLine::new(recorded.as_ref()).to_string();
    assert!(!text.contains(['\n', '\r']));
    let with_places = JsonLine::new(recorded.as_ref()).with_places().to_string();
    for text in [text, with_places] {
        let line =
            parse_line(text.as_bytes(), OWN).unwrap_or_else(|fault| panic!("{fault}: {text}"));
        assert_eq!(line.event, unplaced(&recorded));
        assert_eq!((&line.stream, line.time), (stream, time));
        assert!(line.has_id && !line.is_time_cut && line.commit.is_some());
    }
}

/// Whether the default limits allow the event.
fn fits(event: &NewEvent) -> bool {
    let append = Append::new().to("a-1", ExpectedVersion::Any, [event.clone()]);
    append.validate(&Limits::default()).is_ok()
}

/// A line of an event that a store accepts.
fn written(input: &mut Input<'_>) {
    let stream = StreamId::new(input.text()).unwrap_or_else(|_| StreamId::new("a-1").unwrap());
    let (time, event) = (time(input), event(input));
    if fits(&event) && (RECORDED.0..=RECORDED.1).contains(&time) {
        again(&event, &stream, time);
    }
}

/// A line of valid form, with any of the fields, of any content, in any order and number.
fn fields(input: &mut Input<'_>) -> Vec<u8> {
    let mut line = b"{\"stream\":\"a-1\",\"type\":\"T\"".to_vec();
    let mut is_timed = false;
    while !input.is_empty() {
        let number = input.number();
        let name = input.of(&NAMES);
        is_timed |= name == "time";
        let value = match input.byte() % 9 {
            0 => String::from_utf8_lossy(input.piece()).into_owned(),
            1 => number.to_string(),
            2 => time(input).to_string(),
            3 => event_id(input).to_string(),
            4 => format!("{{{:?}:{:?},\"\":\"\"}}", input.text(), input.text()),
            // So many that the cost of each matters.
            5 => format!("[{:?}{}]", input.text(), ",\"\"".repeat(many(number))),
            6 => format!("{{\"a\":\"\"{}}}", pairs(many(number))),
            7 => input.text().repeat(many(number)),
            _ => input.text(),
        };
        let quote = if input.flag() { "\"" } else { "" };
        line.extend(format!(",\"{name}\":{quote}{value}{quote}").into_bytes());
    }
    if !is_timed {
        line.extend(b",\"time\":\"2011-10-01T00:38:44.546+02:00\"");
    }
    line.push(b'}');
    line
}

fn many(number: u64) -> usize {
    usize::try_from(number % (1 << 12)).unwrap()
}

fn pairs(count: usize) -> String {
    (0..count).map(|number| format!(",\"{number}\":\"\"")).collect()
}

const NAMES: [&str; 13] = [
    "time",
    "id",
    "schema_version",
    "content_type",
    "metadata",
    "tags",
    "commit",
    "data",
    "data_base64",
    "position",
    "version",
    "stream",
    "other",
];
