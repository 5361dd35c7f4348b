//! The frame, the unit on disk: the consecutive events that one append wrote to one stream.

use super::cursor::Cursor;
use super::hole::{HOLE_OF_LOG, HOLE_OF_STREAM, Hole, decode_hole};
use super::wire::{
    ContentTypeBytes, EventBytes, HeaderBytes, Known, next_pair, next_tag, put, refused,
};
use super::{CONFIG, ENVELOPE_LEN, Malformed, open_envelope, seal_envelope};
use crate::model::{
    EventId, EventRef, MetadataRef, NewEvent, Position, TagsRef, Timestamp, Version,
};

/// The version of a frame's encoding, stored in its first byte.
const FRAME_VERSION: u8 = 1;
/// The flags of frames. Reserved: 2 compressed. Events have none; reserved: 1, 2, 4 sealed, 8.
const FLAGS_KNOWN: u8 = HOLE_OF_LOG | HOLE_OF_STREAM;

/// Maximum length of a header's numbers, including the length of the stream's id.
const HEADER_NUMBERS_LEN_MAX: usize = 1 + 5 * 9 + 3 * 5;

/// The fields that a frame stores once for all its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader<'a> {
    pub first_position: Position,
    pub stream: &'a str,
    pub first_version: Version,
    /// When the first event was recorded; each event stores its distance from this time.
    pub recorded_at: Timestamp,
    /// How many events of the same commit are before this frame.
    pub commit_before: u32,
    /// How many events the whole commit has.
    pub commit_len: u32,
    /// How many streams the store has, including this frame's.
    pub streams_after: u64,
    /// How many events the frame has: at least one.
    pub count: u32,
}

impl FrameHeader<'_> {
    pub(crate) fn last_position(&self) -> Position {
        self.first_position.plus(u64::from(self.count) - 1)
    }

    pub(crate) fn last_version(&self) -> Version {
        self.first_version.plus(u64::from(self.count) - 1)
    }

    pub(crate) fn commit_first(&self) -> Position {
        let first = self.first_position.get() - u64::from(self.commit_before);
        Position::new(first).unwrap_or(Position::FIRST)
    }

    pub(crate) fn commit_last(&self) -> Position {
        self.commit_first().plus(u64::from(self.commit_len) - 1)
    }
}

/// An unfinished frame. The caller of an append encodes its events; its header is known only after
/// the events get their positions. Room for the header is reserved before the events, so that the
/// events need not be moved.
#[derive(Debug)]
pub struct FrameDraft {
    bytes: Vec<u8>,
    /// The offset of the events.
    room: usize,
}

impl FrameDraft {
    /// A draft for a stream, with room for about `events_len` bytes of events.
    pub fn new(stream: &str, events_len: usize) -> Self {
        let room = ENVELOPE_LEN + HEADER_NUMBERS_LEN_MAX + stream.len();
        let mut bytes = Vec::with_capacity(room + events_len);
        bytes.resize(room, 0);
        Self { bytes, room }
    }

    pub fn push(&mut self, event: &NewEvent, recorded_after: u64) {
        encode_event(event, recorded_after, &mut self.bytes);
    }

    /// The length of the encoded events in bytes.
    pub(crate) fn events_len(&self) -> usize {
        self.bytes.len() - self.room
    }

    /// Completes the frame with a header, which must name the draft's stream. It may be called
    /// again with another header.
    pub fn finish(&mut self, header: &FrameHeader<'_>) -> &[u8] {
        let (room, _) = self.bytes.split_at_mut(self.room);
        let written = bincode::encode_into_slice(HeaderBytes::from(*header), room, CONFIG);
        let Ok(len) = written else { unreachable!("room was left for the header: {written:?}") };
        let begin = self.room - len - ENVELOPE_LEN;
        room.copy_within(..len, begin + ENVELOPE_LEN);
        let (_, frame) = self.bytes.split_at_mut(begin);
        seal_envelope(FRAME_VERSION, frame);
        frame
    }
}

/// Appends the bytes of one event.
fn encode_event(event: &NewEvent, recorded_after: u64, out: &mut Vec<u8>) {
    let (mut metadata, mut tags) = (Vec::new(), Vec::new());
    for pair in event.metadata().iter() {
        put(pair, &mut metadata);
    }
    for tag in event.tags() {
        put(tag, &mut tags);
    }
    let bytes = EventBytes {
        flags: 0,
        id: *event.id().as_bytes(),
        event_type: event.event_type().as_str(),
        schema_version: event.schema_version(),
        content_type: ContentTypeBytes::of(event.content_type().as_str()),
        recorded_after,
        metadata: &metadata,
        tags: &tags,
        payload: event.payload(),
    };
    put(bytes, out);
}

impl<'a> From<FrameHeader<'a>> for HeaderBytes<'a> {
    fn from(header: FrameHeader<'a>) -> Self {
        Self {
            flags: 0,
            first_position: header.first_position.get(),
            stream: header.stream,
            first_version: header.first_version.get(),
            recorded_at: header.recorded_at.as_micros(),
            commit_before: header.commit_before,
            commit_len: header.commit_len,
            streams_after: header.streams_after,
            count: header.count,
        }
    }
}

/// A frame whose checksum and header were checked; its events are decoded one by one.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub header: FrameHeader<'a>,
    /// 0 unless it is a hole.
    flags: u8,
    events: &'a [u8],
    known: Known<'a>,
}

impl<'a> Frame<'a> {
    /// Checks the checksum, then decodes the header.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode_knowing(Known::default(), bytes)
    }

    /// Like [`Frame::decode`], but faster if the frame contains the texts in `known`.
    #[expect(clippy::inline_always, reason = "else every frame is copied twice")]
    #[inline(always)]
    pub(crate) fn decode_knowing(known: Known<'a>, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let body = open_envelope("frame version", FRAME_VERSION, bytes)?;
        let what = "the header of a frame";
        let mut cursor = Cursor::new(body);
        let Some(header) = HeaderBytes::read(&mut cursor, &known) else {
            return Err(refused::<HeaderBytes<'_>>(what, body));
        };
        let flags = header.flags;
        check_flags(flags, FLAGS_KNOWN)?;
        let Some(header) = header.check() else {
            return Err(Malformed::damaged("inconsistent numbers", what));
        };
        Ok(Self { header, flags, events: cursor.rest(), known })
    }

    /// Whether its events were deleted.
    #[inline]
    pub fn is_hole(&self) -> bool {
        self.flags != 0
    }

    /// What it records if its events were deleted.
    pub fn hole(&self) -> Result<Option<Hole>, Malformed> {
        if !self.is_hole() {
            return Ok(None);
        }
        decode_hole(self.flags == HOLE_OF_STREAM, self.events).map(Some)
    }

    /// The bytes of its events.
    pub(super) fn event_bytes(&self) -> &'a [u8] {
        if self.is_hole() { &[] } else { self.events }
    }

    /// The events in order; none of a hole. The iterator ends after the first malformed event, and
    /// reports bytes after the last event as an error.
    #[inline]
    pub fn events(&self) -> FrameEvents<'a> {
        let header = &self.header;
        let commit = (header.commit_first(), header.commit_last());
        let next = if self.is_hole() { header.count } else { 0 };
        let rest = self.event_bytes();
        FrameEvents { header: *header, commit, known: self.known, rest, next }
    }
}

impl<'a> HeaderBytes<'a> {
    #[inline]
    fn check(self) -> Option<FrameHeader<'a>> {
        let last = u64::from(self.count.checked_sub(1)?);
        self.first_position.checked_add(last)?.checked_add(1)?;
        self.first_version.checked_add(last)?.checked_add(1)?;
        let in_commit = u64::from(self.commit_before) + u64::from(self.count);
        let starts_in_log = u64::from(self.commit_before) < self.first_position;
        let fits = in_commit <= u64::from(self.commit_len) && starts_in_log;
        self.first_position.checked_add(u64::from(self.commit_len))?;
        fits.then_some(FrameHeader {
            first_position: Position::new(self.first_position)?,
            stream: self.stream,
            first_version: Version::new(self.first_version)?,
            recorded_at: Timestamp::from_micros(self.recorded_at),
            commit_before: self.commit_before,
            commit_len: self.commit_len,
            streams_after: self.streams_after,
            count: self.count,
        })
    }
}

#[inline]
fn check_flags(flags: u8, known: u8) -> Result<(), Malformed> {
    if flags & !known == 0 {
        return Ok(());
    }
    let (found, supported) = (u64::from(flags), u64::from(known));
    Err(Malformed::Unsupported { what: "flags", found, supported })
}

/// The events of a frame.
#[derive(Debug, Clone)]
pub struct FrameEvents<'a> {
    header: FrameHeader<'a>,
    /// The first and last position of the commit.
    commit: (Position, Position),
    known: Known<'a>,
    rest: &'a [u8],
    next: u32,
}

impl<'a> FrameEvents<'a> {
    /// Decodes the next event and passes it to `take` without moving it.
    #[expect(clippy::inline_always, reason = "see `next_with`")]
    #[inline(always)]
    fn decode_next<T>(&mut self, take: impl FnOnce(EventRef<'a>) -> T) -> Result<T, Malformed> {
        let what = "an event of a frame";
        let mut cursor = Cursor::new(self.rest);
        let Some(event) = EventBytes::read(&mut cursor, &self.known) else {
            return Err(refused::<EventBytes<'_>>(what, self.rest));
        };
        self.rest = cursor.rest();
        self.known.event_type = event.event_type;
        check_flags(event.flags, 0)?;
        check_list(event.metadata, next_pair)?;
        check_list(event.tags, next_tag)?;
        let index = u64::from(self.next);
        let after = i64::try_from(event.recorded_after).ok();
        let first = self.header.recorded_at.as_micros();
        let Some(recorded_at) = after.and_then(|after| first.checked_add(after)) else {
            return Err(Malformed::damaged("a time out of range", what));
        };
        let event = EventRef {
            id: EventId::from_bytes(event.id),
            position: self.header.first_position.plus(index),
            stream: self.header.stream,
            version: self.header.first_version.plus(index),
            recorded_at: Timestamp::from_micros(recorded_at),
            commit_first: self.commit.0,
            commit_last: self.commit.1,
            event_type: event.event_type,
            schema_version: event.schema_version,
            content_type: event.content_type.name(),
            metadata: MetadataRef::encoded(event.metadata, next_pair),
            tags: TagsRef::encoded(event.tags, next_tag),
            payload: event.payload,
        };
        Ok(take(event))
    }

    /// Like [`FrameEvents::next`], but does not move the event: an event is 176 bytes, and moving
    /// it out of two calls costs a third of the time to decode it.
    #[expect(
        clippy::inline_always,
        reason = "what calls this is to use the event where it was made"
    )]
    #[inline(always)]
    pub(crate) fn next_with<T>(
        &mut self,
        take: impl FnOnce(EventRef<'a>) -> T,
    ) -> Option<Result<T, Malformed>> {
        if self.next == self.header.count {
            return if self.rest.is_empty() { None } else { Some(Err(self.left_over())) };
        }
        let taken = self.decode_next(take);
        self.next += 1;
        if taken.is_err() {
            self.next = self.header.count;
            self.rest = &[];
        }
        Some(taken)
    }

    /// The error for bytes after the last event.
    #[cold]
    fn left_over(&mut self) -> Malformed {
        let left = std::mem::take(&mut self.rest).len();
        Malformed::damaged(format!("{left} bytes after the last event"), "the end of a frame")
    }
}

impl<'a> Iterator for FrameEvents<'a> {
    type Item = Result<EventRef<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(|event| event)
    }
}

/// Checks that a whole list decodes, so that iterating over it later cannot fail.
#[inline]
fn check_list<'a, T>(
    mut rest: &'a [u8],
    next: impl Fn(&mut &'a [u8]) -> Option<T>,
) -> Result<(), Malformed> {
    while !rest.is_empty() {
        if next(&mut rest).is_none() {
            return Err(Malformed::damaged("bytes that do not decode", "metadata or tags"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ContentType, EventType};

    fn header(count: u32) -> FrameHeader<'static> {
        FrameHeader {
            first_position: Position::new(1000).unwrap(),
            stream: "account-1",
            first_version: Version::new(7).unwrap(),
            recorded_at: Timestamp::from_micros(1_700_000_000_000_000),
            commit_before: 2,
            commit_len: 4,
            streams_after: 3,
            count,
        }
    }

    fn golden() -> Vec<u8> {
        let json = NewEvent::new(EventType::new("Opened").unwrap(), *b"{}")
            .with_id(EventId::from_bytes([7; 16]))
            .with_content_type(ContentType::JSON)
            .with_metadata("user", "ada")
            .with_tag("eur");
        let other = NewEvent::new(EventType::new("Ünlü").unwrap(), [0xff, 0])
            .with_id(EventId::from_bytes([9; 16]))
            .with_schema_version(300)
            .with_content_type(ContentType::new("image/png").unwrap());
        let mut draft = FrameDraft::new("account-1", 0);
        draft.push(&json, 0);
        draft.push(&other, 5);
        draft.finish(&header(2)).to_vec()
    }

    #[test]
    fn draft_fits_every_header_and_can_be_finished_again() {
        let stream = "s".repeat(255);
        let mut draft = FrameDraft::new(&stream, 0);
        let event = NewEvent::new(EventType::new("Opened").unwrap(), *b"{}");
        draft.push(&event, 0);
        let largest = FrameHeader {
            first_position: Position::new(u64::MAX - 10).unwrap(),
            stream: &stream,
            first_version: Version::new(u64::MAX - 10).unwrap(),
            recorded_at: Timestamp::from_micros(i64::MIN),
            commit_before: u32::MAX - 1,
            commit_len: u32::MAX,
            streams_after: u64::MAX,
            count: u32::MAX,
        };
        assert!(draft.finish(&largest).len() > 255);
        let small = FrameHeader { stream: &stream, ..header(1) };
        let frame = Frame::decode(draft.finish(&small)).unwrap();
        assert_eq!(frame.header, small);
        assert_eq!(
            frame.events().map(|event| event.unwrap().id()).collect::<Vec<_>>(),
            [event.id()]
        );
    }

    /// Format version 2, frozen once it is released: if this fails, existing stores can no longer
    /// be read.
    #[test]
    fn frame_has_the_specified_bytes() {
        assert_eq!(super::super::hex(&golden()), GOLDEN);
    }

    /// Version, crc; flags, position 1000, stream, version 7, time, place in commit 2 of 4, 3
    /// streams, 2 events; the events.
    const GOLDEN: &str = concat!(
        "01790d7da3",
        "00fbe803096163636f756e742d3107fd00803c3048140c0002040302",
        "0007070707070707070707070707070707064f70656e65640101000904757365720361646104036575720",
        "27b7d000909090909090909090909090909090906c39c6e6cc3bcfb2c010009696d6167652f706e670500",
        "0002ff00"
    );

    #[test]
    fn frame_is_read_as_it_was_written() {
        let bytes = golden();
        let frame = Frame::decode(&bytes).unwrap();
        assert_eq!(frame.header, header(2));
        let events: Vec<_> = frame.events().collect::<Result<_, _>>().unwrap();
        assert_eq!(events[0].metadata().iter().collect::<Vec<_>>(), [("user", "ada")]);
        assert_eq!(events[0].tags().iter().collect::<Vec<_>>(), ["eur"]);
        assert_eq!(events[0].commit().start().get(), 998);
        assert_eq!(events[0].commit().end().get(), 1001);
        assert_eq!(events[1].position().get(), 1001);
        assert_eq!(events[1].version().get(), 8);
        assert_eq!(events[1].content_type(), "image/png");
        assert_eq!(events[1].schema_version(), 300);
        assert_eq!(events[1].recorded_at().as_micros(), 1_700_000_000_000_005);
        assert_eq!(events[1].payload(), [0xff, 0]);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let bytes = golden();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Frame::decode(&damaged), Err(Malformed::Damaged { .. })), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn later_version_and_unknown_flag_are_reported() {
        let mut later = golden();
        seal_envelope(2, &mut later);
        let what = "frame version";
        let expected = Malformed::Unsupported { what, found: 2, supported: 1 };
        assert_eq!(Frame::decode(&later).unwrap_err(), expected);

        let mut flagged = golden();
        flagged[ENVELOPE_LEN] = 4;
        seal_envelope(FRAME_VERSION, &mut flagged);
        let expected = Malformed::Unsupported { what: "flags", found: 4, supported: 9 };
        assert_eq!(Frame::decode(&flagged).unwrap_err(), expected);
    }

    #[test]
    fn unknown_flag_of_an_event_is_reported() {
        let mut draft = FrameDraft::new("account-1", 0);
        draft.push(&NewEvent::new(EventType::new("Opened").unwrap(), *b"{}"), 0);
        draft.bytes[draft.room] = 4;
        let bytes = draft.finish(&header(1));
        let expected = Malformed::Unsupported { what: "flags", found: 4, supported: 0 };
        let mut found = Frame::decode(bytes).unwrap().events();
        assert_eq!(found.next().unwrap().unwrap_err(), expected);
        assert!(found.next().is_none());
    }

    #[test]
    fn extra_bytes_after_the_last_event_are_damage() {
        let mut longer = golden();
        longer.push(0);
        seal_envelope(FRAME_VERSION, &mut longer);
        let last = Frame::decode(&longer).unwrap().events().last().unwrap();
        assert!(matches!(last, Err(Malformed::Damaged { .. })));
    }

    proptest! {
        /// The checksum is valid, so these bytes reach the decoder.
        #[test]
        fn any_bytes_decode_or_are_refused_without_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), ENVELOPE_LEN..200)
        ) {
            seal_envelope(FRAME_VERSION, &mut bytes);
            if let Ok(frame) = Frame::decode(&bytes) {
                for event in frame.events().take(1000).flatten() {
                    prop_assert!(event.metadata().iter().count() <= bytes.len());
                }
            }
        }

        /// Changes one byte of a valid frame and updates its checksum, as a malicious writer would.
        #[test]
        fn frame_with_a_new_checksum_decodes_or_is_refused(
            at in ENVELOPE_LEN..golden().len(), byte: u8
        ) {
            let mut bytes = golden();
            bytes[at] = byte;
            seal_envelope(FRAME_VERSION, &mut bytes);
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert!(frame.events().take(1000).count() <= 1000);
            }
        }
    }
}
