//! An event as a value of a key-value store, for contenders without their own form: fixed fields,
//! big-endian, then type and payload. It is as small and as fast to read as hand-written code makes
//! it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::peers::contender::{EVENT_TYPE, Event, Result, Seen};

/// Position, version and time (8 bytes each), id (16), length of the type (1).
const FIXED_LEN: usize = 8 + 8 + 8 + 16 + 1;

/// Microseconds since 1970, for each contender that stores them.
pub fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// Writes a row into `out`, which is cleared first.
pub fn encode(
    position: u64,
    version: u64,
    time: i64,
    event: &Event<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.clear();
    out.reserve(FIXED_LEN + EVENT_TYPE.len() + event.payload.len());
    out.extend_from_slice(&position.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&event.id);
    out.push(u8::try_from(EVENT_TYPE.len())?);
    out.extend_from_slice(EVENT_TYPE.as_bytes());
    out.extend_from_slice(event.payload);
    Ok(())
}

pub fn decode(row: &[u8]) -> Result<Seen<'_>> {
    let short = || "a row that is too short";
    let (position, rest) = row.split_first_chunk::<8>().ok_or_else(short)?;
    let (_version, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (_time, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let (len, rest) = rest.split_first().ok_or_else(short)?;
    let (event_type, payload) = rest.split_at_checked(usize::from(*len)).ok_or_else(short)?;
    let event_type = std::str::from_utf8(event_type)?;
    Ok(Seen { position: u64::from_be_bytes(*position), id: *id, event_type, payload })
}
