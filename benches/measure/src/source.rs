//! The events that are appended: the same in each run, with the streams in a scattered order.

use annals::{ContentType, EventType, NewEvent, StreamId};

use crate::Result;

/// The type of every event.
pub const EVENT_TYPE: &str = "Happened";
/// The fixed parts of a payload, around its text.
const PAYLOAD_FRAME: (&[u8], &[u8]) = (br#"{"text":""#, br#""}"#);
pub const PAYLOAD_LEN_MIN: i64 = 16;
pub const PAYLOAD_LEN_MAX: i64 = 1 << 20;
/// Text is cut out of a pool of this length plus the longest payload.
const POOL_LEN: u64 = 1 << 16;

/// An append that is ready to be made.
#[derive(Debug)]
pub struct Ready {
    pub stream: StreamId,
    pub events: Vec<NewEvent>,
}

#[derive(Debug)]
pub struct Source {
    /// How many streams the appends are spread over.
    pub streams: u64,
    text_len: usize,
    /// Random letters: they compress as well as text does, to about half.
    pool: Vec<u8>,
    event_type: EventType,
    random: u64,
}

impl Source {
    pub fn new(streams: u64, payload: u32) -> Result<Self> {
        let frame = PAYLOAD_FRAME.0.len() + PAYLOAD_FRAME.1.len();
        let text_len = usize::try_from(payload)?.saturating_sub(frame);
        let event_type = EventType::new(EVENT_TYPE)?;
        let mut source = Self { streams, text_len, pool: Vec::new(), event_type, random: 1 };
        for _ in 0..text_len as u64 + POOL_LEN {
            let letter = b'a' + u8::try_from(source.below(16))?;
            source.pool.push(letter);
        }
        Ok(source)
    }

    /// A random number below `most`.
    fn below(&mut self, most: u64) -> u64 {
        // Knuth's MMIX; its upper bits are the good ones.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % most.max(1)
    }

    /// A random stream.
    pub fn stream(&mut self) -> Result<StreamId> {
        Ok(StreamId::new(format!("account-{:016}", self.below(self.streams)))?)
    }

    /// Appends of this many events each, each to a random stream.
    pub fn appends(&mut self, count: usize, events: u32) -> Result<Vec<Ready>> {
        let ready = |_| {
            let stream = self.stream()?;
            let events = (0..events).map(|_| self.event()).collect::<Result<_>>()?;
            Ok(Ready { stream, events })
        };
        (0..count).map(ready).collect()
    }

    fn event(&mut self) -> Result<NewEvent> {
        let begin = usize::try_from(self.below(POOL_LEN))?;
        let text = &self.pool[begin..begin + self.text_len];
        let payload = [PAYLOAD_FRAME.0, text, PAYLOAD_FRAME.1].concat();
        Ok(NewEvent::new(self.event_type.clone(), payload).with_content_type(ContentType::JSON))
    }
}
