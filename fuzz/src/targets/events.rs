//! Events and envelopes, generated from input.

use annals::__internals::RECORDED;
use annals::{ContentType, EventId, EventType, NewEvent, RecordedEvent, Timestamp};

use crate::input::Input;

/// Version byte and checksum before a body, as docs/FORMAT.md specifies, so that a body passes the
/// checksum.
pub(crate) fn seal(version: u8, body: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(body);
    [&[version], &hasher.finalize().to_be_bytes()[..], body].concat()
}

/// A version byte, mostly the right one.
pub(crate) fn version(input: &mut Input<'_>) -> u8 {
    match input.byte() {
        255 => 2,
        254 => 0,
        _ => 1,
    }
}

pub(crate) fn event_id(input: &mut Input<'_>) -> EventId {
    let mut id = [0; 16];
    for (byte, taken) in id.iter_mut().zip(input.take(2)) {
        *byte = *taken;
    }
    EventId::from_bytes(id)
}

/// Any time, most often one that can be recorded.
pub(crate) fn time(input: &mut Input<'_>) -> Timestamp {
    let (number, ends) = (input.number(), RECORDED);
    match input.below(4) {
        0 => Timestamp::from_micros(number.cast_signed()),
        1 => Timestamp::from_micros((number >> 14).cast_signed()),
        2 => Timestamp::from_micros(ends.0.as_micros().saturating_add_unsigned(number)),
        _ => Timestamp::from_micros(ends.1.as_micros().saturating_sub_unsigned(number)),
    }
}

/// An event with names that a store accepts, and any other values.
pub(crate) fn event(input: &mut Input<'_>) -> NewEvent {
    let id = event_id(input);
    let event_type = EventType::new(input.text());
    let event_type = event_type.unwrap_or_else(|_| EventType::new("Happened").unwrap());
    let content_type = match input.below(5) {
        0 => ContentType::new(input.text()).unwrap_or(ContentType::BINCODE),
        1 => ContentType::BYTES,
        2 => ContentType::TEXT,
        _ => ContentType::JSON,
    };
    let mut event = NewEvent::new(event_type, input.piece())
        .with_id(id)
        .with_content_type(content_type)
        .with_schema_version(u32::from_be_bytes([0, 0, input.byte(), input.byte()]));
    for _ in 0..input.below(4) {
        event = event.with_metadata(input.text(), input.text());
    }
    for _ in 0..input.below(4) {
        event = event.with_tag(input.text());
    }
    event
}

/// A recorded event without its place.
pub(crate) fn unplaced(recorded: &RecordedEvent) -> NewEvent {
    let event_type = recorded.event_type().clone();
    let event = NewEvent::new(event_type, recorded.payload())
        .with_id(recorded.id())
        .with_content_type(recorded.content_type().clone())
        .with_schema_version(recorded.schema_version())
        .with_all_metadata(recorded.metadata().clone());
    recorded.tags().iter().fold(event, NewEvent::with_tag)
}
