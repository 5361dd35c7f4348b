//! Frames, packs and tail rows: any bytes decode or are refused, without excessive allocation; what
//! was decoded encodes and decodes to the same; and every flipped bit of an encoded frame is
//! detected.

use std::collections::BTreeSet;

use annals::__internals::{
    Frame, FrameDraft, FrameHeader, Malformed, Pack, TailRow, cut_frame, decode_pack,
    decode_tail_row, encode_hole, redact_in_frame,
};
use annals::{EventRef, NewEvent, Position, Timestamp, Version};

use super::events::{event, seal, time, unplaced, version};
use crate::allocation::within;
use crate::input::Input;

/// Memory that decoding may allocate for any bytes: the texts of an error.
const DECODE_MAX: usize = 1 << 10;

pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0..16 => drop(decode(input.rest())),
        16..32 => pack(&mut input),
        32..64 => tail_row(version(&mut input), input.rest()),
        64..160 => hostile(version(&mut input), input.rest()),
        _ => structured(&mut input),
    }
}

/// Decodes a frame and visits everything in it.
fn decode(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    within(DECODE_MAX, "decoding a frame", || {
        let frame = Frame::decode(bytes)?;
        let mut count = 0;
        for event in frame.events() {
            let event = event?;
            agrees(&frame.header, &event, count);
            let text =
                event.metadata().iter().fold(0, |len, (key, value)| len + key.len() + value.len());
            let text = event.tags().iter().fold(text, |len, tag| len + tag.len());
            assert!(text + event.payload().len() <= bytes.len());
            count += 1;
        }
        let is_hole = frame.hole()?.is_some();
        assert_eq!(is_hole, frame.is_hole());
        assert_eq!(count, if is_hole { 0 } else { u64::from(frame.header.count) });
        Ok(frame)
    })
}

/// Places increase through a frame, within their commit.
fn agrees(header: &FrameHeader<'_>, event: &EventRef<'_>, index: u64) {
    assert_eq!(event.position().get(), header.first_position.get() + index);
    assert_eq!(event.version().get(), header.first_version.get() + index);
    assert!(event.commit().contains(&event.position()));
    assert!(event.commit().contains(&header.first_position));
    assert!(event.recorded_at() >= header.recorded_at);
    assert_eq!(event.stream(), header.stream);
}

/// A body after a right checksum.
fn hostile(version: u8, body: &[u8]) {
    let bytes = seal(version, body);
    let Ok(frame) = decode(&bytes) else { return };
    assert_eq!(version, 1);
    if let Some(hole) = frame.hole().unwrap() {
        let again = encode_hole(&frame.header, &hole);
        let read = decode(&again).expect("a hole that was decoded is encoded and decoded again");
        assert_eq!((read.header, read.hole().unwrap()), (frame.header, Some(hole)));
        return;
    }
    rewritten(&bytes, &frame);
    let events: Vec<_> = frame.events().map(Result::unwrap).collect();
    let mut draft = FrameDraft::new(frame.header.stream, 0);
    for event in &events {
        let after = event.recorded_at().as_micros().abs_diff(frame.header.recorded_at.as_micros());
        draft.push(&unplaced(&event.to_owned()), after);
    }
    let again = draft.finish(&frame.header);
    // A number may be encoded longer than necessary, and a key may occur twice, so the bytes may
    // differ.
    let read = decode(again).expect("what was decoded is encoded and decoded again");
    assert_eq!(read.header, frame.header);
    for (event, again) in events.iter().zip(read.events()) {
        assert_eq!(event.to_owned(), again.unwrap().to_owned());
    }
}

/// A deletion of some of its events leaves the others as they were.
fn rewritten(bytes: &[u8], frame: &Frame<'_>) {
    let header = &frame.header;
    let last = header.first_version.get() + u64::from(header.count) - 1;
    let last = Version::new(last).unwrap();
    let cut = cut_frame(bytes, last).expect("the last event stays");
    let cut = decode(&cut).expect("what is left of a frame is a frame");
    let event = frame.events().last().unwrap().unwrap().to_owned();
    assert_eq!(cut.events().map(|event| event.unwrap().to_owned()).collect::<Vec<_>>(), [event]);
    let first = header.first_position;
    let redacted = redact_in_frame(bytes, first, &BTreeSet::new(), Version::FIRST);
    let redacted = redacted.expect("each event can be redacted");
    let redacted = decode(&redacted).expect("a frame with a redacted event is a frame");
    assert_eq!(redacted.header, *header);
}

/// A frame as the write path makes it.
fn structured(input: &mut Input<'_>) {
    let stream = input.text();
    let (position, number) = (input.number().clamp(1, 1 << 62), input.number().clamp(1, 1 << 62));
    let before = (input.number() % (1 << 20)).min(position - 1);
    let recorded_at = time(input);
    let after = input.number() % (1 << 40);
    let fits = recorded_at.as_micros().checked_add_unsigned(after * 4).is_some();
    let recorded_at = if fits { recorded_at } else { Timestamp::from_micros(0) };
    let count = 1 + input.below(3);
    let events: Vec<NewEvent> = (0..count).map(|_| event(input)).collect();
    let before = u32::try_from(before).unwrap();
    let count = u32::try_from(count).unwrap();
    let header = FrameHeader {
        first_position: Position::new(position).unwrap(),
        stream: &stream,
        first_version: Version::new(number).unwrap(),
        recorded_at,
        commit_before: before,
        commit_len: before + count + u32::from(input.byte()),
        streams_after: 1 + input.number() % position,
        count,
    };
    let mut draft = FrameDraft::new(&stream, 0);
    for (index, event) in (0..).zip(&events) {
        draft.push(event, after * index);
    }
    let bytes = draft.finish(&header);
    let frame = decode(bytes).expect("what was encoded is decoded");
    assert_eq!(frame.header, header);
    for ((index, event), read) in (0..).zip(&events).zip(frame.events()) {
        let read = read.unwrap();
        assert_eq!(
            read.recorded_at().as_micros(),
            recorded_at.as_micros() + (after * index).cast_signed()
        );
        assert_eq!(&unplaced(&read.to_owned()), event);
    }
    // The remaining input selects the place of the damage.
    let at = usize::try_from(input.number() % (bytes.len() as u64)).unwrap();
    assert!(Frame::decode(&bytes[..at]).is_err());
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1 << (input.byte() % 8);
    assert!(matches!(Frame::decode(&damaged), Err(Malformed::Damaged { .. })));
}

/// Frames of any bytes, and a footer under a right checksum.
fn pack(input: &mut Input<'_>) {
    let last = Position::new(input.number().max(1)).unwrap();
    let version = version(input);
    let mut value = input.piece().to_vec();
    let frames_len = value.len();
    let footer = input.rest();
    value.extend_from_slice(footer);
    value.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_be_bytes());
    let sealed = seal(version, &value[frames_len..]);
    value.extend_from_slice(&sealed[1..5]);
    value.push(version);

    let mut places = Vec::new();
    // Each frame takes two bytes of the footer or more, and its place far more than that.
    let allowed = DECODE_MAX + 64 * footer.len();
    let decoded = within(allowed, "decoding a pack", || decode_pack(last, &value, &mut places));
    if decoded.is_err() {
        return;
    }
    assert_eq!(version, 1);
    let (mut pack, mut next) = (Pack::default(), places[0].first);
    for place in &places {
        assert_eq!(place.first, next);
        pack.push(place.first, place.last, &value[place.bytes.clone()]);
        next = place.last.next();
    }
    assert_eq!(places.last().unwrap().last, last);
    assert_eq!(pack.bytes(), &value[..frames_len]);
    let mut again = Vec::new();
    decode_pack(last, pack.seal().bytes(), &mut again).expect("what was encoded is decoded");
    assert_eq!(again, places);
    assert!(decode_pack(last, &value[1..], &mut again).is_err());
}

/// A row under a right checksum.
fn tail_row(version: u8, body: &[u8]) {
    let bytes = seal(version, body);
    let allowed = DECODE_MAX + 24 * body.len();
    let decoded = within(allowed, "decoding a tail row", || decode_tail_row(&bytes));
    let Ok((first, entries)) = decoded else { return };
    assert_eq!(version, 1);
    let mut row = TailRow::default();
    row.begin(first);
    for entry in &entries {
        let frame = [&[1], &entry.checksum.to_be_bytes()[..]].concat();
        row.push(entry.stream, entry.first_version, &frame);
    }
    assert_eq!(decode_tail_row(row.encode()).unwrap(), (first, entries));
}
