//! The small files next to the database, `watermark` and `STORE`: any bytes are read or refused. Of
//! the two slots, the valid one with the higher number counts, even if a write was torn.

use annals::__internals::{
    Evidence, Identity, Manifest, SLOT_LEN, STORE_FILE_LEN_MAX, Slot, Watermark,
};
use annals::Position;

use super::events::time;
use crate::allocation::within;
use crate::input::Input;

/// `STORE` holds lists, and is encoded again to compare.
const READ_MAX: usize = 1 << 14;

pub fn watermark(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0..32 => any_file(input.rest()),
        32..128 => hostile_slots(&mut input),
        128..192 => writes(&mut input),
        _ => store_file(&mut input),
    }
}

fn any_file(bytes: &[u8]) {
    within(READ_MAX, "reading a watermark", || drop(Slot::newest(bytes)));
    within(READ_MAX, "reading STORE", || drop(Identity::decode(bytes)));
}

/// Slots after right checksums.
fn hostile_slots(input: &mut Input<'_>) {
    let mut file = Vec::new();
    for _ in 0..input.below(4) {
        let mut slot = if input.flag() { b"annalsWM".to_vec() } else { Vec::new() };
        slot.extend_from_slice(input.take(42 - slot.len()));
        slot.resize(42, 0);
        slot.extend(crc32fast::hash(&slot).to_be_bytes());
        slot.resize(SLOT_LEN, 0);
        file.extend(slot);
    }
    file.truncate(file.len().saturating_sub(usize::from(input.byte() / 128 * input.byte())));
    let newest = within(READ_MAX, "reading a watermark", || Slot::newest(&file));
    if let Ok(slot) = newest {
        // Its writer continues with the next number.
        assert!(slot.number < u64::MAX / 2 + 1);
        assert_eq!(Slot::newest(&slot.encode()), Ok(slot));
        assert!(file.len() >= SLOT_LEN);
    }
}

/// A few writes as the store makes them, the last of them torn.
fn writes(input: &mut Input<'_>) {
    let mut store_id = [0; 16];
    store_id[0] = input.byte();
    let slot = |number, input: &mut Input<'_>| {
        let durable = Position::new(input.number());
        let is_clean = input.flag();
        let evidence = input.flag().then(|| {
            let known = Manifest { number: 1 + input.number() / 2, len: input.number() };
            Evidence { frame: 7, manifest: input.flag().then_some(known), last_key: 3 }
        });
        Slot { number, watermark: Watermark { store_id, durable, is_clean, evidence } }
    };
    let mut newest = slot(0, input);
    let mut file = newest.encode().to_vec();
    file.extend([0; SLOT_LEN]);
    for number in 1..=1 + input.below(4) as u64 {
        let next = slot(number, input);
        let (at, bytes) = (usize::try_from(number % 2).unwrap() * SLOT_LEN, next.encode());
        let torn_at = input.below(SLOT_LEN + 1);
        file[at..at + torn_at].copy_from_slice(&bytes[..torn_at]);
        // Torn where its evidence begins with zeros, in a slot without evidence: the position is
        // right, but the evidence about the database is missing. A disk that writes whole sectors
        // never leaves this state.
        let without = Watermark { evidence: None, ..next.watermark };
        let possible = [newest, next, Slot { watermark: without, ..next }];
        let read = Slot::newest(&file).expect("the other slot is right");
        assert!(possible.contains(&read), "torn at {torn_at}");
        file[at..at + SLOT_LEN].copy_from_slice(&bytes);
        assert_eq!(Slot::newest(&file), Ok(next));
        newest = next;
    }
    // One flipped bit invalidates one slot at most.
    let at = input.below(file.len());
    file[at] ^= 1 << (input.byte() % 8);
    let read = Slot::newest(&file).expect("the other slot is right");
    assert!(read.number + 1 >= newest.number);
}

fn store_file(input: &mut Input<'_>) {
    let mut store_id = [0; 16];
    store_id[15] = input.byte();
    let mut identity = Identity::new(store_id, time(input));
    for _ in 0..input.below(4) {
        identity = identity.in_new_epoch(Position::new(input.byte().into()));
    }
    identity.is_backup = input.byte().is_multiple_of(2);
    let bytes = identity.encode();
    assert!(bytes.len() <= STORE_FILE_LEN_MAX);
    assert_eq!(Identity::decode(&bytes), Some(Ok(identity)));
    let at = input.below(bytes.len());
    let mut damaged = bytes.clone();
    damaged[at] ^= 1 << (input.byte() % 8);
    assert!(!matches!(Identity::decode(&damaged), Some(Ok(_))), "byte {at}");
    // Any content between the version and a right checksum.
    let mut hostile = bytes[..12].to_vec();
    hostile.extend(input.rest());
    hostile.extend(crc32fast::hash(&hostile).to_be_bytes());
    if let Some(Ok(identity)) = within(READ_MAX, "reading STORE", || Identity::decode(&hostile)) {
        assert_eq!(identity.encode(), hostile.as_slice());
    }
}
