//! Formats payloads and names as text that is safe to print: on one line, without characters that
//! control a terminal.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

use crate::model::{ContentType, EventRef};

/// How many bytes of a binary payload are shown.
const BYTES_SHOWN: usize = 16;

/// Formats a payload as text of about this many characters: JSON without the space between its
/// tokens, other text in quotes, anything else as its length and its first bytes.
pub(super) fn payload(event: EventRef<'_>, chars_max: usize) -> String {
    let bytes = event.payload();
    let is_json = event.content_type() == ContentType::JSON.as_str();
    if is_json && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        let text = String::from_utf8_lossy(bytes);
        let (start, rest) = shortened(between_tokens(&text), chars_max, bytes.len());
        return printable(&start) + &rest;
    }
    let content_type = printable(event.content_type());
    match std::str::from_utf8(bytes) {
        Ok(text) if event.content_type() != ContentType::BINCODE.as_str() && is_shown(text) => {
            let (start, rest) = shortened(text.chars(), chars_max, bytes.len());
            format!("{content_type}, {start:?}{rest}")
        }
        _ => format!("{content_type}, {} bytes: {}", bytes.len(), first_bytes(bytes)),
    }
}

/// Whether bytes that decode as this text are probably text.
fn is_shown(text: &str) -> bool {
    text.chars().all(|character| !character.is_control() || character.is_whitespace())
}

fn first_bytes(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in bytes.iter().take(BYTES_SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    if bytes.len() > BYTES_SHOWN {
        hex.push('…');
    }
    hex
}

/// The characters of a JSON text without the space between its tokens.
fn between_tokens(json: &str) -> impl Iterator<Item = char> {
    let (mut in_string, mut escaped) = (false, false);
    json.chars().filter(move |&character| {
        match character {
            '"' if !escaped => in_string = !in_string,
            '\\' => escaped = !escaped,
            _ => {}
        }
        escaped &= character == '\\';
        in_string || !character.is_ascii_whitespace()
    })
}

/// The beginning of a text, and, if the text is longer, a suffix with its whole length in bytes.
pub(super) fn shortened(
    mut text: impl Iterator<Item = char>,
    chars_max: usize,
    len: usize,
) -> (String, String) {
    let start = text.by_ref().take(chars_max).collect();
    let rest = text.next().map_or_else(String::new, |_| format!("… ({len} bytes)"));
    (start, rest)
}

/// Makes text safe to print on one line: characters that break a line or control a terminal are
/// escaped as in JSON.
///
/// Use it to print stream ids, event types and payloads, because an application may store any
/// characters in them.
///
/// ```
/// assert_eq!(annals::audit::printable("account-1"), "account-1");
/// assert_eq!(annals::audit::printable("two\nlines"), "two\\u000alines");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let must_escape = |character: char| {
        character.is_control()
            || matches!(
                character,
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            )
    };
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if must_escape(character) {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}
