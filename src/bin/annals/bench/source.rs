//! The events that are appended: the same in each run, in a scattered order of streams.

use annals::{ContentType, EventType, NewEvent, StreamId};

use super::super::shell::Failure;

/// The type of every event.
pub(crate) const EVENT_TYPE: &str = "Happened";
/// What a payload has besides its text.
const PAYLOAD_FRAME: (&[u8], &[u8]) = (br#"{"text":""#, br#""}"#);
pub(crate) const PAYLOAD_LEN_MIN: i64 = 16;
pub(crate) const PAYLOAD_LEN_MAX: i64 = 1 << 20;
/// Text is cut out of a pool of this length, besides the longest payload.
const POOL_LEN: usize = 1 << 16;

/// An append that is ready to be made.
pub(crate) struct Ready {
    pub(crate) stream: StreamId,
    pub(crate) events: Vec<NewEvent>,
}

pub(crate) struct Source {
    streams: u64,
    text_len: usize,
    /// Letters by chance: as compressible as text is, about by half.
    pool: Vec<u8>,
    event_type: EventType,
    random: u64,
}

impl Source {
    pub(crate) fn new(streams: u64, payload: u32) -> Result<Self, Failure> {
        let frame = PAYLOAD_FRAME.0.len() + PAYLOAD_FRAME.1.len();
        let text_len = usize::try_from(payload).unwrap_or(usize::MAX).saturating_sub(frame);
        let event_type = EventType::new(EVENT_TYPE).map_err(annals::Error::from)?;
        let mut source = Self { streams, text_len, pool: Vec::new(), event_type, random: 1 };
        let letters = b"abcdefghijklmnop".iter().copied().cycle();
        for _ in 0..text_len + POOL_LEN {
            let skip = usize::try_from(source.below(16)).unwrap_or_default();
            source.pool.extend(letters.clone().nth(skip));
        }
        Ok(source)
    }

    /// A number below `most`, by chance.
    fn below(&mut self, most: u64) -> u64 {
        // Knuth's MMIX; its upper bits are the good ones.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % most.max(1)
    }

    /// Appends of this many events each, each to a stream by chance.
    pub(crate) fn appends(&mut self, count: usize, events: u32) -> Result<Vec<Ready>, Failure> {
        (0..count)
            .map(|_| {
                let stream = StreamId::new(format!("account-{:016}", self.below(self.streams)))
                    .map_err(annals::Error::from)?;
                let events = (0..events).map(|_| self.event()).collect();
                Ok(Ready { stream, events })
            })
            .collect()
    }

    fn event(&mut self) -> NewEvent {
        let begin = usize::try_from(self.below(POOL_LEN as u64)).unwrap_or_default();
        let text = self.pool.get(begin..begin + self.text_len).unwrap_or_default();
        let payload = [PAYLOAD_FRAME.0, text, PAYLOAD_FRAME.1].concat();
        NewEvent::new(self.event_type.clone(), payload).with_content_type(ContentType::JSON)
    }
}
