//! [`Digits`]: keeps the digits of the numbers in a JSON payload through a step that reads it as a
//! [`serde_json::Value`], which holds integers in 64 bits and every other number as an `f64`.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Number;

use crate::model::quoted;

/// `serde_json` preserves a number of at most this length without an exponent: an `f64` holds 15
/// digits.
const EXACT_LEN_MAX: usize = 15;

/// The numbers of a payload that `serde_json` changes when it reads and writes them.
pub(super) struct Digits {
    /// Keyed by the text that `serde_json` writes for them.
    originals: HashMap<String, Original>,
    /// The first number that `serde_json` cannot read at all.
    unreadable: Option<LostNumber>,
}

/// The original texts of numbers that `serde_json` cannot distinguish.
struct Original {
    /// The texts that it changes, at least one.
    changed: Vec<String>,
    /// Whether the values of these numbers differ, or differ from an unchanged number with the same
    /// written form.
    is_ambiguous: bool,
}

/// A number whose digits cannot be preserved.
#[derive(Debug, Clone)]
pub(super) struct LostNumber {
    /// The path to it in the payload.
    pub(super) field: String,
    pub(super) number: String,
}

impl Digits {
    /// The numbers of this payload that `serde_json` changes or cannot read; `None` if there are
    /// none.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        let mut digits = Self { originals: HashMap::new(), unreadable: None };
        for (number, place) in numbers(payload) {
            match reading(number) {
                Reading::Kept => {}
                Reading::Changed(written) => {
                    let original = digits
                        .originals
                        .entry(written)
                        .or_insert_with(|| Original { changed: Vec::new(), is_ambiguous: false });
                    if let Some(first) = original.changed.first() {
                        original.is_ambiguous |= value(first) != value(number);
                    }
                    original.changed.push(number.to_owned());
                }
                Reading::OutOfRange => {
                    digits
                        .unreadable
                        .get_or_insert_with(|| LostNumber::at(payload, number, &place));
                }
            }
        }
        if digits.originals.is_empty() && digits.unreadable.is_none() {
            return None;
        }
        // serde_json may write a number that it preserves in the same form as one that it changes.
        for (number, _) in numbers(payload) {
            let written = serde_json::from_str::<Number>(number).map(|number| number.to_string());
            let original = written.ok().and_then(|written| digits.originals.get_mut(&written));
            if let Some(original) = original
                && let Some(first) = original.changed.first()
            {
                original.is_ambiguous |= value(first) != value(number);
            }
        }
        Some(digits)
    }

    /// The first number that `serde_json` cannot read: decoding a [`serde_json::Value`] fails.
    pub(super) fn unreadable(&self) -> Option<&LostNumber> {
        self.unreadable.as_ref()
    }

    /// Restores the original digits in the payload that a step wrote, for the numbers that
    /// `serde_json` changed; `None` if it contains no such number. If the step kept the digits of a
    /// number itself, using another type, no number of the same written form is changed.
    ///
    /// # Errors
    /// The first number that may correspond to several numbers of the old payload.
    pub(super) fn restore(&self, payload: &[u8]) -> Result<Option<Vec<u8>>, LostNumber> {
        let kept: HashSet<&str> = numbers(payload).map(|(number, _)| number).collect();
        let mut restored = Vec::new();
        let mut end = 0;
        for (number, place) in numbers(payload) {
            let Some(original) = self.originals.get(number) else { continue };
            let Some(first) = original.changed.first() else { continue };
            if original.changed.iter().any(|changed| kept.contains(changed.as_str())) {
                continue;
            }
            if original.is_ambiguous {
                return Err(LostNumber::at(payload, number, &place));
            }
            restored.extend_from_slice(payload.get(end..place.start).unwrap_or_default());
            restored.extend_from_slice(first.as_bytes());
            end = place.end;
        }
        if end == 0 {
            return Ok(None);
        }
        restored.extend_from_slice(payload.get(end..).unwrap_or_default());
        Ok(Some(restored))
    }
}

impl LostNumber {
    fn at(payload: &[u8], number: &str, place: &Range<usize>) -> Self {
        Self { field: quoted(&field(payload, place.start)), number: quoted(number) }
    }
}

/// How `serde_json` reads a number.
enum Reading {
    /// The same value.
    Kept,
    /// Another value, or an integer in a form that is no longer read as an integer. The field is
    /// the text that it writes.
    Changed(String),
    /// Not at all: the number is larger than any `f64`.
    OutOfRange,
}

fn reading(number: &str) -> Reading {
    let has_exponent = number.contains(['e', 'E']);
    if number.len() <= EXACT_LEN_MAX && !has_exponent {
        return Reading::Kept;
    }
    let Ok(read) = serde_json::from_str::<Number>(number) else {
        let is_number = serde_json::from_str::<IgnoredAny>(number).is_ok();
        return if is_number { Reading::OutOfRange } else { Reading::Kept };
    };
    let written = read.to_string();
    let is_integer = !has_exponent && !number.contains('.');
    if written == number || (value(&written) == value(number) && !(is_integer && read.is_f64())) {
        return Reading::Kept;
    }
    Reading::Changed(written)
}

/// A number as its sign, its significant digits, and the power of ten of the last digit.
fn value(number: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let beyond = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    let exponent = exponent.parse().unwrap_or(beyond);
    let (is_negative, mantissa) =
        mantissa.strip_prefix('-').map_or((false, mantissa), |mantissa| (true, mantissa));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - significant.len()).unwrap_or(i64::MAX / 4);
    let fraction = i64::try_from(fraction.len()).unwrap_or(i64::MAX / 4);
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    let last = exponent.saturating_add(dropped).saturating_sub(fraction);
    (is_negative, significant.to_owned(), last)
}

/// The numbers of a JSON text, with their byte ranges.
fn numbers(text: &[u8]) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at;
            match text.get(start)? {
                b'"' => at = string_end(text, start),
                b'-' | b'0'..=b'9' => {
                    let rest = text.get(start..).unwrap_or_default().iter();
                    let is_part =
                        |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    at += rest.take_while(is_part).count();
                    let number =
                        text.get(start..at).and_then(|part| std::str::from_utf8(part).ok());
                    return number.map(|number| (number, start..at));
                }
                _ => at += 1,
            }
        }
    })
}

/// The end of the string that begins at `start`: after its closing quote, or at the end of the
/// text.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The path to the value that begins at `end`, such as `items[2].price`.
fn field(text: &[u8], end: usize) -> String {
    enum Part {
        Key(String),
        Index(usize),
    }
    let mut path: Vec<Part> = Vec::new();
    let mut string = String::new();
    let mut at = 0;
    while let Some(byte) = text.get(at).filter(|_| at < end) {
        match (byte, path.last_mut()) {
            (b'"', _) => {
                let stop = string_end(text, at);
                let inside = text.get(at + 1..stop.saturating_sub(1)).unwrap_or_default();
                string = String::from_utf8_lossy(inside).into_owned();
                at = stop;
                continue;
            }
            (b':', Some(Part::Key(key))) => *key = std::mem::take(&mut string),
            (b',', Some(Part::Index(index))) => *index += 1,
            (b'{', _) => path.push(Part::Key(String::new())),
            (b'[', _) => path.push(Part::Index(0)),
            (b'}' | b']', _) => drop(path.pop()),
            _ => {}
        }
        at += 1;
    }
    let mut text = String::new();
    for part in path {
        match part {
            Part::Key(key) if text.is_empty() => text = key,
            Part::Key(key) => text = format!("{text}.{key}"),
            Part::Index(index) => text = format!("{text}[{index}]"),
        }
    }
    text
}
