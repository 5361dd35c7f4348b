//! `annals append`: appends one event by hand.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use annals::audit::printable;
use annals::{
    Append, ContentType, EventId, EventStore, EventType, ExpectedVersion, Limits, NewEvent,
    StreamId, Version,
};
use serde_json::json;
use serde_json::value::RawValue;

use super::shell::{Failure, Shell};

/// Append one event to a stream; it is durable when the command ends
///
/// DATA is JSON, stored unchanged, unless --text or --bytes is given. The store is created if it
/// does not exist.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    annals append bank.annals account-123 Opened '{\"owner\":\"Ada\"}' --expected none\n  \
    annals append bank.annals account-123 Deposited 1000 --expected 1 --metadata user=ada --tag eur\n  \
    annals append bank.annals photo-7 Taken - --bytes --content-type image/png < photo.png")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
    /// The stream
    stream: StreamId,
    /// The event's type
    #[arg(value_name = "TYPE")]
    event_type: EventType,
    /// The payload; - reads it from standard input [default: null; with --text or --bytes: empty]
    #[arg(allow_hyphen_values = true)]
    data: Option<String>,
    /// The state that the append requires of the stream: any (not checked), none (no events),
    /// exists (at least one event), or the version of its last event
    #[arg(long, value_name = "any|none|exists|VERSION", default_value = "any", value_parser = expected)]
    expected: ExpectedVersion,
    /// The event's id, a UUID: repeating the command with the same id and the same --expected (none
    /// or VERSION) does not append the event twice [default: a new id]
    #[arg(long, value_name = "UUID")]
    id: Option<EventId>,
    /// The schema version of the payload within its type, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    schema_version: u32,
    /// The media type of the payload [default: application/json, or that of --text or --bytes]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<ContentType>,
    /// DATA is text (text/plain; charset=utf-8)
    #[arg(long, conflicts_with = "bytes")]
    text: bool,
    /// DATA is bytes (application/octet-stream), usually from standard input
    #[arg(long)]
    bytes: bool,
    /// A metadata pair; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

fn expected(text: &str) -> Result<ExpectedVersion, String> {
    match text {
        "any" => Ok(ExpectedVersion::Any),
        "none" => Ok(ExpectedVersion::NoStream),
        "exists" => Ok(ExpectedVersion::StreamExists),
        version => version
            .parse::<Version>()
            .map(ExpectedVersion::Exact)
            .map_err(|error| format!("not any, none or exists, and {error}")),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("no = found: give metadata as KEY=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    // Checked before the store is created, so that a wrong argument leaves no store behind.
    let append = Append::new().to(&args.stream, args.expected, [event(args)?]);
    append.validate(&Limits::default()).map_err(|error| Failure::Usage(error.to_string()))?;
    let store = shell.open(&args.dir)?;
    let appended = store.submit(append)?;
    store.close()?;
    let mut out = io::stdout().lock();
    let (position, version) = (appended.last_position(), appended.last_version());
    if shell.json {
        let is_retry = appended.is_retry();
        let line = json!({
            "position": position.get(), "version": version.get(), "is_retry": is_retry,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let retry = if appended.is_retry() { " (it was there already: nothing was added)" } else { "" };
    let stream = printable(args.stream.as_str());
    writeln!(out, "position {position}, version {version} of {stream}{retry}")?;
    Ok(())
}

fn event(args: &Args) -> Result<NewEvent, Failure> {
    let given = match args.data.as_deref() {
        Some("-") => {
            let mut input = Vec::new();
            // Reading one byte more than is allowed is enough for the append to be rejected.
            let most = u64::try_from(annals::limits::PAYLOAD_LEN_MAX + 1).unwrap_or(u64::MAX);
            let read = io::stdin().lock().take(most).read_to_end(&mut input);
            read.map_err(|error| Failure::file("reading standard input", error))?;
            let is_json = !args.bytes && !args.text;
            if input.is_empty() || (is_json && input.trim_ascii().is_empty()) {
                return Err(Failure::Usage(
                    "standard input is empty, but DATA is -, which reads the payload from it; pipe the payload in, or \
                     leave DATA out for null (with --text or --bytes: for an empty payload)"
                        .to_owned(),
                ));
            }
            Some(input)
        }
        data => data.map(|data| data.as_bytes().to_vec()),
    };
    let (payload, default_type) = if args.bytes {
        (given.unwrap_or_default(), ContentType::BYTES)
    } else if args.text {
        let text = String::from_utf8(given.unwrap_or_default())
            .map_err(|_| Failure::Usage("DATA is not UTF-8: give it with --bytes".to_owned()))?;
        (text.into_bytes(), ContentType::TEXT)
    } else {
        (json_text(given.unwrap_or_else(|| b"null".to_vec()))?, ContentType::JSON)
    };
    let mut event = NewEvent::new(args.event_type.clone(), payload)
        .with_content_type(args.content_type.clone().unwrap_or(default_type))
        .with_schema_version(args.schema_version);
    if let Some(id) = args.id {
        event = event.with_id(id);
    }
    for (key, value) in &args.metadata {
        if event.metadata().get(key).is_some() {
            return Err(Failure::Usage(format!("metadata key {key:?} is given twice")));
        }
        event = event.with_metadata(key, value);
    }
    for tag in &args.tags {
        event = event.with_tag(tag);
    }
    Ok(event)
}

/// The JSON text without a byte order mark and without surrounding white space, such as the line
/// end that a shell adds.
fn json_text(text: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!(
            "DATA is not JSON: {error}; quote it for the shell, or give it with --text or --bytes"
        ))
    };
    let text = String::from_utf8(text).map_err(|error| refused(&error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let value: &RawValue = serde_json::from_str(text).map_err(|error| refused(&error))?;
    Ok(value.get().as_bytes().to_vec())
}
