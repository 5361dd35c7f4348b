//! Prints events for people, or as JSON lines for programs.
//!
//! The content of events is untrusted: control characters are escaped in output for people, so that
//! it cannot control the terminal.

use std::fmt::Write as _;
use std::io::{self, Stdout, Write};
use std::ops::ControlFlow;

use annals::audit::printable;
use annals::{
    CAUSATION_ID, CORRELATION_ID, ContentType, EventRef, JsonLine, Place, Position, Read, Version,
};

use super::output::{Output, Pace};
use super::shell::Failure;

/// How many characters of a payload are printed for people; the length follows if it is cut.
const PAYLOAD_CHARS_MAX: usize = 300;
/// How many bytes of a payload that is not text are printed for people.
const PAYLOAD_BYTES_MAX: usize = 32;

/// The places at the beginning of a line for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leading {
    /// Position, then stream and version.
    Log,
    /// Version, then position: all events are in one stream.
    Stream,
}

/// Prints events to standard output.
pub(crate) struct Printer {
    out: Output<Stdout>,
    json: bool,
    leading: Leading,
    /// Whether output for people includes ids. JSON lines always do.
    with_ids: bool,
    /// The current width of each column.
    widths: [usize; 5],
    printed: u64,
    /// The position and version of the last printed event.
    last: Option<(Position, Version)>,
}

impl Printer {
    pub(crate) fn new(json: bool, leading: Leading) -> io::Result<Self> {
        let out = Output::new(io::stdout())?;
        Ok(Self { out, json, leading, with_ids: false, widths: [0; 5], printed: 0, last: None })
    }

    pub(crate) fn with_ids(mut self, with_ids: bool) -> Self {
        self.with_ids = with_ids;
        self
    }

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.printed += 1;
        self.last = Some((event.position(), event.version()));
        if self.json {
            JsonLine::new(event).with_places().write_to(&mut self.out)?;
            return self.out.write_all(b"\n");
        }
        let time = format!("{:.6}", event.recorded_at());
        let kind = printable(event.event_type());
        let (position, version) = (event.position().to_string(), event.version().to_string());
        let places = match self.leading {
            Leading::Log => [position, time, format!("{}@{version}", printable(event.stream()))],
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

    /// Prints the events of a read; stops early if the reader of the output is slow.
    pub(crate) fn print<P: Place>(&mut self, read: Read<P>) -> Result<Pace, Failure> {
        let mut pace = Ok(Pace::Steady);
        read.for_each(|event| {
            pace = self.event(event).and_then(|()| self.out.offer());
            match pace {
                Ok(Pace::Steady) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        Ok(pace?)
    }

    /// Waits until everything printed is written. The store must not be held.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.out.wait()
    }

    /// Waits like [`Printer::wait`], and ends the output.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.out.finish().map(drop)
    }

    pub(crate) fn printed(&self) -> u64 {
        self.printed
    }

    pub(crate) fn last(&self) -> Option<(Position, Version)> {
        self.last
    }
}

/// Tags and metadata.
fn extras(event: &EventRef<'_>) -> String {
    let mut out = String::new();
    for tag in event.tags().iter() {
        let _ = write!(out, "  #{}", printable(tag));
    }
    for (key, value) in event.metadata().iter() {
        // The names that `annals trace` uses.
        let key = match key {
            CAUSATION_ID => "caused_by",
            CORRELATION_ID => "correlated_by",
            key => key,
        };
        let _ = write!(out, "  {}={}", printable(key), shortened(&printable(value), value.len()));
    }
    out
}

fn payload(event: &EventRef<'_>) -> String {
    let bytes = event.payload();
    let content_type = printable(event.content_type());
    match std::str::from_utf8(bytes) {
        Ok(text) if event.content_type() == ContentType::JSON.as_str() => {
            shortened(&printable(&one_line(text)), bytes.len())
        }
        _ => format!("{content_type} {}", plain(bytes)),
    }
}

/// Formats bytes of unknown form as quoted text if they are UTF-8, otherwise in hexadecimal.
pub(crate) fn plain(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let escaped: String = text.chars().take(PAYLOAD_CHARS_MAX + 1).collect();
        return shortened(&format!("{escaped:?}"), bytes.len());
    }
    let more = if bytes.len() > PAYLOAD_BYTES_MAX { "…" } else { "" };
    let start = bytes.get(..PAYLOAD_BYTES_MAX).unwrap_or(bytes);
    format!("{}{more} ({} bytes)", hex(start), bytes.len())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Puts JSON text on one line. Line ends and tabs occur only between JSON tokens, so spaces can
/// replace them.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r', '\t'], " ")
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
