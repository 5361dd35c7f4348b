//! The memory store keeps every rule of the conformance suites: a program tested over it behaves the same on disk.

annals::event_store_conformance!((annals::MemoryStore::new(), ()));
annals::snapshot_store_conformance!((annals::MemoryStore::new(), ()));
annals::view_store_conformance!((annals::MemoryStore::new(), ()));
