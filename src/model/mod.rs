//! The basic types of annals, as plain values.
//!
//! An **event** is an immutable fact ([`NewEvent`] before it is appended, [`RecordedEvent`] after).
//! The events of one thing form a **stream** ([`StreamId`]), numbered by [`Version`]; all events of
//! a store form the **log**, numbered by [`Position`] in commit order. An append states which
//! version it expects of each stream ([`ExpectedVersion`]).
//!
//! Nothing here does I/O, starts a thread or knows the format on disk. The errors of validation are
//! defined here ([`InvalidArgument`], [`LimitExceeded`]), so that `error` can import this module.

mod date;
mod deletion;
mod epoch;
mod event;
mod expected;
mod idempotency;
mod invalid;
pub mod limits;
mod metadata;
mod position;
mod recorded;
mod serialized;
mod stream;
mod timestamp;

pub use date::Date;
pub use deletion::{
    DELETION_EVENT, Deletion, DeletionTarget, REDACTED, Retention, RetentionScope, StreamState,
};
pub use epoch::{Epoch, Epochs};
pub use event::{ContentType, EventId, EventType, NewEvent};
pub use expected::ExpectedVersion;
pub use idempotency::{IdempotencyKey, KeyRetention, RequestDigest};
pub use invalid::{InvalidArgument, LimitExceeded};
pub use limits::Limits;
pub use metadata::{CAUSATION_ID, CORRELATION_ID, Metadata, MetadataRef, TagsRef};
pub use position::{Position, Version};
pub use recorded::{EventRef, RecordedAs, RecordedEvent};
pub use stream::{DELETIONS_STREAM, StreamId};
pub use timestamp::Timestamp;

pub(crate) use epoch::{Begun, EPOCHS_MAX};
pub(crate) use event::check_tag;
pub(crate) use invalid::{quoted, shortened};
pub(crate) use metadata::CheckError;
pub(crate) use recorded::Copier;
