//! Events as people read them, or as lines for programs.
//!
//! What an event holds may have been written by anyone: for people, nothing of it reaches the terminal that could steer
//! it.

use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;

use annals::{CAUSATION_ID, CORRELATION_ID, ContentType, EventRef, JsonLine, Place, Read};

use super::shell::Failure;

/// Of longer payloads, people see this many characters and how long they are.
const PAYLOAD_CHARS_MAX: usize = 300;
/// Of payloads that are not text, people see this many bytes.
const PAYLOAD_BYTES_MAX: usize = 32;

/// Which places lead a line for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leading {
    /// Position, then stream and version.
    Log,
    /// Version, then position: all events are of one stream.
    Stream,
}

/// Prints events to standard output.
pub(crate) struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    leading: Leading,
    /// Whether people see the ids too. Programs always do.
    with_ids: bool,
    /// How wide each column has become.
    widths: [usize; 5],
    printed: u64,
}

impl Printer {
    pub(crate) fn new(json: bool, leading: Leading) -> Self {
        let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        Self { out, json, leading, with_ids: false, widths: [0; 5], printed: 0 }
    }

    pub(crate) fn with_ids(mut self, with_ids: bool) -> Self {
        self.with_ids = with_ids;
        self
    }

    pub(crate) fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.printed += 1;
        if self.json {
            JsonLine::new(event).with_places().write_to(&mut self.out)?;
            return self.out.write_all(b"\n");
        }
        let time = format!("{:.6}", event.recorded_at());
        let kind = clean(event.event_type());
        let (position, version) = (event.position().to_string(), event.version().to_string());
        let places = match self.leading {
            Leading::Log => [position, time, format!("{}@{version}", clean(event.stream()))],
            Leading::Stream => [version, position, time],
        };
        let id = self.with_ids.then(|| event.id().to_string());
        let columns = places.into_iter().chain(id).chain([kind]);
        for ((at, column), width) in columns.enumerate().zip(&mut self.widths) {
            *width = (*width).max(column.chars().count());
            let is_number = at == 0 || (at == 1 && self.leading == Leading::Stream);
            if is_number {
                write!(self.out, "{column:>width$}  ")?;
            } else {
                write!(self.out, "{column:<width$}  ")?;
            }
        }
        writeln!(self.out, "{}{}", payload(&event), extras(&event))
    }

    /// Prints all events of a read.
    pub(crate) fn print<P: Place>(&mut self, read: Read<P>) -> Result<(), Failure> {
        let mut failure = None;
        read.for_each(|event| match self.event(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or_else(|| self.out.flush(), Err)?;
        Ok(())
    }

    pub(crate) fn printed(&self) -> u64 {
        self.printed
    }
}

/// Tags and metadata.
fn extras(event: &EventRef<'_>) -> String {
    let mut out = String::new();
    for tag in event.tags().iter() {
        let _ = write!(out, "  #{}", clean(tag));
    }
    for (key, value) in event.metadata().iter() {
        // As `why` names them.
        let key = match key {
            CAUSATION_ID => "caused_by",
            CORRELATION_ID => "correlated_by",
            key => key,
        };
        let _ = write!(out, "  {}={}", clean(key), shortened(&clean(value), value.len()));
    }
    out
}

fn payload(event: &EventRef<'_>) -> String {
    let bytes = event.payload();
    let content_type = clean(event.content_type());
    match std::str::from_utf8(bytes) {
        Ok(text) if event.content_type() == ContentType::JSON.as_str() => {
            // Between JSON tokens a line end is as good as a space; within them there is none.
            shortened(&clean(&text.replace(['\n', '\r', '\t'], " ")), bytes.len())
        }
        Ok(text) => {
            let escaped: String = text.chars().take(PAYLOAD_CHARS_MAX + 1).collect();
            format!("{content_type} {}", shortened(&format!("{escaped:?}"), bytes.len()))
        }
        Err(_) => {
            let mut hex = String::new();
            for byte in bytes.iter().take(PAYLOAD_BYTES_MAX) {
                let _ = write!(hex, "{byte:02x}");
            }
            let more = if bytes.len() > PAYLOAD_BYTES_MAX { "…" } else { "" };
            format!("{content_type} {hex}{more} ({} bytes)", bytes.len())
        }
    }
}

fn shortened(text: &str, bytes: usize) -> String {
    match text.char_indices().nth(PAYLOAD_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => {
            let start = text.get(..end).unwrap_or(text);
            format!("{start}… ({bytes} bytes)")
        }
    }
}

/// Text without characters that a terminal obeys: they stand there as JSON would escape them.
pub(crate) fn clean(text: &str) -> String {
    let steers = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}
