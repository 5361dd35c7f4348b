//! What annals does, seen from outside, through its public door. One binary, so that RocksDB is linked once.

mod conformance;
