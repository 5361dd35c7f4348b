//! Parts of the crate for its own fuzz targets, model checker and benchmarks. Not stable: any
//! release may change or remove them.

pub use crate::commit::gate::Gate;
#[cfg(feature = "async")]
pub use crate::commit::lane::Submitting;
#[cfg(feature = "rocksdb")]
pub use crate::commit::packer::Packer;
pub use crate::commit::prepare::{Prepared, Submission};
pub use crate::commit::queue::{Answer, Queue, Ticket, settle};
#[cfg(feature = "async")]
pub use crate::commit::room::{Permit, Room};
pub use crate::format::{
    DELETIONS_RECORD, Deletions, Evidence, FeatureClass, Features, Frame, FrameDraft, FrameHeader,
    Hole, HoleEnd, INDEXED_RECORD, Identity, IndexKind, Indexed, KEYS_RECORD, KeyCount, Malformed,
    Manifest, POSITION_LEN, Pack, PackedFrame, RETENTION_PREFIX, SLOT_LEN, STORE_FILE_LEN_MAX,
    Slot, TailEntry, TailRow, Watermark, cut_frame, decode_checkpoint, decode_deletions,
    decode_indexed, decode_key_count, decode_key_record, decode_pack, decode_record,
    decode_retention, decode_snapshot, decode_tail_row, encode_checkpoint, encode_deletions,
    encode_hole, encode_indexed, encode_key_count, encode_key_record, encode_record,
    encode_retention, encode_snapshot, index_entries, index_key, index_of, index_prefix, log_key,
    parse_log_key, position_of, push_index_prefix, redact_in_frame, retention_key, retention_of,
    snapshot_key, snapshot_of, snapshot_prefix, stream_key, stream_of, stream_prefix, tail_key,
    union, view_key, view_of, view_prefix,
};
pub use crate::head::Head;
pub use crate::keys::{KeyAge, KeyRecord};
#[cfg(feature = "rocksdb")]
pub use crate::maintenance::baseline::{Baseline, Batch, Database, Scanned};
pub use crate::maintenance::lines::{Line, parse as parse_line};
#[cfg(feature = "async")]
pub use crate::signal::{Listener, Signal};

use crate::model::Timestamp;

/// The earliest and the latest time that can be recorded.
pub const RECORDED: (Timestamp, Timestamp) = (Timestamp::RECORDED_MIN, Timestamp::RECORDED_MAX);

/// Accesses the RocksDB database of an open store directly.
#[cfg(feature = "rocksdb")]
pub fn baseline(store: &crate::store::Store) -> Baseline {
    store.baseline()
}

/// The first key after all keys with this prefix; `None` if no such key exists.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    crate::view_store::prefix_end(prefix)
}
