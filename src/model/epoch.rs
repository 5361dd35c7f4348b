//! Which history a position belongs to: [`Epoch`], and the [`Epochs`] that a log has gone through.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::{InvalidArgument, Position};

/// How many epochs a log remembers. Positions of older ones are refused.
pub(crate) const EPOCHS_MAX: usize = 64;

/// One unbroken history of a log. A log that has lost its end continues with other events at the
/// lost positions; from there on it is in a new epoch. This happens when a backup is restored or a
/// loss is accepted.
///
/// To save a position outside the store, save the epoch with it, and pass both to a new
/// subscription with [`SubscriptionBuilder::in_epoch`](crate::SubscriptionBuilder::in_epoch).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// A new epoch.
    pub fn random() -> Self {
        Uuid::now_v7().into()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<Uuid> for Epoch {
    fn from(id: Uuid) -> Self {
        Self(id.into_bytes())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(out)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Epoch {
    type Err = InvalidArgument;

    fn from_str(text: &str) -> Result<Self, InvalidArgument> {
        text.parse::<Uuid>()
            .map(Self::from)
            .map_err(|_| InvalidArgument::unreadable("an epoch (a UUID)", text))
    }
}

/// The epochs of a log, from the oldest that it remembers to the current one.
///
/// ```
/// use annals::prelude::*;
/// use annals::Position;
/// let store = MemoryStore::new();
/// let epochs = store.epochs()?;
/// assert_eq!(epochs.shared_up_to(epochs.current()), Some(Position::MAX));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs(Arc<[Begun]>);

/// An epoch, and the last position that it has in common with the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) epoch: Epoch,
    pub(crate) after: Option<Position>,
}

impl Epochs {
    /// The epochs of a log that has been in one epoch since its beginning.
    pub fn new(first: Epoch) -> Self {
        Self([Begun { epoch: first, after: None }].into())
    }

    /// Epochs as they were stored, oldest first; `None` if there are none.
    pub(crate) fn from_begun(begun: &[Begun]) -> Option<Self> {
        (!begun.is_empty()).then(|| Self(begun.into()))
    }

    pub(crate) fn begun(&self) -> &[Begun] {
        &self.0
    }

    /// These epochs, followed by a new one that shares the positions up to `after` with the one
    /// before.
    #[must_use]
    pub fn begin(&self, epoch: Epoch, after: Option<Position>) -> Self {
        let begun = self.0.iter().copied().chain([Begun { epoch, after }]);
        Self(begun.skip((self.0.len() + 1).saturating_sub(EPOCHS_MAX)).collect())
    }

    /// The current epoch of the log.
    pub fn current(&self) -> Epoch {
        match self.0.last() {
            Some(begun) => begun.epoch,
            None => unreachable!("a log is in an epoch"),
        }
    }

    /// The last position up to which this log has the same events as it had in `epoch`. It is
    /// [`Position::MAX`] for the current epoch, and `None` for one that this log was never in or no
    /// longer remembers (it keeps the last 64).
    pub fn shared_up_to(&self, epoch: Epoch) -> Option<Position> {
        let at = self.0.iter().position(|begun| begun.epoch == epoch)?;
        let later = self.0.iter().skip(at + 1).map(|begun| begun.after);
        later.min().unwrap_or(Some(Position::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_is_shared_up_to_the_start_of_any_later_one() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|byte| Epoch::from_bytes([byte; 16]));
        let epochs = Epochs::new(a).begin(b, Position::new(5)).begin(c, Position::new(3));
        assert_eq!(epochs.shared_up_to(a), Position::new(3));
        assert_eq!(epochs.shared_up_to(b), Position::new(3));
        assert_eq!(epochs.shared_up_to(c), Some(Position::MAX));
        assert_eq!(epochs.shared_up_to(d), None);
        assert_eq!(epochs.begin(d, None).shared_up_to(c), None);
    }

    #[test]
    fn forgotten_epochs_are_unknown_and_never_extended() {
        let epoch = |number: u8| Epoch::from_bytes([number; 16]);
        let mut epochs = Epochs::new(epoch(0));
        for number in 1..100 {
            epochs = epochs.begin(epoch(number), Position::new(u64::from(number)));
        }
        assert_eq!((epochs.begun().len(), epochs.current()), (EPOCHS_MAX, epoch(99)));
        assert_eq!(epochs.shared_up_to(epoch(35)), None);
        assert_eq!(epochs.shared_up_to(epoch(36)), Position::new(37));
    }
}
