//! What makes testing easy: [`conformance`], the rules that every [`EventStore`](crate::EventStore) must keep.

pub mod conformance;
