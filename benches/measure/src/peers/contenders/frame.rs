//! The frames of docs/FORMAT.md, written by hand, so that the baselines write the same bytes as
//! annals. A test compares them byte by byte.

use annals::__internals::FrameHeader;
use annals::{Position, Timestamp, Version};

use crate::peers::contender::{Append, EVENT_TYPE, Event, Result};

const VERSION: u8 = 1;
const BYTES: u8 = 2;
const FRAME_LEN_TARGET: usize = 64 * 1024;
const FRAME_EVENTS_MAX: usize = 1_024;
const END_OF_ID: u8 = 0;

/// A frame with its places, and the key that it is stored under.
#[derive(Debug)]
pub struct Frame<'a> {
    pub header: FrameHeader<'a>,
    pub stream_key: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// Where the frames of an append begin.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub first_position: u64,
    /// The number of streams before it.
    pub streams: u64,
    /// In microseconds since 1970.
    pub recorded_at: i64,
}

/// The prefix of all keys of one stream.
pub fn stream_prefix(stream: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + 1 + 8);
    key.extend_from_slice(stream.as_bytes());
    key.push(END_OF_ID);
    key
}

/// Passes the frames of an append to `put`, one by one.
pub fn encode(
    append: &Append<'_>,
    place: Place,
    mut put: impl FnMut(Frame<'_>) -> Result<()>,
) -> Result<()> {
    let commit_len: usize = append.parts.iter().map(|part| part.events.len()).sum();
    let (mut before, mut streams) = (0, place.streams);
    for part in &append.parts {
        streams += u64::from(part.expected == 0);
        let mut rest = part.events.as_slice();
        let mut version = part.expected + 1;
        while !rest.is_empty() {
            let mut events = Vec::with_capacity(rest.len().min(8) * (64 + rest[0].payload.len()));
            let count = take(rest, &mut events);
            let first_position = place.first_position + before as u64;
            // Version and checksum, then the header.
            let mut bytes = Vec::with_capacity(5 + 64 + part.stream.len() + events.len());
            bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
            number(first_position, &mut bytes);
            text(part.stream.as_bytes(), &mut bytes);
            number(version, &mut bytes);
            number((place.recorded_at.cast_unsigned() << 1) ^ sign(place.recorded_at), &mut bytes);
            number(before as u64, &mut bytes);
            number(commit_len as u64, &mut bytes);
            number(streams, &mut bytes);
            number(count as u64, &mut bytes);
            bytes.extend_from_slice(&events);
            seal(&mut bytes);
            let mut stream_key = stream_prefix(part.stream);
            stream_key.extend_from_slice(&version.to_be_bytes());
            let header = FrameHeader {
                first_position: Position::new(first_position).ok_or("positions begin at 1")?,
                stream: part.stream,
                first_version: Version::new(version).ok_or("versions begin at 1")?,
                recorded_at: Timestamp::from_micros(place.recorded_at),
                commit_before: u32::try_from(before)?,
                commit_len: u32::try_from(commit_len)?,
                streams_after: streams,
                count: u32::try_from(count)?,
            };
            put(Frame { header, stream_key, bytes })?;
            before += count;
            version += count as u64;
            rest = &rest[count..];
        }
    }
    Ok(())
}

/// Writes as many events as fit into one frame, and returns their number.
fn take(events: &[Event<'_>], out: &mut Vec<u8>) -> usize {
    for (index, event) in events.iter().enumerate().take(FRAME_EVENTS_MAX) {
        let before = out.len();
        // Flags, id, type, schema version, content type, time after the frame's, no metadata, no
        // tags, payload.
        out.push(0);
        out.extend_from_slice(&event.id);
        text(EVENT_TYPE.as_bytes(), out);
        out.extend_from_slice(&[1, BYTES, 0, 0, 0]);
        text(event.payload, out);
        if index > 0 && out.len() > FRAME_LEN_TARGET {
            out.truncate(before);
            return index;
        }
    }
    events.len().min(FRAME_EVENTS_MAX)
}

/// All ones for a negative number, otherwise zero.
fn sign(number: i64) -> u64 {
    (number >> 63).cast_unsigned()
}

#[expect(clippy::cast_possible_truncation, reason = "each arm bounds it")]
fn number(number: u64, out: &mut Vec<u8>) {
    match number {
        0..=250 => out.push(number as u8),
        251..=0xffff => {
            out.push(251);
            out.extend_from_slice(&(number as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(252);
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        _ => {
            out.push(253);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Fills in the checksum, which covers the version and all bytes after the checksum.
fn seal(bytes: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[5..]);
    bytes[1..5].copy_from_slice(&hasher.finalize().to_be_bytes());
}
