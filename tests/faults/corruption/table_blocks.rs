//! Damage that only the checksum of a table block can reveal: a changed key of a stream's last
//! frame. Without the checksum, the frame would belong to another stream, and the stream would look
//! shorter (G8).

use std::fs;
use std::path::{Path, PathBuf};

use annals::Error;
use annals::prelude::*;

use crate::support::random::Random;
use crate::support::{place, quick};

const STREAM: &str = "account-damaged-1";

/// Each frame fills a block, so that the block begins with the whole key. The payload is
/// incompressible, so the block is stored uncompressed.
fn event(seed: u64) -> NewEvent {
    let mut random = Random(seed);
    let bytes = std::iter::repeat_with(|| random.next().to_be_bytes()).flatten().take(20_000);
    NewEvent::bytes("Happened", bytes.collect::<Vec<u8>>()).unwrap()
}

fn key_in_streams(version: u64) -> Vec<u8> {
    [STREAM.as_bytes(), &[0], &version.to_be_bytes()].concat()
}

/// Finds the table that has a block with this key, and the offset.
fn find_block(path: &Path, key: &[u8]) -> (PathBuf, usize) {
    let files = fs::read_dir(path.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    let mut found = tables.filter_map(|table| {
        let bytes = fs::read(&table).unwrap();
        // The first occurrence is in the data: indexes come after it.
        let at = bytes.windows(key.len()).position(|window| window == key)?;
        Some((table, at))
    });
    found.next().unwrap()
}

#[test]
fn damaged_key_of_a_table_block_fails_the_reads_of_its_stream() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    for n in 1..=3 {
        store.append(STREAM, ExpectedVersion::Any, [event(n)]).unwrap();
    }
    // The end of the log, which is checked at open, is not in this stream.
    store.append("other", ExpectedVersion::Any, [event(9)]).unwrap();
    store.close().unwrap();
    let (table, at) = find_block(&path, &key_in_streams(3));
    let mut bytes = fs::read(&table).unwrap();
    bytes[at + STREAM.len() - 1] ^= 1;
    fs::write(&table, bytes).unwrap();

    let store = quick().open(&path).unwrap();
    let read: Vec<_> = store.read_stream(STREAM).into_iter().collect();
    assert!(matches!(read.last(), Some(Err(Error::Corruption { .. }))), "{} events", read.len());
    let tip = store.stream_version(&StreamId::new(STREAM).unwrap());
    assert!(tip.is_err_and(|error| error.is_corruption()), "an older version");
    let backward = store.read_stream(STREAM).backward().into_iter().next().unwrap();
    assert!(backward.is_err_and(|error| error.is_corruption()), "an older event");
}
