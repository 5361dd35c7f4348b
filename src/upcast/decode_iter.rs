//! [`DecodedEvents`]: an iterator over the decoded events of a read or a subscription.

use std::fmt;
use std::vec;

use super::{Decoder, OnUnreadable};
use crate::codec::{DomainEvent, TypedEvent};
use crate::error::{Error, Result};
use crate::model::RecordedEvent;

/// How many errors of skipped events an iterator keeps: this bounds its memory.
const SKIPPED_KEPT_MAX: usize = 100;

/// An iterator over the decoded events of a read or a subscription, returned by [`Decoder::iter`].
/// It ends after the first error.
pub struct DecodedEvents<E, I> {
    decoder: Decoder<E>,
    events: I,
    /// The remaining values of the last decoded event.
    values: vec::IntoIter<TypedEvent<E>>,
    on_unreadable: OnUnreadable,
    skipped: Vec<Error>,
    skipped_count: u64,
    ended: bool,
}

impl<E: DomainEvent> Decoder<E> {
    /// Decodes recorded events one by one: those of a read (`store.read_log()`) or of a
    /// [`Subscription`](crate::Subscription).
    ///
    /// ```
    /// use annals::Decoder;
    /// use annals::prelude::*;
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Deposited(i64);
    /// annals::domain_events! { Deposited => "Deposited" }
    ///
    /// let store = MemoryStore::new();
    /// let events = [Deposited(7).encode()?, Deposited(9).encode()?];
    /// store.append("account-1", ExpectedVersion::NoStream, events)?;
    ///
    /// let following = store.subscribe().category("account").start()?;
    /// let cancel = following.cancel_handle();
    /// let mut sum = 0;
    /// for deposited in Decoder::<Deposited>::new().iter(following) {
    ///     sum += deposited?.event.0;
    ///     if sum == 16 {
    ///         cancel.cancel();
    ///     }
    /// }
    /// assert_eq!(sum, 16);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn iter<I>(&self, events: I) -> DecodedEvents<E, I::IntoIter>
    where
        I: IntoIterator<Item = Result<RecordedEvent>>,
    {
        DecodedEvents::new(self.clone(), events.into_iter())
    }
}

impl<E, I> DecodedEvents<E, I> {
    fn new(decoder: Decoder<E>, events: I) -> Self {
        Self {
            decoder,
            events,
            values: Vec::new().into_iter(),
            on_unreadable: OnUnreadable::default(),
            skipped: Vec::new(),
            skipped_count: 0,
            ended: false,
        }
    }

    /// Sets what to do with an event that cannot be read; [`OnUnreadable::Fail`] by default.
    ///
    /// Only [`Error::Unreadable`] is ever skipped: an error of the store, such as damage, ends the
    /// iterator.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::{Decoder, Error, OnUnreadable};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Deposited(i64);
    /// annals::domain_events! { Deposited => "Deposited" }
    ///
    /// let store = MemoryStore::new();
    /// let events = [Deposited(7).encode()?, NewEvent::json("Deposited", &"seven")?, Deposited(9).encode()?];
    /// store.append("account-1", ExpectedVersion::NoStream, events)?;
    ///
    /// let decoder = Decoder::<Deposited>::new();
    /// let events = store.read_stream("account-1");
    /// let mut deposits = decoder.iter(events).on_unreadable(OnUnreadable::Skip);
    /// let mut sum = 0;
    /// for deposited in &mut deposits {
    ///     sum += deposited?.event.0;
    /// }
    /// assert_eq!(sum, 16);
    /// assert_eq!(deposits.skipped_count(), 1);
    /// assert!(matches!(deposits.skipped(), [Error::Unreadable { position, .. }] if position.get() == 2));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn on_unreadable(mut self, on_unreadable: OnUnreadable) -> Self {
        self.on_unreadable = on_unreadable;
        self
    }

    /// The errors of the events that were skipped so far: the first 100.
    /// [`DecodedEvents::skipped_count`] counts all of them.
    pub fn skipped(&self) -> &[Error] {
        &self.skipped
    }

    /// How many events were skipped so far.
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }

    /// The source of the events, for example a subscription, to get its position.
    pub fn source(&self) -> &I {
        &self.events
    }

    fn skip(&mut self, error: Error) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_KEPT_MAX {
            self.skipped.push(error);
        }
    }
}

impl<E: DomainEvent, I: Iterator<Item = Result<RecordedEvent>>> Iterator for DecodedEvents<E, I> {
    type Item = Result<TypedEvent<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.values.next() {
                return Some(Ok(value));
            }
            if self.ended {
                return None;
            }
            let event = self.events.next();
            match event.map(|event| event.and_then(|event| self.decoder.decode(event))) {
                Some(Ok(values)) => self.values = values.into_iter(),
                Some(Err(error @ Error::Unreadable { .. }))
                    if self.on_unreadable == OnUnreadable::Skip =>
                {
                    self.skip(error);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => self.ended = true,
            }
        }
    }
}

impl<E: DomainEvent, I: Iterator<Item = Result<RecordedEvent>>> std::iter::FusedIterator
    for DecodedEvents<E, I>
{
}

impl<E, I: fmt::Debug> fmt::Debug for DecodedEvents<E, I> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DecodedEvents")
            .field("events", &self.events)
            .field("on_unreadable", &self.on_unreadable)
            .field("skipped_count", &self.skipped_count)
            .finish_non_exhaustive()
    }
}
