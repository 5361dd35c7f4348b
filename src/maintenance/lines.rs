//! The line form: one event as one JSON object on one line, written by export and read by import.
//!
//! It preserves every event exactly. A payload that is JSON text without line ends is in `data`,
//! byte for byte; any other payload is in `data_base64`. Reading is strict: an unknown or duplicate
//! field is rejected, because a misspelt name must not lose data.

// The reader is public only for the fuzz targets: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::limits::{METADATA_COUNT_MAX, TAGS_COUNT_MAX};
use crate::model::{
    ContentType, EventId, EventRef, EventType, InvalidArgument, Limits, Metadata, MetadataRef,
    NewEvent, Position, StreamId, TagsRef, Timestamp, Version, quoted,
};

/// Room in a line for all fields except the payload, with the longest escape for each byte.
const LINE_LEN_BESIDES_PAYLOAD: usize = 1 << 20;

/// The longest line that an event within these limits can need.
pub(crate) fn line_len_max(limits: &Limits) -> usize {
    limits.payload_len_max().div_ceil(3).saturating_mul(4) + LINE_LEN_BESIDES_PAYLOAD
}

/// An event in the line form: one JSON object, without the line end.
///
/// Its fields: `stream`, `type`, `time` (RFC 3339, in UTC, to the microsecond), `id`,
/// `schema_version`, `content_type`, `metadata`, `tags`, `commit` (the first position of its
/// commit: consecutive lines with the same `commit` were one append), then the payload: `data`, the
/// unchanged text of JSON without line ends, or `data_base64` for any other payload.
///
/// ```
/// use annals::{JsonLine, prelude::*};
/// let store = MemoryStore::new();
/// store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
/// let event = store.read_log().first()?.unwrap();
/// let line = JsonLine::new(event.as_ref()).with_places().to_string();
/// assert!(line.starts_with(r#"{"position":1,"version":1,"stream":"account-1","type":"Opened","time":""#));
/// assert!(line.ends_with(r#""commit":1,"commit_last":1,"data":"Ada"}"#));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct JsonLine<'a> {
    event: EventRef<'a>,
    with_places: bool,
}

impl<'a> JsonLine<'a> {
    /// Creates the line of this event, as export writes it.
    pub fn new(event: EventRef<'a>) -> Self {
        Self { event, with_places: false }
    }

    /// Begins the line with `position` and `version`, and adds `commit_last`, the last position of
    /// its commit. [`Store::import`](crate::Store::import) accepts and ignores them.
    pub fn with_places(mut self) -> Self {
        self.with_places = true;
        self
    }

    /// Writes the line, without the line end.
    ///
    /// # Errors
    /// Errors of the writer.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let event = &self.event;
        let data = json_text(event);
        let base64 = data.is_none().then(|| BASE64.encode(event.payload()));
        let line = LineOut {
            position: self.with_places.then(|| event.position().get()),
            version: self.with_places.then(|| event.version().get()),
            stream: event.stream(),
            event_type: event.event_type(),
            time: format!("{:.6}", event.recorded_at()),
            id: event.id().to_string(),
            schema_version: event.schema_version(),
            content_type: event.content_type(),
            metadata: Pairs(event.metadata()),
            tags: Tags(event.tags()),
            commit: event.commit().start().get(),
            commit_last: self.with_places.then(|| event.commit().end().get()),
            data,
            data_base64: base64,
        };
        serde_json::to_writer(out, &line).map_err(io::Error::from)
    }
}

impl fmt::Display for JsonLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::new();
        self.write_to(&mut line).map_err(|_| fmt::Error)?;
        out.write_str(&String::from_utf8_lossy(&line))
    }
}

/// The payload as JSON, if a reader of the line gets exactly these bytes back.
fn json_text<'a>(event: &EventRef<'a>) -> Option<&'a RawValue> {
    let payload = event.payload();
    if event.content_type() != ContentType::JSON.as_str()
        || payload.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
    {
        return None;
    }
    let text = std::str::from_utf8(payload).ok()?;
    let value: &RawValue = serde_json::from_str(text).ok()?;
    (value.get() == text).then_some(value)
}

#[derive(Serialize)]
struct LineOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    stream: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    time: String,
    id: String,
    schema_version: u32,
    content_type: &'a str,
    metadata: Pairs<'a>,
    tags: Tags<'a>,
    commit: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit_last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

struct Pairs<'a>(MetadataRef<'a>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

struct Tags<'a>(TagsRef<'a>);

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

/// A parsed line.
#[derive(Debug)]
pub struct Line {
    /// Its stream.
    pub stream: StreamId,
    /// The event, except for its time.
    pub event: NewEvent,
    /// Whether the line gives the id.
    pub has_id: bool,
    /// The time to record.
    pub time: Timestamp,
    /// Whether the time had digits beyond the microsecond or a leap second, which were cut off.
    pub is_time_cut: bool,
    /// Its commit, if the line gives one.
    pub commit: Option<CommitMark>,
}

/// The value of `commit`, which consecutive lines of one commit have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitMark {
    /// The digits, so that numbers of any size are distinguished.
    Number(String),
    Text(String),
}

/// The reason why a line is rejected.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    #[error("it is longer than {len_max} bytes, more than an event can need")]
    TooLong { len_max: usize },
    #[error("it is not UTF-8 (byte {at})")]
    NotUtf8 { at: usize },
    #[error("it is not a JSON object")]
    NotAnObject,
    #[error("{text} (column {column})")]
    Json { text: String, column: usize },
    #[error("it has both `data` and `data_base64`: an event has one payload")]
    TwoPayloads,
    #[error("it has neither `data` nor `data_base64`; an empty payload is `\"data_base64\":\"\"`")]
    NoPayload,
    #[error("data_base64 is not base64: {0}")]
    Base64(base64::DecodeError),
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    #[error(
        "its time {given} is before {last}, the time of the previous event; times may not go back \
         (`annals import --clamp-times`, or ImportOptions::clamp_times, records the previous time \
         instead)"
    )]
    TimeGoesBack { given: Timestamp, last: Timestamp },
    #[error(
        "its event {id} is already in stream {stream}, but not from an import of this input; the input may be \
         an export of this store"
    )]
    AlreadyThere { id: EventId, stream: StreamId },
    #[error(
        "it has the same `commit` as the previous line, where the input ended when it was imported before; \
         a commit cannot be added in two parts: import into a new store"
    )]
    CommitWasClosed,
    #[error(
        "it does not give `id`, `position`, `version`, `commit` and `commit_last` ({0}); write the input with \
         `annals export --positions`, or Store::export_with_positions"
    )]
    NoPlaces(String),
    #[error("it has position {given}, but {next} comes next: lines are missing or not in order")]
    OtherPosition { given: Position, next: Position },
    #[error("it has version {given} of stream {stream}, but {next} comes next: lines are missing")]
    OtherVersion { stream: StreamId, given: Version, next: Version },
    #[error("its positions, versions or its commit go back, or are 2^32 - 1 or more apart")]
    Backwards,
    #[error("the input does not record deletion {number}, which deleted events: it is incomplete")]
    NoDeletion { number: Version },
    #[error("the input contradicts itself or is incomplete: {0}")]
    Contradictory(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineIn<'a> {
    stream: String,
    #[serde(rename = "type")]
    event_type: String,
    time: String,
    #[serde(default, deserialize_with = "given")]
    id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    schema_version: Option<u32>,
    #[serde(default, deserialize_with = "given")]
    content_type: Option<String>,
    #[serde(default, deserialize_with = "given")]
    metadata: Option<MetadataIn>,
    #[serde(default)]
    tags: TagsIn,
    #[serde(default, deserialize_with = "given")]
    commit: Option<CommitMark>,
    #[serde(borrow, default, deserialize_with = "given")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    data_base64: Option<Cow<'a, str>>,
    #[serde(default, rename = "position")]
    _position: IgnoredAny,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
    #[serde(default, rename = "commit_last")]
    _commit_last: IgnoredAny,
}

/// A field that is present has a value. `null` is either a valid value or an error, but never the
/// same as a missing field.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Parses a line. If it gives no event id, the event gets `id`. Does not check the limits of a
/// store.
///
/// # Errors
/// The line is not an event in the line form.
pub fn parse(line: &[u8], id: EventId) -> Result<Line, LineFault> {
    let text = std::str::from_utf8(line)
        .map_err(|error| LineFault::NotUtf8 { at: error.valid_up_to() + 1 })?;
    // Serde would read a list as the fields in order.
    if !text.trim_start().starts_with('{') {
        return Err(LineFault::NotAnObject);
    }
    let line: LineIn<'_> = serde_json::from_str(text).map_err(|error| json_fault(&error))?;
    let (payload, default_type) = match (line.data, &line.data_base64) {
        (Some(_), Some(_)) => return Err(LineFault::TwoPayloads),
        (None, None) => return Err(LineFault::NoPayload),
        (Some(data), None) => (data.get().as_bytes().to_vec(), ContentType::JSON),
        (None, Some(text)) => {
            (BASE64.decode(text.as_bytes()).map_err(LineFault::Base64)?, ContentType::BYTES)
        }
    };
    let content_type = line.content_type.map_or(Ok(default_type), ContentType::new)?;
    let (time, is_time_cut) = Timestamp::parse(&line.time)?;
    let has_id = line.id.is_some();
    let id = line.id.map_or(Ok(id), |own| own.parse())?;
    let mut event = NewEvent::known_as(id, EventType::new(line.event_type)?, payload)
        .with_content_type(content_type)
        .with_schema_version(line.schema_version.unwrap_or(1))
        .with_all_metadata(line.metadata.map(|metadata| metadata.0).unwrap_or_default());
    for tag in line.tags.0 {
        event = event.with_tag(tag);
    }
    Ok(Line {
        stream: StreamId::readable(&line.stream)?,
        event,
        has_id,
        time,
        is_time_cut,
        commit: line.commit,
    })
}

/// The parser's error, without its line number: the parser sees only one line.
pub(super) fn json_fault(error: &serde_json::Error) -> LineFault {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    LineFault::Json { text: quoted(text), column: error.column() }
}

/// Metadata in the order of the line. A duplicate key is an error, so that no value is lost.
struct MetadataIn(Metadata);

impl<'de> Deserialize<'de> for MetadataIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Metadata;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut metadata = Metadata::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if metadata.get(&key).is_some() {
                        let what = format!("duplicate metadata key {:?}", quoted(&key));
                        return Err(serde::de::Error::custom(what));
                    }
                    // Bounded, because the search for duplicates is quadratic.
                    if metadata.len() >= METADATA_COUNT_MAX {
                        let what = format!("more than {METADATA_COUNT_MAX} metadata pairs");
                        return Err(serde::de::Error::custom(what));
                    }
                    metadata.set(key, value);
                }
                Ok(metadata)
            }
        }

        deserializer.deserialize_map(InOrder).map(Self)
    }
}

/// Tags in the order of the line.
#[derive(Default)]
struct TagsIn(Vec<String>);

impl<'de> Deserialize<'de> for TagsIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<String>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
                let mut tags = Vec::new();
                while let Some(tag) = list.next_element()? {
                    // Bounded, because tags can take many times the memory of the line.
                    if tags.len() >= TAGS_COUNT_MAX {
                        let what = format!("more than {TAGS_COUNT_MAX} tags");
                        return Err(serde::de::Error::custom(what));
                    }
                    tags.push(tag);
                }
                Ok(tags)
            }
        }

        deserializer.deserialize_seq(InOrder).map(Self)
    }
}

impl<'de> Deserialize<'de> for CommitMark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if text.starts_with('"') {
            return serde_json::from_str(text).map(Self::Text).map_err(serde::de::Error::custom);
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Number(text.to_owned()));
        }
        let found = quoted(text);
        Err(serde::de::Error::custom(format!(
            "commit {found}: expected a whole number or a string"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rest: &str) -> String {
        format!(r#"{{"stream":"a","type":"T","time":"2020-01-01T00:00:00Z"{rest}}}"#)
    }

    fn read(line: &[u8]) -> Result<Line, LineFault> {
        parse(line, EventId::from_bytes([7; 16]))
    }

    fn refusal(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn payload_is_the_text_unchanged() {
        for text in ["null", "1.50", r#"{ "b":1 ,"a":1e999,"a":"\u00e9\ud800" }"#, "[[[]]]", "\"\""]
        {
            let found = read(line(&format!(r#","data": {text} "#)).as_bytes()).unwrap();
            assert_eq!(found.event.payload(), text.as_bytes());
            assert_eq!(found.event.content_type(), &ContentType::JSON);
        }
        let found = read(line(r#","data_base64":"\/wA=""#).as_bytes()).unwrap();
        assert_eq!(found.event.payload(), [0xff, 0]);
        assert_eq!(found.event.content_type(), &ContentType::BYTES);
    }

    #[test]
    fn line_that_might_lose_data_is_refused_with_a_reason() {
        for (rest, reason) in [
            (r#","data":1,"metdata":{}"#, "unknown field `metdata`"),
            (r#","data":1,"data":2"#, "duplicate field `data`"),
            (r#","data":1,"stream":"b""#, "duplicate field `stream`"),
            (r#","data":1,"data_base64":"""#, "both"),
            ("", "neither"),
            (r#","data_base64":"?""#, "not base64"),
            (r#","data":1,"metadata":{"k":"a","k":"b"}"#, "duplicate metadata key \"k\""),
            (r#","data":1,"metadata":{"k":1}"#, "invalid type"),
            (r#","data":1,"metadata":null"#, "invalid type"),
            (r#","data":1,"id":"x""#, "not an event id"),
            (r#","data":1,"id":null"#, "invalid type"),
            (r#","data":1,"commit":1.5"#, "whole number or a string"),
            (r#","data":1,"schema_version":-1"#, "invalid value"),
            (r#","data":1,"tags":"a""#, "invalid type"),
            (r#","data":1,"content_type":"""#, "content type is empty"),
            (r#","data":{"a":}"#, "expected value"),
        ] {
            let found = refusal(&line(rest));
            assert!(found.contains(reason), "{rest}: {found}");
            assert!(!found.contains("line 1"), "{found}");
        }
        assert_eq!(refusal(r#"["a","T","2020-01-01T00:00:00Z"]"#), "it is not a JSON object");
        assert!(refusal(&format!("{}x", line(r#","data":1"#))).contains("trailing characters"));
        assert!(read(b"{\"stream\":\"\xff\"}").unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn oversized_line_is_refused_with_a_short_reason() {
        let tags =
            |count: usize| line(&format!(r#","data":1,"tags":[""{}]"#, r#","""#.repeat(count - 1)));
        assert_eq!(read(tags(256).as_bytes()).unwrap().event.tags().len(), 256);
        assert!(refusal(&tags(257)).contains("more than 256 tags"));
        let long = "é".repeat(10_000);
        for rest in [
            format!(r#","data":1,"{long}":1"#),
            format!(r#","data":1,"id":"{long}""#),
            format!(r#","data":1,"commit":["{long}"]"#),
            format!(r#","data":1,"metadata":{{"{long}":"a","{long}":"b"}}"#),
            format!(r#","data":1,"schema_version":"{long}""#),
        ] {
            let reason = refusal(&line(&rest));
            assert!(reason.len() < 1_000, "{} bytes: {:.99}", reason.len(), reason);
        }
        let late = line(r#","data":1"#).replace("2020", &long);
        assert!(refusal(&late).contains("…"));
    }

    #[test]
    fn places_are_accepted_and_ignored() {
        assert!(read(line(r#","data":1,"position":7,"version":{}"#).as_bytes()).is_ok());
    }

    #[test]
    fn time_is_truncated_to_microseconds_and_flagged() {
        let cut = line(r#","data":1"#).replace("00Z", "00.0000019Z");
        let found = read(cut.as_bytes()).unwrap();
        assert_eq!(found.time.to_string(), "2020-01-01T00:00:00.000001Z");
        assert!(found.is_time_cut);
        let exact = line(r#","data":1"#).replace("00Z", "00.000001000Z");
        assert!(!read(exact.as_bytes()).unwrap().is_time_cut);
    }

    #[test]
    fn longest_line_fits() {
        let name = "\u{1}".repeat(255);
        let metadata: String = "\u{1}".repeat(64 * 1024);
        let line = serde_json::json!({
            "stream": name, "type": name, "content_type": name, "tags": vec![name.clone(); 256],
            "metadata": { "k": metadata }, "data_base64": "A".repeat(16 * 1024 * 1024 / 3 * 4 + 4),
        });
        assert!(line.to_string().len() < line_len_max(&Limits::default()));
    }
}
