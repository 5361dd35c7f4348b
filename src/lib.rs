//! **annals** is the embedded event store: one crate, one directory, no server.
//!
//! An application appends immutable events to streams, reads them back, follows the whole history
//! in order, and finds everything again after a restart or a crash.
//!
#![cfg_attr(feature = "rocksdb", doc = "```")]
#![cfg_attr(not(feature = "rocksdb"), doc = "```ignore")]
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("bank.annals");
//! use annals::prelude::*;
//! use annals::{Position, Version};
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
//! // Everything of a category, from the beginning, then live. let mut following =
//! store.subscribe().category("account").start()?; assert!(matches!(following.recv()?,
//! Delivery::Event(event) if event.position() == Position::FIRST));
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
//! | time travel, causes and effects | [`Repository::load_as_of`], [`audit`] |
//! | prove that a store is sound | [`Store::verify`] |
//! | back up and restore | [`Store::backup`], [`Store::restore_to`], [`Epoch`] |
//! | bring history in or out | [`Store::import`], [`Store::export`], [`JsonLine`] |
//! | test without a disk | [`MemoryStore`], [`testing`] |
//! | put a store of another kind through the suite | [`testing::conformance`] |
//! | write for any store | [`EventStore`], [`EventStoreExt`] |
//! | act on an error | [`Error`] |
//! | know what may be relied on | `docs/GUARANTEES.md`, whose numbers G1 to G14 this documentation cites |
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `rocksdb`, on by default | [`Store`]. Without it, all else works over [`MemoryStore`], and no C++ is compiled |
//! | `testing` | [`testing`]: scenarios, clocks, and the suites that every store must pass |
//! | `cli` | the command line `annals` |
//!
//! The minimum supported Rust version is 1.89. A minor release may raise it, to a version that is at
//! least six months old.

// Some words of the engine are in modules that every store shares.
#![cfg_attr(not(feature = "rocksdb"), allow(dead_code, unused_imports))]
#![cfg_attr(not(test), deny(clippy::panic, clippy::print_stdout, clippy::print_stderr))]

// The order of these lines is the architecture: a module imports only modules above it.

// Where threads meet; a cache.
mod sync;
mod recent;

// The words, and what is said about them.
mod model;
mod error;
mod options;
#[cfg(feature = "rocksdb")]
mod store_options;

// The seam: what a store is, and what can be built over any.
mod event_store;
mod snapshot_store;
mod view_store;
mod subscription;
mod extension;
mod validate;
mod head;

// The engine.
#[cfg(any(feature = "rocksdb", feature = "__internals"))]
mod format;
#[cfg(feature = "rocksdb")]
mod storage;
#[cfg(feature = "rocksdb")]
mod read;
#[cfg(feature = "rocksdb")]
mod recovery;
#[cfg(feature = "rocksdb")]
mod commit;
#[cfg(feature = "rocksdb")]
mod maintenance;
#[cfg(feature = "rocksdb")]
mod store;
// The parts that need no RocksDB, for the fuzz targets and the model checker.
#[cfg(all(feature = "__internals", not(feature = "rocksdb")))]
mod commit {
    pub(crate) mod gate;
    pub(crate) mod prepare;
    pub(crate) mod queue;
}
#[cfg(all(feature = "__internals", not(feature = "rocksdb")))]
mod maintenance {
    pub(crate) mod lines;
}

// The same without a disk.
mod memory;

// Over any store.
#[doc(hidden)]
pub mod codec;
mod upcast;
pub mod audit;
mod aggregate;
mod projection;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod __internals;

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
    Read, ReadLog, ReadStream, Scope, StreamInfo, StreamInfos, Streams, StreamsQuery, Visitor,
};
pub use extension::EventStoreExt;
#[cfg(any(feature = "rocksdb", feature = "__internals"))]
pub use format::FORMAT_VERSION;
#[cfg(feature = "rocksdb")]
pub use maintenance::backup::CopyReport;
#[cfg(feature = "rocksdb")]
pub use maintenance::export::Exported;
#[cfg(feature = "rocksdb")]
pub use maintenance::import::{ImportOptions, Imported};
#[cfg(any(feature = "rocksdb", feature = "__internals"))]
pub use maintenance::lines::JsonLine;
#[cfg(feature = "rocksdb")]
pub use maintenance::verify::{Damage, VerifyProgress, VerifyReport};
pub use memory::MemoryStore;
pub use model::{
    CAUSATION_ID, CORRELATION_ID, ContentType, Epoch, Epochs, EventId, EventRef, EventType,
    ExpectedVersion, InvalidArgument, LimitExceeded, Limits, Metadata, MetadataRef, NewEvent,
    Position, RecordedAs, RecordedEvent, StreamId, TagsRef, Timestamp, Version, limits,
};
pub use options::{Clock, Durability};
pub use projection::{
    FailureOutcome, HandlerError, OnFailure, Projection, ProjectionError, ProjectionFailure,
    ProjectionHandle, ProjectionManager, ProjectionNotice, ProjectionOptions, ProjectionState,
    ProjectionStatus, ReadView, RebuildStatus, StartFrom, Target, UnhandledEvent, View,
    ViewEntries, ViewKey, ViewStatus, ViewStoreExt, ViewWriter,
};
pub use snapshot_store::{OnDamaged, Snapshot, SnapshotStore};
#[cfg(feature = "rocksdb")]
pub use store::{Store, StoreInfo};
#[cfg(feature = "rocksdb")]
pub use store_options::StoreOptions;
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

/// What most programs need, and no name that programs define themselves: `use annals::prelude::*;`
pub mod prelude {
    pub use crate::{
        Aggregate, Append, Appended, Delivery, DomainEvent, EventId, EventRef, EventStore,
        EventStoreExt, ExecuteError, ExpectedVersion, HandlerError, MemoryStore, NewEvent,
        Projection, ProjectionManager, ProjectionOptions, RecordedEvent, Repository,
        SnapshotPolicy, StreamId, TypedEvent, Upcasters, ViewStoreExt, ViewWriter, domain_events,
    };

    #[cfg(feature = "rocksdb")]
    pub use crate::Store;
}

/// Compiles the example of README.md.
#[cfg(all(doctest, feature = "rocksdb"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the programs of docs/COOKBOOK.md.
#[cfg(all(doctest, feature = "rocksdb"))]
#[doc = include_str!("../docs/COOKBOOK.md")]
struct Cookbook;
