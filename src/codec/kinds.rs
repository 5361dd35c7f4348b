//! Checks the kinds of domain events while they are compiled.

use super::domain::EventKind;
use crate::model::limits::EVENT_TYPE_LEN_MAX;

/// Rejects at compile time invalid event types, duplicates, and a schema version of 0.
#[doc(hidden)]
#[expect(clippy::indexing_slicing, reason = "it runs in the compiler")]
pub const fn check_kinds(kinds: &[EventKind]) {
    let mut at = 0;
    while at < kinds.len() {
        let name = kinds[at].event_type.as_bytes();
        assert!(!name.is_empty(), "an event type is empty");
        assert!(name.len() <= EVENT_TYPE_LEN_MAX, "an event type is too long");
        assert!(kinds[at].schema_version > 0, "schema versions count from 1");
        let mut before = 0;
        while before < at {
            if is_same(kinds[before].event_type.as_bytes(), name) {
                refuse_duplicate(name);
            }
            before += 1;
        }
        at += 1;
    }
}

#[expect(clippy::indexing_slicing, reason = "it runs in the compiler")]
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Fails with an error that names the event type. The compiler cannot format it, so it is put
/// together byte by byte.
#[expect(clippy::indexing_slicing, clippy::panic, reason = "it runs in the compiler")]
const fn refuse_duplicate(event_type: &[u8]) -> ! {
    const MESSAGE: &[u8] = b"two kinds of event have the event type ";
    let mut text = [0; MESSAGE.len() + EVENT_TYPE_LEN_MAX];
    let mut len = 0;
    while len < MESSAGE.len() + event_type.len() {
        let is_message = len < MESSAGE.len();
        text[len] = if is_message { MESSAGE[len] } else { event_type[len - MESSAGE.len()] };
        len += 1;
    }
    match str::from_utf8(text.split_at(len).0) {
        Ok(text) => panic!("{}", text),
        Err(_) => panic!("two kinds of event have the same event type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "two kinds of event have the event type Geöffnet")]
    fn duplicate_event_type_is_named() {
        let kind = |event_type| EventKind { event_type, schema_version: 1 };
        check_kinds(&[kind("Closed"), kind("Geöffnet"), kind("Geöffnet!"), kind("Geöffnet")]);
    }
}
