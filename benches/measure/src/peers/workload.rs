//! The appends and questions: the same for every contender, from a fixed seed.

use crate::peers::contender::{Append, Event, Part, Seen};

/// All pseudorandom values follow from this seed.
pub const SEED: u64 = 0x616e_6e61_6c73;

/// The source of payloads: larger than any block that a contender compresses, so that an event
/// compresses like separate text and not like a copy of the previous one.
const TEXT_LEN: usize = 4 << 20;

/// Pseudorandom numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    #[expect(clippy::cast_possible_truncation, reason = "it is below a usize")]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    pub fn id(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }
}

/// Streams and payloads.
#[derive(Debug)]
pub struct World {
    /// Ids of 24 bytes whose order is unrelated to their numbers.
    pub names: Vec<String>,
    text: Vec<u8>,
    payload_len: usize,
}

impl World {
    pub fn new(streams: usize, payload_len: usize) -> Self {
        let mut random = Random::new(SEED);
        let names = (0..streams).map(|_| format!("account-{:016x}", random.next())).collect();
        let mut text = Vec::with_capacity(TEXT_LEN + 256);
        // Business events as JSON: about two to one under LZ4.
        while text.len() < TEXT_LEN {
            let (amount, owner, reference) =
                (random.below(1_000_000), random.next(), random.next());
            let line = format!(
                "{{\"amount\":{amount},\"currency\":\"EUR\",\"owner\":\"{owner:016x}\",\"reference\":\"{reference}\"}},"
            );
            text.extend_from_slice(line.as_bytes());
        }
        Self { names, text, payload_len }
    }

    fn event(&self, random: &mut Random) -> Event<'_> {
        let begin = random.below(self.text.len() - self.payload_len);
        Event { id: random.id(), payload: &self.text[begin..begin + self.payload_len] }
    }
}

/// The shape of a commit: the number of its streams, and the number of events in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    pub streams: usize,
    pub events: usize,
}

impl Shape {
    pub fn len(self) -> usize {
        self.streams * self.events
    }
}

/// One caller: it alone writes to its streams, and knows what it has written.
#[derive(Debug)]
pub struct Caller<'w> {
    world: &'w World,
    random: Random,
    /// Its own streams, and how many events each has.
    streams: Vec<(usize, u64)>,
    /// The streams of the next append; indices into `streams`.
    chosen: Vec<usize>,
    /// The position that its last append returned.
    as_of: u64,
}

impl<'w> Caller<'w> {
    /// Caller number `number` of this many.
    pub fn new(world: &'w World, number: usize, callers: usize) -> Self {
        let streams =
            (number..world.names.len()).step_by(callers).map(|stream| (stream, 0)).collect();
        let random = Random::new(SEED ^ (number as u64 + 1) << 32);
        Self { world, random, streams, chosen: Vec::new(), as_of: 0 }
    }

    /// An append of this shape to some of its streams.
    pub fn choose(&mut self, shape: Shape) -> Append<'w> {
        self.chosen.clear();
        while self.chosen.len() < shape.streams {
            let stream = self.random.below(self.streams.len());
            if !self.chosen.contains(&stream) {
                self.chosen.push(stream);
            }
        }
        self.build(shape.events)
    }

    /// The number of its own streams.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// One event for each of these streams, which must be its own.
    pub fn one_each(&mut self, streams: &[usize]) -> Append<'w> {
        self.chosen.clear();
        self.chosen.extend_from_slice(streams);
        self.build(1)
    }

    fn build(&mut self, events: usize) -> Append<'w> {
        let Self { world, random, streams, chosen, as_of } = self;
        let part = |index: &usize| {
            let (stream, expected) = streams[*index];
            let events = (0..events).map(|_| world.event(random)).collect();
            Part { stream: &world.names[stream], expected, events }
        };
        let parts = chosen.iter().map(part).collect();
        Append { parts, as_of: *as_of, is_conditional: true }
    }

    /// Records that the last chosen append is in the store, up to this position.
    pub fn appended(&mut self, append: &Append<'_>, position: u64) {
        for (index, part) in self.chosen.iter().zip(&append.parts) {
            self.streams[*index].1 += part.events.len() as u64;
        }
        self.as_of = position;
    }
}

/// A summary of the events read: enough to know that every byte was read, at almost no cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub events: u64,
    pub bytes: u64,
    /// The sum of one byte of each cache line, the type's length, and a byte of the id.
    pub sum: u64,
}

impl Tally {
    pub fn see(&mut self, seen: &Seen<'_>) {
        let Seen { id, event_type, payload, .. } = seen;
        self.events += 1;
        self.bytes += payload.len() as u64;
        let touched: u64 = payload.iter().step_by(64).map(|byte| u64::from(*byte)).sum();
        self.sum += touched + event_type.len() as u64 + u64::from(id[15]);
    }
}
