//! Random numbers that depend only on the seed.

/// `SplitMix64`, with its state.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A different sequence in each run.
    pub(crate) fn from_entropy() -> Self {
        Self(u64::from_be_bytes(*annals::EventId::random().as_bytes().last_chunk().unwrap()))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    pub(crate) fn is_one_of(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
