//! Decodes choices and values from the bytes that the fuzzing engine generates. After their end,
//! every value is 0 or empty, so that every input is valid and a longer one adds choices.

/// The bytes that are left.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is small.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = usize::from(self.byte());
        if end <= 256 { number % end } else { (number << 8 | usize::from(self.byte())) % end }
    }

    /// One of these values.
    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// A number, most often near an end of the range or a power of two.
    pub(crate) fn number(&mut self) -> u64 {
        let (shape, small) = (self.byte(), u64::from(self.byte()));
        match shape % 8 {
            0..=3 => small,
            4 => u64::MAX - small,
            5 => (1_u64 << (shape >> 3)).wrapping_add(small),
            6 => (1_u64 << (shape >> 3)).wrapping_sub(small),
            _ => {
                let mut bytes = [0; 8];
                for (byte, taken) in bytes.iter_mut().zip(self.take(8)) {
                    *byte = *taken;
                }
                u64::from_be_bytes(bytes)
            }
        }
    }

    /// At most this many bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece, after its length.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    /// A piece as text.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }

    /// All remaining bytes.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
