//! **annals** is the embedded event store: one crate, one directory, no server.
//!
//! An application appends immutable events to streams, reads them back, follows the whole history in order, and finds
//! everything again after a restart or a crash.
//!
//! ```
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("bank.annals");
//! use annals::prelude::*;
//!
//! let store = Store::open(&path)?;
//! let appended = store.append(
//!     "account-123",
//!     ExpectedVersion::NoStream,
//!     [NewEvent::json("AccountOpened", &"Ada")?, NewEvent::json("MoneyDeposited", &1_000)?],
//! )?;
//!
//! // A stream, in order.
//! let balance: u64 = store
//!     .read_stream("account-123")
//!     .types(["MoneyDeposited"])
//!     .into_iter()
//!     .map(|event| event?.json::<u64>())
//!     .sum::<annals::Result<_>>()?;
//! assert_eq!(balance, 1_000);
//!
//! // Everything of a category, from the beginning, then live.
//! let mut following = store.subscribe().category("account").start()?;
//! assert!(matches!(following.recv()?, Delivery::Event(event) if event.position() == Position::FIRST));
//!
//! // What was decided on an older version is refused.
//! let late = [NewEvent::json("MoneyWithdrawn", &200)?];
//! let refused = store.append("account-123", ExpectedVersion::Exact(Version::FIRST), late);
//! assert!(refused.unwrap_err().is_conflict());
//! assert_eq!(store.head()?, Some(appended.last_position()));
//! # Ok::<(), annals::Error>(())
//! ```
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | open a store | [`Store::open`], [`StoreOptions`], [`Durability`] |
//! | append to one stream | [`EventStoreExt::append`], [`ExpectedVersion`], [`NewEvent`] |
//! | append to several, all or nothing | [`Append`], [`EventStore::submit`] |
//! | read a stream, the log, the past | [`EventStoreExt::read_stream`], [`EventStoreExt::read_log`], [`Read`] |
//! | follow what happens | [`EventStoreExt::subscribe`], [`Subscription`] |
//! | make a serde enum events | [`domain_events!`], [`DomainEvent`], [`Codec`] |
//! | read events of an earlier year | [`Upcasters`], [`Decoder`] |
//! | give objects rules | [`Aggregate`], [`Repository`], [`SnapshotPolicy`] |
//! | build read models | [`Projection`], [`ProjectionManager`], [`View`] |
//! | ask what was, and why | [`Repository::load_as_of`], [`audit`] |
//! | prove that a store is sound | [`Store::verify`] |
//! | copy it while it is written | [`Store::backup`] |
//! | bring history in or out | [`Store::import`], [`Store::export`], [`JsonLine`] |
//! | test without a disk | [`MemoryStore`], [`testing`] |
//! | put a store of another kind through the suite | [`testing::conformance`] |
//! | write for any store | [`EventStore`], [`EventStoreExt`] |
//! | act on an error | [`Error`] |
//! | know what may be relied on | `docs/GUARANTEES.md`: the numbers G1 to G14 stand all over this documentation |

// The order of these lines is the architecture: a module imports only modules above it.

// Where threads meet.
mod sync;

// The words, and what is said about them.
mod model;
mod error;
mod options;

// The seam: what a store is, and what can be built over any.
mod event_store;
mod snapshot_store;
mod view_store;
mod subscription;
mod extension;

// The engine.
mod format;
mod storage;
mod head;
mod read;
mod recovery;
mod commit;
mod maintenance;
mod store;

// The same without a disk.
mod memory;

// Over any store.
#[doc(hidden)]
pub mod codec;
mod upcast;
pub mod audit;
mod aggregate;
mod projection;
pub mod testing;

pub use aggregate::{
    Aggregate, AggregateRoot, CheckedSnapshot, ExecuteError, Executed, FailedSnapshot,
    IgnoredSnapshot, Repository, SnapshotContext, SnapshotFault, SnapshotPolicy, SnapshotReport,
    SnapshotStats,
};
pub use codec::{
    Bincode, Codec, DomainEvent, EncodedEvent, EventKind, Json, TypedEvent, Undecodable,
};
pub use error::{Cause, Error, Location, Result};
pub use event_store::{
    Append, Appended, Direction, EventStore, Events, Filter, PageEnd, PageQuery, Place, Range,
    Read, ReadLog, ReadStream, StreamInfo, StreamInfos, Streams, StreamsQuery, Visitor,
};
pub use extension::EventStoreExt;
pub use format::FORMAT_VERSION;
pub use maintenance::backup::CopyReport;
#[doc(hidden)]
pub use maintenance::baseline;
pub use maintenance::export::Exported;
pub use maintenance::import::{ImportOptions, Imported};
pub use maintenance::lines::JsonLine;
pub use maintenance::verify::{Damage, VerifyProgress, VerifyReport};
pub use memory::MemoryStore;
pub use model::{
    CAUSATION_ID, CORRELATION_ID, ContentType, Epoch, Epochs, EventId, EventRef, EventType,
    ExpectedVersion, InvalidArgument, LimitExceeded, Limits, Metadata, MetadataRef, NewEvent,
    Position, RecordedAs, RecordedEvent, StreamId, TagsRef, Timestamp, Version, limits,
};
pub use options::{Clock, Durability, StoreOptions};
pub use projection::{
    DiscardedEvent, FailureOutcome, HandlerError, OnFailure, ParkedEvent, Projection,
    ProjectionError, ProjectionFailure, ProjectionHandle, ProjectionManager, ProjectionNotice,
    ProjectionOptions, ProjectionState, ProjectionStatus, ReadView, RebuildStatus, SkippedEvent,
    StartFrom, Target, View, ViewEntries, ViewKey, ViewStatus, ViewStoreExt, ViewWriter,
};
pub use snapshot_store::{OnDamaged, Snapshot, SnapshotStore};
pub use store::{Store, StoreInfo};
pub use subscription::{
    CancelHandle, Delivery, Subscription, SubscriptionBuilder, SubscriptionReceiver,
};
pub use upcast::{
    DecodedEvents, Decoder, OnUnreadable, StepError, StoredKind, UpcastError, UpcastFailed,
    Upcasters, UpcastersBuilder,
};
pub use view_store::{
    Checkpoint, ViewChange, ViewCommit, ViewEntry, ViewPage, ViewScan, ViewStore,
};

/// What most programs need: `use annals::prelude::*;`
pub mod prelude {
    pub use std::ops::ControlFlow;

    pub use crate::{
        Aggregate, Append, Appended, Delivery, DomainEvent, Durability, Error, EventId, EventRef,
        EventStore, EventStoreExt, EventType, ExecuteError, Executed, ExpectedVersion, Filter,
        HandlerError, MemoryStore, Metadata, NewEvent, OnFailure, Position, Projection,
        ProjectionManager, ProjectionOptions, RecordedEvent, Repository, SnapshotPolicy, StartFrom,
        Store, StreamId, Target, Timestamp, TypedEvent, Upcasters, Version, View, ViewKey,
        ViewStoreExt, ViewWriter, domain_events,
    };
}

/// Compiles the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the programs of docs/COOKBOOK.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/COOKBOOK.md")]
struct Cookbook;
