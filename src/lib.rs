//! **annals** is the embedded event store: one crate, one directory, no server.

// The order of these lines is the architecture: a module imports only modules above it.

// The words, and what is said about them.
mod model;
mod error;
mod options;

// The seam: what a store is, and what can be built over any.
mod event_store;
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
mod codec;
pub mod testing;

pub use error::{Cause, Error, Result};
pub use event_store::{
    Append, Appended, Direction, EventStore, Events, Filter, PageEnd, PageQuery, Place, Range,
    Read, ReadLog, ReadStream, StreamInfo, StreamInfos, Streams, StreamsQuery, Visitor,
};
pub use extension::EventStoreExt;
pub use format::FORMAT_VERSION;
pub use maintenance::export::Exported;
pub use maintenance::import::{ImportOptions, Imported};
pub use maintenance::lines::JsonLine;
pub use maintenance::verify::{Damage, VerifyProgress, VerifyReport};
pub use memory::MemoryStore;
pub use model::{
    CAUSATION_ID, CORRELATION_ID, ContentType, EventId, EventRef, EventType, ExpectedVersion,
    InvalidArgument, LimitExceeded, Limits, Metadata, MetadataRef, NewEvent, Position, RecordedAs,
    RecordedEvent, StreamId, TagsRef, Timestamp, Version, limits,
};
pub use options::{Clock, Durability, StoreOptions};
pub use store::{Store, StoreInfo};
pub use subscription::{CancelHandle, Delivery, Following, Subscribe, Subscription};

/// What most programs need: `use annals::prelude::*;`
pub mod prelude {
    pub use std::ops::ControlFlow;

    pub use crate::{
        Append, Appended, Delivery, Durability, Error, EventId, EventRef, EventStore,
        EventStoreExt, EventType, ExpectedVersion, Filter, MemoryStore, Metadata, NewEvent,
        Position, RecordedEvent, Store, StreamId, Timestamp, Version,
    };
}
