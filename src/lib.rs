//! **annals** is an embedded event store: one crate, one directory, no server.
//!
//! An application appends immutable events to streams, reads them back, follows the whole log in
//! order, and finds everything again after a restart or a crash.
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
//! // Everything of a category, from the beginning, then live.
//! let mut following = store.subscribe().category("account").start()?;
//! assert!(matches!(following.recv()?, Delivery::Event(event) if event.position() == Position::FIRST));
//!
//! // An append that was decided on an older version is refused.
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
//! | read a stream, the log, or an earlier state | [`EventStoreExt::read_stream`], [`ReadStream`], [`ReadLog`] |
//! | subscribe to events, live | [`EventStoreExt::subscribe`], [`Subscription`] |
//! | handle events in parallel, in order by key | [`Subscription::parallel`], [`PartitionBy`] |
//! | use a serde enum as events, or several | [`domain_events!`], [`domain_event_union!`], [`Codec`] |
//! | read events of an older schema version (upcasting) | [`Upcasters`], [`Decoder`] |
//! | write aggregates that enforce rules | [`Aggregate`], [`Repository`], [`SnapshotPolicy`] |
//! | execute commands, with idempotency keys or metadata | [`Repository::command`], [`IdempotencyKey`] |
//! | decide over several entities, by tags (DCB) | [`DecisionModel`], [`Decisions`], [`CachedDecisions`] |
//! | claim a value that must be unique, such as an email address | [`UniqueValues`] |
//! | build read models (projections) | [`Projection`], [`ProjectionManager`], [`View`] |
//! | use async handlers, or manage projections from tasks | [`AsyncProjection`], [`AsyncProjectionManager`] |
//! | load an earlier state, trace causes and effects | [`Repository::load_as_of`], [`audit`] |
//! | call it from async code, on any runtime | `AsyncStore`, `AsyncRepository`, with the feature `async` |
//! | watch a store: metrics, health checks | [`Store::metrics`], [`Store::health`], [`ProjectionManager::health`] |
//! | check a store for corruption | [`Store::verify`] |
//! | back up and restore | [`Store::backup`], [`Store::restore_to`], [`Epoch`] |
//! | import and export events | [`Store::import`], [`Store::export`], [`JsonLine`] |
//! | test without a disk | [`MemoryStore`], [`testing`] |
//! | test another implementation of a store | [`testing::conformance`] |
//! | write code that works with any store | [`EventStore`], [`EventStoreExt`] |
//! | handle an error | [`Error`] |
//! | know the guarantees | [`guarantees`]; this documentation cites their numbers, G1 to G17 |
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `rocksdb`, on by default | [`Store`]. Without it, [`MemoryStore`] serves, and no C++ is compiled |
//! | `async` | `AsyncStore`: the same store for the tasks of any async runtime |
//! | `testing` | [`testing`]: scenarios, clocks, and the suites that every store must pass |
//! | `cli` | the command line `annals` |
//! | `metrics` | `StoreMetrics::record`: passes metrics to the crate of that name |
//! | `tracing` | events for the crate of that name: opens, failed writes, backups, projections |
//!
//! The minimum supported Rust version is 1.89. A minor release may raise it, to a version that is
//! at least six months old.

// Without RocksDB, some items of the shared modules are unused.
#![cfg_attr(not(feature = "rocksdb"), allow(dead_code, unused_imports))]
#![cfg_attr(not(test), deny(clippy::panic, clippy::print_stdout, clippy::print_stderr))]

// The order of these lines is the architecture: a module imports only modules above it.

// Locks and atomics; a cache; events for operators; threads for tasks.
mod trace;
mod sync;
#[cfg(feature = "async")]
mod signal;
mod recent;
#[cfg(feature = "async")]
mod pool;

// Basic types, errors and options.
mod model;
mod error;
mod options;
mod histogram;
mod metrics;
mod health;
#[cfg(feature = "rocksdb")]
mod store_options;

// The store traits, and the code that all stores share.
mod event_store;
mod snapshot_store;
mod view_store;
mod subscription;
mod extension;
mod validate;
mod keys;
mod head;

// The RocksDB engine.
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
mod deletion;
#[cfg(feature = "rocksdb")]
mod store;
// The parts that need no RocksDB, for the fuzz targets and the model checker.
#[cfg(all(feature = "__internals", not(feature = "rocksdb")))]
mod commit {
    pub(crate) mod gate;
    pub(crate) mod index_drafts;
    #[cfg(feature = "async")]
    pub(crate) mod lane;
    pub(crate) mod prepare;
    pub(crate) mod queue;
    #[cfg(feature = "async")]
    pub(crate) mod room;
}
#[cfg(all(feature = "__internals", not(feature = "rocksdb")))]
mod maintenance {
    pub(crate) mod lines;
}

// The in-memory store.
mod memory;

// The API for tasks.
#[cfg(feature = "async")]
mod async_store;

// Built on the store traits.
#[doc(hidden)]
pub mod codec;
mod upcast;
pub mod audit;
mod aggregate;
mod decision;
mod unique_values;
mod projection;
#[cfg(feature = "metrics")]
mod facade;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod __internals;

pub use self::metrics::{
    EngineMetrics, LastBackup, LastError, LastVerify, RefusalMetrics, StoreMetrics,
    SubscriptionMetrics, SubscriptionProgress,
};
#[cfg(feature = "async")]
pub use aggregate::AsyncRepository;
pub use aggregate::{
    Aggregate, AggregateRoot, CheckedSnapshot, CommandBuilder, DecideError, Decision, ExecuteError,
    Executed, FailedSnapshot, IgnoredSnapshot, Repository, SnapshotContext, SnapshotFault,
    SnapshotPolicy, SnapshotReport, SnapshotStats,
};
#[cfg(feature = "async")]
pub use async_store::{AsyncParallelSubscription, AsyncStore, AsyncSubscription, Pages};
pub use codec::{
    Bincode, Codec, DomainEvent, EncodedEvent, EventKind, Json, TypedEvent, Undecodable,
};
#[cfg(feature = "async")]
pub use decision::AsyncDecisions;
pub use decision::{Boundary, CachedDecisions, Decided, DecisionBuilder, DecisionModel, Decisions};
#[cfg(feature = "rocksdb")]
pub use deletion::{Deleted, RecordedDeletion, ScavengeOptions, Scavenged};
pub use error::{Cause, Error, Location, Result};
pub use event_store::{
    Append, AppendCondition, Appended, Blocking, DEFAULT_STREAM, Direction, EventStore, Events,
    Hole, KeyedResult, KeyedSubmission, KeyedWork, PageEnd, PageRequest, Place, Query, QueryItem,
    Range, Read, ReadLog, ReadStream, Scope, StreamInfo, StreamInfos, Streams, StreamsRequest,
    Submitted, Visitor,
};
#[cfg(feature = "async")]
pub use event_store::{Async, BoxFuture};
pub use extension::EventStoreExt;
#[cfg(any(feature = "rocksdb", feature = "__internals"))]
pub use format::FORMAT_VERSION;
pub use health::{Health, HealthState};
pub use histogram::Histogram;
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
    CAUSATION_ID, CORRELATION_ID, ContentType, DELETION_EVENT, DELETIONS_STREAM, Date, Deletion,
    DeletionTarget, Epoch, Epochs, EventId, EventRef, EventType, ExpectedVersion, IdempotencyKey,
    InvalidArgument, KeyRetention, LimitExceeded, Limits, Metadata, MetadataRef, NewEvent,
    Position, REDACTED, RecordedAs, RecordedEvent, RequestDigest, Retention, RetentionScope,
    StreamId, StreamState, TagsRef, Timestamp, Version, limits,
};
pub use options::{Clock, Durability};
#[cfg(feature = "async")]
pub use projection::{AsyncProjection, AsyncProjectionHandle, AsyncProjectionManager};
pub use projection::{
    FailureOutcome, HandlerError, OnFailure, Projection, ProjectionError, ProjectionFailure,
    ProjectionHandle, ProjectionManager, ProjectionNotice, ProjectionOptions, ProjectionState,
    ProjectionStatus, ReadView, RebuildStatus, StartFrom, Target, UnhandledEvent, View,
    ViewEntries, ViewKey, ViewKeyPart, ViewKeyParts, ViewStatus, ViewStoreExt, ViewWriter,
};
pub use snapshot_store::{OnDamaged, Snapshot, SnapshotStore};
#[cfg(feature = "rocksdb")]
pub use store::{IndexStatus, Store, StoreInfo};
#[cfg(feature = "rocksdb")]
pub use store_options::{Compression, StoreOptions};
pub use subscription::{
    CancelHandle, Delivery, ParallelError, ParallelSubscription, PartitionBy, Subscription,
    SubscriptionBuilder, SubscriptionReceiver,
};
pub use unique_values::UniqueValues;
pub use upcast::{
    DecodedEvents, Decoder, OnUnreadable, StepError, StoredKind, UpcastError, UpcastFailed,
    Upcasters, UpcastersBuilder,
};
pub use view_store::{
    Checkpoint, ViewChange, ViewCommit, ViewEntry, ViewPage, ViewScan, ViewStore,
};

/// The items that most programs need, without names that programs define themselves.
/// Import it with `use annals::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Aggregate, Append, Appended, Delivery, DomainEvent, EventId, EventRef, EventStore,
        EventStoreExt, ExecuteError, ExpectedVersion, HandlerError, MemoryStore, NewEvent,
        Projection, ProjectionManager, ProjectionOptions, RecordedEvent, Repository,
        SnapshotPolicy, StreamId, TypedEvent, Upcasters, ViewStoreExt, ViewWriter,
        domain_event_union, domain_events,
    };

    #[cfg(feature = "rocksdb")]
    pub use crate::Store;
    #[cfg(feature = "async")]
    pub use crate::{AsyncProjection, AsyncProjectionManager, AsyncRepository, AsyncStore};
}

/// The guarantees, in the documentation only.
#[cfg(doc)]
#[doc = include_str!("../docs/GUARANTEES.md")]
pub mod guarantees {}

/// Compiles the example of README.md.
#[cfg(all(doctest, feature = "rocksdb"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the programs of docs/COOKBOOK.md.
#[cfg(all(doctest, feature = "rocksdb", feature = "async"))]
#[doc = include_str!("../docs/COOKBOOK.md")]
struct Cookbook;
