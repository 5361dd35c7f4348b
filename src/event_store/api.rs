//! The APIs of a store: [`Blocking`] for threads and [`Async`] for tasks.

#[cfg(feature = "async")]
use std::sync::Arc;

#[cfg(feature = "async")]
use super::watch::HeadWatch;

/// The API for threads: calls block until they are done. It is the default of all builders.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blocking;

/// The API for tasks, whose calls return futures and streams: see
/// [`AsyncStore`](crate::AsyncStore).
#[cfg(feature = "async")]
#[derive(Debug, Clone)]
pub struct Async {
    pub(crate) watch: Arc<HeadWatch>,
}
