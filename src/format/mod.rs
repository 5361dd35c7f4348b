//! Encoding and decoding of everything annals stores on disk. docs/FORMAT.md specifies every byte.
//!
//! This is the only module in the engine that uses `bincode` and `crc32fast`. It does no I/O.
//! Decoding any bytes returns a value or [`Malformed`]: it never panics, and never allocates by a
//! length that it read.
//!
//! A checksum always covers the raw bytes, and is checked before they are decoded.

// Parts are public only for the fuzz targets: see `__internals`.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub))]
#![allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod deletion;
mod derived;
mod cursor;
mod features;
mod frame;
mod hole;
mod identity;
mod index;
mod key;
mod keys;
mod pack;
mod record;
mod rewrite;
mod watermark;
mod wire;

pub use deletion::{
    DELETIONS_RECORD, Deletions, RETENTION_PREFIX, decode_deletions, decode_retention,
    encode_deletions, encode_retention, retention_key, retention_of, union,
};
pub use derived::{decode_checkpoint, decode_snapshot, encode_checkpoint, encode_snapshot};
pub use features::{FeatureClass, Features};
pub use frame::{Frame, FrameDraft, FrameHeader};
pub use hole::{Hole, HoleEnd};
pub use identity::{Identity, STORE_FILE_LEN_MAX};
pub use index::{
    INDEXED_RECORD, IndexKind, Indexed, POSITION_LEN, decode_indexed, encode_indexed,
    index_entries, index_key, index_of, index_prefix, position_of, push_index_prefix,
};
pub use key::{
    log_key, parse_log_key, snapshot_key, snapshot_of, snapshot_prefix, stream_key, stream_of,
    stream_prefix, tail_key, view_key, view_of, view_prefix,
};
pub use keys::{
    KEYS_RECORD, KeyCount, decode_key_count, decode_key_record, encode_key_count, encode_key_record,
};
pub use pack::{Pack, PackedFrame, TailEntry, TailRow, decode_pack, decode_tail_row};
pub use record::{decode_record, encode_record};
pub use rewrite::{cut_frame, encode_hole, redact_in_frame};
pub use watermark::{Evidence, Manifest, SLOT_LEN, Slot, Watermark};
pub(crate) use wire::Known;

use std::sync::LazyLock;

use crate::error::{Error, Location};

/// The version of the directory layout and of everything in it, stored in `STORE`.
pub const FORMAT_VERSION: u32 = 2;

/// The configuration of bincode: little-endian, variable-length integers. `wincode` can write the
/// same encoding.
const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes are damaged.
    Damaged { found: String, expected: String },
    /// The bytes are intact, but in a format that this version does not read.
    Unsupported { what: &'static str, found: u64, supported: u64 },
}

impl Malformed {
    fn damaged(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Damaged { found: found.into(), expected: expected.into() }
    }

    fn undecodable(what: &'static str, error: &bincode::error::DecodeError) -> Self {
        Self::damaged(format!("bytes that do not decode ({error})"), what)
    }

    /// Converts this to an [`Error`] with the location of the bytes.
    #[cold]
    pub(crate) fn at(self, location: Location) -> Error {
        match self {
            Self::Damaged { found, expected } => Error::Corruption { location, found, expected },
            Self::Unsupported { what, found, supported } => {
                Error::UnsupportedFormat { what: format!("{what} in {location}"), found, supported }
            }
        }
    }
}

/// Checks the checksum of an envelope, then its version, and returns the bytes after them.
///
/// Frames and records share this layout: the version byte, the crc32 (big-endian) of the version
/// and of everything after the checksum, then the rest.
#[inline]
fn open_envelope<'a>(
    what: &'static str,
    supported: u8,
    bytes: &'a [u8],
) -> Result<&'a [u8], Malformed> {
    let Some((&[version, a, b, c, d], rest)) = bytes.split_first_chunk::<ENVELOPE_LEN>() else {
        return Err(Malformed::damaged(
            format!("{} bytes", bytes.len()),
            "a version and a checksum",
        ));
    };
    check_crc(u32::from_be_bytes([a, b, c, d]), crc(version, rest))?;
    if version != supported {
        return Err(Malformed::Unsupported {
            what,
            found: u64::from(version),
            supported: u64::from(supported),
        });
    }
    Ok(rest)
}

/// The checksum stored in an envelope; 0 if the envelope is too short to have one.
pub(crate) fn checksum_of(envelope: &[u8]) -> u32 {
    match envelope {
        [_, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

/// Writes the version and the checksum into the first five bytes of an envelope, which are reserved
/// for them.
fn seal_envelope(version: u8, bytes: &mut [u8]) {
    if let Some((head, rest)) = bytes.split_first_chunk_mut::<ENVELOPE_LEN>() {
        let [a, b, c, d] = crc(version, rest).to_be_bytes();
        *head = [version, a, b, c, d];
    }
}

/// Formats bytes as hexadecimal text.
#[cfg(test)]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut hex, format_args!("{byte:02x}"));
        hex
    })
}

/// Length of the version and the checksum.
const ENVELOPE_LEN: usize = 5;

/// A hasher that already contains the version byte 1. Creating a hasher queries the processor's
/// features, and hashing a single byte takes the slow path: together these are a fifth of the cost
/// of checking a small frame.
static AFTER_VERSION_1: LazyLock<crc32fast::Hasher> = LazyLock::new(|| after_version(1));

fn after_version(version: u8) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher
}

#[inline]
fn crc(version: u8, rest: &[u8]) -> u32 {
    let mut hasher = if version == 1 { AFTER_VERSION_1.clone() } else { after_version(version) };
    hasher.update(rest);
    hasher.finalize()
}

#[inline]
fn check_crc(stored: u32, computed: u32) -> Result<(), Malformed> {
    if stored == computed { Ok(()) } else { Err(wrong_crc(stored, computed)) }
}

#[cold]
fn wrong_crc(stored: u32, computed: u32) -> Malformed {
    Malformed::damaged(
        format!("bytes with the checksum {computed:08x}"),
        format!("the checksum {stored:08x} that is stored with them"),
    )
}
