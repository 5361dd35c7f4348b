//! [`Hole`]: takes the place of deleted events (G17).

use super::Malformed;
use super::cursor::Cursor;
use super::wire::put;
use crate::model::{EventId, Position, StreamState, Timestamp, Version};

/// The flag of a hole in the log.
pub(super) const HOLE_OF_LOG: u8 = 1;
/// The flag of a hole in a stream.
pub(super) const HOLE_OF_STREAM: u8 = 8;

/// What a hole records besides the header that it shares with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// When the last of the deleted events was recorded.
    pub last_recorded_at: Timestamp,
    /// The number of the newest deletion that made it.
    pub deletion: Version,
    /// The end of a hole in a stream; `None` in the log.
    pub end: Option<HoleEnd>,
}

/// The last deleted event of a stream, and what has become of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoleEnd {
    pub position: Position,
    pub id: EventId,
    pub state: StreamState,
}

impl Hole {
    /// The flag of its frame.
    pub(super) fn flag(&self) -> u8 {
        if self.end.is_some() { HOLE_OF_STREAM } else { HOLE_OF_LOG }
    }

    /// Appends what follows the header.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put((self.last_recorded_at.as_micros(), self.deletion.get()), out);
        if let Some(end) = self.end {
            put((end.position.get(), *end.id.as_bytes(), end.state.byte()), out);
        }
    }
}

/// Decodes what follows the header.
pub(super) fn decode_hole(is_of_stream: bool, rest: &[u8]) -> Result<Hole, Malformed> {
    let decode = || {
        let mut cursor = Cursor::new(rest);
        let last_recorded_at = Timestamp::from_micros(cursor.i64()?);
        let deletion = Version::new(cursor.u64()?)?;
        let end = if is_of_stream {
            let position = Position::new(cursor.u64()?)?;
            let id = EventId::from_bytes(cursor.id()?);
            Some(HoleEnd { position, id, state: StreamState::from_byte(cursor.byte()?)? })
        } else {
            None
        };
        cursor.rest().is_empty().then_some(Hole { last_recorded_at, deletion, end })
    };
    decode().ok_or_else(|| Malformed::damaged("bytes that do not decode", "a hole"))
}
